"""Writing the ops of warp kernels (dialects/tile/warp_*.py): types, numbers, scalar bodies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dialects import tile
from ..dialects.bindings import arith, ir, scf
from ..dialects.regions import walk
from ..dialects.tile.dialect import fragment_of, global_of, shared_of, tensor_of
from ..dialects.tile.warp_launch import WarpLaunch
from ..dialects.tile.warp_memory import COMMENT, STAGES, UNROLLED

LABEL = "label"
DYNAMIC = ir.ShapedType.get_dynamic_size()
Body = Callable[..., ir.Value]
Round = Callable[["Number", list[ir.Value]], Sequence[ir.Value]]


def text(value: str) -> ir.StringAttr:
    return ir.StringAttr.get(value)


def whole(value: int) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def element(name: str) -> ir.Type:
    return ir.Type.parse(name)


def tensor(shape: Sequence[int], kind: str) -> ir.Type:
    return ir.RankedTensorType.get(list(shape), element(kind))


def fragment(shape: Sequence[int], kind: str, role: str) -> ir.Type:
    return fragment_of(tensor(shape, kind), role)


def shared(shape: Sequence[int], kind: str, order: str = "rows") -> ir.Type:
    return shared_of(tensor(shape, kind), order)


def rows_of(columns: int, kind: str) -> ir.Type:
    """An argument in global memory: any number of rows."""
    return global_of(tensor([DYNAMIC, columns], kind))


def label(value: ir.Value, name: str) -> ir.Value:
    """`value`, under this name in emitted text; arguments keep their own."""
    owner = value.owner
    if not isinstance(owner, ir.Block):
        owner.attributes[LABEL] = text(name)
    return value


def remark(value: ir.Value, comment: str) -> ir.Value:
    """`value`, whose emitted text begins with a comment."""
    owner = value.owner
    if not isinstance(owner, ir.Block):
        owner.attributes[COMMENT] = text(comment)
    return value


def index(axis: str, name: str) -> ir.Value:
    return label(tile.IndexOp(text(axis), ir.IndexType.get()).index, name)


def block_along(inner: Sequence[tuple[str, Number | int]], outer: str) -> list[Number]:
    """
    Which block this is along axes that the grid's x counts together, the first one fastest.

    `inner` names axes and how many blocks they have; nothing limits the last one, `outer`, but the
    2^31 - 1 blocks that x may have, while y and z end at 65535.
    """
    at, found = Number(index("x", "block")), []
    for name, extent in inner:
        if extent == 1:
            found.append(Number(0))
            continue
        found.append((at % extent).named(name))
        at = at // extent
    return [*found, at.named(outer)]


def count(value: int) -> ir.Value:
    return arith.constant(ir.IndexType.get(), value)


def single(value: float) -> ir.Value:
    return arith.constant(ir.F32Type.get(), value)


def quotient(a: ir.Value, b: ir.Value) -> ir.Value:
    """a / b within 2 ulp: a product with an approximate reciprocal."""
    return arith.divf(a, b, fastmath=arith.FastMathFlags.arcp)


class Number:
    """Arithmetic of numbers that are the same for all lanes of a warp."""

    def __init__(self, value: ir.Value | int) -> None:
        self.value = count(value) if isinstance(value, int) else value

    def __add__(self, other: Number | int) -> Number:
        return self if other == 0 else self._with(arith.addi, other)

    def __sub__(self, other: Number | int) -> Number:
        return self._with(arith.subi, other)

    def __mul__(self, other: Number | int) -> Number:
        return self if other == 1 else self._with(arith.muli, other)

    def __floordiv__(self, other: Number | int) -> Number:
        return self if other == 1 else self._with(arith.divsi, other)

    def __mod__(self, other: Number | int) -> Number:
        return self._with(arith.remsi, other)

    def pieces(self, each_: int) -> Number:
        """How many pieces of so many cover this."""
        return self if each_ == 1 else (self + (each_ - 1)) // each_

    def least(self, other: Number | int) -> Number:
        return self._with(arith.minsi, other)

    def most(self, other: Number | int) -> Number:
        return self._with(arith.maxsi, other)

    def above(self, other: Number | int) -> ir.Value:
        """1 where this is larger, as an i1."""
        return arith.cmpi(arith.CmpIPredicate.sgt, self.value, Number.of(other).value)

    def wide(self) -> Number:
        """In 64 bits."""
        return Number(arith.index_cast(element("i64"), self.value))

    def named(self, name: str) -> Number:
        label(self.value, name)
        return self

    @staticmethod
    def of(value: Number | int | ir.Value) -> Number:
        return value if isinstance(value, Number) else Number(value)

    def _with(self, operation: Callable[..., ir.Value], other: Number | int) -> Number:
        return Number(operation(self.value, Number.of(other).value))


def each(
    inputs: Sequence[ir.Value],
    result: ir.Type,
    body: Body,
    name: str = "",
    condition: ir.Value | None = None,
) -> ir.Value:
    """
    `tile.each` with a body that is written by calling `body` on the elements of `inputs`.

    With a condition, the first of them is what stays where it is 0.
    """
    otherwise = inputs[0] if condition is not None else None
    op = tile.EachOp(result, condition=condition, otherwise=otherwise)
    with ir.InsertionPoint(op.body.blocks.append()):
        tile.YieldOp([body(*map(_element_of, inputs))])
    return label(op.result, name) if name else op.result


def _element_of(value: ir.Value) -> ir.Value:
    if not str(value.type).startswith("!tile.fragment"):
        return value
    return tile.AtOp(value, tensor_of(value.type).element_type).element


def position(axis: str) -> ir.Value:
    return tile.PositionOp(text(axis), ir.IndexType.get()).index


def reduced(
    value: ir.Value, kind: str, axis: str, result: ir.Type, initial: ir.Value | None = None,
    name: str = "",
) -> ir.Value:  # fmt: skip
    found = tile.ReduceOp(value, text(kind), text(axis), result, initial=initial).result
    return label(found, name) if name else found


def fill(value: float, kind: ir.Type, name: str) -> ir.Value:
    number = ir.FloatAttr.get(ir.F32Type.get(), value)
    return label(tile.FillOp(number, kind).fragment, name)


def loop(
    first: Number, last: Number, initial: Sequence[ir.Value], step: int, stages: int, body: Round,
    name: str = "",
) -> list[ir.Value]:  # fmt: skip
    """carried = body(k, carried) for k = first, first + step, … while k < last."""
    op = scf.ForOp(first.value, last.value, count(step), list(initial))
    if stages:
        op.attributes[STAGES] = whole(stages)
    if name:
        op.attributes[LABEL] = text(name)
    return _filled(op, body)


def unroll(
    initial: Sequence[ir.Value], extent: int, step: int, body: Round, name: str = "k"
) -> list[ir.Value]:
    """carried = body(k, carried) for k = 0, step, … while k < extent, written out."""
    op = scf.ForOp(count(0), count(extent), count(step), list(initial))
    op.attributes[LABEL] = text(name)
    op.attributes[UNROLLED] = ir.UnitAttr.get()
    return _filled(op, body)


def _filled(op: scf.ForOp, body: Round) -> list[ir.Value]:
    with ir.InsertionPoint(op.body):
        carried = list(op.inner_iter_args)
        scf.YieldOp(list(body(Number(op.induction_variable), carried)))
    return list(op.results)


def write_kernel(
    name: str,
    machine: tuple[str, int],
    kinds: dict[str, ir.Type],
    writes: Sequence[str],
    write: Callable[[dict[str, ir.Value]], None],
    comment: str = "",
) -> WarpLaunch:
    """
    `tile.warp_kernel @name` for a target and a number of warps, its body written by `write`.

    `kinds` are the types of its arguments, of which it writes into `writes`; `comment` is for
    readers of the emitted text.
    """
    target, warps = machine
    names = ir.ArrayAttr.get([text(each) for each in kinds])
    written = ir.ArrayAttr.get([text(each) for each in writes])
    kernel = tile.WarpKernelOp(text(name), text(target), whole(warps), names, written)
    if comment:
        kernel.attributes[COMMENT] = text(comment)
    block = kernel.body.blocks.append(*kinds.values())
    with ir.InsertionPoint(block):
        write(dict(zip(kinds, block.arguments, strict=True)))
        tile.ReturnOp()
    _drop_unread(kernel)
    return WarpLaunch.of(kernel)


def _drop_unread(kernel: tile.WarpKernelOp) -> None:
    """Numbers and fragments that were made and then not needed."""
    for op in reversed(walk(kernel)):
        name, results = op.operation.name, list(op.operation.results)
        pure = name.startswith("arith.") or name in ("tile.fill", "tile.index")
        if pure and not any(list(result.uses) for result in results):
            op.operation.erase()
