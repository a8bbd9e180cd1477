"""
`linalg`: `generic` on arrays, whatever its maps; named ops are generalized before.

The body is run once on arrays over a box of the iteration space, not once a point.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...bindings import ir
from ..affine import Box, Map
from ..contraction import contract, fits_matmul, match_contraction, operand_cost
from ..element_types import Array
from ..folds import Reduction, plan_folds, run_folds
from ..frame import Frame, Rule
from ..iteration import boxes, space_extents, tile_sizes
from ..program import Code, Step

BODY_LIMIT = 1 << 20  # elements of a temporary: 4 MB of f32, a few of which live at once
OPERAND_LIMIT = 1 << 24  # elements of the operands of one matrix product: 64 MB of f32


@dataclass(frozen=True, slots=True)
class Nest:
    """A loop nest: its body, its maps (inputs first), which axes are reductions, its arrays."""

    code: Code
    maps: list[Map]
    is_reduction: list[bool]
    extents: tuple[int, ...]
    inputs: list[Array]
    outputs: list[Array]

    def read(self, box: Box) -> list[Array]:
        return [m.read(array, box) for m, array in zip(self.maps, self.inputs, strict=False)]

    def targets(self, box: Box) -> list[Array]:
        """Writeable views of the outputs, of length 1 along the reduction axes."""
        maps = self.maps[len(self.inputs) :]
        return [m.view(a, box, writeable=True) for m, a in zip(maps, self.outputs, strict=True)]

    def boxes(self, *, one_point: bool = False) -> Iterator[Box]:
        """Boxes of bounded volume; of one point along the reduction axes where asked."""
        pairs = zip(self.extents, self.is_reduction, strict=True)
        start = [1 if one_point and reduces else extent for extent, reduces in pairs]
        tile = tile_sizes(start, lambda s: int(np.prod(s, dtype=np.int64)), BODY_LIMIT)
        return boxes(self.extents, tile)


def generic(step: Step, operands: list[Array], frame: Frame) -> list[Array]:
    nest = loop_nest(step, operands)
    code, inputs = nest.code, len(nest.inputs)
    folds = any(r and e > 1 for e, r in zip(nest.extents, nest.is_reduction, strict=True))
    if not folds:
        run_pointwise(nest, frame)
    elif (found := match_contraction(code, inputs)) and fits_matmul(
        found, nest.maps, nest.is_reduction, nest.outputs[0]
    ):
        tile = tile_sizes(nest.extents, lambda s: operand_cost(nest.maps, s), OPERAND_LIMIT)
        for box in boxes(nest.extents, tile):
            (target,) = nest.targets(box)
            target += contract(found, code, frame, nest.read(box), nest.is_reduction)
    elif plan := plan_folds(code, inputs):
        for box in nest.boxes():
            inner, over = frame.over(box.indices()), Reduction(box, nest.is_reduction)
            targets = nest.targets(box)
            write(targets, run_folds(plan, inner, nest.read(box), targets, over))
    else:
        run_pointwise(nest, frame)
    return nest.outputs


def loop_nest(step: Step, operands: list[Array]) -> Nest:
    attributes = step.op.attributes
    inputs, _ = ir.DenseI32ArrayAttr(attributes["operandSegmentSizes"])
    maps = [Map(attribute) for attribute in attributes["indexing_maps"]]
    is_reduction = ["reduction" in str(kind) for kind in attributes["iterator_types"]]
    extents = space_extents(maps, operands)
    code = step.blocks[0]
    outputs = [
        fresh(array, m, extents, read=is_read(code, argument))
        for array, m, argument in zip(
            operands[inputs:], maps[inputs:], code.arguments[inputs:], strict=True
        )
    ]
    return Nest(code, maps, is_reduction, extents, operands[:inputs], outputs)


def is_read(code: Code, value: int) -> bool:
    return value in code.yields or any(value in step.reads for step in code.steps)


def fresh(array: Array, map_: Map, extents: Sequence[int], *, read: bool) -> Array:
    """An array to write: a copy, unless each element is written and none is read before."""
    covered = [extents[axis] for axis in map_.axes if axis is not None]
    if read or len(set(map_.axes)) != array.ndim or covered != list(array.shape):
        return np.array(array, order="C")
    return np.empty(array.shape, array.dtype)


def run_pointwise(nest: Nest, frame: Frame) -> None:
    """Boxes of one point along the reductions, in order: each sees what the last one wrote."""
    for box in nest.boxes(one_point=True):
        targets = nest.targets(box)
        arguments = nest.read(box) + [np.array(target) for target in targets]
        write(targets, frame.over(box.indices()).run(nest.code, arguments))


def write(targets: Sequence[Array], results: Sequence[Array]) -> None:
    for target, result in zip(targets, results, strict=True):
        target[...] = result


def index(step: Step, _operands: list[Array], frame: Frame) -> Array:
    return frame.indices[ir.IntegerAttr(step.op.attributes["dim"]).value]


RULES: dict[str, Rule] = {
    "linalg.generic": generic,
    "linalg.index": index,
}
