"""
Tasks of the kernels of CUDA targets, and the programs of one layer that try them.

A task says what the search depends on. Layers that differ in bias, or in the types around what is
multiplied, are one task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ... import __version__
from ...autotune.task import Task
from ...codegen.cuda.program import CudaCode
from ...dialects.bindings import ir
from ...dialects.context import make_context
from ...dialects.knobs import Value
from ...dialects.tile import (
    attention_space,
    conv_space,
    matmul_space,
    space,
)
from ...dialects.tile import schedule as linear_schedule
from ...dialects.tile.attention_problem import FEW_ROWS, AttentionProblem, Rows
from ...dialects.tile.conv_problem import ConvProblem, Window
from ...dialects.tile.matmul_problem import MatmulProblem
from ...dialects.tile.problem import LinearProblem
from ...passes.choosers import Choosers
from ...passes.round_operands import Rounding, round_operands
from ..cuda.build import build_cuda
from ..targets import Target
from .layer_data import LayerData
from .one_attention import OneAttention
from .one_convolution import OneConvolution
from .one_linear import OneLinear
from .one_matmul import OneMatmul

CODES = {"i8": "int8", "i4": "int4", "ui4": "pact4", "f8E4M3FN": "fp8_e4m3"}
"""The format of activations whose codes a linear layer multiplies, by the type of its operands."""
IMAGE_CODES = {
    "i8": "int8<group=tensor>",
    "i4": "int4<group=tensor>",
    "ui4": "pact4",
}
"""Likewise of a convolution."""
PAIRS = {"taps": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
"""Of a window, (rows, columns), with what a task leaves out."""
HALF_UNIT = {"f16": 2.0**-11, "bf16": 2.0**-8}
Choose = Callable[[Any, str], Any]


class Layer(Protocol):
    """A program of one layer, to be built with any schedule."""

    def code(self, choose: Choose, target: Target, operands: str) -> CudaCode:
        """`choose` is asked for the schedule of the one kernel that is tuned."""
        ...

    def data(self, target: Target, operands: str) -> LayerData: ...

    def excerpt(self, problem: Any, schedule: Any) -> Layer:
        """A few blocks of it, for the emulator."""
        ...


@dataclass(frozen=True, slots=True)
class ModuleLayer:
    """A layer that is compiled as a model is: by the passes of its target."""

    family: str
    one: OneLinear | OneConvolution

    def code(self, choose: Choose, target: Target, operands: str) -> CudaCode:
        with make_context(), ir.Location.unknown():
            module = self._module(target, operands)
            return build_cuda(module, target, replace(Choosers(), **{self.family: choose}))

    def data(self, target: Target, operands: str) -> LayerData:
        with make_context(), ir.Location.unknown():
            module = self._module(target, operands)
            build_cuda(module, target)  # gives the weight the order in which kernels read it
            return self.one.data(module, HALF_UNIT[operands])

    def excerpt(self, problem: Any, schedule: Any) -> ModuleLayer:
        if isinstance(self.one, OneConvolution):
            return replace(self, one=self.one.excerpt(problem, schedule))
        return replace(self, one=_linear_excerpt(self.one, schedule))

    def _module(self, target: Target, operands: str) -> ir.Module:
        """In the current context, rounded as in a compiled model."""
        module = ir.Module.parse(self.one.text)
        round_operands(Rounding(operands, target.machine))(module.operation, None)
        return module


def _linear_excerpt(layer: OneLinear, schedule: linear_schedule.Schedule) -> OneLinear:
    """Two blocks each way, and of K a few turns of the ring of stages."""
    steps = schedule.splits * (schedule.stages + 1)
    return replace(
        layer,
        n=min(layer.n, 2 * schedule.channels),
        k=min(layer.k, steps * schedule.depth),
        m=min(layer.m, 2 * schedule.tokens),
    )


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """Attention over stored keys and values: what comes before is no part of it."""

    one: OneAttention

    def code(self, choose: Choose, target: Target, operands: str) -> CudaCode:
        one = self._of(operands)
        return one.code(choose(one.problem, target.machine), target.machine)

    def data(self, target: Target, operands: str) -> LayerData:
        return self._of(operands).data()

    def excerpt(self, problem: Any, schedule: Any) -> AttentionLayer:
        return AttentionLayer(self.one.excerpt(schedule))

    def _of(self, operands: str) -> OneAttention:
        p = self.one.problem
        keys, values_ = (
            each if each.spelling else replace(each, element=operands)
            for each in (p.keys, p.values)
        )
        made = replace(
            p, keys=keys, values=values_, query=operands, result=operands, operand=operands
        )
        return replace(self.one, problem=made)


def device_text(machine: str, gpu: str = "") -> str:
    return f"{machine}, {gpu or 'no GPU'}"


def _task(kernel: str, sizes: dict[str, Value], formats: list[str], device: str) -> Task:
    spelled = " x ".join(filter(None, formats))
    return Task(kernel, sizes, spelled, device, f"qcc {__version__}")


def linear_task(problem: LinearProblem, device: str, context: int = 0) -> Task:
    held = problem.activation if problem.memory == problem.activation in HALF_UNIT else ""
    activations = problem.blocks or CODES.get(problem.activation, held)
    sizes: dict[str, Value] = {"n": problem.n, "k": problem.k, "tokens": problem.tokens}
    return _task(space.KERNEL, sizes, [problem.weight, activations], device)


def linear_layer(task: Task) -> Layer:
    n, k, tokens = (int(task.problem[name]) for name in ("n", "k", "tokens"))
    weights, _, activations = task.format.partition(" x ")
    if activations in HALF_UNIT:
        return ModuleLayer("linear", OneLinear(n, k, tokens, weights, held=activations))
    return ModuleLayer("linear", OneLinear(n, k, tokens, weights, activations))


def conv_task(problem: ConvProblem, device: str, context: int = 0) -> Task:
    window = problem.window
    sizes: dict[str, Value] = {"channels": window.channels, "outputs": window.outputs,
                               "groups": window.groups, "pixels": problem.pixels}  # fmt: skip
    for name, usual in PAIRS.items():
        rows, columns = getattr(window, name)
        if (rows, columns) != usual:
            sizes[name] = f"{rows}x{columns}"
    if problem.blocks is not None:  # of which there are whole blocks
        sizes["images"], _ = problem.blocks
    activations = IMAGE_CODES.get(problem.activation, "")
    return _task(conv_space.KERNEL, sizes, [problem.weight, activations], device)


def conv_layer(task: Task) -> Layer:
    pairs = {name: _pair(task.problem.get(name, ""), usual) for name, usual in PAIRS.items()}
    channels, outputs, groups, pixels = (
        int(task.problem[name]) for name in ("channels", "outputs", "groups", "pixels")
    )
    window = Window(channels, outputs, **pairs, groups=groups)
    weights, _, activations = task.format.partition(" x ")
    images = int(task.problem.get("images", 1))
    return ModuleLayer("conv2d", OneConvolution(window, pixels, weights, activations, images))


def _pair(text: Value, usual: tuple[int, int]) -> tuple[int, int]:
    """
    >>> _pair("3x1", (1, 1)), _pair("", (1, 1))
    ((3, 1), (1, 1))
    """
    rows, _, columns = str(text).partition("x")
    return (int(rows), int(columns)) if text else usual


def attention_task(problem: AttentionProblem, device: str, context: int) -> Task:
    """`context` are the keys that few rows see; many are a prompt, which sees itself."""
    few = problem.rows <= FEW_ROWS
    keys = max(context, 1) if few else problem.rows // problem.group
    sizes: dict[str, Value] = {
        "depth": problem.keys.depth, "value_depth": problem.values.depth, "group": problem.group,
        "rows": problem.rows, "planes": problem.planes, "causal": int(problem.causal), "keys": keys,
    }  # fmt: skip
    formats = [rows.spelling or "" for rows in (problem.keys, problem.values)]
    return _task(attention_space.KERNEL, sizes, formats, device)


def attention_layer(task: Task) -> Layer:
    sizes = {name: int(size) for name, size in task.problem.items()}
    first, _, second = task.format.partition(" x ")
    keys = Rows.of("key", sizes["depth"], first or None, "f16")
    values_ = Rows.of("value", sizes["value_depth"], second or None, "f16")
    problem = AttentionProblem(
        keys, values_, sizes["depth"] ** -0.5, sizes["group"], sizes["rows"], sizes["planes"],
        causal=bool(sizes["causal"]),
    )  # fmt: skip
    return AttentionLayer(OneAttention(problem, sizes["keys"]))


@dataclass(frozen=True, slots=True)
class MatmulLayer:
    """A product of two activations; their types say what is multiplied."""

    one: OneMatmul

    def code(self, choose: Choose, target: Target, operands: str) -> CudaCode:
        return self.one.code(choose(self.one.problem, target.machine), target)

    def data(self, target: Target, operands: str) -> LayerData:
        return self.one.data()

    def excerpt(self, problem: Any, schedule: Any) -> MatmulLayer:
        return MatmulLayer(self.one.excerpt(schedule))


def matmul_task(problem: MatmulProblem, device: str, context: int = 0) -> Task:
    p = problem
    sizes: dict[str, Value] = {
        "batch": p.batch, "rows": p.rows, "depth": p.depth, "columns": p.columns,
    }  # fmt: skip
    return _task(matmul_space.KERNEL, sizes, [p.left, p.right], device)


def matmul_layer(task: Task) -> Layer:
    left, right = task.format.split(" x ")
    operand = next((kind for kind in (left, right) if kind in HALF_UNIT), "f16")
    sizes = {name: int(size) for name, size in task.problem.items()}
    made = MatmulProblem(left=left, right=right, result=operand, operand=operand, **sizes)
    return MatmulLayer(OneMatmul(made))
