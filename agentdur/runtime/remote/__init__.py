"""Handlers that run elsewhere: the connections to them, and what is known of them."""
