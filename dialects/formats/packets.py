"""
Stored orders of weights for matrix units: each lane of a warp reads the codes it needs in one go.

A packet is 16 rows (n) by 64 columns (k): 1024 codes, 32 for each of 32 lanes. With g = lane >> 2,
t = lane & 3 and e elements in a 32-bit register, register r of a lane holds

    n = g + 8 h          r = (j, h, step) from the low bit, j one bit, h one bit
    k = 8e step + 4e j + e t + s        s = 0 … e-1

which is two fragments [8, 8e] of the unit's right operand for each step, or one [16, 8e] of its
left operand with registers 1 and 2 exchanged (tests hold it against dialects/tile/fragments.py).

The codes' bits are cut into planes of 16, 8, 4, 2, 1 bits, the widest first and lowest: 6 = 4 + 2.
A plane of p bits has p words of 32 bits for each lane. Words are stored in groups of up to four,
lane after lane, so that a lane reads 4 min(p, 4) bytes at once. In a word, the code of register
r and element s begins at bit

    p i + (32 / e) s         i = r mod (32 / e / p): one shift and one mask give a register
    p (e i + s)              in "pairs" orders: the codes of a register are neighbours

Groups of columns that share a scale are padded with code 0 to whole steps of 8e columns, so that
each step of the unit has one scale a row; `stored_columns` says where each column went. Units that
multiply 4-bit codes have a scale for each 16 or 32 columns of a step, and pad to 16.

    codes   uint32 [ceil(n / 16), ceil(stored k / 64), 32 bits]
    scales         [blocks, n to a multiple of 16]       a row of scales for each block
    zero points    likewise
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoding import row_codes
from .definition import Nested, Plane
from .layout import Parts, PartSpecs, block_columns, padded_count
from .nested import PLANES
from .number_format import Format
from .packing import pack_codes

PACKET_ROWS = 16
PACKET_COLUMNS = 64
LANES = 32
CODES_PER_LANE = PACKET_ROWS * PACKET_COLUMNS // LANES
WORD_BITS = 32
WORDS_AT_ONCE = 4
NIBBLE_BLOCK = 16


@dataclass(frozen=True, slots=True)
class PacketOrder:
    """
    One stored order: for operands with so many elements in a register, neighbours or spread.

    Codes are cut into planes of at most `widest` bits.
    """

    name: str
    per_register: int
    pairs: bool = False
    widest: int = 16

    @property
    def registers(self) -> int:
        """Registers of operands that a lane makes of a packet."""
        return CODES_PER_LANE // self.per_register

    @property
    def depth(self) -> int:
        """Columns of one step of the matrix instruction."""
        return 8 * self.per_register

    @property
    def padding(self) -> int:
        """Stored groups are a multiple of so many columns."""
        return NIBBLE_BLOCK if self.per_register == 8 else self.depth

    @property
    def widest_plane(self) -> int:
        return WORD_BITS // self.per_register

    def position(self, lane: Any, register: Any, element: Any) -> tuple[Any, Any]:
        """(n, k) in the packet; integers or arrays that broadcast."""
        e = self.per_register
        half, row, step = register & 1, (register >> 1) & 1, register >> 2
        n = (lane >> 2) + 8 * row
        return n, 8 * e * step + 4 * e * half + e * (lane & 3) + element


ORDERS = {
    order.name: order
    for order in (
        PacketOrder("mma16", 2),
        PacketOrder("mma16_pairs", 2, pairs=True),
        PacketOrder("mma8", 4),
        PacketOrder("mma8_pairs", 4, pairs=True),
        PacketOrder("mma4", 8),
    )
}
UPPER, LOWER = PLANES
PLANE_ORDERS = {UPPER: ORDERS["mma8"], LOWER: ORDERS["mma16_pairs"]}
"""
Of nested halves: the upper plane is one of bytes, ready for products of bytes. The lower one has
for each lane the bytes of its halves; a lane that wants halves reads the upper ones beside it.
"""
NESTED_BYTES = PacketOrder("nested_bytes", 2, pairs=True, widest=8)
"""Both planes of nested halves, as a program that merges them reads them."""


@dataclass(frozen=True, slots=True)
class WordPlane:
    """`bits` bits of each code from bit `low` on; its words begin `start` words into a packet."""

    order: PacketOrder
    bits: int
    low: int

    @property
    def words(self) -> int:
        """Words of one lane."""
        return self.bits

    @property
    def start(self) -> int:
        """First word in the packet, and 1/32 of it in a lane: wider planes come first."""
        return LANES * self.low

    @property
    def at_once(self) -> int:
        """Words that a lane finds one behind the other."""
        return min(self.bits, WORDS_AT_ONCE)

    @property
    def registers(self) -> int:
        """Registers that one word holds codes of."""
        return WORD_BITS // (self.order.per_register * self.bits)

    def place(self, register: int, element: int) -> tuple[int, int]:
        """The word, and the bit in it, where this code begins."""
        word, i = divmod(register, self.registers)
        e = self.order.per_register
        if self.order.pairs:
            return word, self.bits * (e * i + element)
        return word, self.bits * i + WORD_BITS // e * element

    def offset(self, lane: Any, word: Any) -> Any:
        """Where word `word` of a lane stands in a packet, in words."""
        group, rest = word // self.at_once, word % self.at_once
        return self.start + (group * LANES + lane) * self.at_once + rest


def word_planes(order: PacketOrder, bits: int) -> tuple[WordPlane, ...]:
    """
    How codes of `bits` bits are cut.

    >>> [(plane.bits, plane.low) for plane in word_planes(ORDERS["mma16"], 7)]
    [(4, 0), (2, 4), (1, 6)]
    """
    if bits > order.widest_plane:
        raise ValueError(f"{order.name} has no codes of {bits} bits")
    planes, low = [], 0
    while low < bits:
        width = min(order.widest, 1 << (bits - low).bit_length() - 1)
        planes.append(WordPlane(order, width, low))
        low += width
    return tuple(planes)


def stored_group(order: PacketOrder, group: int) -> int:
    """
    Columns that a group of `group` takes: whole steps of the instruction, or parts with a scale.

    >>> stored_group(ORDERS["mma16"], 40), stored_group(ORDERS["mma8"], 64)
    (48, 64)
    """
    return -(-group // order.padding) * order.padding


def stored_width(order: PacketOrder, block_size: int | str | None, k: int) -> int:
    """Columns that a row of k takes, those included that pad its groups."""
    if not isinstance(block_size, int):
        return k
    whole, rest = divmod(k, block_size)
    return whole * stored_group(order, block_size) + rest


def stored_columns(
    order: PacketOrder, block_size: int | str | None, k: int
) -> NDArray[np.integer[Any]]:
    """
    Where each of k columns stands in the stored row.

    >>> stored_columns(ORDERS["mma16"], 3, 7).tolist()
    [0, 1, 2, 16, 17, 18, 32]
    """
    columns = np.arange(k)
    if not isinstance(block_size, int):
        return columns
    padding = stored_group(order, block_size) - block_size
    return columns + columns // block_size * padding


def pack_packets(order: PacketOrder, codes: NDArray[Any], bits: int) -> NDArray[np.uint32]:
    """Codes [rows, k] as packets; missing rows and columns hold code 0."""
    rows, k = codes.shape
    shape = -(-rows // PACKET_ROWS), -(-k // PACKET_COLUMNS)
    padded = np.zeros((shape[0] * PACKET_ROWS, shape[1] * PACKET_COLUMNS), np.uint32)
    padded[:rows, :k] = codes
    tiles = padded.reshape(shape[0], PACKET_ROWS, shape[1], PACKET_COLUMNS).swapaxes(1, 2)
    packets = np.zeros((*shape, LANES * bits), np.uint32)
    for plane, register, element, n, k_of_lane, words, bit in _places(order, bits):
        del register, element
        field = (tiles[:, :, n, k_of_lane] >> plane.low) & ((1 << plane.bits) - 1)
        packets[:, :, words] |= field << np.uint32(bit)
    return packets


def unpack_packets(
    order: PacketOrder, packets: NDArray[np.uint32], bits: int, rows: int, k: int
) -> NDArray[np.uint32]:
    """Undo `pack_packets`: codes [rows, k]."""
    strips, units = packets.shape[:2]
    tiles = np.zeros((strips, units, PACKET_ROWS, PACKET_COLUMNS), np.uint32)
    for plane, register, element, n, k_of_lane, words, bit in _places(order, bits):
        del register, element
        field = (packets[:, :, words] >> np.uint32(bit)) & ((1 << plane.bits) - 1)
        tiles[:, :, n, k_of_lane] |= field << plane.low
    codes = tiles.swapaxes(1, 2).reshape(strips * PACKET_ROWS, units * PACKET_COLUMNS)
    return codes[:rows, :k]


def packet_specs(fmt: Format, order: PacketOrder, rows: int, k: int) -> PartSpecs:
    """
    Shape and dtype of each stored part of [rows, k].

    >>> from qcc.dialects.formats import format
    >>> specs = packet_specs(format("int4", group=32), ORDERS["mma16"], 40, 96)
    >>> {role: shape for role, (shape, _) in specs.items()}
    {'codes': (3, 2, 128), 'scale': (3, 48)}
    """
    strips = -(-rows // PACKET_ROWS)
    specs: PartSpecs = {}
    for role, (shape, kind) in fmt.part_specs(rows, k).items():
        if role == LOWER or (role == fmt.code_part and isinstance(fmt.element, Nested)):
            shape = strips, -(-k // PACKET_COLUMNS), LANES * 8
            kind = np.dtype("<u4")
        elif role == fmt.code_part:
            width = stored_width(order, fmt.block_size, k)
            shape = strips, -(-width // PACKET_COLUMNS), LANES * fmt.bits
            kind = np.dtype("<u4")
        elif has_rows(fmt, role):
            shape = block_columns(fmt.block_size, k)[1], strips * PACKET_ROWS
        specs[role] = shape, kind
    return specs


def to_packets(fmt: Format, order: PacketOrder, parts: Parts, k: int) -> Parts:
    """The parts of [rows, k] that `Format.encode_rows` gives, in packets."""
    stored: Parts = {}
    if isinstance(fmt.element, Nested):
        return {role: pack_packets(PLANE_ORDERS[role], part, 8) for role, part in parts.items()}
    for role, part in parts.items():
        if role == fmt.code_part:
            codes = row_codes(fmt, parts, k)
            padded = np.zeros((len(codes), stored_width(order, fmt.block_size, k)), codes.dtype)
            padded[:, stored_columns(order, fmt.block_size, k)] = codes
            stored[role] = pack_packets(order, padded, fmt.bits)
        elif not has_rows(fmt, role):
            stored[role] = part
        elif role in fmt.tensor_roles:
            rows = len(parts[fmt.code_part])
            stored[role] = np.full((1, rows + -rows % PACKET_ROWS), part)
        else:
            missing = -len(part) % PACKET_ROWS
            stored[role] = np.ascontiguousarray(np.pad(part, [(0, missing), (0, 0)]).T)
    return stored


def from_packets(fmt: Format, order: PacketOrder, stored: Parts, rows: int, k: int) -> Parts:
    """Undo `to_packets`: parts as `Format.decode_rows` takes them."""
    parts: Parts = {}
    if isinstance(fmt.element, Nested):
        return {
            role: unpack_packets(PLANE_ORDERS[role], part, 8, rows, k).astype(np.uint8)
            for role, part in stored.items()
        }
    for role, part in stored.items():
        if role == fmt.code_part:
            width = stored_width(order, fmt.block_size, k)
            codes = unpack_packets(order, part, fmt.bits, rows, width)
            columns = stored_columns(order, fmt.block_size, k)
            parts[role] = _packed_rows(fmt, codes[:, columns])
        elif not has_rows(fmt, role):
            parts[role] = part
        else:
            count = 1 if role in fmt.tensor_roles else rows
            parts[role] = np.ascontiguousarray(part.T[:count])
    return parts


def has_rows(fmt: Format, role: str) -> bool:
    """
    Whether a stored part has a number for each row; what kernels need by row is repeated.

    Of a whole tensor these are its zero point, and its scales where each sign has one.
    """
    repeated = role == "zero_point" or (
        fmt.splits_signs and any(role == scale.role for scale in fmt.block_scales)
    )
    return repeated or role not in fmt.tensor_roles


def kernel_group(fmt: Format, k: int) -> int | None:
    """
    Columns whose sums meet their scales before they are added up; None where whole rows' do.

    Scales of both signs cannot wait for the end of a row, whose sum has elements of both: the row
    is one group.
    """
    if isinstance(fmt.block_size, int):
        return fmt.block_size
    return max(k, 1) if fmt.splits_signs else None


_Place = tuple[WordPlane, int, int, NDArray[Any], NDArray[Any], NDArray[Any], int]


def _places(order: PacketOrder, bits: int) -> Iterator[_Place]:
    """For each code of a lane in each plane: (n, k) of all lanes, their words, and the bit."""
    lanes = np.arange(LANES)
    for plane in word_planes(order, bits):
        for register in range(order.registers):
            for element in range(order.per_register):
                n, k = order.position(lanes, register, element)
                word, bit = plane.place(register, element)
                yield plane, register, element, n, k, plane.offset(lanes, word), bit


def _packed_rows(fmt: Format, codes: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Codes as `Format.part_specs` stores them, row by row."""
    rows, k = codes.shape
    if isinstance(fmt.element, Plane):
        return codes.astype(np.uint8)
    padded = np.zeros((rows, padded_count(k)), fmt.code_type)
    padded[:, :k] = codes
    return padded.view(np.uint8) if fmt.bits > 8 else pack_codes(padded, fmt.stored_bits)
