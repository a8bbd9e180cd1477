"""Small programs of linalg and tensor ops, each of which becomes one fused kernel."""

from __future__ import annotations

import re
from pathlib import Path

_PARTS = re.split(
    r"^// ----- (.*)$", Path(__file__).with_name("groups.mlir").read_text(), flags=re.M
)
PROGRAMS = dict(zip(_PARTS[1::2], _PARTS[2::2], strict=True))


def softmax(columns: int, rows: str = "?") -> str:
    """Over the last axis, with a known number of columns."""
    text = PROGRAMS["softmax"].replace("tensor<?x?x", f"tensor<{rows}x{columns}x")
    text = text.replace("tensor.empty(%dim, %dim_0)", "tensor.empty(%dim)")
    if rows != "?":
        text = text.replace("tensor<?x", f"tensor<{rows}x")
        text = text.replace("tensor.empty(%dim)", "tensor.empty()")
    return text


CASES = {name: text for name, text in PROGRAMS.items() if name != "softmax"}
CASES["softmax of any columns"] = PROGRAMS["softmax"]
CASES |= {f"softmax of {n} columns": softmax(n) for n in (4, 31, 64)}
CASES |= {f"softmax of 2 rows of {n}": softmax(n, "2") for n in (40, 1040, 2500)}
