"""Serving: sockets, signals, and the end of both."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import signal
import socket
import sys
from types import ModuleType

from agentdur.config import Settings, installed_version
from agentdur.core.errors import AddressInUse
from agentdur.core.ports import Store
from agentdur.core.visitors import is_loopback
from agentdur.observe.logs import configure_logging
from agentdur.sdk.logged import HandlerLines
from agentdur.server.app import App, frontends
from agentdur.server.parts import BACKLOG

log = logging.getLogger("agentdur")
COLLECT_AFTER = (20_000, 50, 100)
"""Thresholds of the garbage collector in a process that serves: objects, young, middle collections."""


def loops() -> ModuleType:
    """uvloop where there is one, else asyncio: each has `new_event_loop`."""
    try:
        return importlib.import_module("uvloop")
    except ImportError:  # not on Windows
        return asyncio


def serve(app: App, settings: Settings, store: str | Store | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then drain; a second one ends the draining. Answers the exit code;
    raises before it serves.

    The store is `store`, else the App's own, else the settings'."""
    log_as(settings)
    with asyncio.Runner(loop_factory=loops().new_event_loop) as runner:
        return runner.run(_serve(app, settings, store))


def log_as(settings: Settings) -> None:
    """Log as the settings say; lines of handlers say whose they are, and those of replays are left out."""
    configure_logging(settings.log_level, settings.log_format, HandlerLines())


def settle_memory() -> None:
    """For a process that serves: what is there now stays, so that the garbage collector need not look at it
    again, and it looks less often at what comes and goes. `agentdur serve` does this; other programs may."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


async def _serve(app: App, settings: Settings, store: str | Store | None) -> int:
    ingress_socket = _listen(settings.host, settings.ingress_port, "ingress_port")
    admin_socket = _listen(settings.host, settings.admin_port, "admin_port")
    host = settings.host
    endpoint = f"http://{host}:{ingress_socket.getsockname()[1]}/"
    loopback = is_loopback(admin_socket.getsockname()[0])
    app.tell(settings, endpoint)
    async with app.running(store, settings=settings, expose_metrics=True) as engine:
        # What was running before goes on meanwhile.
        front = await asyncio.to_thread(frontends)
        ingress = front.ingress_of(app, engine, settings, loopback=loopback)
        admin_app = front.admin_of(app, engine, settings, endpoint, loopback=loopback)
        servers = [
            (front.server_of(ingress, settings), ingress_socket),
            (front.server_of(admin_app, settings), admin_socket),
        ]
        stop = asyncio.Event()

        def asked_to_stop() -> None:
            if stop.is_set():  # asked again: steps that run now run once more after the next start
                engine.hurry()
                for server, _ in servers:
                    server.force_exit = True
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, asked_to_stop)
        settle_memory()
        tasks = [asyncio.ensure_future(server.serve(sockets=[sock])) for server, sock in servers]
        names = ", ".join(s.name for s in app.services) or "no services"
        admin = f"http://{host}:{admin_socket.getsockname()[1]}/"
        print(f"agentdur {installed_version()} serves {names} at {endpoint} (admin {admin})", flush=True)
        waiting = asyncio.ensure_future(stop.wait())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        seconds = settings.shutdown_timeout.total_seconds()
        log.info("stopping: what runs is given %.3g s to come to a rest", seconds)
        for server, _ in servers:
            server.should_exit = True
        await engine.drain()
        await asyncio.gather(*tasks)
        waiting.cancel()
    return 0


def _listen(host: str, port: int, setting: str) -> socket.socket:
    """A listening socket: who connects before it is served waits. The protocol is named because asyncio turns
    Nagle's delay off only then."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, socket.IPPROTO_TCP)
        if sys.platform != "win32":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        raise AddressInUse(f"{host}:{port} ({setting}): {error.strerror or error}") from error
    return sock
