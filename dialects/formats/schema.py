"""The attributes each statement of the format language may have, and the values they take."""

from __future__ import annotations

from collections.abc import Mapping

from .domains import Domain

Schema = Mapping[str, Domain]

BOOLEAN = Domain(literals=(True, False))
REAL = Domain(real=True)
POSITIVE = Domain(positive=True)
ROUNDING = Domain(literals=("even", "nearest", "floor"))
OFFSET = Domain(literals=("none", "middle"))


def _words(*words: str) -> Domain:
    return Domain(literals=words)


def _integers(low: int, high: int) -> Domain:
    return Domain(ranges=((low, high),))


ELEMENTS: dict[str, Schema] = {
    "minifloat": {
        "exponent": _integers(2, 8),
        "mantissa": _integers(1, 23),
        "specials": _words("none", "nan", "ieee"),
        "overflow": _words("saturate", "infinity"),
        "rounding": ROUNDING,
        "signed_zero": BOOLEAN,
    },
    "integer": {
        "bits": _integers(2, 8),
        "signed": BOOLEAN,
        "range": _words("symmetric", "full"),
        "fraction_bits": _integers(0, 7),
        "offset": OFFSET,
        "rounding": ROUNDING,
    },
    "dint": {
        "bits": _integers(3, 8),
        "fraction": POSITIVE,
        "offset": OFFSET,
    },
    "uniform": {"bits": _integers(1, 8), "zero_level": BOOLEAN},
    "table": {"values": Domain(any_list=True)},
    "nested": {},
}
REQUIRED = {
    "minifloat": ("exponent", "mantissa"),
    "integer": ("bits", "signed"),
    "dint": ("bits",),
    "uniform": ("bits",),
    "table": ("values",),
    "nested": (),
    "block": ("size",),
    "scale": ("type", "rule"),
    "zero_point": ("type",),
    "admit": ("max_abs", "limit"),
    "view": ("part", "scale"),
}
STATEMENTS: dict[str, Schema] = {
    "block": {
        "size": Domain(literals=("channel", "tensor"), ranges=((1, 1 << 20),)),
        "ragged": BOOLEAN,
    },
    "scale": {
        "type": _words("e8m0", "e5m2", "e4m3", "e4m3max480", "fp16", "bf16", "fp32", "none"),
        "rule": _words(
            "floor", "ceil", "even", "rceil", "absmax", "range", "second_level", "clip", "inverse"
        ),
        "of": _words("all", "positive", "negative"),
        "rounding": ROUNDING,
        "minimum": POSITIVE,
        "flush": _words("one", "smallest"),
        "apply": _words("divide", "reciprocal"),
        "compat": _words("none", "torchao"),
        "value": Domain(literals=("auto", "max", "sawb", "mse"), positive=True),
        "c1": REAL,
        "c2": REAL,
    },
    "zero_point": {"type": _words("int8", "uint8", "none")},
    "admit": {"max_abs": POSITIVE, "limit": POSITIVE},
    "view": {"part": _words("upper", "lower"), "scale": POSITIVE},
}
