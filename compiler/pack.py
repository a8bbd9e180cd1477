"""
Parameters from their source into an artifact, one at a time.

Layout first: the shapes of every stored part follow from the formats alone, so the weights file
is laid out before a byte is read. Then each parameter is read, encoded and written, and peak
memory is a small multiple of the largest one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..dialects import qcc
from ..dialects.bindings import ir
from ..dialects.errors import QccError
from ..dialects.formats import Format, parse_spelling
from ..dialects.formats.stored import from_layout, stored_specs, to_layout
from ..passes.assign_formats import parameter_ops
from .artifact import ArtifactWriter, TensorSpec
from .console import Progress
from .element_types import numpy_dtype
from .frontend.weights import WeightSource

SAMPLED_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class Parameter:
    """
    A parameter of the program: its symbol, IR element type and shape, and format if packed.

    `layout` names how its parts are stored (dialects/formats/stored.py); None is row by row.
    """

    symbol: str
    element: str
    shape: tuple[int, ...]
    format: Format | None
    layout: str | None = None

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def k(self) -> int:
        return math.prod(self.shape[1:])

    def specs(self) -> list[TensorSpec]:
        """The stored tensors: the plain one, or one for each part of its format."""
        if self.format is None:
            return [TensorSpec(self.symbol, self.shape, numpy_dtype(self.element))]
        parts = stored_specs(self.format, self.layout, self.shape)
        return [
            TensorSpec(f"{self.symbol}/{role}", shape, dtype)
            for role, (shape, dtype) in parts.items()
        ]


@dataclass(frozen=True, slots=True)
class Packed:
    """
    What packing one parameter did; an SQNR is None where nothing was rounded.

    `view_sqnr_db` has that of each view of its format; `nans` counts the values that are NaN.
    """

    bytes_before: int
    bytes_after: int
    sqnr_db: float | None
    view_sqnr_db: dict[str, float | None] = field(default_factory=dict)
    nans: int = 0


def write_parameters(
    writer: ArtifactWriter,
    parameters: list[Parameter],
    source: WeightSource,
    progress: Progress,
) -> dict[str, Packed]:
    """Store all parameters; returns what became of each, by symbol."""
    specs = [spec for parameter in parameters for spec in parameter.specs()]
    metadata = {p.symbol: p.format.spelling for p in parameters if p.format is not None}
    metadata |= {f"{p.symbol}/layout": p.layout for p in parameters if p.layout is not None}
    packed = {}
    with writer.add_weights(specs, metadata) as weights:
        for index, parameter in enumerate(parameters):
            progress.advance(index, len(parameters), parameter.symbol)
            values = source.read(parameter.symbol)
            parts = encode(parameter, values)
            stored = in_layout(parameter, parts)
            for name, array in stored.items():
                weights.write(name, array)
            after = sum(array.nbytes for array in stored.values())
            packed[parameter.symbol] = Packed(
                values.nbytes,
                after,
                sampled_sqnr(parameter, values, parts),
                {
                    view: sampled_sqnr(viewed, values, parts)
                    for view, viewed in views_of(parameter).items()
                },
                nan_count(values),
            )
            del values, parts, stored
    progress.advance(len(parameters), len(parameters), "")
    return packed


def nan_count(values: np.ndarray) -> int:
    """How many of the values are NaN; the least value tells at little cost that none is."""
    if not values.size or values.dtype.kind in "biu":
        return 0
    with np.errstate(invalid="ignore"):
        if values.dtype.kind != "c" and not np.isnan(np.min(values)):
            return 0
        return int(np.count_nonzero(np.isnan(values)))


def views_of(parameter: Parameter) -> dict[str, Parameter]:
    """The parameter as each view of its format reads it."""
    fmt = parameter.format
    names = () if fmt is None else (view.format for view in fmt.views)
    return {name: replace(parameter, format=fmt and fmt.with_options(view=name)) for name in names}


def encode(parameter: Parameter, values: np.ndarray) -> dict[str, np.ndarray]:
    """Tensors by name, packed ones row by row."""
    if parameter.format is None:
        dtype = numpy_dtype(parameter.element)
        return {parameter.symbol: np.ascontiguousarray(values, dtype).reshape(parameter.shape)}
    rows = np.ascontiguousarray(values, np.float32).reshape(parameter.rows, parameter.k)
    try:
        parts = parameter.format.encode_rows(rows)
    except QccError as error:
        # What encodes an array does not know whose it is.
        error.where = error.where or f"parameter '{parameter.symbol}'"
        raise
    return {f"{parameter.symbol}/{role}": array for role, array in parts.items()}


def stored_values(parameter: Parameter, values: np.ndarray) -> np.ndarray:
    """`values` as they are once stored: what the program reads of this parameter."""
    return decoded_parameter(replace(parameter, layout=None), encode(parameter, values).__getitem__)


def in_layout(parameter: Parameter, parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of `encode` as they are stored."""
    if parameter.format is None:
        return parts
    stored = to_layout(parameter.format, parameter.layout, _by_role(parts), parameter.shape)
    return {f"{parameter.symbol}/{role}": array for role, array in stored.items()}


def _by_role(parts: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.rsplit("/", 1)[1]: array for name, array in parts.items()}


def sampled_sqnr(
    parameter: Parameter, values: np.ndarray, parts: Mapping[str, np.ndarray]
) -> float | None:
    """
    10 log10(signal / error) in dB over evenly spaced rows, all of them in a small parameter.

    None for a plain parameter and for an exact result; far below zero where rounding makes a
    value infinite.
    """
    if parameter.format is None:
        return None
    step = max(1, -(-parameter.rows * parameter.k // SAMPLED_VALUES))
    chosen = values.reshape(parameter.rows, parameter.k)[::step].astype(np.float64)
    decoded = parameter.format.decode_rows(
        {
            role: array[::step] if array.shape[0] == parameter.rows else array
            for role, array in _by_role(parts).items()
        },
        parameter.k,
    )
    error = min(float(np.sum((chosen - decoded) ** 2)), sys.float_info.max)
    signal = float(np.sum(chosen**2))
    if error == 0 or signal == 0:
        return None
    return 10 * math.log10(signal / error)


def decoded_parameter(parameter: Parameter, tensor: Callable[[str], np.ndarray]) -> np.ndarray:
    """The values that the program computes with, from stored tensors by name."""
    if parameter.format is None:
        return tensor(parameter.symbol)
    roles = parameter.format.part_specs(parameter.rows, parameter.k)
    stored = {role: tensor(f"{parameter.symbol}/{role}") for role in roles}
    by_row = from_layout(parameter.format, parameter.layout, stored, parameter.shape)
    return parameter.format.decode_rows(by_row, parameter.k).reshape(parameter.shape)


def parameters_of(module: ir.Module) -> list[Parameter]:
    """The distinct parameters of a module, in program order."""
    found: dict[str, Parameter] = {}
    for op in parameter_ops(module.operation):
        symbol = ir.StringAttr(op.symbol).value
        type_ = qcc.logical_type(op.value.type)
        spelling = qcc.format_spelling(op.value.type)
        fmt = None if spelling is None else parse_spelling(spelling)
        shape, layout = tuple(type_.shape), qcc.layout_of(op.operation)
        found[symbol] = Parameter(symbol, str(type_.element_type), shape, fmt, layout)
    return list(found.values())
