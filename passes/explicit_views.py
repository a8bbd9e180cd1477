"""
Spell views between shapes of several dynamic sizes in ops that say which axes belong together.

    view %x : [?,?,64] -> [?,64]      =>   flatten %x, 0, 1
    view %x : [?,64] -> [?,?,64]      =>   unflatten %x, 0, [sizes]
    view %x : [?,?,64] -> [?,?,4,16]  =>   flatten, unflatten of the leading axes; of the last ones

Exact. torch-mlir must guess how the axes of a view correspond: it takes dynamic sizes in the same
place to be equal, and gives wrong code where they are not (`x.view(-1, x.size(-1))`).
"""

from __future__ import annotations

from collections.abc import Sequence

from ..dialects.bindings import Operation, ir
from ..dialects.torch_types import builtin_tensor_type, is_tensor
from .torch_constants import int_constant, producer

VIEWS = ("torch.aten.view", "torch.aten.reshape", "torch.aten._unsafe_view")
_DYNAMIC = ir.ShapedType.get_dynamic_size()


def explicit_views(module: Operation, _: object = None) -> None:
    for function in module.regions[0].blocks[0].operations:
        for block in function.regions[0].blocks:
            for op in list(block.operations):
                if op.operation.name in VIEWS:
                    _rewrite(op.operation)


def _rewrite(view: Operation) -> None:
    source, result = view.operands[0], view.results[0]
    sizes = producer(view.operands[1])
    if sizes is None or sizes.name != "torch.prim.ListConstruct" or not is_tensor(source.type):
        return
    if not is_tensor(result.type):
        return
    before = list(builtin_tensor_type(source.type).shape)
    after = list(builtin_tensor_type(result.type).shape)
    if max(before.count(_DYNAMIC), after.count(_DYNAMIC)) < 2:
        return
    with ir.InsertionPoint(view), view.location:
        rewriting = _Rewriting(source, before, str(result.type).rpartition(",")[2].rstrip(">"))
        rewriting.regroup(after, list(sizes.operands))
        result.replace_all_uses_with(rewriting.value)
    view.erase()


def equal_tails(before: Sequence[int], after: Sequence[int]) -> tuple[int, int]:
    """
    Where the longest tails of static sizes with the same product begin.

    >>> equal_tails([_DYNAMIC, _DYNAMIC, 64], [_DYNAMIC, _DYNAMIC, 4, 16])
    (2, 2)
    >>> equal_tails([_DYNAMIC, _DYNAMIC, 3], [_DYNAMIC, _DYNAMIC])
    (3, 2)
    """
    i, j = len(before), len(after)
    found = i, j
    left = right = 1
    while True:
        if left <= right and i and before[i - 1] > 0:
            i -= 1
            left *= before[i]
        elif j and after[j - 1] > 0:
            j -= 1
            right *= after[j]
        else:
            return found
        if left == right:
            found = i, j


class _Rewriting:
    """A tensor `value` of `shape` on its way to another shape."""

    def __init__(self, value: ir.Value, shape: list[int], element: str) -> None:
        self.value, self.shape, self.element = value, shape, element

    def regroup(self, after: list[int], sizes: list[ir.Value]) -> None:
        i, j = equal_tails(self.shape, after)
        tail = self.shape[i:]
        if tail != after[j:]:
            self._flatten(i, len(self.shape) - 1)
            self._unflatten(i, after[j:], [_integer(size) for size in after[j:]])
        sizes = self._given(after[:j], sizes[:j], i)
        self._flatten(0, i - 1)
        self._unflatten(0, after[:j], sizes)

    def _given(self, shape: list[int], sizes: list[ir.Value], axes: int) -> list[ir.Value]:
        """The sizes, none of them -1: that one is what the first `axes` leave for it."""
        inferred = [axis for axis, size in enumerate(sizes) if int_constant(size) == -1]
        if not inferred or len(shape) == 1:
            return sizes
        total = _product([self._size(axis) for axis in range(axes)])
        others = _product([size for axis, size in enumerate(sizes) if axis != inferred[0]])
        sizes[inferred[0]] = _arithmetic("floordiv", total, others)
        return sizes

    def _size(self, axis: int) -> ir.Value:
        operands = [self.value, _integer(axis)]
        return _make("torch.aten.size.int", "!torch.int", operands)

    def _flatten(self, first: int, last: int) -> None:
        """Axes first..last as one; a new axis of size 1 where the range is empty."""
        joined = self.shape[first : last + 1]
        if len(joined) == 1:
            return
        size = _DYNAMIC if _DYNAMIC in joined else _plain_product(joined)
        self.shape[first : last + 1] = [size]
        if joined:
            self._become("torch.aten.flatten.using_ints", [_integer(first), _integer(last)])
        else:
            self._become("torch.aten.unsqueeze", [_integer(first)])

    def _unflatten(self, axis: int, shape: list[int], sizes: list[ir.Value]) -> None:
        if len(shape) == 1:
            return
        self.shape[axis : axis + 1] = shape
        if not shape:
            self._become("torch.aten.squeeze.dim", [_integer(axis)])
            return
        listed = _make("torch.prim.ListConstruct", "!torch.list<int>", sizes)
        self._become("torch.aten.unflatten.int", [_integer(axis), listed])

    def _become(self, op: str, operands: list[ir.Value]) -> None:
        text = ",".join("?" if size == _DYNAMIC else str(size) for size in self.shape)
        type_ = f"!torch.vtensor<[{text}],{self.element}>"
        self.value = _make(op, type_, [self.value, *operands])


def _plain_product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _product(sizes: Sequence[ir.Value]) -> ir.Value:
    product = _integer(1)
    for size in sizes:
        product = _arithmetic("mul", product, size)
    return product


def _arithmetic(name: str, left: ir.Value, right: ir.Value) -> ir.Value:
    return _make(f"torch.aten.{name}.int", "!torch.int", [left, right])


def _integer(value: int) -> ir.Value:
    attribute = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    type_ = ir.Type.parse("!torch.int")
    return Operation.create(
        "torch.constant.int", results=[type_], attributes={"value": attribute}
    ).result


def _make(name: str, type_: str, operands: list[ir.Value]) -> ir.Value:
    return Operation.create(name, results=[ir.Type.parse(type_)], operands=operands).result
