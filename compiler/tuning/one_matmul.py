"""A program of one product of two activations, to be tried by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...codegen.cuda.program import CudaCode
from ...dialects.bindings import ir
from ...dialects.context import make_context
from ...dialects.tile.matmul_problem import MatmulProblem, MatmulSchedule
from ...passes.choosers import Choosers
from ..cuda.build import build_cuda
from ..element_types import numpy_dtype
from ..targets import Target
from .layer_data import HALF_ULP, LayerData

UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8, "f32": HALF_ULP}
BLOCKS = 2
"""Along rows, columns and the batch, of what an excerpt has."""


@dataclass(frozen=True, slots=True)
class OneMatmul:
    problem: MatmulProblem

    @property
    def text(self) -> str:
        p = self.problem
        shapes = {
            "left": (p.batch, p.rows, p.depth),
            "right": (p.batch, p.depth, p.columns),
            "result": (p.batch, p.rows, p.columns),
        }
        left, right, result = (
            f"tensor<{'x'.join(map(str, shape))}x{getattr(p, name)}>"
            for name, shape in shapes.items()
        )
        return f"""
        func.func @main(%a: {left}, %b: {right}) -> {result} {{
          %y = "qcc.matmul"(%a, %b) {{layer = "matmul.0"}} : ({left}, {right}) -> {result}
          return %y : {result}
        }}"""

    def code(self, schedule: MatmulSchedule, target: Target) -> CudaCode:
        with make_context(), ir.Location.unknown():
            module = ir.Module.parse(self.text)
            return build_cuda(module, target, Choosers(matmul=lambda *_: schedule))

    def data(self) -> LayerData:
        """Random factors; sums of fp32 in any order are right."""
        p, rng = self.problem, np.random.default_rng(0)
        left, right = (
            rng.standard_normal(shape, np.float32).astype(numpy_dtype(kind))
            for shape, kind in (
                ((p.batch, p.rows, p.depth), p.left),
                ((p.batch, p.depth, p.columns), p.right),
            )
        )
        wide = left.astype(np.float64), right.astype(np.float64)
        expected = wide[0] @ wide[1]
        rounded = UNIT[p.operand] * [p.left, p.right].count("f32") * 1.01
        bound = (rounded + (p.depth + 4) * HALF_ULP) * (np.abs(wide[0]) @ np.abs(wide[1]))
        bound += UNIT[p.result] * np.abs(expected) + 2.0**-24
        return LayerData([left, right], {}, expected, bound)

    def excerpt(self, schedule: MatmulSchedule) -> OneMatmul:
        """A few blocks, and of k a few turns of the pipeline."""
        p, s = self.problem, schedule
        small = replace(
            p,
            batch=min(p.batch, BLOCKS),
            rows=min(p.rows, BLOCKS * s.block_rows),
            columns=min(p.columns, BLOCKS * s.block_columns),
            depth=min(p.depth, (s.stages + 1) * s.depth),
        )
        return OneMatmul(small)
