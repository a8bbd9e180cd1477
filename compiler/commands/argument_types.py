"""What the arguments of the verbs may be; argparse shows the message where one may not."""

from __future__ import annotations

import argparse
import math

# A count that long loops and fixed-width fields can hold.
_LARGEST = 2**31 - 1


def count(text: str) -> int:
    """A whole number from 1 to 2147483647."""
    value = _whole(text)
    if not 1 <= value <= _LARGEST:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not from 1 to {_LARGEST}")
    return value


def seed(text: str) -> int:
    """A whole number from 0 to 2147483647."""
    value = _whole(text)
    if not 0 <= value <= _LARGEST:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not from 0 to {_LARGEST}")
    return value


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not between 0 and 1")
    return value


def slack(text: str) -> float:
    """A finite number that is not negative."""
    value = _number(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not 0 or a positive number")
    return value


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is not a number") from None
