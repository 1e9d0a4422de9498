"""Approvals: the object that judges decisions, the routes people decide by, and who is told of a question."""
