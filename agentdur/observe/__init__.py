"""What the engine shows of itself: logs, and later metrics and spans."""
