"""What problems know of a weight that is decoded to the operands of an instruction."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

from ..formats import Format, parse_spelling
from ..formats.packets import stored_group
from .decode_program import DecodeProgram
from .decode_rules import decode_program
from .fragments import INSTRUCTIONS
from .operand_types import OPERAND_TYPES


class DecodedWeight:
    """
    Part of a problem: `weight` spells the format of a weight, which is multiplied by operands of
    the type `activation`.
    """

    weight: str
    activation: str

    @property
    @abstractmethod
    def instruction(self) -> str:
        """What a warp multiplies by."""

    @cached_property
    def format(self) -> Format:
        return parse_spelling(self.weight)

    @cached_property
    def program(self) -> DecodeProgram:
        return decode_program(self.format, self.weight_operand)

    @property
    def weight_operand(self) -> str:
        """What weights are decoded to: signed where activations are not."""
        return INSTRUCTIONS[self.instruction].weight_operand

    @property
    def integer(self) -> bool:
        return not OPERAND_TYPES[self.activation].is_float

    @property
    @abstractmethod
    def group(self) -> int | None:
        """Values of k that share scales; None where a row has one scale, or none."""

    @property
    def stored_group(self) -> int | None:
        """Values of k that a group takes as stored, padded to whole steps of the instruction."""
        return self.group and stored_group(self.program.order, self.group)
