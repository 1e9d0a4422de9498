"""Agent patterns built from handlers, tools and model calls."""
