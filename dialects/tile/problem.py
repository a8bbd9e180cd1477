"""Linear layers as problems to be scheduled, and which of them no kernel computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

from ..errors import UnsupportedError
from ..formats import Format, parse_spelling
from ..formats.definition import Nested
from ..formats.packets import (
    LOWER,
    PACKET_COLUMNS,
    PACKET_ROWS,
    PLANE_ORDERS,
    UPPER,
    stored_group,
    stored_width,
)
from .decode_program import DecodeProgram
from .decode_rules import decode_program
from .fragments import INSTRUCTIONS
from .operand_types import OPERAND_TYPES, OperandType

LONGEST_INTEGER_SUM = (1 << 31) // (128 * 128)
INSTRUCTION_OF = {
    "f16": "mma.m16n8k16.f16",
    "bf16": "mma.m16n8k16.bf16",
    "i8": "mma.m16n8k32.s8",
    "f8E4M3FN": "mma.m16n8k32.e4m3",
}
WARP_GROUP_INSTRUCTION_OF = {
    "f16": "wgmma.f16", "bf16": "wgmma.bf16", "i8": "wgmma.s8", "f8E4M3FN": "wgmma.e4m3",
}  # fmt: skip
CONVERTED = {"f16": ("f32",), "bf16": ("f32",)}
"""Types of activations in memory that are rounded to those of the key as they are copied."""
SCALE_ELEMENTS = {"float32": ("f32", 4), "uint8": ("ui8", 1), "int8": ("si8", 1)}
"""Elements of parts that have a number for each row, by NumPy's names, and their bytes."""


@dataclass(frozen=True)
class LinearProblem:
    """
    result[tokens, n] = activations[tokens, k] · decode(weight[n, k]) (+ bias[n]).

    `tokens` is what the schedule is chosen for; kernels take any number. `weight` spells a
    format; `activation`, `result` and `bias` are element types. Activations of i8 come with one
    fp32 scale for each token. `source` is their type in memory where it is another one: f32 is
    rounded to f16 or bf16 as it is copied.
    """

    n: int
    k: int
    tokens: int
    weight: str
    activation: str = "f16"
    result: str = "f16"
    bias: str | None = None
    source: str | None = None

    @cached_property
    def format(self) -> Format:
        return parse_spelling(self.weight)

    @cached_property
    def program(self) -> DecodeProgram:
        return decode_program(self.format, self.activation)

    @property
    def layout(self) -> str:
        """The stored order of the weight; that of nested halves serves both of their modes."""
        nested = isinstance(self.format.element, Nested)
        return PLANE_ORDERS[UPPER].name if nested else self.program.order.name

    @property
    def code_parts(self) -> dict[str, int]:
        """The parts that hold codes, and how many bits of each."""
        if isinstance(self.format.element, Nested):
            return {UPPER: 8, LOWER: 8}
        return {self.format.code_part: self.format.bits}

    @property
    def operand(self) -> OperandType:
        return OPERAND_TYPES[self.activation]

    @property
    def group(self) -> int | None:
        """Columns of k that share scales; None where a row has one scale, or none."""
        size = self.format.block_size
        return size if isinstance(size, int) else None

    @property
    def stored_group(self) -> int | None:
        """Columns that a group takes as stored, padded to whole steps of the instruction."""
        return self.group and stored_group(self.program.order, self.group)

    @property
    def stored_k(self) -> int:
        """Columns of a stored row: k, and what pads its groups."""
        return stored_width(self.program.order, self.format.block_size, self.k)

    @property
    def memory(self) -> str:
        """The type of the activations in memory, which may be converted as they are copied."""
        return self.source or self.activation

    @property
    def strips(self) -> int:
        return -(-self.n // PACKET_ROWS)

    @property
    def units(self) -> int:
        return -(-self.stored_k // PACKET_COLUMNS)

    @property
    def groups(self) -> int:
        return 1 if self.group is None else -(-self.k // self.group)


def row_roles(problem: LinearProblem) -> dict[str, str]:
    """Parts that hold numbers for each row of the weight, and NumPy's names of their types."""
    fmt = problem.format
    return {
        role: str(kind)
        for role, (_, kind) in fmt.part_specs(1, 1).items()
        if role not in problem.code_parts and (role == "zero_point" or role not in fmt.tensor_roles)
    }


def chunk_of(problem: LinearProblem) -> int:
    """Stored columns between two rescalings: as many of a packet as share a scale."""
    return chunk_columns(problem.stored_group)


def chunk_columns(group: int | None) -> int:
    """Columns of a packet that share a scale, of groups of so many stored columns."""
    return PACKET_COLUMNS if group is None else gcd(group, PACKET_COLUMNS)


def refusal(problem: LinearProblem) -> str | None:
    """Why no schedule can compute this problem, or None."""
    record, group = INSTRUCTIONS[INSTRUCTION_OF[problem.activation]], problem.group
    if isinstance(problem.format.element, Nested) and problem.activation != "f16":
        return f"nested halves are f16, not {problem.activation}; their view is fp8_e4m3"
    _ = problem.program
    if problem.source not in (None, *CONVERTED.get(problem.activation, ())):
        return f"{problem.source} is not converted to {problem.activation} as it is copied"
    if record.accumulator == "i32" and problem.k > LONGEST_INTEGER_SUM and group is None:
        return f"sums of {problem.k} products of bytes may leave 32 bits; use groups"
    if problem.format.splits_signs and record.operand_bits != 16:
        return f"a scale for each sign needs 16-bit activations, not {record.operand}"
    if problem.activation == "i8" and problem.result not in ("f16", "bf16", "f32"):
        return f"no result of {problem.result}"
    return None


def checked(problem: LinearProblem) -> LinearProblem:
    """The problem itself; raises UnsupportedError where nothing can compute it."""
    if reason := refusal(problem):
        raise UnsupportedError(
            "linear-unsupported",
            f"no kernel for {problem.activation} times {problem.weight}",
            why=reason,
            next_step="choose the group or the activations that the reason names",
        )
    _ = problem.program
    return problem
