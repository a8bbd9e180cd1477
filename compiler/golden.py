"""
Golden inputs and outputs: made by the reference interpreter, replayed by `qcc verify`.

Inputs come from a seeded generator and the signature; outputs from executing the stored IR in
NumPy on the stored, decoded weights. What they check is the code that runs, not the formats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codegen.cuda.program import CudaCode
from ..codegen.upmem.program import UpmemCode
from ..dialects import qcc
from ..dialects.bindings import Operation, ir
from ..dialects.cpu.x_bytes import MOST, X_BYTES_ATTRIBUTE
from ..dialects.formats import parse_spelling
from ..dialects.interpreter import interpret
from ..dialects.interpreter.pim_function import function_rule
from ..dialects.interpreter.pim_linear import linear_rule
from ..dialects.regions import walk
from .artifact import ArtifactWriter
from .backends import start
from .layers import entry_function, index_limit
from .manifest import Signature, Value
from .pack import decoded_parameter
from .precisions import Program
from .replay import TOLERANCE, output_errors, reproduced_names
from .running import Running
from .targets import Target
from .tensor_layout import pack_tensors
from .upmem.running import placed_layers

DRAWN_LIMIT = 1 << 26  # stored weight bytes, up to which executing a program again is cheap
DRAWS = 8
ERROR_FACTOR = -8  # to the other side of the exact sums, and further than errors go
HALF_FACTOR = 2.0**10
"""Attention multiplies weights of half precision on a GPU: with ERROR_FACTOR, 2^-11 of a value."""
MARGIN = 4
ACROSS_TOKENS = 5e-2
"""
Between a step and the whole sequence, where a scale is that of all tokens, or where kernels of half
precision come before a rounding: those for few rows and those for many carry some values across.
"""
UNCHECKED_STEP = (
    "compare it with the original on inputs of your own, or round activations to a wider format"
)
SPACING = {"f16": 2.0**-9, "bf16": 2.0**-6}
"""Two steps between neighbours, relative to the largest value of a tensor."""
TWO_BYTES = SPACING["f16"]
"""Where layers take two bytes of x, which are at least as exact."""
_SMALL = {0: 2}
_LIMITS = {"uint8": 256}
"""Of integers that index nothing: pixels are all bytes."""
_SEQUENCE = 6


def golden_inputs(
    signature: Signature, module: ir.Module, seed: int | Sequence[int], positive: bool = False
) -> list[np.ndarray]:
    """
    Normal floats, tokens inside their tables, any bytes, masks; symbolic sizes small but not equal.

    With `positive`, the magnitudes of the floats, of which there are logarithms and roots.
    """
    rng = np.random.default_rng(seed)
    sizes: dict[str, int] = {}
    for index, (name, extent) in enumerate(sorted(signature.dims.items())):
        wanted = _SMALL.get(index, _SEQUENCE + index)
        sizes[name] = min(max(wanted, extent.min), extent.max or wanted)
    arguments = entry_function(module).regions[0].blocks[0].arguments
    drawn = [
        _array(value, sizes, index_limit(argument) or _LIMITS.get(value.dtype, 2), rng)
        for value, argument in zip(signature.inputs, arguments, strict=True)
    ]
    return [np.abs(each) if positive and each.dtype.kind in "fV" else each for each in drawn]


@dataclass(frozen=True, slots=True)
class Golden:
    """
    Inputs of a program, what the reference interpreter makes of them, and the errors that a replay
    may show, whole and token by token, and the least that they would be for the best inputs; then
    what the compiled code makes of them, where it was run, and what it makes bit for bit.
    """

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]
    tolerance: float
    step_tolerance: float
    floor: float = TOLERANCE
    whole: list[np.ndarray] | None = None
    stepped: list[np.ndarray] | None = None
    reproduced: list[np.ndarray] | None = None

    def errors(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Of the code on whole sequences."""
        rows = [] if self.whole is None else output_errors(names, self.outputs, self.whole)
        if self.reproduced is not None:
            rows += output_errors(reproduced_names(names), self.outputs, self.reproduced)
        return rows

    @property
    def step_error(self) -> float:
        """How far computing token by token is from the whole sequence; relative."""
        if self.whole is None or self.stepped is None:
            return math.inf
        return _largest(self.whole, self.stepped)

    @property
    def steps_agree(self) -> bool:
        """Whether computing token by token gives what the whole sequence gives."""
        return self.comparable and self.step_error <= self.step_tolerance

    @property
    def comparable(self) -> bool:
        """Whether a replay can fail: outputs of zeros, say, would pass with a tolerance of 1."""
        return self.tolerance < 1 and not self.hidden

    @property
    def hidden(self) -> bool:
        """Whether some output has no finite number, which any other one would equal."""
        floats = [each for each in self.outputs if each.size and each.dtype.kind in "fV"]
        return not all(np.isfinite(each.astype(np.float32)).any() for each in floats)

    @property
    def reason(self) -> str:
        """Why no replay is comparable; empty where it is."""
        if self.comparable:
            return ""
        if self.hidden:
            return "an output holds no finite number for the inputs drawn, nor for positive ones"
        if math.isinf(self.tolerance):
            return "another order of the same fp32 sums turns numbers into NaN or infinities"
        return (
            f"another order of the same fp32 sums moves outputs by {self.tolerance / MARGIN:.2g} "
            "of their largest value, across boundaries of the formats that activations are "
            "rounded to"
        )

    @property
    def next_step(self) -> str:
        """For someone whose golden outputs were not stored."""
        return "" if self.comparable else UNCHECKED_STEP

    @property
    def doubt(self) -> float:
        """How far these inputs are from telling right code from wrong; `floor` at best."""
        doubts = [self.tolerance, self.floor, math.inf if self.hidden else 0.0]
        if self.whole is not None:
            doubts.append(_largest(self.outputs, self.whole))
        if self.stepped is not None and not self.steps_agree:
            doubts.append(_largest(self.outputs, self.stepped))
        return max(doubts)


def add_golden(
    writer: ArtifactWriter,
    programs: Sequence[Program],
    signature: Signature,
    seed: int,
    target: Target | None,
) -> list[Golden]:
    """
    Store golden inputs, and the interpreter's outputs of each program. The code is run as for
    `target`, if there is one.

    Weights are decoded from the file being written, each where the program needs it. Some inputs
    put a rounded activation so near a boundary of its format that the order of a sum decides; of a
    few draws for a model of moderate size, those are taken on which the least depends on it. A
    larger one gets further draws only where the outputs of one would check nothing.
    """
    whole = programs[0]
    size = sum(spec.nbytes for parameter in whole.parameters for spec in parameter.specs())
    best: list[Golden] = []
    with ExitStack() as stack:
        codes = [
            stack.enter_context(closing(start(program.code, target, writer.tensor)))
            if target is not None
            else None
            for program in programs
        ]
        for draw in range(DRAWS):
            inputs = golden_inputs(signature, whole.module, (seed, draw), positive=draw % 2 == 1)
            found = [
                _golden(writer, program, code, inputs)
                for program, code in zip(programs, codes, strict=True)
            ]
            if not best or _doubt(found) < _doubt(best):
                best = found
            if all(golden.doubt == golden.floor for golden in best):
                break
            if size >= DRAWN_LIMIT and all(golden.comparable for golden in best):
                break
    writer.add("golden/inputs.safetensors", pack_tensors(_numbered(best[0].inputs)))
    for program, golden in zip(programs, best, strict=True):
        if golden.comparable:
            assert program.precision.outputs is not None
            writer.add(program.precision.outputs, pack_tensors(_numbered(golden.outputs)))
    return best


def _doubt(goldens: Sequence[Golden]) -> float:
    return max(golden.doubt for golden in goldens)


def _golden(
    writer: ArtifactWriter, program: Program, code: Running | None, inputs: list[np.ndarray]
) -> Golden:
    floor = max(_floors(program.module.operation))
    outputs, tolerance = _reference(writer, program, inputs, floor)
    roundings = list(_roundings(program.module.operation))
    across = any(map(_scales_tensors, roundings)) or (floor > TOLERANCE and len(roundings) > 0)
    placed = program.code.plan.layers if isinstance(program.code, UpmemCode) else ()
    across |= any(layer.linear.scales_tensors for layer in placed)
    tolerances = (tolerance, max(tolerance, ACROSS_TOKENS) if across else tolerance)
    if code is None:
        return Golden(inputs, outputs, *tolerances, floor)
    stepped = code.in_two_steps(inputs[0]) if code.steps else None
    whole, reproduced = code.call(inputs), code.reproduced(inputs)
    return Golden(inputs, outputs, *tolerances, floor, whole, stepped, reproduced)


def _reference(
    writer: ArtifactWriter, program: Program, inputs: list[np.ndarray], floor: float
) -> tuple[list[np.ndarray], float]:
    """
    The interpreter's outputs, and the tolerance.

    Without rounded activations two correct executions differ by the order of fp32 sums. Where
    activations are rounded, to a format or to half precision, such a difference can carry a value
    across a boundary and so change it by a whole step: whether it does here is seen with other
    errors of sums. Below `floor` no errors are told apart.
    """
    by_symbol = {parameter.symbol: parameter for parameter in program.parameters}
    whole = program.module.operation
    rules, rounded = {}, any(_roundings(whole)) or any(_halves(whole))
    if isinstance(program.code, UpmemCode):
        rules["pim.linear"] = linear_rule(placed_layers(program.code.plan, writer.tensor))
        rules["pim.function"] = function_rule()
        rounded = True

    attention_factor = HALF_FACTOR if isinstance(program.code, CudaCode) else 1.0

    def outputs(error_factor: float) -> list[np.ndarray]:
        return interpret(
            program.module,
            inputs,
            lambda symbol: decoded_parameter(by_symbol[symbol], writer.tensor),
            error_factor=error_factor,
            attention_factor=attention_factor,
            rules=rules,
        )

    plain = outputs(1)
    if not rounded:
        return plain, floor
    moved = _largest(plain, outputs(ERROR_FACTOR))
    return plain, floor if moved <= floor else MARGIN * moved


def _largest(expected: Sequence[np.ndarray], actual: Sequence[np.ndarray]) -> float:
    errors = output_errors([""] * len(expected), expected, actual)
    return max((error["max_rel_error"] for error in errors), default=0.0)


def _roundings(op: Operation) -> Iterator[qcc.QuantizeOp]:
    """Where activations are rounded to a format inside `op`."""
    return (child for child in walk(op) if isinstance(child, qcc.QuantizeOp))


def _halves(op: Operation) -> Iterator[str]:
    """The half-precision types that values are rounded to inside `op`."""
    casts = (child for child in walk(op) if child.operation.name == "arith.truncf")
    return (element for cast in casts if (element := str(cast.results[0].type)) in SPACING)


def _floors(op: Operation) -> Iterator[float]:
    """The errors below which the kernels for what is inside `op` are not told apart."""
    yield TOLERANCE
    yield from (SPACING[each] for each in _halves(op))
    for child in walk(op):
        attributes = child.operation.attributes
        if X_BYTES_ATTRIBUTE in attributes and attributes[X_BYTES_ATTRIBUTE].value < MOST:
            yield TWO_BYTES


def _scales_tensors(rounding: qcc.QuantizeOp) -> bool:
    """Whether a scale depends on all values of a tensor, which in a step are other values."""
    spelling = qcc.format_spelling(rounding.codes.type)
    dynamic = qcc.tensor_range_of(rounding) is None
    return dynamic and spelling is not None and parse_spelling(spelling).takes_range


def _numbered(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(index): array for index, array in enumerate(arrays)}


def _array(value: Value, sizes: dict[str, int], limit: int, rng: np.random.Generator) -> np.ndarray:
    shape = [sizes.get(size, 2) if isinstance(size, str) else size for size in value.shape]
    dtype = np.dtype(value.dtype)
    if dtype == np.bool_:
        return _mask(shape, rng)
    if dtype.kind in "iu":
        return rng.integers(0, limit, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _mask(shape: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Some of each row are true, some not: there are masks that keep, and masks that hide."""
    mask = rng.random(shape) < 0.5
    mask[..., :1] = True
    if mask.ndim and mask.shape[-1] > 1:
        mask[..., -1] = False
    return mask
