"""The web pages served by the admin surface."""
