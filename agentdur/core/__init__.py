"""The durable core: data and pure rules. No I/O, no clock, no randomness."""
