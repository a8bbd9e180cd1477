"""Weights that no operand of a kernel's products holds are refused, with what comes nearest."""

from __future__ import annotations

from typing import Any

from ..dialects.errors import QccError
from ..dialects.formats import Format
from ..dialects.tile.decode_rules import decode_program
from .launching import unsupported

HALVES = ("f16", "bf16")


def require_decoded(op: Any, family: str, what: str, fmt: Format, operand: str) -> None:
    """Raises UnsupportedError unless codes of `fmt` decode to `operand`."""
    why = _why_not(fmt, operand)
    if why is None:
        return
    others = [half for half in HALVES if half != operand and _why_not(fmt, half) is None]
    nearest = f"compile with --operands {others[0]}, or " if others else ""
    whole = "bf16" if operand == "bf16" else "fp16"
    raise unsupported(
        op, family, f"{what} with weights in {fmt.spelling} and {operand} operands", why,
        f"{nearest}choose {whole} or a format of at most eight bits",
    )  # fmt: skip


def _why_not(fmt: Format, operand: str) -> str | None:
    try:
        decode_program(fmt, operand)
    except QccError as error:
        return error.why or f"{operand} does not hold its values: {error.what}"
    return None
