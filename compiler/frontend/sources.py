"""
The way in: from what a user names or holds to a program and the source of its weights.

    model.pt2                  an exported program; --weights if it was saved without values
    module:factory, file.py:f  the user's own code; --weights model.safetensors or a state dict
    nn.Module, ExportedProgram through the Python API

A file is told by its content, never by its suffix, and opening it runs nothing from it
(docs/model-inputs.md).
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.export import ExportedProgram

from ...dialects.errors import IntegrityError, UsageError
from ..file_kind import (
    EMPTY,
    JSON,
    OLD_PICKLE,
    PICKLE,
    SAFETENSORS,
    TORCHSCRIPT,
    sound_kind,
)
from .archive import LOCAL_MAGIC, list_members
from .binding import bind, own_source
from .module_source import Sample, as_call, call_factory, export
from .pt2_reader import is_pt2, read_pt2
from .safetensors_source import SafetensorsSource, looks_like_safetensors
from .state_dict import open_state_dict, probe_state_dict
from .torch_weights import laid_out_like
from .weights import WeightSource

_WEIGHTS = "give a .safetensors file, an index of shards, or a state dict (.pt)"
_CONVERT = "torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')"


@dataclass(frozen=True)
class OpenedModel:
    """
    A program, its weights and a name for reports.

    The program's own tensors may be fake: `weights` answers for every parameter, buffer and
    constant among the graph's inputs, by the names of `program.graph_signature`.
    """

    program: ExportedProgram
    weights: WeightSource
    name: str

    @cached_property
    def input_hash(self) -> str:
        """sha256 of the graph, its signature and ranges, and all weights; reads every weight."""
        program = self.program
        limits = program.range_constraints.items()
        ranges = sorted((str(symbol), str(interval)) for symbol, interval in limits)
        text = f"{program.graph}\n{program.graph_signature}\n{ranges}"
        return hashlib.sha256(f"{text}\n{self.weights.content_hash()}".encode()).hexdigest()

    def close(self) -> None:
        self.weights.close()

    def __enter__(self) -> OpenedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_model(
    model: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    example_inputs: Any = None,
    allow_pickle: bool = False,
) -> OpenedModel:
    """
    Open what the command line names.

    Raises UsageError for what cannot be a model, IntegrityError for damaged or refused files,
    UnsupportedError for programs that qcc does not read.
    """
    path = Path(model)
    if not path.is_file():
        if ":" not in model:
            raise UsageError(
                "model-missing",
                f"'{model}' is a folder" if path.is_dir() else f"there is no file '{model}'",
                next_step="give a .pt2 file or module:factory",
            )
        return _open_factory(model, weights, example_inputs, allow_pickle)
    _refuse_other_than_pt2(path)
    read = read_pt2(path)
    given = _open_weights(weights, allow_pickle)
    return OpenedModel(read.program, bind(read.program, read.weights, given), path.stem)


def from_module(
    module: nn.Module,
    example_inputs: Any,
    dynamic_shapes: Any = None,
    *,
    weights: WeightSource | str | None = None,
    name: str = "",
) -> OpenedModel:
    """Trace a module in inference mode; its flags and parameters stay as they are."""
    name = name or type(module).__name__
    if example_inputs is None:
        raise UsageError(
            "example-inputs-missing",
            f"{name} comes without inputs to trace it with",
            next_step="give example_inputs: the arguments of one call, () if it takes none",
        )
    args, kwargs = as_call(example_inputs)
    sample = Sample(module, args, kwargs, dynamic_shapes)
    return from_program(export(sample, name), weights=weights, name=name)


def from_program(
    program: ExportedProgram, *, weights: WeightSource | str | None = None, name: str = "program"
) -> OpenedModel:
    """A program that is already exported; `weights` if it holds shapes only."""
    given = weights if isinstance(weights, WeightSource) else _open_weights(weights, False)
    return OpenedModel(program, bind(program, own_source(program), given), name)


def with_values(opened: OpenedModel) -> nn.Module:
    """
    The program as a module that torch can run, every weight read into memory.

    For references and golden outputs of models that fit; tied weights share memory.
    """
    shared: dict[str, torch.Tensor] = {}

    def tensor(name: str, old: torch.Tensor) -> torch.Tensor:
        info = opened.weights.info(name)
        key = f"{info.storage} {info.shape} {info.dtype}"
        if key not in shared:
            shared[key] = laid_out_like(opened.weights.read(name), old)
        return shared[key]

    program = copy.copy(opened.program)
    names = set(opened.weights.names())
    program._state_dict = {
        name: nn.Parameter(tensor(name, old), requires_grad=False)
        if isinstance(old, nn.Parameter)
        else tensor(name, old)
        for name, old in opened.program.state_dict.items()
        if name in names
    }
    program._constants = {
        name: tensor(name, old) if name in names and isinstance(old, torch.Tensor) else old
        for name, old in opened.program.constants.items()
    }
    return program.module(check_guards=False)


def _open_factory(
    spec: str, weights: str | os.PathLike[str] | None, example_inputs: Any, allow_pickle: bool
) -> OpenedModel:
    given = _open_weights(weights, allow_pickle)
    sample = call_factory(spec, without_parameters=given is not None, example_inputs=example_inputs)
    name = spec.rpartition(":")[2]
    return from_program(export(sample, name), weights=given, name=name)


def _open_weights(
    weights: str | os.PathLike[str] | Sequence[str] | None, allow_pickle: bool
) -> WeightSource | None:
    """Safetensors, an index of shards, or a pickled state dict, told by content."""
    if weights is None:
        return None
    if not isinstance(weights, str | os.PathLike):
        return SafetensorsSource(weights)
    path = Path(weights)
    if not path.is_file():
        raise UsageError(
            "weights-missing",
            f"'{path}' is a folder" if path.is_dir() else f"there is no file '{path}'",
            next_step=_WEIGHTS,
        )
    head = _head(path)
    if looks_like_safetensors(path):
        return SafetensorsSource(path)
    kind = sound_kind(path)
    if kind not in ("", SAFETENSORS, JSON, PICKLE, TORCHSCRIPT, OLD_PICKLE):
        raise UsageError(
            "weights-kind",
            f"'{path}' does not hold weights alone",
            why=f"it is {kind}",
            next_step=_WEIGHTS,
        )
    if head == LOCAL_MAGIC or head[:1] == b"\x80":
        return open_state_dict(path, allow_pickle=allow_pickle)
    return SafetensorsSource(path)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise UsageError(
            "file-unreadable",
            f"cannot open '{path}'",
            why=error.strerror or str(error),
            next_step="give a file that you may read",
        ) from error


def _refuse_other_than_pt2(path: Path) -> None:
    """Explain any file that is not an exported program; return if it claims to be one."""
    head = _head(path)
    kind = sound_kind(path)
    if head == LOCAL_MAGIC:
        names = list_members(path)
        if is_pt2(names):
            return
        if any("/constants.pkl" in name or "/code/" in name for name in names):
            _refuse_pickle(path, "it is a TorchScript archive")
        if kind in ("", PICKLE):
            _explain_state_dict(path)
    if looks_like_safetensors(path):
        raise UsageError(
            "model-architecture-missing",
            f"'{path}' holds weights but no architecture",
            next_step=f"give the architecture: qcc compile module:factory --weights {path}",
        )
    if head[:1] == b"\x80":
        _explain_state_dict(path)
    if kind:
        factory = f"name the function that makes the model: qcc compile {path}:FACTORY"
        raise UsageError(
            "model-kind",
            f"'{path}' is no exported program",
            why=f"it is {kind}",
            next_step=factory if path.suffix == ".py" else f"export the model: {_CONVERT}",
        )
    raise IntegrityError(
        "model-unknown",
        f"'{path}' is neither an exported program nor weights",
        why=f"it begins with {head!r}" if head else f"it is {EMPTY}",
        next_step=f"export the model: {_CONVERT}",
    )


def _explain_state_dict(path: Path) -> NoReturn:
    """A pickle: an error either way, but not the same one for plain tensors and for code."""
    probe_state_dict(path)
    raise UsageError(
        "model-architecture-missing",
        f"'{path}' is a state dict: it holds weights but no architecture",
        next_step=f"give the architecture: qcc compile module:factory --weights {path}",
    )


def _refuse_pickle(path: Path, why: str) -> NoReturn:
    raise IntegrityError(
        "pickle-refused",
        f"'{path}' may run code when it is opened",
        why=why,
        next_step=f"convert it where you trust it: {_CONVERT}",
    )
