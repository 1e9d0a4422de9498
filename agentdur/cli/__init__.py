"""The command `agentdur`: serve, look, intervene."""

from agentdur.cli.commands import main

__all__ = ["main"]
