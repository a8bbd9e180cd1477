"""What readers of emitted kernels are told that a value is."""

from __future__ import annotations

from typing import Any

NAMES = {
    "arith.addf": "sum", "arith.addi": "sum", "arith.subf": "difference", "arith.mulf": "product",
    "arith.subi": "difference", "arith.muli": "product", "arith.divf": "ratio",
    "arith.negf": "negative", "arith.maximumf": "larger", "arith.minimumf": "smaller",
    "arith.maxnumf": "larger", "arith.minnumf": "smaller", "arith.maxsi": "larger",
    "arith.maxui": "larger", "arith.minsi": "smaller", "arith.minui": "smaller",
    "arith.divsi": "quotient", "arith.divui": "quotient", "arith.floordivsi": "quotient",
    "arith.ceildivsi": "quotient", "arith.remf": "remainder", "arith.remsi": "remainder",
    "arith.remui": "remainder", "arith.shli": "shifted", "arith.shrsi": "shifted",
    "arith.shrui": "shifted", "arith.cmpf": "holds", "arith.cmpi": "holds",
    "arith.select": "chosen", "arith.truncf": "rounded", "arith.trunci": "low_bits",
    "arith.extsi": "widened", "arith.extui": "widened", "arith.extf": "widened",
    "arith.fptosi": "integer", "arith.fptoui": "integer", "arith.sitofp": "real",
    "arith.uitofp": "real", "arith.bitcast": "bits", "arith.index_cast": "number",
    "arith.index_castui": "number",
    "math.absf": "magnitude", "math.absi": "magnitude", "math.ceil": "whole", "math.cos": "cosine",
    "math.copysign": "signed_magnitude", "math.exp": "power", "math.exp2": "power",
    "math.floor": "whole", "math.fma": "sum", "math.fpowi": "power", "math.ipowi": "power",
    "math.isfinite": "is_finite", "math.isinf": "is_infinite", "math.isnan": "is_nan",
    "math.log": "logarithm", "math.powf": "power", "math.round": "whole",
    "math.roundeven": "whole", "math.rsqrt": "inverse_root", "math.sin": "sine",
    "math.sqrt": "root", "math.tanh": "tangent", "math.trunc": "whole",
}  # fmt: skip

LOGIC = {"arith.andi": ("both", "masked"), "arith.ori": ("either", "joined"),
         "arith.xori": ("one_of_both", "flipped")}  # fmt: skip
"""Of truth values, and of bits."""


def name_hint(op: Any) -> str:
    """What a value of this op is called."""
    name = op.operation.name
    if name in LOGIC:
        of_truth, of_bits = LOGIC[name]
        return of_truth if str(op.results[0].type) == "i1" else of_bits
    return NAMES.get(name) or f"{name.split('.')[-1]}_value"
