"""What a model does with a convolution's results before it rounds them to integers, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A scalar op of MLIR on values by number; `attribute` is a constant, or what is compared."""

    operation: str
    operands: tuple[int, ...]
    type: str
    attribute: float | int | None = None


@dataclass(frozen=True)
class Ending:
    """
    An elementwise function: value 0 is a result, of type `result`; values 1 … `channels` are fp32
    numbers of its output channel; each step makes the next one. The function gives value `value`.
    """

    result: str
    channels: int
    steps: tuple[Step, ...]
    value: int

    @property
    def of_channels(self) -> tuple[int, ...]:
        """The values that follow from numbers of the channel, and of which the others are made."""
        first = 1 + self.channels
        moving = {0}
        for number, step in enumerate(self.steps, first):
            if moving & set(step.operands):
                moving.add(number)
        used = [each for number, step in enumerate(self.steps, first) if number in moving
                for each in step.operands]  # fmt: skip
        fixed = dict.fromkeys(each for each in (*used, self.value) if each not in moving)
        return tuple(each for each in fixed if not self.is_constant(each))

    def is_constant(self, value: int) -> bool:
        first = 1 + self.channels
        return value >= first and self.steps[value - first].operation == "arith.constant"
