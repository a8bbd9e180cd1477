"""
`scf`: structured control flow.

In a vectorised body an `if` runs both branches, each under its mask, and selects.
"""

import numpy as np

from ...errors import UnsupportedError
from ..element_types import Array
from ..frame import Frame, Results, Rule, integer
from ..program import Step, place


def branch(step: Step, operands: list[Array], frame: Frame) -> Results:
    (condition,) = operands
    if condition.size == 1 and frame.mask is None:
        taken = 0 if condition.item() else 1
        blocks = step.blocks
        return frame.run(blocks[taken], []) if taken < len(blocks) else []
    if len(step.blocks) == 1:
        frame.where(condition).run(step.blocks[0], [])
        return []
    if_true = frame.where(condition).run(step.blocks[0], [])
    if_false = frame.where(~condition).run(step.blocks[1], [])
    return [np.where(condition, a, b) for a, b in zip(if_true, if_false, strict=True)]


def count(step: Step, operands: list[Array], frame: Frame) -> Results:
    lower, upper, stride, *carried = operands
    first, last, by = (integer(bound, step) for bound in (lower, upper, stride))
    for position in range(first, last, by):
        carried = frame.run(step.blocks[0], [np.asarray(position, lower.dtype), *carried])
    return carried


def loop(step: Step, operands: list[Array], frame: Frame) -> Results:
    before, after = step.blocks
    carried = operands
    while True:
        condition, *handed_on = frame.run(before, carried)
        if condition.size != 1:
            raise UnsupportedError(
                "interpreter-varying",
                "scf.while ends at different times in different elements",
                where=place(step.op),
            )
        if not condition.item():
            return handed_on
        carried = frame.run(after, handed_on)


RULES: dict[str, Rule] = {"scf.if": branch, "scf.for": count, "scf.while": loop}
