"""The rows of docs/accuracy.md: which number format each of them gives the weights of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["language", "sentence", "image"]


@dataclass(frozen=True, slots=True)
class Row:
    """
    A format for all linear layers, and for inputs where `activations` names one.

    `images` is the spelling for convolutions where it differs: their rows of C * 9 weights are not
    always divisible by a group. `fallback` serves tensors that the format does not admit.
    """

    key: str
    weights: str
    images: str = ""
    activations: str = "none"
    fallback: str = "none"

    def spelling(self, kind: Kind) -> str:
        """
        >>> Row("int4", "int4<group=48>", "int4").spelling("image")
        'int4'
        """
        return self.images if kind == "image" and self.images else self.weights

    def recipe(self, kind: Kind) -> dict[str, Any]:
        """The recipe; a language model's head keeps full precision, as its embedding does."""
        default = {
            "weights": self.spelling(kind),
            "activations": self.activations,
            "fallback": self.fallback,
        }
        if kind == "language":
            default["head"] = "none"
        return {"default": default}


ASYMMETRIC = "int4<symmetric=false>"
ROWS = (
    Row("int8", "int8"),
    Row("int6", "int6<group=96>", "int6"),
    Row("int5", "int5<group=96>", "int5"),
    Row("int4", "int4<group=48>", "int4"),
    Row("int4-g192", "int4<group=192>", "int4"),
    Row("int4-asym", "int4<group=48,symmetric=false>", ASYMMETRIC),
    Row("int4-asym-g96", "int4<group=96,symmetric=false>", ASYMMETRIC),
    Row("int3", "int3<group=48>", "int3"),
    Row("int3-asym", "int3<group=48,symmetric=false>", "int3<symmetric=false>"),
    Row("int2-asym", "int2<group=48,symmetric=false>", "int2<symmetric=false>"),
    Row("dint4", "dint4<group=96>", "dint4"),
    Row("dint3", "dint3<group=48>", "dint3"),
    Row("nf4", "nf4<group=64>", "nf4<group=channel>"),
    Row("fp8_e4m3", "fp8_e4m3<group=channel>"),
    Row("nestedfp16", "nestedfp16", fallback="fp16"),
    Row("nestedfp16-fp8", "nestedfp16<view=fp8_e4m3>", fallback="fp16"),
    Row("mxfp8_e4m3", "mxfp8_e4m3"),
    Row("mxfp8_e5m2", "mxfp8_e5m2"),
    Row("mxfp6_e2m3", "mxfp6_e2m3"),
    Row("mxfp6_e3m2", "mxfp6_e3m2"),
    Row("mxint8", "mxint8"),
    Row("mxfp4", "mxfp4"),
    Row("nvfp4", "nvfp4"),
    Row("nvfp4-two-level", "nvfp4<two_level=true>"),
    Row("amxfp4", "amxfp4<scale=e5m2>"),
    Row("int8-w8a8", "int8", activations="int8"),
    Row("amxfp4-w4a4", "amxfp4<scale=e5m2>", activations="amxfp4<scale=e5m2>"),
)


def chosen(names: str | None) -> Sequence[Row]:
    """The rows named by their keys, in the order given; all for None. KeyError on another name."""
    if names is None:
        return ROWS
    known = {row.key: row for row in ROWS}
    return [known[name] for name in names.split(",")]


def distinct(rows: Sequence[Row], kind: Kind) -> Sequence[Row]:
    """
    The rows that give a model of that kind different recipes, the first of equal ones.

    >>> [row.key for row in distinct(chosen("int4,int4-g192"), "image")]
    ['int4']
    """
    seen = {(row.spelling(kind), row.activations): row for row in reversed(rows)}
    return [row for row in rows if seen[row.spelling(kind), row.activations] is row]
