"""The engine: commits what the rules decide, then performs it."""
