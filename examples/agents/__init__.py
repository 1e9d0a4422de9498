"""Agents, one pattern per file; the tests run each of them."""
