"""A release of Pydantic AI that cannot be made durable is told by name, before anything of it is used."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

import pytest

pytest.importorskip("pydantic_ai")
MODULE = "agentdur.integrations.pydantic_ai_version"


def test_a_release_without_the_durable_surface_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ImportError, too: whoever tries the import finds what he expects."""
    monkeypatch.setitem(sys.modules, "pydantic_ai.durable_exec", ModuleType("pydantic_ai.durable_exec"))
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    with pytest.raises(ImportError, match=r"\[AD0173\] pydantic-ai-slim .* 2\.40"):
        import_module(MODULE)
