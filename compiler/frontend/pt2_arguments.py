"""
Arguments of a `.pt2` graph: from the records of the file to what torch.fx takes.

Only values, numbers, text and enumerations pass; kinds that carry graphs, functions or objects
have no reader and are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch
from torch import fx

from ...dialects.errors import IntegrityError, UnsupportedError
from .pt2_schema import (
    Argument,
    Complex,
    Device,
    OptionalTensor,
    SymBoolArgument,
    SymFloatArgument,
    SymIntArgument,
)

Lookup = Callable[[str], fx.Node]
"""The node that holds a named value of the file."""

# Numbers of torch's export schema (torch/_export/serde/schema.py).
SCALAR_TYPES: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
    29: torch.float8_e4m3fn,
    30: torch.float8_e5m2,
    31: torch.float8_e4m3fnuz,
    32: torch.float8_e5m2fnuz,
    33: torch.float8_e8m0fnu,
    34: torch.uint32,
    35: torch.uint64,
}
MEMORY_FORMATS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
STRIDED = 7

_SPECIAL_FLOATS = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def read_argument(argument: Argument, node_of: Lookup) -> Any:
    """Nodes for values of the graph, Python objects for the rest."""
    reader = _READERS.get(argument.kind)
    if reader is None:
        raise UnsupportedError(
            "pt2-argument",
            f"the graph passes an argument of kind '{argument.kind.removeprefix('as_')}'",
            why="submodules, script objects and functions are not read from a file",
            next_step="export the model without control flow or custom objects",
        )
    return reader(node_of, argument.content)


def malformed(why: str, where: str = "") -> NoReturn:
    """Raise the error for a graph that contradicts itself or the schema."""
    raise IntegrityError(
        "pt2-graph-malformed",
        "the graph of the exported program is malformed",
        where=where,
        why=why,
        next_step="export the model again with torch.export.save; do not trust this copy",
    )


def _number(value: float | str) -> float:
    return _SPECIAL_FLOATS[value] if isinstance(value, str) else value


def _optional_tensor(node_of: Lookup, item: OptionalTensor) -> fx.Node | None:
    return node_of(item.content.name) if item.kind == "as_tensor" else None


def _symbolic(node_of: Lookup, item: SymIntArgument | SymFloatArgument | SymBoolArgument) -> Any:
    if item.kind == "as_name":
        return node_of(item.content)
    return _number(item.content) if item.kind == "as_float" else item.content


def _enumerated(table: Mapping[int, Any], what: str) -> Callable[[Lookup, int], Any]:
    def read(_: Lookup, number: int) -> Any:
        if number not in table:
            malformed(f"{number} is not a {what}")
        return table[number]

    return read


def _device(_: Lookup, device: Device) -> torch.device:
    """Always the CPU: where the exporting machine computed says nothing about the target."""
    if device.type not in ("cpu", "meta", "cuda", "mps", "xpu"):
        malformed(f"'{device.type}' is not a device")
    return torch.device("cpu")


def _complex(_: Lookup, value: Complex) -> complex:
    return complex(_number(value.real), _number(value.imag))


def _plain(_: Lookup, value: Any) -> Any:
    return list(value) if isinstance(value, list) else value


_READERS: dict[str, Callable[[Lookup, Any], Any]] = {
    "as_none": lambda _, __: None,
    "as_tensor": lambda node_of, item: node_of(item.name),
    "as_tensors": lambda node_of, items: [node_of(item.name) for item in items],
    "as_nested_tensors": lambda node_of, rows: [
        [node_of(item.name) for item in row] for row in rows
    ],
    "as_optional_tensor": _optional_tensor,
    "as_optional_tensors": lambda node_of, items: [
        _optional_tensor(node_of, item) for item in items
    ],
    "as_sym_int": _symbolic,
    "as_sym_float": _symbolic,
    "as_sym_bool": _symbolic,
    "as_sym_ints": lambda node_of, items: [_symbolic(node_of, item) for item in items],
    "as_sym_floats": lambda node_of, items: [_symbolic(node_of, item) for item in items],
    "as_sym_bools": lambda node_of, items: [_symbolic(node_of, item) for item in items],
    "as_scalar_type": _enumerated(SCALAR_TYPES, "dtype"),
    "as_memory_format": _enumerated(MEMORY_FORMATS, "memory format"),
    "as_layout": _enumerated({STRIDED: torch.strided}, "layout that qcc reads"),
    "as_device": _device,
    "as_complex": _complex,
    "as_float": lambda _, value: _number(value),
    "as_floats": lambda _, values: [_number(value) for value in values],
    "as_float_lists": lambda _, rows: [[_number(value) for value in row] for row in rows],
    "as_int": _plain,
    "as_ints": _plain,
    "as_int_lists": _plain,
    "as_bool": _plain,
    "as_bools": _plain,
    "as_string": _plain,
    "as_strings": _plain,
}
