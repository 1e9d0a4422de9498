"""Tools that models may call, as journaled steps."""
