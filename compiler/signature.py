"""The signature of a program: names, types and symbolic sizes of what goes in and out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, TensorArgument

from ..dialects.bindings import ir
from ..dialects.errors import UnsupportedError
from .layers import entry_function, index_limit
from .manifest import Extent, Signature, Value

_UNBOUNDED = 2**31


def signature_of(program: ExportedProgram) -> Signature:
    """Inputs are the program's tensor inputs in order, outputs likewise."""
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    specs = program.graph_signature
    for spec in specs.input_specs:
        if spec.kind.name == "USER_INPUT" and not isinstance(
            spec.arg, TensorArgument | ConstantArgument
        ):
            raise UnsupportedError(
                "input-kind",
                f"the input '{spec.arg.name}' is a number that may vary, not a tensor",
                next_step="take it from the shape of a tensor, or pass it as a tensor",
            )
    inputs = [
        _value(spec.arg.name, values[spec.arg.name])
        for spec in specs.input_specs
        if spec.kind.name == "USER_INPUT" and isinstance(spec.arg, TensorArgument)
    ]
    outputs = []
    for spec in specs.output_specs:
        if spec.kind.name != "USER_OUTPUT":
            continue
        if not isinstance(spec.arg, TensorArgument):
            raise UnsupportedError(
                "output-kind",
                f"output {len(outputs)} of the program is not a tensor but {spec.arg}",
                next_step="return tensors only",
            )
        outputs.append(_value(f"output_{len(outputs)}", values[spec.arg.name]))
    return Signature(tuple(inputs), tuple(outputs), _extents(program, inputs))


def with_limits(signature: Signature, module: ir.Module) -> Signature:
    """`signature` with the bounds of those inputs that index tables of `module`."""
    arguments = entry_function(module).regions[0].blocks[0].arguments
    return msgspec.structs.replace(
        signature,
        inputs=tuple(
            msgspec.structs.replace(value, limit=index_limit(argument))
            for value, argument in zip(signature.inputs, arguments, strict=True)
        ),
    )


def _value(name: str, tensor: torch.Tensor) -> Value:
    shape = tuple(size if isinstance(size, int) else str(size) for size in tensor.shape)
    return Value(name, str(tensor.dtype).removeprefix("torch."), shape)


def _extents(program: ExportedProgram, inputs: Sequence[Value]) -> dict[str, Extent]:
    used = {size for value in inputs for size in value.shape if isinstance(size, str)}
    extents = {}
    for symbol, interval in program.range_constraints.items():
        if str(symbol) not in used:
            continue
        # torch's own infinity calls itself finite, and is no integer.
        bounded = interval.upper < _UNBOUNDED
        high = int(interval.upper) if bounded else None
        extents[str(symbol)] = Extent(max(int(interval.lower), 0), high)
    return extents
