"""
The kernel of a linear layer, over tiles.

    y = qcc.linear x, w : !qcc.packed<tensor<NxKxf32>, "int4<group=128>">
      =>  tile.kernel { pipeline over K { copy x, codes, scales; steps { decode, load, mma,
                        rescale } } combine; map; store }

linear_writer.py writes its body, tensor_linear_writer.py that of kernels whose sums are in tensor
memory.
"""

from __future__ import annotations

from ..dialects import tile
from ..dialects.bindings import ir
from ..dialects.tile.launch import Launch
from ..dialects.tile.problem import LinearProblem, checked
from ..dialects.tile.schedule import Schedule
from .linear_writer import LinearWriter
from .tensor_linear_writer import TensorLinearWriter


def linear_kernel(
    problem: LinearProblem, schedule: Schedule, name: str, target: str = "sm_80"
) -> Launch:
    """Write `tile.kernel @name` at the insertion point; what the host must launch."""
    kind = TensorLinearWriter if schedule.record.in_tensor_memory else LinearWriter
    writer = kind(checked(problem), schedule)
    kinds = writer.argument_types()
    names = ir.ArrayAttr.get([ir.StringAttr.get(each) for each in kinds])
    kernel = tile.KernelOp(
        ir.StringAttr.get(name), ir.StringAttr.get(target), schedule.attribute(), names
    )
    block = kernel.body.blocks.append(*kinds.values())
    with ir.InsertionPoint(block):
        writer.write(dict(zip(kinds, block.arguments, strict=True)))
    return Launch.of(kernel)
