"""The handlers for restate-server, written with its own SDK: `python -m benchmarks.serve_restate PORT`."""

from __future__ import annotations

import sys

import hypercorn
import hypercorn.asyncio
import restate
import uvloop

from benchmarks import work


def main(port: int) -> None:
    """Until SIGTERM."""
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = config.keep_alive_max_requests = 2**31 - 1
    config.keep_alive_timeout = 2**31 - 1
    uvloop.run(hypercorn.asyncio.serve(restate.app(services=work.services(restate)), config))


if __name__ == "__main__":
    main(int(sys.argv[1]))
