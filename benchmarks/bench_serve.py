"""Serves the peer harness's workloads: behind the harness's door, or as `agentdur serve` does."""

from benchlib import door

from agentdur.config import Settings
from agentdur.server import serve as serve_app
from benchmarks import bench_app


def serve(cfg: dict) -> None:
    """`mode`: door or serve; `dir`, `port`, `admin` and `effects` as the harness gives them."""
    app = bench_app.make(door.Effects(cfg["effects"]))
    store = f"sqlite:///{cfg['dir']}/agentdur.db"
    if cfg["mode"] == "serve":
        serve_app(app, Settings(store=store, ingress_port=cfg["port"], admin_port=cfg["admin"]))
        return
    ops = bench_app.Ops(app, store)
    door.serve(door.Door(ops.table(), ops.startup, ops.shutdown), cfg["port"])
