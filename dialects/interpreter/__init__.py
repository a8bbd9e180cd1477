"""The reference interpreter: the oracle for every target, NumPy only."""

from .interpret import interpret

__all__ = ["interpret"]
