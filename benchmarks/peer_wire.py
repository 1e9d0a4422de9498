"""Both ends of the service protocol for the peer harness: the peer `restate` with one half exchanged.

agentdur-remote            handlers of the Restate SDK on `agentdur serve`
restate-agentdur-endpoint  agentdur's handlers on the Restate server

The first needs the environment of the peer `agentdur` below the work directory: name both in one run.
"""

import importlib
import importlib.util
import json
import os
import sys
import time
import urllib.request
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
    module.__file__ = path
    return module


RESTATE = _restate()


class OnAgentdur(RESTATE.Restate):  # type: ignore[misc]  # the harness's class is only known at run time
    name = "agentdur-remote"

    def versions(self) -> str:
        return "agentdur serve; restate-sdk under hypercorn"

    def start(self) -> None:
        self.port = self.ctx.base_port + 80
        admin, sdk = self.port + 1, self.port + 3
        server = os.path.join(self.ctx.work, "venvs", "agentdur", "bin", "agentdur")
        store = f"sqlite:///{self.dir}/agentdur.db"
        ports = ["--ingress-port", str(self.port), "--admin-port", str(admin)]
        self.spawn([server, "serve", "--store", store, *ports])
        self.spawn(self.serve_argv(RESTATE.__file__, port=sdk, server="hypercorn"))
        self.wait_ready(f"http://127.0.0.1:{admin}/health")
        body = json.dumps({"uri": f"http://127.0.0.1:{sdk}"}).encode()
        kind = {"content-type": "application/json"}
        for _ in range(100):
            url = f"http://127.0.0.1:{admin}/deployments"
            request = urllib.request.Request(url, method="POST", data=body, headers=kind)
            try:
                urllib.request.urlopen(request, timeout=30).read()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError("the deployment could not be registered")


class OnRestate(RESTATE.Restate):  # type: ignore[misc]  # the harness's class is only known at run time
    name = "restate-agentdur-endpoint"
    venv = "agentdur-endpoint"
    requirements: ClassVar[list[str]] = ["-e", f"{REPO}[endpoint]", "uvloop"]

    def serve_argv(self, _: str, **cfg: Any) -> list[str]:
        return list(super().serve_argv(__file__, **cfg))


PEERS = {OnAgentdur.name: OnAgentdur, OnRestate.name: OnRestate}


def serve(cfg: dict[str, Any]) -> None:
    """The endpoint's half, run in agentdur's environment."""
    sys.path.insert(0, REPO)
    importlib.import_module("benchmarks.endpoint_serve").serve(cfg)
