"""Attention, over the keys and values of one call or over those held in a cache as well."""

from typing import Any, Optional

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from ..formats import parse_spelling
from .dialect import Qcc, logical_type

CACHED_OPERANDS = {"key_format": 1, "value_format": 2}
"""Attributes that name the formats of a cache, and the operands that are stored in them."""


class CacheEffects:
    """
    Trait: an op with `past` reads and writes its cache; without, it touches no memory.

    So CSE and canonicalization may merge or drop plain attention, and never a cached one.
    """

    class Effects(ir.MemoryEffectsOpInterface):
        @staticmethod
        def get_effects(op: Any, effects: ir.MemoryEffectInstancesList) -> None:
            if is_cached(op):
                effects.append(ir.MemoryEffect.Read)
                effects.append(ir.MemoryEffect.Write)

    class Speculation(ir.ConditionallySpeculatable):
        @staticmethod
        def get_speculatability(op: Any) -> ir.Speculatability:
            cached = is_cached(op)
            return ir.Speculatability.NotSpeculatable if cached else ir.Speculatability.Speculatable

    @staticmethod
    def attach(op_name: str) -> None:
        CacheEffects.Effects.attach(op_name)
        CacheEffects.Speculation.attach(op_name)


class AttentionOp(Qcc.Operation, name="attention", traits=[CacheEffects]):
    """
    softmax(scale * query key^T + mask) value, softmax over keys in fp32.

    query [B, H, T, D], key and value [B, G, S, D] and [B, G, S, E]; H is a multiple of G and query
    head h reads key head h // (H / G). With `causal`, query t sees key s only if s <= t + past,
    where past is 0 without a cache and S - T with one. `mask`, when given, is additive fp32 and
    broadcastable to [B, H, T, S]; a row that sees no key gives zeros. With `past` (an i64 tensor
    of rank 0), the keys and values of the `past` earlier positions are taken from the cache named
    `cache`, and this call's keys and values are appended to it.

    A cached op may have the attributes `key_format` and `value_format`, each the spelling of a
    format whose rows are independent: the cache then holds encode(row) of each row of D (or E)
    values, and what attention sees, of this call's rows too, is decode(encode(row)).
    """

    query: Operand[Any]
    key: Operand[Any]
    value: Operand[Any]
    scale: ir.FloatAttr
    cache: ir.StringAttr
    result: Result[Any]
    mask: Optional[Operand[Any]] = None
    past: Optional[Operand[Any]] = None
    # ext takes a false BoolAttr for an absent one, so absence must mean false.
    causal: Any = ext.attribute(default_factory=lambda: ir.BoolAttr.get(False))

    def verify_invariants(self) -> bool:
        query, key = logical_type(self.query.type), logical_type(self.key.type)
        if query.rank != 4 or key.rank != 4 or query.shape[1] % key.shape[1]:
            self.location.emit_error(
                f"qcc.attention: query {query} and key {key} must be rank 4 with the query heads "
                "a multiple of the key heads"
            )
            return False
        depths = (query.shape[3], key.shape[3], logical_type(self.value.type).shape[3])
        if ir.ShapedType.get_dynamic_size() in depths:
            self.location.emit_error(f"qcc.attention: the depths {depths} of heads must be static")
            return False
        return all(_stores_rows(self, name) for name in CACHED_OPERANDS)


def is_cached(op: Any) -> bool:
    """Whether an attention op reads and extends a cache."""
    return ir.DenseI32ArrayAttr(op.attributes["operandSegmentSizes"])[4] == 1


def cache_format(op: Any, attribute: str) -> str | None:
    """The spelling under `key_format` or `value_format`; None where rows are stored as they are."""
    return ir.StringAttr(op.attributes[attribute]).value if attribute in op.attributes else None


def _stores_rows(op: AttentionOp, attribute: str) -> bool:
    """Verifier part: the format is known and can hold a row without seeing the others."""
    spelling = cache_format(op, attribute)
    if spelling is None:
        return True
    if not is_cached(op):
        op.location.emit_error(f"qcc.attention: {attribute} = {spelling} without a cache")
        return False
    try:
        independent = parse_spelling(spelling).rows_independent
    except QccError as error:
        op.location.emit_error(f"{error.what}; `qcc list formats` names the known ones")
        return False
    if not independent:
        op.location.emit_error(
            f"qcc.attention: {attribute} = {spelling} has a scale of the whole tensor, "
            "so that rows cannot be appended"
        )
    return independent
