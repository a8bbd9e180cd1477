"""
Matrix instructions: their shapes, operand types, and where each lane holds what.

The fragments of `mma.sync` follow one closed form for every width of element. With g = lane >> 2,
t = lane & 3, e elements in a 32-bit register and K = 8e:

    A [16, K]    row = g + 8 ((v / e) & 1)   k = e t + v mod e + 4e (v / 2e)    v < 4e
    B [8, K]     n   = g                     k = e t + v mod e + 4e (v / e)     v < 2e
    C [16, 8]    row = g + 8 (v >> 1)        n = 2t + (v & 1)                   v < 4

B is given as [n, k], the orientation of a linear layer's weight. `wgmma` has four warps, each
with 16 rows of A and C in the same form. `tcgen05` takes both operands from shared memory and adds
in tensor memory; what a warp loads of its sums is C in the same form. Scales of blocks are bytes of
one register: a lane whose t is 0 or 1 holds those of row g + 8t of A, every lane those of row g of
B (spec cuda.md §2).
"""

from __future__ import annotations

from dataclasses import dataclass

from .layout import Layout

REGISTER_BITS = 32


@dataclass(frozen=True)
class Instruction:
    """
    One matrix multiply-accumulate: acc[m, n] += sum over k of a[m, k] * b[n, k].

    `operand` and `accumulator` are element types as MLIR names them (f16, bf16, i8, i4,
    f8E4M3FN, …); `name` is also the key of the capability table. Some multiply each `block` columns
    of a row of either operand by a scale of its own: a byte, e8m0 or e4m3 as `scale` says.
    `weights` is the type of that side which holds weights, where it is not `operand`.
    """

    name: str
    m: int
    n: int
    k: int
    operand: str
    operand_bits: int
    accumulator: str
    block: int = 0
    scale: str = ""
    weights: str = ""

    @property
    def weight_operand(self) -> str:
        return self.weights or self.operand

    @property
    def of_warp_group(self) -> bool:
        """Whether four warps execute it together; B is then read from shared memory."""
        return self.m == 64

    @property
    def in_tensor_memory(self) -> bool:
        """Whether one thread issues it for 128 rows, and sums are in tensor memory."""
        return self.m == 128

    @property
    def kind(self) -> str:
        """Of those in tensor memory: the `Tensor_kind` of the device header."""
        return TENSOR_KINDS[self.name]

    @property
    def function(self) -> str:
        """The name of the device header's function."""
        if self.in_tensor_memory:
            return f"tensor_mma_{self.kind}"
        if not self.of_warp_group:
            return self.name.replace(".", "_")
        return f"wgmma_m64k{self.k}_{self.name.removeprefix('wgmma.')}"

    @property
    def per_register(self) -> int:
        """Elements of an operand in one 32-bit register."""
        return REGISTER_BITS // self.operand_bits

    @property
    def a(self) -> Layout:
        """(lane, value) → (m, k): the fragment of the left operand, of one warp."""
        e = self.per_register
        return _fragment((16, 8 * e), e, [*_along_k(e), (8, 0), (0, 4 * e)])

    @property
    def b(self) -> Layout:
        """(lane, value) → (n, k): the fragment of the right operand."""
        e = self.per_register
        return _fragment((8, 8 * e), e, [*_along_k(e), (0, 4 * e)])

    @property
    def c(self) -> Layout:
        """(lane, value) → (m, n): the fragment of the accumulator, of one warp."""
        return _fragment((16, 8), 2, [(0, 1), (8, 0)])


def _fragment(shape: tuple[int, int], e: int, values: list[tuple[int, int]]) -> Layout:
    """Four lanes side by side, `e` elements each, in eight rows; then the values of a lane."""
    lanes = ((0, e), (0, 2 * e), (1, 0), (2, 0), (4, 0))
    return Layout(shape, {"value": tuple(values), "lane": lanes})


def _along_k(e: int) -> list[tuple[int, int]]:
    return [(0, 1 << bit) for bit in range(e.bit_length() - 1)]


def _mma(
    name: str, k: int, operand: str, bits: int, accumulator: str, weights: str = ""
) -> Instruction:
    return Instruction(name, 16, 8, k, operand, bits, accumulator, weights=weights)


def _wgmma(name: str, k: int, operand: str, bits: int, accumulator: str) -> Instruction:
    return Instruction(name, 64, 8, k, operand, bits, accumulator)


def _tcgen05(
    name: str, k: int, operand: str, bits: int, accumulator: str, block: int = 0, scale: str = ""
) -> Instruction:
    return Instruction(name, 128, 8, k, operand, bits, accumulator, block, scale)


TENSOR_KINDS = {
    "tcgen05.f16": "f16", "tcgen05.bf16": "bf16", "tcgen05.i8": "s8", "tcgen05.f8f6f4": "e4m3",
    "tcgen05.mxf8f6f4": "mxf8", "tcgen05.mxf4": "mxf4", "tcgen05.mxf4nvf4": "nvf4",
}  # fmt: skip
INSTRUCTIONS: dict[str, Instruction] = {
    each.name: each
    for each in (
        _mma("mma.m16n8k16.f16", 16, "f16", 16, "f32"),
        _mma("mma.m16n8k16.bf16", 16, "bf16", 16, "f32"),
        _mma("mma.m16n8k32.s8", 32, "i8", 8, "i32"),
        _mma("mma.m16n8k64.s4", 64, "i4", 4, "i32"),
        _mma("mma.m16n8k64.s4u4", 64, "ui4", 4, "i32", "i4"),
        _mma("mma.m16n8k64.u4s4", 64, "ui4", 4, "i32", "i4"),
        _mma("mma.m16n8k32.e4m3", 32, "f8E4M3FN", 8, "f32"),
        _mma("mma.m16n8k32.e5m2", 32, "f8E5M2", 8, "f32"),
        Instruction("mma.m16n8k32.mxf8", 16, 8, 32, "f8E4M3FN", 8, "f32", 32, "e8m0"),
        Instruction("mma.m16n8k64.mxf4", 16, 8, 64, "f4E2M1FN", 4, "f32", 32, "e8m0"),
        Instruction("mma.m16n8k64.nvf4", 16, 8, 64, "f4E2M1FN", 4, "f32", 16, "e4m3"),
        _wgmma("wgmma.f16", 16, "f16", 16, "f32"),
        _wgmma("wgmma.bf16", 16, "bf16", 16, "f32"),
        _wgmma("wgmma.s8", 32, "i8", 8, "i32"),
        _wgmma("wgmma.e4m3", 32, "f8E4M3FN", 8, "f32"),
        _tcgen05("tcgen05.f16", 16, "f16", 16, "f32"),
        _tcgen05("tcgen05.bf16", 16, "bf16", 16, "f32"),
        _tcgen05("tcgen05.i8", 32, "i8", 8, "i32"),
        _tcgen05("tcgen05.f8f6f4", 32, "f8E4M3FN", 8, "f32"),
        _tcgen05("tcgen05.mxf8f6f4", 32, "f8E4M3FN", 8, "f32", 32, "e8m0"),
        _tcgen05("tcgen05.mxf4", 64, "f4E2M1FN", 4, "f32", 32, "e8m0"),
        _tcgen05("tcgen05.mxf4nvf4", 64, "f4E2M1FN", 4, "f32", 16, "e4m3"),
    )
}
"""Instructions by name; which machine has which is in hardware.py."""
