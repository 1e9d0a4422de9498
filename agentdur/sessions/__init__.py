"""Conversations kept across invocations."""
