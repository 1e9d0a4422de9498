"""The HTTP surface callers use to invoke handlers."""
