"""The endpoint on a Restate server, for the peer harness: the peer `restate` with other handlers."""

import importlib
import importlib.util
import os
import sys
from typing import Any, ClassVar

import benchlib

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _restate() -> Any:
    harness = os.path.dirname(os.path.dirname(os.path.abspath(benchlib.__file__)))
    path = os.path.join(harness, "peers", "restate.py")
    spec = importlib.util.spec_from_file_location("peer_restate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Restate


class OnRestate(_restate()):  # type: ignore[misc]  # the harness's class is only known at run time
    name = "restate-agentdur-endpoint"
    venv = "agentdur-endpoint"
    requirements: ClassVar[list[str]] = ["-e", f"{REPO}[endpoint]", "uvloop"]

    def serve_argv(self, _: str, **cfg: Any) -> list[str]:
        return list(super().serve_argv(__file__, **cfg))


PEERS = {OnRestate.name: OnRestate}


def serve(cfg: dict[str, Any]) -> None:
    """The half that runs in agentdur's environment."""
    sys.path.insert(0, REPO)
    importlib.import_module("benchmarks.endpoint_serve").serve(cfg)
