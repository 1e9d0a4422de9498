"""The stage on which the stories here are played."""

from tests.support.fixtures import stage

__all__ = ["stage"]
