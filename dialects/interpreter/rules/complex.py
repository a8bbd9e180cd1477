"""`complex`: element by element; complex<f32> is held as complex64, complex<f64> as complex128."""

import numpy as np

from ...bindings import ir
from ..element_types import DTYPES, Array
from ..frame import Frame, Rule
from ..program import Step
from .arith import elementwise


def create(_step: Step, operands: list[Array], _frame: Frame) -> Array:
    real, imaginary = np.broadcast_arrays(*operands)
    made = np.empty(real.shape, np.result_type(real.dtype, np.complex64))
    made.real, made.imag = real, imaginary
    return made


def constant(step: Step, _operands: list[Array], _frame: Frame) -> Array:
    parts = [ir.FloatAttr(part).value for part in ir.ArrayAttr(step.op.attributes["value"])]
    return np.asarray(complex(*parts), DTYPES[str(step.op.results[0].type)])


RULES: dict[str, Rule] = {
    "complex.abs": elementwise(np.abs),
    "complex.add": elementwise(np.add),
    "complex.angle": elementwise(np.angle),
    "complex.conj": elementwise(np.conj),
    "complex.constant": constant,
    "complex.create": create,
    "complex.div": elementwise(np.divide),
    "complex.exp": elementwise(np.exp),
    "complex.im": elementwise(np.imag),
    "complex.mul": elementwise(np.multiply),
    "complex.neg": elementwise(np.negative),
    "complex.re": elementwise(np.real),
    "complex.sub": elementwise(np.subtract),
}
