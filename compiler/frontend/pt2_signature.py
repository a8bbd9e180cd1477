"""What each input and output of a `.pt2` program is: parameter, buffer, constant or the user's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.export.exported_program import ModuleCallEntry
from torch.export.graph_signature import (
    ArgumentSpec,
    ConstantArgument,
    ExportGraphSignature,
    InputKind,
    OutputKind,
    SymIntArgument,
    TensorArgument,
)
from torch.export.graph_signature import InputSpec as TorchInput
from torch.export.graph_signature import OutputSpec as TorchOutput

from ...dialects.errors import UnsupportedError
from . import pt2_schema as schema
from .pt2_arguments import malformed
from .pt2_graph import GraphBuilder
from .pt2_structure import call_entry


def lifted_inputs(
    specs: list[schema.InputSpec], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The fake tensor of every graph input that stands for a stored tensor."""
    found: dict[str, torch.Tensor] = {}
    for spec in specs:
        if spec.kind in ("user_input", "constant_input"):
            continue
        name = _stored_name(spec)
        if name not in tensors:
            malformed(f"the tensor '{name}' is not in the archive")
        tensor = tensors[name]
        if isinstance(tensor, torch.nn.Parameter) != (spec.kind == "parameter"):
            malformed(f"the tensor '{name}' is a parameter in one place only")
        found[spec.content.arg.name] = tensor.data if spec.kind == "parameter" else tensor
    return found


def signature_of(signature: schema.Signature, builder: GraphBuilder) -> ExportGraphSignature:
    """torch's signature, with the names that the nodes of the built graph bear."""
    return ExportGraphSignature(
        input_specs=[_input(spec, builder) for spec in signature.input_specs],
        output_specs=[_output(spec, builder) for spec in signature.output_specs],
    )


def call_entry_of(module: schema.GraphModule, signature: ExportGraphSignature) -> ModuleCallEntry:
    """The root's entry of the module call graph; entries of submodules are dropped."""
    root = next((entry for entry in module.module_call_graph if entry.fqn == ""), None)
    if root is None or root.signature is None:
        malformed("the program does not say how it is called")
    inputs = [s.arg for s in signature.input_specs if s.kind is InputKind.USER_INPUT]
    outputs = [s.arg for s in signature.output_specs if s.kind is OutputKind.USER_OUTPUT]
    return call_entry(root.signature, inputs, outputs)


def _stored_name(spec: schema.InputSpec) -> str:
    match spec.content:
        case schema.ParameterInput(parameter_name=name):
            return name
        case schema.BufferInput(buffer_name=name):
            return name
        case schema.TensorConstantInput(tensor_constant_name=name):
            return name
    raise UnsupportedError(
        "pt2-input-kind",
        f"the program takes a '{spec.kind}' as input",
        why="script objects and tokens are not read from a file",
        next_step="export the model without custom objects",
    )


def _input(spec: schema.InputSpec, builder: GraphBuilder) -> TorchInput:
    match spec.content:
        case schema.UserValue(arg=argument):
            return TorchInput(InputKind.USER_INPUT, _argument(argument, builder), None)
        case schema.ConstantInput(name=name, value=value):
            return TorchInput(InputKind.USER_INPUT, ConstantArgument(name, _constant(value)), None)
    content: Any = spec.content
    argument = TensorArgument(builder.node(content.arg.name).name)
    name = _stored_name(spec)
    match content:
        case schema.ParameterInput():
            return TorchInput(InputKind.PARAMETER, argument, name)
        case schema.BufferInput(persistent=persistent):
            return TorchInput(InputKind.BUFFER, argument, name, persistent)
    return TorchInput(InputKind.CONSTANT_TENSOR, argument, name)


def _output(spec: schema.OutputSpec, builder: GraphBuilder) -> TorchOutput:
    match spec.content:
        case schema.UserValue(arg=argument):
            return TorchOutput(OutputKind.USER_OUTPUT, _argument(argument, builder), None)
        case schema.BufferMutation(arg=value, buffer_name=name):
            kind, target = OutputKind.BUFFER_MUTATION, name
        case schema.InputMutation(arg=value, user_input_name=name):
            kind, target = OutputKind.USER_INPUT_MUTATION, builder.node(name).name
        case _:
            raise UnsupportedError(
                "pt2-output-kind",
                f"the program makes a '{spec.kind}'",
                why="qcc compiles inference programs",
                next_step="export the model in inference form, without losses and gradients",
            )
    return TorchOutput(kind, TensorArgument(builder.node(value.name).name), target)


def _argument(argument: schema.Argument, builder: GraphBuilder) -> ArgumentSpec:
    content = argument.content
    if isinstance(content, schema.Named):
        return TensorArgument(builder.node(content.name).name)
    if isinstance(content, schema.SymIntArgument) and isinstance(content.as_name, str):
        return SymIntArgument(builder.node(content.as_name).name)
    if argument.kind == "as_none":
        return ConstantArgument("", None)
    if argument.kind in ("as_int", "as_float", "as_bool", "as_string"):
        value: Any = content
        return ConstantArgument("", value)
    raise UnsupportedError(
        "pt2-argument",
        f"an input or output of the program is of kind '{argument.kind.removeprefix('as_')}'",
        next_step="let forward() take and return tensors, numbers and None",
    )


def _constant(value: schema.ConstantValue) -> int | float | str | bool | None:
    return None if value.kind == "as_none" else value.content
