"""Composition: an App of services, its engine in this process, and the servers around it.

Rules of this folder:
1. Only `frontends` imports the web framework. It is loaded when somebody comes over HTTP or the engine runs
   already: after a crash the work that was left goes on first.
"""

from agentdur.server.app import App, store_of
from agentdur.server.serving import log_as, loops, serve, settle_memory

__all__ = ["App", "log_as", "loops", "serve", "settle_memory", "store_of"]
