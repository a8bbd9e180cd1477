"""`affine`: maps applied to index values."""

import numpy as np

from ...affine import evaluate
from ...bindings import ir
from ..element_types import Array
from ..frame import Frame, Rule
from ..program import Step


def apply(step: Step, operands: list[Array], _frame: Frame) -> Array:
    """The one result of the map at its operands, dimensions before symbols."""
    affine_map = ir.AffineMapAttr(step.op.attributes["map"]).value
    dimensions, symbols = operands[: affine_map.n_dims], operands[affine_map.n_dims :]
    return np.asarray(evaluate(affine_map.results[0], dimensions, symbols), np.int64)


RULES: dict[str, Rule] = {"affine.apply": apply}
