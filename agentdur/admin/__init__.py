"""The HTTP surface operators use to look and to intervene."""
