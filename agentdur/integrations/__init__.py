"""Thin layers that give agent frameworks durability."""
