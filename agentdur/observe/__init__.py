"""What the engine shows of itself: logs, and what observers of it are told."""
