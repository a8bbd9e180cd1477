"""Ops of the host: layers and functions on DPUs; sets of DPUs, transfers, launches."""

from math import prod
from typing import Any, Optional

from ..bindings import Operand, Result, ir
from ..errors import QccError
from ..formats import parse_spelling
from .device import device
from .dialect import ELEMENT_BYTES, Pim, dpus_of
from .function_forms import form_of
from .linear import refusal
from .row_functions import Norm


class LinearOp(Pim.Operation, name="linear"):
    """
    A `qcc.linear` whose input is rounded to `activation`, dynamically or in the attribute `range`,
    and whose sums `pim.kernel @kernel` computes: see IntegerLinear. `schedule` is that of the
    kernel with the rows, k and tokens of its problem; more tokens are several launches.
    """

    input: Operand[Any]
    weight: Operand[Any]
    kernel: ir.StringAttr
    weight_format: ir.StringAttr
    activation: ir.StringAttr
    schedule: Any
    result: Result[Any]
    bias: Optional[Operand[Any]] = None

    @property
    def place(self) -> tuple[str, str]:
        """The names of the layer and of its parameter."""
        attributes = self.operation.attributes
        owner: Any = self.weight.owner
        layer = ir.StringAttr(attributes["layer"]).value if "layer" in attributes else "pim.linear"
        return layer, ir.StringAttr(owner.attributes["symbol"]).value

    def verify_invariants(self) -> bool:
        try:
            weight, activation = (
                parse_spelling(each.value) for each in (self.weight_format, self.activation)
            )
            reason = refusal(weight, "weights") or refusal(activation, "activations")
        except QccError as error:
            reason = error.what
        if reason:
            self.location.emit_error(f"pim.linear: {reason}")
        return reason is None


class FunctionOp(Pim.Operation, name="function"):
    """
    The function `function` of each number, or of each row, of a tensor of f32, by the integers of
    `form`: see function_forms.py.

    `dpus` DPUs take `rows` each in a launch of `pim.kernel @kernel`; more are several launches.
    `error` is the largest difference to the function: of any number, or as row_functions.py says.
    """

    input: Operand[Any]
    function: ir.StringAttr
    kernel: ir.StringAttr
    form: Any
    rows: ir.IntegerAttr
    dpus: ir.IntegerAttr
    error: Any
    result: Result[Any]

    @property
    def place(self) -> tuple[str, str]:
        """The names of the layer and of its function."""
        return ir.StringAttr(self.operation.attributes["layer"]).value, self.function.value

    def verify_invariants(self) -> bool:
        reason = self._refusal()
        if reason:
            self.location.emit_error(f"pim.function: {reason}")
        return not reason

    def _refusal(self) -> str:
        if self.input.type != self.result.type or "layer" not in self.operation.attributes:
            return "it takes and gives one type, and has a layer"
        if self.rows.value < 1 or self.dpus.value < 1:
            return f"{self.rows.value} rows on each of {self.dpus.value} DPUs; one at least"
        try:
            form = form_of(self.form)
        except QccError as error:
            return error.what
        shape, columns = ir.RankedTensorType(self.input.type).shape, form.columns
        if isinstance(form, Norm) and not any(
            columns == prod(shape[i:]) for i in range(len(shape))
        ):
            return f"{self.input.type} has no rows of {columns} numbers"
        return ""


class DeviceOp(Pim.Operation, name="device"):
    """`dpu_alloc`: some DPUs of a profile of device.py."""

    profile: ir.StringAttr
    dpus: Result[Any]

    def verify_invariants(self) -> bool:
        try:
            most = device(self.profile.value).dpus
        except QccError as error:
            self.location.emit_error(f"pim.device: {error.what}; {error.next_step}")
            return False
        if not 1 <= dpus_of(self.dpus.type) <= most:
            self.location.emit_error(f"pim.device: {self.dpus.type}; the machine has {most} DPUs")
            return False
        return True


class ShardOp(Pim.Operation, name="shard"):
    """
    symbol of DPU d [i…] = source[map(d, i…)], zero where the map leaves the source.

    One transfer of equal lengths, `shard` the type of an array of one DPU: `dpu_push_xfer`.
    """

    dpus: Operand[Any]
    source: Operand[Any]
    symbol: ir.StringAttr
    shard: ir.TypeAttr
    map: ir.AffineMapAttr

    def verify_invariants(self) -> bool:
        return _whole_units(self, self.shard.value) and _map_joins(self, self.source.type)


class BroadcastOp(Pim.Operation, name="broadcast"):
    """symbol of DPU d = source, for every d: `dpu_broadcast_to`."""

    dpus: Operand[Any]
    source: Operand[Any]
    symbol: ir.StringAttr

    def verify_invariants(self) -> bool:
        return _whole_units(self, self.source.type)


class LaunchOp(Pim.Operation, name="launch"):
    """Run `pim.kernel @kernel` on all DPUs, on what their MRAM holds, and wait: `dpu_launch`."""

    dpus: Operand[Any]
    kernel: ir.StringAttr


class GatherOp(Pim.Operation, name="gather"):
    """result[map(d, i…)] = symbol of DPU d [i…] wherever the map stays inside: one transfer."""

    dpus: Operand[Any]
    symbol: ir.StringAttr
    shard: ir.TypeAttr
    map: ir.AffineMapAttr
    result: Result[Any]

    def verify_invariants(self) -> bool:
        return _whole_units(self, self.shard.value) and _map_joins(self, self.result.type)


def _map_joins(op: Any, array: ir.Type) -> bool:
    """Verifier part: the map takes a DPU and the indices of its shard to those of the array."""
    map_, inputs = op.map.value, 1 + ir.RankedTensorType(op.shard.value).rank
    if map_.n_dims == inputs and len(map_.results) == ir.RankedTensorType(array).rank:
        return True
    op.location.emit_error(
        f"{op.operation.name}: {map_} does not take a DPU and {inputs - 1} indices to {array}"
    )
    return False


def _whole_units(op: Any, type_: ir.Type) -> bool:
    """Verifier part: what each DPU gets is a multiple of 8 bytes."""
    array = ir.RankedTensorType(type_)
    width = ELEMENT_BYTES.get(str(array.element_type))
    if width is None or not array.has_static_shape or prod(array.shape) * width % 8:
        op.location.emit_error(
            f"{op.operation.name}: {array} is no multiple of 8 bytes for each DPU; pad it"
        )
        return False
    return True
