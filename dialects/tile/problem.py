"""Linear layers as problems to be scheduled, and which of them no kernel computes."""

from __future__ import annotations

from collections.abc import Iterator
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
    has_rows,
    kernel_group,
    stored_width,
)
from .decoded_weight import DecodedWeight
from .fragments import INSTRUCTIONS, Instruction
from .integer_activations import OF_TOKENS, IntegerScale
from .operand_types import OPERAND_TYPES, OperandType

LONGEST_INTEGER_SUM = (1 << 31) // (128 * 128)
INSTRUCTION_OF = {
    "f16": "mma.m16n8k16.f16",
    "bf16": "mma.m16n8k16.bf16",
    "i8": "mma.m16n8k32.s8",
    "i4": "mma.m16n8k64.s4",
    "ui4": "mma.m16n8k64.s4u4",
    "f8E4M3FN": "mma.m16n8k32.e4m3",
}
WARP_GROUP_INSTRUCTION_OF = {
    "f16": "wgmma.f16", "bf16": "wgmma.bf16", "i8": "wgmma.s8", "f8E4M3FN": "wgmma.e4m3",
}  # fmt: skip
TENSOR_INSTRUCTION_OF = {
    "mma.m16n8k16.f16": "tcgen05.f16",
    "mma.m16n8k16.bf16": "tcgen05.bf16",
    "mma.m16n8k32.s8": "tcgen05.i8",
    "mma.m16n8k32.e4m3": "tcgen05.f8f6f4",
    "mma.m16n8k32.mxf8": "tcgen05.mxf8f6f4",
    "mma.m16n8k64.mxf4": "tcgen05.mxf4",
    "mma.m16n8k64.nvf4": "tcgen05.mxf4nvf4",
}
"""What multiplies the same operands in tensor memory, by a warp's instruction."""
CONVERTED = {"f16": ("f32",), "bf16": ("f32",)}
"""Types of activations in memory that are rounded to those of the key as they are copied."""
SCALE_ELEMENTS = {
    "float32": ("f32", 4), "uint16": ("ui16", 2), "uint8": ("ui8", 1), "int8": ("si8", 1)
}  # fmt: skip
"""Elements of parts that have a number for each row, by NumPy's names, and their bytes."""


@dataclass(frozen=True)
class LinearProblem(DecodedWeight):
    """
    result[tokens, n] = activations[tokens, k] · decode(weight[n, k]) (+ bias[n]).

    `tokens` is what the schedule is chosen for; kernels take any number. `weight` spells a
    format; `activation`, `result` and `bias` are element types. Activations of i8, i4 and ui4 come
    with one fp32 scale for each token, or as `x_scale` says; others with one if it says so.
    `source` is their type in memory where it is another one: f32 is rounded to f16 or bf16 as it is
    copied. `blocks` spells the format of activations that have a scale for each block of columns,
    which the instruction multiplies by.
    Operands of 4 bits lie two in a byte, the first one lower.
    """

    n: int
    k: int
    tokens: int
    weight: str
    activation: str = "f16"
    result: str = "f16"
    bias: str | None = None
    source: str | None = None
    blocks: str | None = None
    x_scale: IntegerScale | None = None

    @cached_property
    def x_format(self) -> Format | None:
        return None if self.blocks is None else parse_spelling(self.blocks)

    @property
    def instruction(self) -> str:
        """That of a warp; where activations are blocks, one that takes scales of both sides."""
        if self.x_format is None:
            return INSTRUCTION_OF[self.activation]
        return block_instruction(self.format, self.x_format, self.activation)

    @property
    def token_scale(self) -> IntegerScale | None:
        """The scale that codes of activations come with, if any."""
        return self.x_scale or (OF_TOKENS if self.integer else None)

    @property
    def tensor_instruction(self) -> str:
        """What multiplies the same in tensor memory, if anything."""
        return TENSOR_INSTRUCTION_OF.get(self.instruction, "")

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
        return kernel_group(self.format, self.k)

    @property
    def stored_k(self) -> int:
        """Columns of a stored row: k, and what pads its groups."""
        return stored_width(self.program.order, self.group, self.k)

    @property
    def memory(self) -> str:
        """The type of the activations in memory, which may be converted as they are copied."""
        return "ui8" if self.operand.bits == 4 else self.source or self.activation

    def x_columns(self, k: int) -> int:
        """Elements in memory of so many columns of activations."""
        return -(-k // self.x_per_element)

    @property
    def x_per_element(self) -> int:
        """Columns of activations in an element of memory."""
        return 2 if self.operand.bits == 4 else 1

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
        if role not in problem.code_parts and has_rows(fmt, role)
    }


def tensor_roles(fmt: Format) -> dict[str, str]:
    """Parts that hold one number for the whole weight, and NumPy's names of their types."""
    return {
        role: str(kind)
        for role, (_, kind) in sorted(fmt.part_specs(1, 1).items())
        if role in fmt.tensor_roles and not has_rows(fmt, role)
    }


def x_roles(problem: LinearProblem) -> dict[str, str]:
    """Arguments that hold scales of blocks of activations, and their parts of the format."""
    fmt = problem.x_format
    return {} if fmt is None else {f"x_{scale.role}": scale.role for scale in fmt.block_scales}


def signed_scales(fmt: Format) -> list[tuple[str, str]]:
    """For each scale of a block, the sign of the elements that it serves, and its part."""
    return [(scale.of if fmt.splits_signs else "all", scale.role) for scale in fmt.block_scales]


def block_instruction(weight: Format, x: Format, operand: str) -> str:
    """
    The instruction that multiplies blocks of both formats with their scales.

    Raises UnsupportedError where none does.
    """
    records = [
        each
        for each in INSTRUCTIONS.values()
        if each.block and each.operand == operand and not each.in_tensor_memory
    ]
    reasons = {each.name: list(_unlike(each, (weight, x))) for each in records}
    for name, found in reasons.items():
        if not found:
            return name
    raise UnsupportedError(
        "linear-blocks",
        f"no instruction multiplies blocks of {weight.spelling} and {x.spelling}",
        why="; ".join(f"{name}: {', '.join(found)}" for name, found in reasons.items()),
        next_step="use 16-bit activations, to which both are decoded",
    )


def _unlike(record: Instruction, formats: tuple[Format, Format]) -> Iterator[str]:
    """What keeps an instruction from taking the scales of both formats."""
    for fmt in formats:
        size = fmt.block_size
        if not isinstance(size, int) or size % record.block or PACKET_COLUMNS % size:
            yield f"blocks of {fmt.name} are {size}, not {record.block}"
        for scale in fmt.block_scales:
            decoding = fmt.scale_decoding(scale.role)
            if decoding.kind != record.scale or decoding.divide:
                yield f"scales of {fmt.name} are {decoding.kind}, not {record.scale}"
    if formats[1].tensor_roles:
        yield f"{formats[1].spelling} has a scale of the tensor"


def chunk_of(problem: LinearProblem) -> int:
    """Stored columns between two rescalings: as many of a packet as share a scale."""
    return PACKET_COLUMNS if problem.blocks else chunk_columns(problem.stored_group)


def chunk_columns(group: int | None) -> int:
    """Columns of a packet that share a scale, of groups of so many stored columns."""
    return PACKET_COLUMNS if group is None else gcd(group, PACKET_COLUMNS)


def refusal(problem: LinearProblem) -> str | None:
    """Why no schedule can compute this problem, or None."""
    record, group = INSTRUCTIONS[problem.instruction], problem.group
    if isinstance(problem.format.element, Nested) and problem.activation != "f16":
        return f"nested halves are f16, not {problem.activation}; their view is fp8_e4m3"
    _ = problem.program
    if problem.source not in (None, *CONVERTED.get(problem.activation, ())):
        return f"{problem.source} is not converted to {problem.activation} as it is copied"
    if record.accumulator == "i32" and problem.k > LONGEST_INTEGER_SUM and group is None:
        return f"sums of {problem.k} products of bytes may leave 32 bits; use groups"
    if problem.integer and (problem.stored_group or record.k) % record.k:
        return f"groups of {group} are no steps of {record.k} columns, as {record.operand} needs"
    if problem.format.splits_signs and (record.operand_bits == 8 or problem.integer):
        return f"a scale for each sign needs 16-bit activations, not {record.operand}"
    if problem.integer and problem.result not in ("f16", "bf16", "f32"):
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
