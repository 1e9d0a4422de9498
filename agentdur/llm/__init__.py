"""Model calls as journaled steps."""
