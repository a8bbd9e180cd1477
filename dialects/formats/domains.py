"""Which values an option or an attribute may take, and how to say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_TABLE = 256


@dataclass(frozen=True, slots=True)
class Domain:
    """
    A union of literal values, integer ranges, a positive real, any real, and lists of reals.

    >>> group = Domain(literals=("channel",), ranges=((1, 64),))
    >>> group.accept(32), group.accept("channel"), group.accept(65)
    (32, 'channel', None)
    """

    literals: tuple[str | bool | int | float, ...] = ()
    ranges: tuple[tuple[int, int], ...] = ()
    positive: bool = False
    real: bool = False
    lengths: tuple[int, ...] = ()
    any_list: bool = False

    def accept(self, value: Any) -> Any:
        """The value in its canonical Python type, or None if it is not in the domain."""
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            value = value.item()
        for literal in self.literals:
            if type(literal) is type(value) and literal == value:
                return value
        if isinstance(value, bool | str):
            return None
        if isinstance(value, int | float):
            return self._accept_number(value)
        return self._accept_list(value) if self.lengths or self.any_list else None

    def _accept_number(self, value: int | float) -> int | float | None:
        if isinstance(value, int) and any(low <= value <= high for low, high in self.ranges):
            return value
        if not self.real and not self.positive:
            return None
        number = _as_float32(value)
        if number is None or (not self.real and number <= 0):
            return None
        return number

    def _accept_list(self, value: Any) -> tuple[float, ...] | None:
        try:
            items = list(value)
        except TypeError:
            return None
        if not self.any_list and len(items) not in self.lengths:
            return None
        if len(items) > MAX_TABLE:
            return None
        numbers = [_as_float32(item) for item in items]
        return (
            None if None in numbers else tuple(number for number in numbers if number is not None)
        )

    def __str__(self) -> str:
        parts = [str(x).lower() if isinstance(x, bool) else str(x) for x in self.literals]
        parts += [f"an integer from {low} to {high}" for low, high in self.ranges]
        if self.real:
            parts.append("a finite number")
        elif self.positive:
            parts.append("a positive number")
        parts += [f"a list of {count} finite numbers" for count in self.lengths]
        if self.any_list:
            parts.append(f"a list of at most {MAX_TABLE} finite numbers")
        return ", ".join(parts)


def _as_float32(value: Any) -> float | None:
    """A number rounded to float32; None unless it is a finite one."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not abs(value) <= float(np.finfo(np.float32).max):
        return None
    return float(np.float32(value))
