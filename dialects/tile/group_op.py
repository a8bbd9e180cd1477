"""The op of a kernel that is made of fused linalg and tensor ops."""

from typing import Any

from ..bindings import Operand, Result, ext, ir
from ..errors import QccError
from .dialect import Tile
from .group import GroupSchedule, illegal


class GroupOp(Tile.Operation, name="group", traits=[ir.IsIsolatedFromAboveTrait]):
    """
    A kernel that computes tensors, as the ops of its body do: linalg, tensor, arith and math.

    The body's arguments, called `arguments`, are tensors that are read and then sizes; each
    `tile.output` names a tensor that is written. `extents` has an array for each argument:
    sizes of a tensor, -1 - s where it is the size of argument s of type index. The parameters of
    the kernel are the tensors read, those written, and the sizes.
    """

    symbol: ir.StringAttr
    target: ir.StringAttr
    schedule: Any
    arguments: Any = ext.attribute(default_factory=lambda: ir.ArrayAttr.get([]))
    extents: Any = ext.attribute(default_factory=lambda: ir.ArrayAttr.get([]))
    body: ext.Region

    def verify_invariants(self) -> bool:
        block = self.body.blocks[0]
        if not len(block.arguments) == len(self.arguments) == len(self.extents):
            self.location.emit_error(
                f"tile.group: {len(self.arguments)} names and {len(self.extents)} extents for "
                f"{len(block.arguments)} arguments"
            )
            return False
        try:
            reasons = illegal(GroupSchedule.of(self.schedule), self.target.value)
        except (KeyError, TypeError, ValueError, QccError) as error:
            reasons = [f"the schedule has no valid {error}"]
        for reason in reasons:
            self.location.emit_error(f"tile.group: {reason}")
        return not reasons


class OutputOp(Tile.Operation, name="output"):
    """A tensor that the group writes, in the order of the kernel's parameters."""

    tensor: Operand[Any]


class PartOp(Tile.Operation, name="part", traits=[ext.Pure]):
    """A part of a packed value as the tensor that kernels read, in its stored order."""

    source: Operand[Any]
    part: ir.StringAttr
    tensor: Result[Any]


def outputs_of(group: Any) -> list[ir.Value]:
    ops = group.body.blocks[0].operations
    return [op.operands[0] for op in ops if op.operation.name == "tile.output"]
