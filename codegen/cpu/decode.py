"""
Reading weights: rows of any format as vectors of `LANES` decoded floats.

A reader knows the storage parts of a matrix [rows, K] and emits the loads and the arithmetic
that turn eight consecutive codes of a row into eight fp32 values. How an element decodes is
derived from the format's own value table: a closed form is used when it reproduces every finite
entry of the table, a register permute for up to 16 entries, a memory table otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ...dialects.bindings import ir, llvm
from ...dialects.formats import Format
from ...dialects.formats.definition import Plane
from .closed_form import Affine, Minifloat, closed_form
from .code_words import (
    MOST_SIGNED_BITS,
    read_bytes,
    read_codes,
    read_signed,
    reads_next_group,
)
from .emit import (
    LANES,
    Ptr,
    Val,
    broadcast,
    constant,
    f32,
    floats,
    half_to_float,
    i1,
    i8,
    i16,
    i32,
    i64,
    lane_constants,
    lanes,
    maximum,
    reinterpret,
    select,
    signed_to_float,
    size,
    splat,
    truncate,
    widen,
    widen_signed,
)
from .library import Arguments, KernelLibrary


class Reader(Protocol):
    """Rows of a [rows, K] matrix as decoded vectors."""

    key: str
    k: int
    part_count: int
    block: int
    ends_apart: bool

    def bind(self, arguments: Arguments, first: int) -> None:
        """Take the addresses of the parts from consecutive argument slots."""
        ...

    def scales(self, row: Val, k: Val) -> Sequence[Val]:
        """What is common to the block of `row` that starts at `k`."""
        ...

    def vector(self, row: Val, k: Val, scales: Sequence[Val]) -> Val:
        """Elements k … k+7 of `row`; not the row's last ones if `ends_apart`."""
        ...

    def tail(self, row: Val, k: Val, scales: Sequence[Val]) -> Val:
        """The last vector of `row`, maybe ragged; lanes past K hold some finite value."""
        ...


class PlainReader:
    """Row-major fp32; the last vector of a ragged row is read under a mask."""

    part_count = 1
    ends_apart = False

    def __init__(self, k: int) -> None:
        self.k = k
        self.block = k
        self.key = "f32"

    def bind(self, arguments: Arguments, first: int) -> None:
        self._data = arguments.address(first, f32())

    def address(self, row: Val) -> Ptr:
        return self._data.at(row * self.k)

    def scales(self, row: Val, k: Val) -> Sequence[Val]:
        return ()

    def vector(self, row: Val, k: Val, scales: Sequence[Val]) -> Val:
        return self._data.at(row * self.k + k).load(floats())

    def tail(self, row: Val, k: Val, scales: Sequence[Val]) -> Val:
        return self._data.at(row * self.k + k).load_first(self.k % LANES)


class PackedReader:
    """
    Rows in a block format, decoded from its stored parts.

    No byte outside a part is ever read. Eight codes of 2 or 3 bits are read as a word of 32, which
    ends in the next group; so the last group of a row is read apart, byte by byte.
    """

    def __init__(self, library: KernelLibrary, fmt: Format, k: int) -> None:
        self._library = library
        self._format = fmt
        self.k = k
        specs = fmt.part_specs(1, k)
        self.parts = list(specs)
        self.part_count = len(self.parts)
        self._widths = {role: int(spec[0][-1]) for role, spec in specs.items()}
        self._dtypes = {role: np.dtype(spec[1]) for role, spec in specs.items()}
        self._size = fmt.block_size if isinstance(fmt.block_size, int) else k
        self._lanewise = self._size % LANES != 0 and self._size < k
        self.block = LANES if self._lanewise else self._size
        self.ends_apart = reads_next_group(fmt.stored_bits)
        self.key = fmt.spelling
        self._signed = _is_signed(fmt)

    def bind(self, arguments: Arguments, first: int) -> None:
        self._addresses = {
            role: arguments.address(first + index, stored_type(self._dtypes[role]))
            for index, role in enumerate(self.parts)
        }

    def tail(self, row: Val, k: Val, scales: Sequence[Val]) -> Val:
        """Rows of codes are padded to whole vectors; only their last bytes need care."""
        return self._vector(row, k, scales, (self.k - 1) % LANES + 1)

    def scales(self, row: Val, k: Val) -> Sequence[Val]:
        roles = [role for role in self.parts if role not in ("codes", "upper", "lower")]
        return tuple(self._scale(role, row, k) for role in roles)

    def vector(self, row: Val, k: Val, scales: Sequence[Val]) -> Val:
        return self._vector(row, k, scales, None)

    def _vector(self, row: Val, k: Val, scales: Sequence[Val], ending: int | None) -> Val:
        """`ending` is the number of elements left in the row where that is known, else None."""
        if "codes" not in self._addresses:
            return self._nested(row, k, ending or LANES)
        by_role = dict(zip([role for role in self.parts if role != "codes"], scales, strict=True))
        start = self._addresses["codes"].at(row * self._widths["codes"])
        read = read_signed if self._signed else read_codes
        codes = read(start, k, self._format.stored_bits, ending is not None)
        elements = signed_to_float(codes) if self._signed else self._elements(codes)
        return self._scaled(codes, elements, by_role)

    def _scaled(self, codes: Val, elements: Val, scales: dict[str, Val]) -> Val:
        if "zero_point" in scales:
            elements = elements - self._zero_points(codes, scales["zero_point"])
        fmt = self._format
        factors = [scales[scale.role] for scale in fmt.block_scales]
        if fmt.second_level is not None:
            factors = [factor * scales[fmt.second_level.role] for factor in factors]
        if not factors:
            return elements
        if fmt.splits_signs:
            above, below = factors
            return elements * select(elements.compare("gt", 0.0), above, below)
        if fmt.scale_decoding(fmt.block_scales[0].role).divide:
            return elements / factors[0]
        return elements * factors[0]

    def _zero_points(self, codes: Val, zero_point: Val) -> Val:
        mask = self._format.zero_point_codes()
        if mask.all():
            return zero_point
        ordinary = int(np.argmin(mask))
        if mask[ordinary:].any():
            raise AssertionError(f"{self.key}: codes without zero point must be the last ones")
        return select(codes.compare("lt", ordinary), zero_point, splat(0.0))

    def _elements(self, codes: Val) -> Val:
        if self._format.bits == 32:
            return reinterpret(codes, f32())
        values = self._format.element_values()
        form = closed_form(values)
        if isinstance(form, Affine):
            centred = codes if not form.flip else (codes ^ form.flip) - form.flip
            plain = signed_to_float(centred)
            return plain if form.step == 1 else plain * form.step
        finite = np.where(np.isfinite(values), values, 0).astype(np.float32)
        if len(finite) <= 2 * LANES and "avx2" in self._library.features:
            # Before closed forms: those of minifloats multiply subnormal numbers.
            return _register_table(codes, finite, "avx512vl" in self._library.features)
        if isinstance(form, Minifloat):
            return decode_minifloat(codes, form)
        return self._memory_table(codes, finite)

    def _memory_table(self, codes: Val, values: np.ndarray) -> Val:
        table = self._library.table([float(value) for value in values])
        addresses = llvm.getelementptr(
            ir.Type.parse(f"vector<{LANES}x!llvm.ptr>"),
            table.ssa,
            [codes.ssa],
            [-(2**31)],
            f32(),
            0,
        )
        every = constant(1, lanes(i1()))
        return Val(llvm.intr_masked_gather(floats(), addresses, every.ssa, [splat(0.0).ssa], 4))

    def _scale(self, role: str, row: Val, k: Val) -> Val:
        address, blocks = self._addresses[role], self._widths[role]
        if role in self._format.tensor_roles:
            return broadcast(self._stored_scale(role, address.at(0)))
        first = address.at(row * blocks)
        if not self._lanewise:
            block = k // self._size if blocks > 1 else size(0)
            return broadcast(self._stored_scale(role, first.at(block)))
        total = splat(0.0)
        for lane in range(LANES):
            last = size(self.k - 1)
            position = k + lane
            inside = select(position.compare("lt", self.k), position, last)
            value = self._stored_scale(role, first.at(inside // self._size))
            only = lane_constants([float(i == lane) for i in range(LANES)], f32())
            total = select(only.compare("ne", 0.0), broadcast(value), total)
        return total

    def _stored_scale(self, role: str, address: Ptr) -> Val:
        stored = address.load()
        dtype = self._dtypes[role]
        if role == "zero_point":
            wide = widen(stored, i32()) if dtype.kind == "u" else widen_signed(stored, i32())
            return signed_to_float(wide) if dtype.itemsize < 4 else signed_to_float(stored)
        if dtype == np.float32:
            return stored
        return decode_scale(widen(stored, i32()), self._format.scale_decoding(role).kind)

    def _nested(self, row: Val, k: Val, count: int) -> Val:
        """merge(U, L) of formats.md §3.1, `count` of eight lanes, then fp16 → fp32; or a view."""
        planes = [
            widen(read_bytes(self._addresses[part].at(row * self.k + k), count), i32())
            for part in self.parts
        ]
        if isinstance(self._format.element, Plane):
            return self._elements(planes[0])
        upper, lower = planes
        correction = lower >> 7
        high = (upper & 0x80) | (((upper - correction) >> 1) & 0x3F)
        bits = (high << 8) | lower
        return half_to_float(truncate(bits, i16()))


def _is_signed(fmt: Format) -> bool:
    """Whether codes, of at most MOST_SIGNED_BITS, are integers in two's complement."""
    bits = fmt.stored_bits
    if fmt.bits != bits or bits > MOST_SIGNED_BITS or fmt.zero_point is not None:
        return False
    return closed_form(fmt.element_values()) == Affine(1 << (bits - 1), 1.0)


def stored_type(dtype: np.dtype) -> ir.Type:
    """What one number of a stored part is loaded as."""
    if dtype == np.float32:
        return f32()
    return {1: i8(), 2: i16(), 4: i32(), 8: i64()}[dtype.itemsize]


def _register_table(codes: Val, values: np.ndarray, both: bool) -> Val:
    """Lane i of the result is values[codes[i]]; `both` halves of a table with one permute."""
    padded = np.zeros(2 * LANES, np.float32)
    padded[: len(values)] = values
    low, high = (lane_constants(half.tolist(), f32()) for half in (padded[:LANES], padded[LANES:]))
    if len(values) <= LANES:
        return _intrinsic("llvm.x86.avx2.permps", low, codes)
    if both:
        return _intrinsic("llvm.x86.avx512.vpermi2var.ps.256", low, codes, high)
    below, above = (_intrinsic("llvm.x86.avx2.permps", half, codes) for half in (low, high))
    return select(codes.compare("lt", LANES), below, above)


def _intrinsic(name: str, *operands: Val) -> Val:
    return Val(llvm.call_intrinsic(floats(), name, [value.ssa for value in operands], [], []))


def decode_minifloat(codes: Val, form: Minifloat) -> Val:
    """The values of codes (i32) of so many bits, with anything above them."""
    return decode_topmost(codes << (32 - form.bits), form)


def decode_topmost(topmost: Val, form: Minifloat) -> Val:
    """
    The values of codes that begin at the highest bit of each lane, over anything else.

    Exact for every finite code, subnormals included: the product of an fp32 subnormal with a power
    of two is exact.
    """
    return raised(moved_topmost(topmost, form), form.lowering)


def moved_topmost(topmost: Val, form: Minifloat) -> Val:
    """Those values divided by 2**lowering: one shift moves sign and magnitude to fp32's places."""
    return reinterpret(_moved(topmost, form), f32())


def moved_halves(topmost: Val, form: Minifloat) -> Val:
    """The upper halves of the same, of codes that begin at the highest bit of lanes of 16 bits."""
    return _moved(topmost, form)


def _moved(topmost: Val, form: Minifloat) -> Val:
    kind = topmost.type
    element = ir.VectorType(kind).element_type if isinstance(kind, ir.VectorType) else kind
    width = ir.IntegerType(element).width
    magnitude = ((1 << (form.exponent + form.mantissa)) - 1) << (width - 9 - form.mantissa)
    return topmost.shift_right_signed(8 - form.exponent) & (magnitude | -(1 << (width - 1)))


def raised(value: Val, power: int) -> Val:
    return value * float(2.0**power) if power else value


SMALL_SCALES = {
    "e4m3": Minifloat(8, 4, 3, 7),
    "e4m3max480": Minifloat(8, 4, 3, 7),
    "e5m2": Minifloat(8, 5, 2, 15),
}
"""Scale bytes that are minifloats, by kind."""


def decode_scale(stored: Val, kind: str) -> Val:
    """A stored scale (as i32) → fp32."""
    if kind == "bf16":
        return reinterpret(stored << 16, f32())
    if kind == "fp16":
        return half_to_float(truncate(stored, i16()))
    if kind == "e8m0":
        # The code 0 stands for 2^-127, which is a subnormal number.
        return reinterpret(maximum(stored << 23, constant(0x00400000, stored.type)), f32())
    return decode_minifloat(stored, SMALL_SCALES[kind])
