"""The service protocol (V5 to V7): bytes to the core's words and back. No sockets, no rules."""
