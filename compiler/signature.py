"""The signature of a program: names, types and symbolic sizes of what goes in and out."""

from __future__ import annotations

import re
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import torch
from torch._guards import detect_fake_mode
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, TensorArgument
from torch.utils import _pytree as pytree

from ..dialects.bindings import ir
from ..dialects.errors import UnsupportedError
from .layers import entry_function, index_limit
from .manifest import Extent, Signature, Value
from .nesting import TENSOR, Nest, constant

_UNBOUNDED = 2**31
_SYMBOL = re.compile(r"\b[su]\d+\b")


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
    names = dimension_names(program)
    inputs = [
        _value(spec.arg.name, values[spec.arg.name], names)
        for spec in specs.input_specs
        if spec.kind.name == "USER_INPUT" and isinstance(spec.arg, TensorArgument)
    ]
    outputs = []
    for spec in specs.output_specs:
        if spec.kind.name != "USER_OUTPUT" or isinstance(spec.arg, ConstantArgument):
            continue
        if not isinstance(spec.arg, TensorArgument):
            raise UnsupportedError(
                "output-kind",
                f"output {len(outputs)} of the program is not a tensor but {spec.arg}",
                next_step="return tensors, and take sizes from their shapes",
            )
        outputs.append(_value(f"output_{len(outputs)}", values[spec.arg.name], names))
    return Signature(
        tuple(inputs),
        tuple(outputs),
        _extents(program, inputs, names),
        parameters_of(program),
        results_of(program),
    )


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


def _value(name: str, tensor: torch.Tensor, names: Mapping[str, str]) -> Value:
    if tensor.is_complex():
        raise UnsupportedError(
            "complex-values",
            f"'{name}' holds complex numbers",
            why="what goes in and out of a compiled model is real",
            next_step="pass and return torch.view_as_real(x), and make it complex in forward",
        )
    shape = tuple(size if isinstance(size, int) else _named(size, names) for size in tensor.shape)
    return Value(name, str(tensor.dtype).removeprefix("torch."), shape)


def _extents(
    program: ExportedProgram, inputs: Sequence[Value], names: Mapping[str, str]
) -> dict[str, Extent]:
    used = {size for value in inputs for size in value.shape if isinstance(size, str)}
    extents = {}
    for symbol, interval in program.range_constraints.items():
        name = _named(symbol, names)
        if name not in used:
            continue
        # torch's own infinity calls itself finite, and is no integer.
        bounded = interval.upper < _UNBOUNDED
        high = int(interval.upper) if bounded else None
        extents[name] = Extent(max(int(interval.lower), 0), high)
    return extents


def dimension_names(program: ExportedProgram) -> dict[str, str]:
    """
    The user's name, `Dim("batch")`, of each symbol that has one.

    A `.pt2` file does not hold the names; its symbols (s77) keep those that torch gave them.
    """
    environment = getattr(detect_fake_mode(_tensors(program)), "shape_env", None)
    if environment is None:
        return {}
    named = environment.source_name_to_debug_name
    found: dict[str, str] = {}
    for source, symbol in environment.source_to_var.items():
        # A dimension of which others are multiples has a source by its own name.
        name = named.get(source, source)
        if name.isidentifier() and not _SYMBOL.fullmatch(name):
            found.setdefault(str(symbol), name)
    return found


def _tensors(program: ExportedProgram) -> list[torch.Tensor]:
    values = (node.meta.get("val") for node in program.graph.nodes)
    return [value for value in values if isinstance(value, torch.Tensor)]


def _named(size: object, names: Mapping[str, str]) -> str:
    return _SYMBOL.sub(lambda found: names.get(found[0], found[0]), str(size))


def parameters_of(program: ExportedProgram) -> Nest | None:
    """A dict of the model's own parameters; None where the program does not tell."""
    spec = program.call_spec.in_spec
    if spec is None:
        return None
    specs = program.graph_signature.input_specs
    given = iter([spec.arg for spec in specs if spec.kind.name == "USER_INPUT"])
    positional, keywords = (nest_of(child, given) for child in spec.children())
    entry = program.module_call_graph[0].signature if program.module_call_graph else None
    names = list((entry.forward_arg_names if entry else None) or ())[: len(positional.parts)]
    names += [f"input_{place}" for place in range(len(names), len(positional.parts))]
    keys = (*names, *keywords.keys)
    return Nest("dict", keys=keys, parts=positional.parts + keywords.parts)


def results_of(program: ExportedProgram) -> Nest | None:
    """What the model returns; None where the program does not tell."""
    spec = program.call_spec.out_spec
    specs = program.graph_signature.output_specs
    given = [spec.arg for spec in specs if spec.kind.name == "USER_OUTPUT"]
    return None if spec is None else nest_of(spec, iter(given))


def eager_results(program: ExportedProgram) -> Callable[[list[Any]], Any] | None:
    """What makes objects of the model's own classes of its tensors, None where it has none."""
    spec, nest = program.call_spec.out_spec, results_of(program)
    if spec is None or nest is None or not _has_classes(nest):
        return None
    specs = program.graph_signature.output_specs
    given = [each.arg for each in specs if each.kind.name == "USER_OUTPUT"]

    def made(tensors: list[Any]) -> Any:
        rest = iter(tensors)
        leaves = (
            leaf.value if isinstance(leaf, ConstantArgument) else next(rest) for leaf in given
        )
        return pytree.tree_unflatten(leaves, spec)

    return made


def _has_classes(nest: Nest) -> bool:
    return nest.kind in ("namedtuple", "record") or any(map(_has_classes, nest.parts))


def nest_of(spec: pytree.TreeSpec, leaves: Iterator[Any]) -> Nest:
    """The nesting of `spec`, whose leaves are a signature's arguments in order."""
    if spec.is_leaf():
        leaf = next(leaves)
        if isinstance(leaf, ConstantArgument):
            return constant(leaf.value)
        return TENSOR
    parts = tuple(nest_of(child, leaves) for child in spec.children())
    if spec.type in (tuple, list):
        return Nest("tuple" if spec.type is tuple else "list", parts=parts)
    if spec.type is namedtuple:
        return Nest("namedtuple", keys=tuple(spec.context._fields), parts=parts)
    keys = _keys(spec.context, len(parts))
    if keys is None:
        return Nest("tuple", parts=parts)
    return Nest("dict" if spec.type in (dict, OrderedDict) else "record", keys=keys, parts=parts)


def _keys(context: Any, count: int) -> tuple[str | int, ...] | None:
    """The keys of a dict or the fields of a class, which torch keeps first in its context."""
    inner = context[0] if isinstance(context, list | tuple) and context else None
    for keys in (context, inner):
        if isinstance(keys, list | tuple) and len(keys) == count and all(map(_is_key, keys)):
            return tuple(keys)
    return None


def _is_key(key: object) -> bool:
    return isinstance(key, str | int)
