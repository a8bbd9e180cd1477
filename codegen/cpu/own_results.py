"""
Give every result of a function memory of its own, and leave its arguments as they are.

    return %a, %a   =>   %b = bufferization.alloc_tensor() copy(%a); return %a, %b
    func @main(%x)  =>   func @main(%x {bufferization.writable = false})

The caller frees each result by itself, so two that share a buffer would be freed twice; and what
it passes in is its own. Bufferization copies results that alias an argument anyway.
"""

from __future__ import annotations

from ...dialects.bindings import Operation, ir

VIEWS = {
    "tensor.cast",
    "tensor.collapse_shape",
    "tensor.expand_shape",
    "tensor.extract_slice",
    "tensor.reshape",
}


def own_results(module: ir.Module) -> None:
    for op in module.body.operations:
        function = op.operation
        if function.name == "func.func" and list(function.regions[0].blocks):
            _keep_arguments(function)
            _separate_results(function)


def _keep_arguments(function: Operation) -> None:
    block = function.regions[0].blocks[0]
    attributes = ir.ArrayAttr.get(
        [_not_writable() if _is_tensor(argument) else _nothing() for argument in block.arguments]
    )
    function.attributes["arg_attrs"] = attributes


def _separate_results(function: Operation) -> None:
    *_, last = function.regions[0].blocks[0].operations
    taken: set[ir.Value] = set()
    for index, value in enumerate(last.operation.operands):
        source = _viewed(value)
        if _is_tensor(value) and source in taken:
            last.operation.operands[index] = _copied(value, last.operation)
        taken.add(source)


def _viewed(value: ir.Value) -> ir.Value:
    """The tensor whose buffer `value` may share."""
    owner = value.owner
    while not isinstance(owner, ir.Block) and owner.name in VIEWS:
        value = owner.operands[0]
        owner = value.owner
    return value


def _copied(value: ir.Value, before: Operation) -> ir.Value:
    segments = ir.DenseI32ArrayAttr.get([0, 1, 0], value.context)
    with ir.InsertionPoint(before), before.location:
        return Operation.create(
            "bufferization.alloc_tensor",
            results=[value.type],
            operands=[value],
            attributes={"operandSegmentSizes": segments},
        ).result


def _is_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.RankedTensorType)


def _not_writable() -> ir.Attribute:
    return ir.DictAttr.get({"bufferization.writable": ir.BoolAttr.get(False)})


def _nothing() -> ir.Attribute:
    return ir.DictAttr.get({})
