"""
Binding: every tensor that a program needs, matched to a tensor that some source has.

Parameters and persistent buffers come from the given weights when there are any, all of them;
what only the program knows (lifted constants, tables computed by `__init__`) comes from itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import numpy as np
import torch
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram

from ...dialects.errors import UnsupportedError, UsageError
from .torch_weights import TorchSource, dtype_name
from .weights import DTYPES, Binding, BoundSource, WeightSource

_LISTED = 5
_COMPARE_BYTES = 1 << 26
_FLOATS = ("float", "bfloat")


def has_values(tensor: torch.Tensor) -> bool:
    return not tensor.is_meta and not isinstance(tensor, FakeTensor)


def needed_tensors(program: ExportedProgram) -> dict[str, torch.Tensor]:
    """Parameters, buffers and constants that are inputs of the graph, by name."""
    signature = program.graph_signature
    found: dict[str, torch.Tensor] = {}
    for name in (
        *signature.inputs_to_parameters.values(),
        *signature.inputs_to_buffers.values(),
        *signature.inputs_to_lifted_tensor_constants.values(),
    ):
        tensor = program.state_dict.get(name, program.constants.get(name))
        if not isinstance(tensor, torch.Tensor) or is_functorch_wrapped_tensor(tensor):
            raise UnsupportedError(
                "program-constant",
                f"the program's constant '{name}' is not a plain tensor",
                next_step="export the model without custom objects",
            )
        found[name] = tensor
    return found


def own_source(program: ExportedProgram) -> TorchSource:
    """The tensors whose values the program itself holds."""
    tensors = needed_tensors(program)
    return TorchSource({name: tensor for name, tensor in tensors.items() if has_values(tensor)})


def bind(program: ExportedProgram, own: WeightSource, given: WeightSource | None) -> BoundSource:
    """
    One source with exactly the names that the program needs.

    Tied names are bound to one tensor of the source. Floating-point values are cast to the
    program's dtype, as load_state_dict would. Raises one UsageError for all names that are
    missing, unexpected, of another shape, or of an incompatible dtype.
    """
    needed = needed_tensors(program)
    stored = {name for name in needed if name in program.state_dict}
    bindings: dict[str, Binding] = {}
    missing: list[str] = []
    ties = _ties(needed)
    own_names = set(own.names())
    given_names = set(given.names()) if given is not None else set()
    for name, tensor in needed.items():
        external = given if name in stored else None
        source, known = (own, own_names) if external is None else (external, given_names)
        found = next((alias for alias in ties[name] if alias in known), None)
        if found is None:
            missing.append(name)
        else:
            bindings[name] = Binding(source, found, dtype_name(tensor.dtype))
    if given is not None:
        _check_given(program, given, needed, missing)
        _check_ties(given, ties, stored)
    elif missing:
        raise _no_values(missing)
    _check_kinds(bindings, needed)
    return BoundSource(bindings)


def _ties(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[str, ...]]:
    """For each name the names of the same tensor, itself included, in sorted order."""
    groups: dict[object, list[str]] = {}
    for name in sorted(tensors):
        groups.setdefault(_identity(name, tensors[name]), []).append(name)
    return {name: tuple(group) for group in groups.values() for name in group}


def _identity(name: str, tensor: torch.Tensor) -> object:
    if not has_values(tensor):
        return id(tensor)
    if tensor.numel() == 0:
        return name
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def _check_given(
    program: ExportedProgram,
    given: WeightSource,
    needed: Mapping[str, torch.Tensor],
    missing: list[str],
) -> None:
    names = set(given.names())
    expected = needed.keys() | program.state_dict.keys() | program.constants.keys()
    unexpected = sorted(names - expected)
    if not missing and not unexpected:
        return
    lines = []
    if missing:
        lines.append(_listed("missing", missing, unexpected or names))
    if unexpected:
        lines.append(_listed("unexpected", unexpected, missing))
    raise UsageError(
        "weights-mismatch",
        "the weights do not fit the model",
        why="; ".join(lines),
        next_step="give the weights of this very model, or rename them to its state_dict() names",
    )


def _listed(what: str, names: list[str], others: Iterable[str]) -> str:
    """Count and first names, each with the nearest name on the other side."""
    others = list(others)
    parts = []
    for name in names[:_LISTED]:
        near = get_close_matches(name, others, n=1)
        parts.append(f"{name} (did you mean {near[0]}?)" if near else name)
    more = ", …" if len(names) > _LISTED else ""
    return f"{len(names)} {what}: {', '.join(parts)}{more}"


def _check_kinds(bindings: Mapping[str, Binding], needed: Mapping[str, torch.Tensor]) -> None:
    wrong = []
    for name, binding in bindings.items():
        info, tensor = binding.source.info(binding.name), needed[name]
        if info.shape != tuple(tensor.shape):
            wrong.append(f"{name} is {list(info.shape)}, the model has {list(tensor.shape)}")
        elif info.dtype != binding.dtype and not _castable(info.dtype, binding.dtype):
            wrong.append(f"{name} is {info.dtype}, the model has {binding.dtype}")
    if wrong:
        more = "; …" if len(wrong) > _LISTED else ""
        raise UsageError(
            "weights-mismatch",
            f"{len(wrong)} weights have another shape or dtype than the model",
            why="; ".join(wrong[:_LISTED]) + more,
            next_step="give the weights of this very model",
        )


def _castable(stored: str, wanted: str) -> bool:
    return stored.startswith(_FLOATS) and wanted.startswith(_FLOATS)


def _check_ties(given: WeightSource, ties: Mapping[str, tuple[str, ...]], stored: set[str]) -> None:
    """A file may repeat a tied tensor under each of its names, with equal values only."""
    names = set(given.names()) & stored
    for group in set(ties.values()):
        present = [name for name in group if name in names]
        for other in present[1:]:
            if not _equal(given, present[0], other):
                raise UsageError(
                    "weights-untied",
                    f"the model ties '{present[0]}' and '{other}', the weights differ",
                    next_step="untie them in the model, or give weights saved from a tied model",
                )


def _equal(source: WeightSource, left: str, right: str) -> bool:
    a, b = source.info(left), source.info(right)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.storage == b.storage:
        return True
    rows = a.shape[0] if a.shape else 1
    step = max(1, _COMPARE_BYTES // max(a.nbytes // max(rows, 1), DTYPES[a.dtype].itemsize))
    return all(
        np.array_equal(_bits(source, left, at, rows, step), _bits(source, right, at, rows, step))
        for at in range(0, rows, step)
    )


def _bits(source: WeightSource, name: str, start: int, rows: int, step: int) -> np.ndarray:
    return source.read_rows(name, start, min(start + step, rows)).reshape(-1).view(np.uint8)


def _no_values(missing: list[str]) -> UsageError:
    return UsageError(
        "weights-needed",
        f"{_listed('tensors of the model have no values', missing, ())}",
        why="the model was built or exported on the meta device",
        next_step="give its weights, for example --weights model.safetensors",
    )
