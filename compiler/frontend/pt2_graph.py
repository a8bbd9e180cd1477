"""
The graph of a `.pt2` archive, rebuilt as torch.fx nodes.

The file says which operators are called on what; it is not believed about results. Placeholders
become fake tensors from checked shapes, and every other value is derived again by running its
operator on fake tensors, so `node.meta["val"]` is what this torch computes. Recorded stack traces
are kept, as text, to name the user's line in errors.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import compute_unbacked_bindings

from ...dialects.errors import IntegrityError, QccError, UnsupportedError
from .operators import SIZE_OPERATORS, resolve_operator
from .pt2_arguments import SCALAR_TYPES, STRIDED, malformed, read_argument
from .pt2_regions import MAX_DEPTH, region_of
from .pt2_schema import (
    Argument,
    Graph,
    InputSpec,
    Named,
    NamedArgument,
    Node,
    SymIntArgument,
    TensorMeta,
)
from .pt2_sizes import InputSizes
from .user_line import user_line

_MAX_STEPS = 65_536
_LOOPING = frozenset(
    ("unbind", "split", "chunk", "tensor_split", "lstm", "gru", "rnn_tanh", "rnn_relu")
)
_MAX_EXPONENT = 16


class GraphBuilder:
    """Builds one fx graph; `values` maps the file's names to the nodes that hold them."""

    def __init__(self, source: Graph, sizes: InputSizes, mode: FakeTensorMode) -> None:
        self.source = source
        self.sizes = sizes
        self.mode = mode
        self.graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        self.depth = 0

    def build(self, specs: list[InputSpec], lifted: Mapping[str, torch.Tensor]) -> fx.Graph:
        """The whole graph; `lifted` gives fake tensors of parameters, buffers and constants."""
        if len(specs) != len(self.source.inputs):
            malformed("the signature and the graph disagree on the number of inputs")
        for spec, argument in zip(specs, self.source.inputs, strict=True):
            self._placeholder(spec, argument, lifted)
        for node in self.source.nodes:
            self._call(node)
        results = tuple(read_argument(output, self.node) for output in self.source.outputs)
        output = self.graph.output(results)
        output.meta["val"] = tuple(_value(result) for result in results)
        return self.graph

    def node(self, name: str) -> fx.Node:
        if name not in self.values:
            malformed(f"the value '{name}' is used before it is made")
        return self.values[name]

    def _placeholder(
        self, spec: InputSpec, argument: Argument, lifted: Mapping[str, torch.Tensor]
    ) -> None:
        content = argument.content
        if isinstance(content, Named):
            name = content.name
            value = lifted[name] if name in lifted else self._user_tensor(name)
        elif isinstance(content, SymIntArgument):
            name, value = self._user_size(content)
        elif spec.kind == "constant_input":
            name, value = (
                spec.content.name or f"arg{len(self.values)}",
                read_argument(argument, self.node),
            )
        else:
            malformed(f"an input of the graph is of kind '{argument.kind}'")
        node = self.graph.placeholder(name)
        node.meta["val"] = value
        self._define(name, node)

    def _user_tensor(self, name: str) -> torch.Tensor:
        if name not in self.source.tensor_values:
            malformed(f"the input '{name}' has no shape")
        return fake_tensor(self.mode, self.source.tensor_values[name], self.sizes)

    def _user_size(self, argument: SymIntArgument) -> tuple[str, Any]:
        name = argument.as_name
        if not isinstance(name, str) or name not in self.source.sym_int_values:
            malformed("an input of the graph is a size without a name")
        return name, self.sizes.size(self.source.sym_int_values[name])

    def _define(self, name: str, node: fx.Node) -> None:
        if name in self.values:
            malformed(f"the value '{name}' is made twice")
        self.values[name] = node

    def _call(self, source: Node) -> None:
        where = user_line(source.metadata.get("stack_trace", "")) or f"node {source.name}"
        region = region_of(source, where)
        if region is not None:
            self._inline(*region, source.outputs)
            return
        target = resolve_operator(source.target, where)
        if source.target in SIZE_OPERATORS:
            args, kwargs = tuple(read_argument(item.arg, self.node) for item in source.inputs), {}
        else:
            args, kwargs = self._operator_arguments(target, source.inputs, where)
        name = source.name or _first_name(source.outputs)
        node = self.graph.create_node("call_function", target, args, kwargs, name)
        node.meta.update(_metadata(source.metadata))
        node.meta["val"] = self._derive(node, where)
        self._bind_outputs(node, source.outputs)

    def _inline(
        self, region: Graph, arguments: list[NamedArgument], outputs: list[Argument]
    ) -> None:
        """The nodes of a region, whose names count inside it only."""
        outer, self.values = self.values, {}
        self.depth += 1
        if self.depth > MAX_DEPTH:
            malformed(f"regions lie more than {MAX_DEPTH} deep in one another")
        for parameter, argument in zip(region.inputs, arguments, strict=True):
            name = _output_name(argument.arg)
            if name not in outer:
                malformed(f"the value '{name}' is used before it is made")
            self._define(_output_name(parameter), outer[name])
        for node in region.nodes:
            self._call(node)
        made = [self.node(name) for name in _names(region.outputs)]
        self.values = outer
        self.depth -= 1
        names = _names(outputs)
        if len(names) != len(made):
            malformed(f"a region makes {len(made)} values, not {len(names)}")
        for name, node in zip(names, made, strict=True):
            self._define(name, node)

    def _operator_arguments(
        self, target: Any, inputs: list[NamedArgument], where: str
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional arguments for the leading parameters given, keywords for the rest."""
        given = {item.name: read_argument(item.arg, self.node) for item in inputs}
        parameters = target._schema.arguments
        if len(given) != len(inputs) or not given.keys() <= {p.name for p in parameters}:
            malformed(f"{target} is called with arguments that it does not have", where)
        args: list[Any] = []
        for parameter in parameters:
            if parameter.kwarg_only or parameter.name not in given:
                break
            args.append(given.pop(parameter.name))
        return tuple(args), given

    def _derive(self, node: fx.Node, where: str) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: n.meta["val"])
        _check_cost(node.target, args, where)
        assert callable(node.target)
        try:
            # torch's Python decompositions keep symbolic sizes where the C++ ones fix them.
            with self.mode, torch.no_grad(), enable_python_dispatcher():
                value = node.target(*args, **kwargs)
        except QccError:
            raise
        except Exception as error:
            raise _not_derivable(node, where, error) from error
        if self.mode.shape_env is not None:
            bindings = compute_unbacked_bindings(self.mode.shape_env, value)
            if bindings:
                node.meta["unbacked_bindings"] = bindings
        return value

    def _bind_outputs(self, node: fx.Node, outputs: list[Argument]) -> None:
        single = outputs[0] if len(outputs) == 1 else None
        if single is not None and single.kind == "as_tensors":
            self._bind_items(node, [Argument(as_tensor=item) for item in single.content])
        elif single is not None and single.kind != "as_none":
            self._define(_output_name(single), node)
        elif len(outputs) > 1:
            self._bind_items(node, outputs)

    def _bind_items(self, node: fx.Node, outputs: list[Argument]) -> None:
        value = node.meta["val"]
        if not isinstance(value, tuple | list) or len(value) != len(outputs):
            malformed(f"{node.target} does not make {len(outputs)} values")
        for index, output in enumerate(outputs):
            if output.kind == "as_none":
                continue
            name = _output_name(output)
            item = self.graph.create_node(
                "call_function", operator.getitem, (node, index), {}, name
            )
            item.meta.update({k: v for k, v in node.meta.items() if k in _SHARED_META})
            item.meta["val"] = value[index]
            self._define(name, item)


def fake_tensor(mode: FakeTensorMode, meta: TensorMeta, sizes: InputSizes) -> torch.Tensor:
    """A fake CPU tensor of the recorded shape, strides and dtype."""
    if meta.dtype not in SCALAR_TYPES or meta.layout != STRIDED:
        raise UnsupportedError(
            "pt2-tensor-kind",
            f"a tensor has dtype {meta.dtype} and layout {meta.layout} of the export schema",
            why="qcc reads dense tensors of plain dtypes",
        )
    shape, strides = sizes.shape(meta)
    try:
        with mode:
            return torch.empty_strided(shape, strides, dtype=SCALAR_TYPES[meta.dtype])
    except (RuntimeError, ValueError, OverflowError) as error:
        malformed(f"the shape {shape} with strides {strides} is impossible: {error}")


_SHARED_META = ("stack_trace", "nn_module_stack")


def _metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Stack trace and module stack, both as text; all else of the record is dropped."""
    found: dict[str, Any] = {"nn_module_stack": dict(_module_stack(metadata))}
    if trace := metadata.get("stack_trace"):
        found["stack_trace"] = trace
    return found


def _module_stack(metadata: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for item in filter(None, metadata.get("nn_module_stack", "").split(";")):
        parts = item.split(",", 2)
        if len(parts) == 3:
            yield parts[0], (parts[1], parts[2])


def _value(result: Any) -> Any:
    return result.meta["val"] if isinstance(result, fx.Node) else result


def _first_name(outputs: list[Argument]) -> str | None:
    return _output_name(outputs[0]) if outputs and isinstance(outputs[0].content, Named) else None


def _output_name(output: Argument) -> str:
    content = output.content
    name = content.name if isinstance(content, Named) else getattr(content, "as_name", None)
    if not isinstance(name, str):
        malformed(f"a node makes a value of kind '{output.kind}'")
    return name


def _names(outputs: list[Argument]) -> list[str]:
    """The names of several values, which the file lists singly or together."""
    if len(outputs) == 1 and outputs[0].kind == "as_tensors":
        return [item.name for item in outputs[0].content]
    return [_output_name(output) for output in outputs]


def _check_cost(target: Any, args: Any, where: str) -> None:
    """Refuse what would take unbounded time even without data: long lists, huge powers."""
    if target is operator.pow:
        if not isinstance(args[1], int) or args[1] > _MAX_EXPONENT:
            malformed("a size is raised to a large power", where)
    elif isinstance(target, torch._ops.OpOverload) and _steps(target, args) > _MAX_STEPS:
        malformed(f"{target} would take more than {_MAX_STEPS} steps", where)


def _steps(target: torch._ops.OpOverload, args: Any) -> int:
    """An upper bound on the tensors that an operator makes one by one while it is derived."""
    name = target.overloadpacket.__name__.removesuffix("_copy").removeprefix("unsafe_")
    if name not in _LOOPING or not args or not isinstance(args[0], torch.Tensor):
        return 0
    longest = max((size for size in args[0].shape if isinstance(size, int)), default=0)
    piece = args[1] if len(args) > 1 and isinstance(args[1], int) else 1
    if name in ("chunk", "tensor_split"):
        return piece
    return longest // max(piece, 1) if name == "split" else longest


def _not_derivable(node: fx.Node, where: str, error: Exception) -> QccError:
    why = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
    if "data-dependent" in str(error).lower() or "unbacked" in str(error).lower():
        return UnsupportedError(
            "op-data-dependent",
            f"{node.target} has a result whose shape depends on values",
            where=where,
            why=why,
            next_step="rewrite that line so that shapes depend on shapes only",
        )
    return IntegrityError(
        "pt2-graph-invalid",
        f"the graph calls {node.target} with arguments that it rejects",
        where=where,
        why=why,
        next_step="export the model again with the torch version that qcc runs on",
    )
