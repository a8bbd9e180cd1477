"""
The forms of functions on DPUs, as they stand in the IR: whole, with their tables.

So other tables in another version of qcc do not change a program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..bindings import ir
from ..errors import UsageError
from .piecewise import Cells
from .row_functions import Norm, Softmax
from .smooth import Elementwise

Array = NDArray[Any]
Floats = NDArray[np.float32]
Evaluation = Callable[[Array], Array]
"""What DPUs, or NumPy, make of rows of codes [rows, width]."""


class Form(Protocol):
    """What the host does before and after, and what DPUs do, with rows of numbers."""

    @property
    def method(self) -> str: ...

    @property
    def columns(self) -> int:
        """Numbers of a row of a kernel."""
        ...

    @property
    def tables(self) -> tuple[Cells, ...]: ...

    @property
    def widths(self) -> tuple[int, int]:
        """Elements of a row as it goes in and comes out, whole units of DMA."""
        ...

    @property
    def kinds(self) -> tuple[str, str]:
        """The elements of rows in and out."""
        ...

    def rows_of(self, x: Floats) -> Floats:
        """The rows [rows, columns] of a tensor."""
        ...

    def encode(self, x: Floats) -> Array: ...

    def __call__(self, codes: Array) -> Array:
        """What DPUs compute."""
        ...

    def decode(self, found: Array, x: Floats) -> Floats: ...


def evaluated(form: Form, x: Floats, evaluate: Evaluation | None = None) -> Floats:
    """`pim.function` on x; without `evaluate` NumPy does what DPUs would, with the same result."""
    rows = form.rows_of(x)
    found = form.decode((evaluate or form)(form.encode(rows)), rows)
    return found.reshape(x.shape)


def joined_tables(form: Form) -> tuple[Array, Array]:
    """`base` and `slope` of a kernel: those of its tables, one after another."""
    tables = form.tables
    return np.concatenate([t.base for t in tables]), np.concatenate([t.slope for t in tables])


def table_sizes(form: Form) -> dict[str, int]:
    """Bytes of the tables, whole units of DMA."""
    base, slope = joined_tables(form)
    return {"base": -(-base.nbytes // 8) * 8, "slope": -(-slope.nbytes // 8) * 8}


def form_attribute(form: Form) -> ir.DictAttr:
    fields: dict[str, ir.Attribute] = {
        "tables": ir.ArrayAttr.get([_table_attribute(each) for each in form.tables])
    }
    match form:
        case Elementwise():
            fields |= {"kind": _text("elementwise"), "tail": _text(form.tail)}
        case Softmax():
            empty = ir.BoolAttr.get(form.empty_rows)
            fields |= {"kind": _text("softmax"), "columns": _whole(form.columns), "zeros": empty}
        case Norm():
            epsilon, centred = _double(form.epsilon), ir.BoolAttr.get(form.centred)
            fields |= {"kind": _text("norm"), "columns": _whole(form.columns),
                       "epsilon": epsilon, "centred": centred}  # fmt: skip
        case _:
            raise UsageError("pim-function-form", f"{type(form).__name__} is no form in the IR")
    return ir.DictAttr.get(fields)


def form_of(attribute: ir.Attribute) -> Form:
    """UsageError for what `form_attribute` does not make."""
    try:
        return _form_of(ir.DictAttr(attribute))
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(
            "pim-function-form", f"no form of a function: {error}",
            next_step="compile the model again",
        ) from error  # fmt: skip


def _form_of(given: ir.DictAttr) -> Form:
    kind = ir.StringAttr(given["kind"]).value
    tables = [_table_of(each) for each in ir.ArrayAttr(given["tables"])]
    if kind == "elementwise":
        (table,) = tables
        return Elementwise(table, ir.StringAttr(given["tail"]).value)
    columns = ir.IntegerAttr(given["columns"]).value
    if kind == "softmax":
        power, reciprocal = tables
        return Softmax(columns, ir.BoolAttr(given["zeros"]).value, power, reciprocal)
    if kind != "norm":
        raise ValueError(f"kind {kind!r}")
    (root,) = tables
    epsilon, centred = ir.FloatAttr(given["epsilon"]).value, ir.BoolAttr(given["centred"]).value
    return Norm(columns, epsilon, centred, root)


def _table_attribute(cells: Cells) -> ir.DictAttr:
    return ir.DictAttr.get({
        "low": _double(cells.low), "step": _double(cells.step), "unit": _double(cells.unit),
        "bits": _whole(cells.bits), "shift": _whole(cells.shift),
        "base": ir.DenseI16ArrayAttr.get(cells.base.tolist()),
        "slope": ir.DenseI8ArrayAttr.get(cells.slope.tolist()),
    })  # fmt: skip


def _table_of(attribute: ir.Attribute) -> Cells:
    given = ir.DictAttr(attribute)
    low, step, unit = (ir.FloatAttr(given[name]).value for name in ("low", "step", "unit"))
    bits, shift = (ir.IntegerAttr(given[name]).value for name in ("bits", "shift"))
    base = np.array(list(ir.DenseI16ArrayAttr(given["base"])), np.int16)
    slope = np.array(list(ir.DenseI8ArrayAttr(given["slope"])), np.int8)
    return Cells(low, step, unit, bits, shift, base, slope)


def _text(value: str) -> ir.Attribute:
    return ir.StringAttr.get(value)


def _whole(value: int) -> ir.Attribute:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def _double(value: float) -> ir.Attribute:
    return ir.FloatAttr.get(ir.F64Type.get(), value)
