"""`Frame`: the values of a running function, and how a step is carried out."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..bindings import Operation
from ..errors import UnsupportedError, UsageError
from ..qcc.reference import Model
from .element_types import Array
from .program import Code, Step, place

Results = Array | Sequence[Array]
Observer = Callable[[Operation, Sequence[Array]], None]
"""Called with an operation and the values of its operands, before it is carried out."""


@dataclass(frozen=True, slots=True)
class Session:
    """What all functions of one run share."""

    rules: Mapping[str, "Rule"]
    functions: Mapping[str, Code]
    model: Model
    globals: MutableMapping[str, Array]
    observe: Observer | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """
    Values by number, and, inside a vectorised body, the iteration space.

    In such a body a scalar value is an array that broadcasts over the space: `indices` holds one
    open-mesh array an axis, and `mask` tells where the current branch is taken.
    """

    session: Session
    values: dict[int, Array] = field(default_factory=dict)
    indices: tuple[Array, ...] = ()
    mask: Array | None = None

    def run(self, code: Code, arguments: Sequence[Array]) -> list[Array]:
        """What the block's terminator is given."""
        self.values.update(zip(code.arguments, arguments, strict=True))
        for step in code.steps:
            self.carry_out(step)
            for number in step.frees:
                self.values.pop(number, None)
        results = [self.values[value] for value in code.yields]
        for number in (*code.arguments, *code.own_yields):
            self.values.pop(number, None)
        return results

    def carry_out(self, step: Step) -> None:
        """Run one step."""
        rule = self.session.rules.get(step.name)
        if rule is None:
            raise UnsupportedError(
                "interpreter-op",
                f"the reference interpreter has no rule for {step.name}",
                where=place(step.op),
            )
        operands = [self.values[value] for value in step.operands]
        if self.session.observe is not None:
            self.session.observe(step.op, operands)
        results = rule(step, operands, self)
        if not isinstance(results, list | tuple):
            results = [results]
        for number, result in zip(step.results, results, strict=True):
            self.values[number] = np.asarray(result)

    def over(self, indices: tuple[Array, ...]) -> "Frame":
        """The same values, for a body run over an iteration space."""
        return replace(self, indices=indices, mask=None)

    def where(self, condition: Array) -> "Frame":
        """The same values, for the branch taken where `condition` holds."""
        mask = condition if self.mask is None else self.mask & condition
        return replace(self, mask=mask)


Rule = Callable[[Step, list[Array], Frame], Results]


def integer(value: Array, step: Step) -> int:
    """A value that steers shapes or loops; raises UnsupportedError where it varies in a body."""
    if value.size != 1:
        raise UnsupportedError(
            "interpreter-varying",
            f"{step.name} has bounds that differ from element to element",
            where=place(step.op),
        )
    return int(value.reshape(()))


def checked_indices(
    indices: Sequence[Array], shape: Sequence[int], step: Step, mask: Array | None
) -> tuple[Array, ...]:
    """The indices, 0 where masked off; raises UsageError where one is out of range."""
    checked: list[Any] = []
    for axis, (index, extent) in enumerate(zip(indices, shape, strict=True)):
        outside = (index < 0) | (index >= extent)
        if mask is not None:
            index = np.where(mask, index, 0)
            outside = outside & mask
        if outside.any():
            worst = int(np.broadcast_to(index, outside.shape)[outside][0])
            raise UsageError(
                "index-range",
                f"index {worst} on axis {axis} of a tensor of shape {list(shape)}",
                where=place(step.op),
                next_step="check the integer inputs of the model (token ids, positions)",
            )
        checked.append(index)
    return tuple(checked)
