"""What a handler is written with: services, contexts, serdes, and the runner of one attempt."""
