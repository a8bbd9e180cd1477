"""The integer expressions of a plan as a table: each stands there once, constants are folded."""

from __future__ import annotations

from typing import Any

from .plan import OPERATIONS, Expression

COMMUTATIVE = ("add", "mul", "min", "max")


class SizeTable:
    """Expressions in the order they were asked for; operands are rows of the table."""

    def __init__(self) -> None:
        self.rows: list[Expression] = []
        self._known: dict[Expression, int] = {}

    def constant(self, value: int) -> int:
        return self._row(("const", value))

    def leaf(self, kind: str, *operands: int) -> int:
        return self._row((kind, *operands))

    def value(self, row: int) -> int | None:
        """The number that a row is, None of one that depends on the call."""
        expression = self.rows[row]
        return expression[1] if expression[0] == "const" else None

    def of(self, op: str, *operands: int) -> int:
        """The row of an operation of plan.py on rows."""
        if op in COMMUTATIVE and self.value(operands[0]) is not None:
            operands = operands[::-1]
        known = [self.value(operand) for operand in operands]
        if all(each is not None for each in known) and not _divides_by_zero(op, known):
            return self.constant(OPERATIONS[op](*known))
        if op == "select" and known[0] is not None:
            return operands[1] if known[0] else operands[2]
        if _is_neutral(op, known):
            return operands[0]
        if op == "mul" and 0 in known:
            return self.constant(0)
        return self._row((op, *operands))

    def product(self, operands: list[int]) -> int:
        result = self.constant(1)
        for operand in operands:
            result = self.of("mul", operand, result)
        return result

    def _row(self, expression: Expression) -> int:
        if expression not in self._known:
            self._known[expression] = len(self.rows)
            self.rows.append(expression)
        return self._known[expression]


def _is_neutral(op: str, known: list[Any]) -> bool:
    """Whether the second operand changes nothing."""
    right = known[-1]
    return (op in ("add", "sub") and right == 0) or (
        op in ("mul", "floordiv", "ceildiv") and right == 1
    )


def _divides_by_zero(op: str, known: list[Any]) -> bool:
    return op in ("floordiv", "ceildiv", "mod") and known[1] == 0
