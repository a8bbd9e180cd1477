"""How cached attention meets its cache: what a row is stored as, and the launches that append."""

from __future__ import annotations

from dataclasses import dataclass

from ...dialects import qcc
from ...dialects.bindings import ir
from ...dialects.formats import parse_spelling
from .append_kernel import append_launcher, encode_launcher
from .call_site import CallSite
from .decode import PackedReader, PlainReader
from .emit import Val
from .library import grain_of
from .program import CachedRows, CachePart, CacheShape
from .round_trip import check_activation_format
from .source_rows import Source


@dataclass(frozen=True, slots=True)
class Rows:
    """Keys or values as the attention kernel takes them: a reader, and addresses of its arrays."""

    source: Source
    arrays: list[Val]


def plain_rows(site: CallSite, value: ir.Value) -> Rows:
    """The rows of a tensor [B, G, S, D]."""
    return Rows(PlainReader(ir.RankedTensorType(value.type).shape[3]), [site.address(value)])


def extend_cache(site: CallSite, op: qcc.AttentionOp, past: Val) -> tuple[Val, Rows, Rows]:
    """
    Append the keys and values of this call behind the first `past` positions of `op`'s cache.

    Returns the capacity in positions, and the cache's keys and values.
    """
    keys, values = (
        _cached_rows(op, name, op.operands[index]) for name, index in qcc.CACHED_OPERANDS.items()
    )
    heads = ir.RankedTensorType(op.key.type).shape[1]
    capacity, *sides = site.caches.add(CacheShape(heads, keys, values))
    for operand, rows, arrays in zip((op.key, op.value), (keys, values), sides, strict=True):
        _append(site, operand, rows, [past, capacity, *arrays])
    key_rows, value_rows = (
        Rows(_reader(site, rows), arrays)
        for rows, arrays in zip((keys, values), sides, strict=True)
    )
    return capacity, key_rows, value_rows


def _cached_rows(op: qcc.AttentionOp, attribute: str, value: ir.Value) -> CachedRows:
    depth = ir.RankedTensorType(value.type).shape[3]
    spelling = qcc.cache_format(op, attribute)
    if spelling is None:
        return CachedRows(depth, None, (CachePart("values", "float32", depth),))
    fmt = parse_spelling(spelling)
    check_activation_format(fmt, value, op)
    parts = tuple(
        CachePart(role, kind.name, shape[-1])
        for role, (shape, kind) in fmt.part_specs(1, depth).items()
    )
    return CachedRows(depth, spelling, parts)


def _reader(site: CallSite, rows: CachedRows) -> Source:
    if rows.format is None:
        return PlainReader(rows.depth)
    return PackedReader(site.library, parse_spelling(rows.format), rows.depth)


def _append(site: CallSite, value: ir.Value, rows: CachedRows, place: list[Val]) -> None:
    planes = site.extents(value, (0, 1))
    if rows.format is None:
        launcher = append_launcher(site.library, rows.depth)
    else:
        launcher = encode_launcher(site.library, parse_spelling(rows.format), rows.depth)
    arguments = [site.address(value), site.extent(value, 2), *place]
    site.launch(launcher, arguments, planes, grain_of(planes))
