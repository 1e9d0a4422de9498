"""Helpers for tests and demos: servers that stand in for the outside world, simulated time and faults."""
