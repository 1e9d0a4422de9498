"""Which releases of Pydantic AI can be made durable: told when the adapter is imported, before it reaches for
what an older one does not have.
"""

from __future__ import annotations

from importlib.metadata import version

from agentdur.core.errors import HandlerError


class UnknownPydanticAiVersion(HandlerError, ImportError):
    """This version of pydantic-ai lacks the surface that durability hooks into. Install pydantic-ai-slim
    2.40 or a newer one."""

    code = "AD0173"


try:
    from pydantic_ai.durable_exec import JournalCallableOperationBackend as _Surface
except ImportError as missing:
    if missing.name == "pydantic_ai":  # it is not installed at all
        raise
    found = version("pydantic-ai-slim")
    raise UnknownPydanticAiVersion(
        f"pydantic-ai-slim {found}: its durable_exec is not what it is since 2.40"
    ) from missing

SURFACE = _Surface.__name__
"""What was looked for."""
