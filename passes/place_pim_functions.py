"""
Functions go to DPUs, as piecewise-linear tables in fixed point.

    y = x · 0.5 · (1 + erf(x / √2)), in any ops
      =>  pim.kernel @pim_gelu_0 { … }
          y = pim.function x {function = "gelu", kernel = "pim_gelu_0", layer = "fc1.gelu", …}
    qcc.layer_norm x, w, b   =>   pim.function x {function = "layer_norm", …};  · w + b on the host
    qcc.attention q, k, v    =>   scores, pim.function {function = "softmax", …}, products
                                  (split_attention.py)

Approximate: `error` of the op bounds what it changes. Opt-in, as it changes results. With "auto"
only those go that are predicted to take less time than on the host; others say what they would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from ..dialects import pim, qcc
from ..dialects.bindings import Operation, arith, ir, linalg
from ..dialects.errors import UnsupportedError
from ..dialects.pim.function_forms import Form, form_attribute
from ..dialects.pim.fused import FusedFunction
from ..dialects.pim.host import FunctionOp, LinearOp
from ..dialects.pim.row_functions import MOST_COLUMNS, Norm, Softmax
from ..dialects.pim.smooth import SMOOTH, Elementwise
from ..dialects.regions import walk
from .choose_pim_function import FunctionKernel, FunctionKernels
from .elementwise import empty, generic
from .function_placement import ALL, AUTO, GROUPS, NORMS, FunctionPlacement
from .fuse_pim_function import FusedKernels, fuse, fused_layer
from .layer_names import layer_before, own_layer, owner_of
from .match_functions import between, erase_dead, softmax_source, source_of
from .materialize_kv_cache import STEP
from .partition_pim import stay
from .split_attention import OPEN, score_shape, split_attention


def place_pim_functions(options: FunctionPlacement) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels = FunctionKernels(module, options.device)
        fused = FusedKernels(module, options.device)
        functions = [each.operation for each in module.regions[0].blocks[0].operations]
        names = [_name(each) for each in functions]
        met: set[str] = set()
        for name, function in zip(names, functions, strict=True):
            if function.name != "pim.kernel":
                placing = _Placing(options, kernels, fused, name == STEP, STEP in names)
                placing.place(function)
                met |= placing.met
        _erase_unused(module)
        for name in options.functions:
            if name not in (AUTO, "all") and not met & set(GROUPS[name]):
                raise _nothing(f"no {name}")
        if not met and AUTO not in options.functions:
            raise _nothing("no function")

    return apply


def _nothing(what: str) -> UnsupportedError:
    return UnsupportedError(
        "pim-function-nothing", f"the model has {what} for DPUs",
        why=f"functions of fp32 numbers are looked for: {', '.join(ALL)}",
        next_step="leave the function out",
    )  # fmt: skip


def _erase_unused(module: Operation) -> None:
    """Kernels of layers that have others now."""
    used = {op.kernel.value for op in walk(module) if isinstance(op, LinearOp | FunctionOp)}
    for op in list(module.regions[0].blocks[0].operations):
        if isinstance(op, pim.KernelOp) and op.symbol.value not in used:
            op.operation.erase()


@dataclass(frozen=True)
class _Site:
    """A function in a program, of so many rows, after a layer."""

    name: str
    form: Form
    rows: int
    layer: str


class _Placing:
    """The functions of one function of the program."""

    def __init__(
        self, options: FunctionPlacement, kernels: FunctionKernels, fused: FusedKernels,
        step: bool, has_step: bool,
    ) -> None:  # fmt: skip
        self.options, self.kernels, self.has_step = options, kernels, has_step
        self.fused = fused
        self.tokens = options.step_tokens if step else options.tokens
        self.met: set[str] = set()
        self._layers: set[str] = set()
        self._settled: set[ir.Value] = set()

    def place(self, function: Operation) -> None:
        """Smooth functions from the end, as those that they are made of are no longer there."""
        wanted = self.options.wanted
        for op in walk(function):
            if isinstance(op, qcc.AttentionOp) and "softmax" in wanted:
                self._attention(op)
            elif isinstance(op, qcc.LayerNormOp | qcc.RmsNormOp):
                self._norm(op)
        smooth = [name for name in SMOOTH if name in wanted]
        values = [op.results[0] for op in walk(function) if isinstance(op, linalg.GenericOp)]
        for value in reversed(values):
            if value in self._settled:
                continue
            if "softmax" in wanted and (source := softmax_source(value)) is not None:
                self._plain_softmax(value, source)
                continue
            for name in smooth:
                if (source := source_of(value, SMOOTH[name])) is not None:
                    self._smooth(value, source, name)
                    break

    # ---- what is found

    def _smooth(self, value: ir.Value, source: ir.Value, name: str) -> None:
        if self._fuses(value, source, name):
            return
        site = _Site(name, Elementwise.of(name), self._count(value), self._layer(source, name))
        self._replace(value, source, site)

    def _fuses(self, value: ir.Value, source: ir.Value, name: str) -> bool:
        """Whether the layer before takes the function into its kernel."""
        layer = fused_layer(source, value)
        if layer is None:
            return False
        function = FusedFunction(name, Elementwise.of(name))
        kernel = self.fused.of(layer, function)
        here = self.options.device.host.milliseconds(self._count(value))
        if kernel is None or (name not in self.options.forced and kernel.milliseconds >= here):
            return False
        self.met.add(name)
        made = fuse(layer, kernel, function)
        value.replace_all_uses_with(made)
        erase_dead(value, self._settled)
        source.replace_all_uses_with(made)
        layer.operation.erase()
        return True

    def _plain_softmax(self, value: ir.Value, source: ir.Value) -> None:
        *rows, columns = ir.RankedTensorType(value.type).shape
        site = self._softmax_site(rows, columns, self._layer(source, "softmax"), zeros=False)
        self._replace(value, source, site)

    def _replace(self, value: ir.Value, source: ir.Value, site: _Site) -> None:
        owner: Any = value.owner
        kernel = self._chosen(site, owner.opview)
        if kernel is None:
            self._settled |= between(value, source)
            return
        with ir.InsertionPoint(owner), owner.location:
            value.replace_all_uses_with(_function(source, site, kernel))
        erase_dead(value, self._settled)

    def _attention(self, op: qcc.AttentionOp) -> None:
        if self.has_step:
            stay(op, "its softmax stays with it: in @step it reads a cache, which the host has")
            return
        batch, heads, length, keys = score_shape(op)
        if OPEN in (heads, ir.RankedTensorType(op.key.type).shape[1]):
            stay(op, "its softmax stays with it: the number of its heads is open")
            return
        layer = self._layer(op.query, "softmax", own_layer(op))
        site = self._softmax_site([batch, heads, length], keys, layer, zeros=True)
        kernel = self._chosen(site, op)
        if kernel is not None:
            split_attention(op, lambda scores: _function(scores, site, kernel))

    def _softmax_site(
        self, rows: list[int], columns: int, layer: str, *, zeros: bool
    ) -> _Site:  # fmt: skip
        """An open number of columns is that of the tokens of @main, in @step too."""
        columns = self.options.tokens if columns == OPEN else columns
        form = Softmax.of(min(columns, MOST_COLUMNS), empty_rows=zeros)
        return _Site("softmax", form, self._product(rows), layer)

    def _norm(self, op: qcc.LayerNormOp | qcc.RmsNormOp) -> None:
        centred = isinstance(op, qcc.LayerNormOp)
        name, shape = NORMS[not centred], list(ir.RankedTensorType(op.input.type).shape)
        axes = ir.IntegerAttr(op.axes).value
        columns = shape[len(shape) - axes :]
        plain = all(
            each is None or isinstance(each.type, ir.RankedTensorType)
            for each in (op.weight, getattr(op, "bias", None))
        )
        if name not in self.options.wanted or OPEN in columns or not plain:
            return
        form = Norm.of(prod(columns), ir.FloatAttr(op.epsilon).value, centred=centred)
        rows = self._product(shape[: len(shape) - axes])
        site = _Site(name, form, rows, self._layer(op.input, name, owner_of(op.weight)))
        kernel = self._chosen(site, op)
        if kernel is not None:
            with ir.InsertionPoint(op), op.location:
                rows = _function(op.input, site, kernel)
                op.result.replace_all_uses_with(_scaled(op, rows, axes))
            op.operation.erase()

    # ---- kernels

    def _chosen(self, site: _Site, op: Any) -> FunctionKernel | None:
        """None where it stays on the host, with the reason."""
        self.met.add(site.name)
        name, columns = site.name, site.form.columns
        if columns >= MOST_COLUMNS:
            stay(op, f"{name} of rows of {columns} numbers: sums of {MOST_COLUMNS - 1} fit a word")
            return None
        kernel = self.kernels.of(site.form, name, site.rows)
        if kernel is None:
            stay(op, f"{name} needs more memory for tables, rows and stacks than there is")
            return None
        there = kernel.milliseconds(site.rows)
        here = self.options.device.host.milliseconds(site.rows * columns)
        if name not in self.options.forced and there >= here:
            stay(op, f"{name} takes {there:.2f} ms on DPUs, {here:.2f} ms here by the cost model")
            return None
        return kernel

    def _product(self, shape: list[int]) -> int:
        """Of sizes; open ones together are the tokens of a call."""
        fixed = prod(each for each in shape if each != OPEN)
        return fixed * (self.tokens if OPEN in shape else 1)

    def _count(self, value: ir.Value) -> int:
        return self._product(list(ir.RankedTensorType(value.type).shape))

    def _layer(self, source: ir.Value, name: str, otherwise: str = "") -> str:
        """A name after the layer that the function follows, of no other function here."""
        before = otherwise or layer_before(source)
        first = found = f"{before}.{name}" if before else name
        number = 2
        while found in self._layers:
            found, number = f"{first}_{number}", number + 1
        self._layers.add(found)
        return found


def _function(source: ir.Value, site: _Site, kernel: FunctionKernel) -> ir.Value:
    placed = FunctionOp(
        source, ir.StringAttr.get(site.name), ir.StringAttr.get(kernel.name),
        form_attribute(site.form), _number(kernel.rows), _number(kernel.dpus),
        ir.FloatAttr.get(ir.F64Type.get(), _error(site)), source.type,
    )  # fmt: skip
    placed.operation.attributes["layer"] = ir.StringAttr.get(site.layer)
    return placed.result


def _error(site: _Site) -> float:
    form = site.form
    if isinstance(form, Elementwise):
        return form.bound(SMOOTH[site.name])
    assert isinstance(form, Softmax | Norm)
    return form.error


def _scaled(op: Any, rows: ir.Value, axes: int) -> ir.Value:
    """The weight and bias of a norm, which are the host's, as those of a linear layer are."""
    weight, bias = op.weight, getattr(op, "bias", None)
    rank = ir.RankedTensorType(rows.type).rank
    given = [(each, range(rank - axes, rank)) for each in (weight, bias) if each is not None]
    if not given:
        return rows

    def body(number: ir.Value, *others: ir.Value) -> ir.Value:
        rest = iter(others)
        if weight is not None:
            number = arith.mulf(number, next(rest))
        return number if bias is None else arith.addf(number, next(rest))

    target = empty(rows, range(rank), ir.F32Type.get()), range(rank)
    return generic([(rows, range(rank)), *given], target, body)


def _name(op: Operation) -> str:
    return ir.StringAttr(op.attributes["sym_name"]).value if "sym_name" in op.attributes else ""


def _number(value: int) -> ir.IntegerAttr:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
