"""
Linear layers become launches of kernels over tiles.

    w = qcc.param "w" : !qcc.packed<tensor<NxKxf32>, "int4<group=128>">
    y = qcc.linear x, w, b
      =>  tile.kernel @linear_int4_0 { … }
          w = qcc.param "w" {layout = "mma16"} : …
          y = tile.launch @linear_int4_0(x, codes of w, scales of w, b, y, …)

Layers of equal shapes and formats share a kernel; where the number of tokens is open, a call takes
one of two. Activations are f16 or bf16, or the codes of a `qcc.quantize`: integers with a scale
for each token or the tensor, whose products with integer weights are exact, or fp8_e4m3 without
scales where the target multiplies it, or blocks with scales where it multiplies those with the
weight's. Codes are decoded to the type of the activations, rounded at most once
(DecodeProgram.error); sums are fp32 or i32, and scales fp32: see linear_kernel.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ..dialects import qcc, tile
from ..dialects.bindings import Operation, arith, ir, scf
from ..dialects.errors import UnsupportedError
from ..dialects.formats import parse_spelling
from ..dialects.regions import walk
from ..dialects.tile.block_work import LEAST_STEPS
from ..dialects.tile.default_schedule import default_schedule, multiplies_any_tokens
from ..dialects.tile.integer_activations import code_scale, float_operands, integer_operands
from ..dialects.tile.launch import Launch
from ..dialects.tile.operand_types import OPERAND_TYPES
from ..dialects.tile.problem import (
    CONVERTED,
    LinearProblem,
    refusal,
)
from .activation_codes import integer_layout, laid_out
from .float_casts import is_cast
from .launching import (
    Argument,
    Kernels,
    Number,
    Read,
    Scratch,
    Shape,
    Size,
    TensorMap,
    Write,
    launch,
    least,
    like,
    pieces,
    processors,
    product,
    rows_of,
    unsupported,
    words,
)
from .linear_kernel import linear_kernel
from .require_decoded import require_decoded
from .torch_constants import producer

Chooser = Callable[[LinearProblem, str], tile.Schedule]
FEW, MANY = 16, 256
"""Tokens of decoding, and what kernels for more than those are chosen for."""
WORTH_TWO = 1 << 16
"""Weights of a layer from which on it has a kernel for each."""
BLOCK_OPERANDS = {8: "f8E4M3FN", 4: "f4E2M1FN"}
"""The operands that codes of so many bits may be, where they have a scale for each block."""


@dataclass(frozen=True)
class LinearScheduling:
    """
    `tokens` is what kernels are chosen for where the program leaves it open; with None a layer of
    some size has one for up to FEW tokens and one for more, and the call decides.
    """

    target: str = "sm_80"
    tokens: int | None = None
    choose: Chooser = default_schedule


def schedule_linear(options: LinearScheduling) -> Callable[[Operation, object], None]:
    def apply(module: Operation, _: object = None) -> None:
        kernels: Kernels[Launch] = Kernels(module, options.target)
        for op in walk(module):
            if isinstance(op, qcc.LinearOp):
                _schedule(op, options, kernels)

    return apply


def _schedule(op: qcc.LinearOp, options: LinearScheduling, kernels: Kernels[Launch]) -> None:
    problem, source = linear_problem(op, options)
    with op.location:
        found = [_kernel(each, options, kernels) for each in _problems(op, problem, options)]
    order = ir.StringAttr.get(problem.layout, op.context)
    parameter: Any = op.weight.owner
    parameter.attributes[qcc.LAYOUT_ATTRIBUTE] = order
    with ir.InsertionPoint(op), op.location:
        if len(found) == 1:
            result = _launched(op, problem, source, found[0])
        else:
            result = _chosen(op, problem, source, found)
    op.result.replace_all_uses_with(result)
    op.operation.erase()


def _problems(
    op: qcc.LinearOp, problem: LinearProblem, options: LinearScheduling
) -> list[LinearProblem]:
    """The problem, or for tokens that the program leaves open that of few and that of many."""
    shape = ir.RankedTensorType(op.result.type)
    is_open = any(shape.is_dynamic_dim(axis) for axis in range(shape.rank - 1))
    if not is_open or options.tokens is not None or problem.n * problem.k < WORTH_TWO:
        return [problem]
    few, many = (replace(problem, tokens=tokens) for tokens in (1, MANY))
    return [few, many] if few.layout == many.layout else [few]


def _kernel(problem: LinearProblem, options: LinearScheduling, kernels: Kernels[Launch]) -> Launch:
    def write(name: str) -> Launch:
        schedule = options.choose(problem, options.target)
        return linear_kernel(problem, schedule, name, options.target)

    return kernels.once(problem, f"linear_{problem.format.name}", write)


def _chosen(
    op: qcc.LinearOp, problem: LinearProblem, source: ir.Value, kernels: list[Launch]
) -> ir.Value:
    """The launch of the first kernel for up to FEW tokens, else of the second."""
    tokens = rows_of(source)
    assert isinstance(tokens, ir.Value)
    limit = arith.constant(ir.IndexType.get(), FEW)
    few = arith.cmpi(arith.CmpIPredicate.ule, tokens, limit)
    choice = scf.IfOp(few, [op.result.type], has_else=True)
    for block, kernel in zip((choice.then_block, choice.else_block), kernels, strict=True):
        with ir.InsertionPoint(block):
            scf.YieldOp([_launched(op, problem, source, kernel)])
    return choice.results[0]


def _launched(
    op: qcc.LinearOp, problem: LinearProblem, source: ir.Value, kernel: Launch
) -> ir.Value:
    """What the kernel makes of the operands of a layer, `source` in place of the input."""
    tokens = rows_of(source)
    grid, tiles = _grid(kernel, tokens)
    partials = product([*grid[:2], 4 * kernel.places * kernel.place_words])
    known: dict[str, Argument] = {
        "y": Write(0),
        "workspace": Scratch(partials),
        "arrivals": Scratch(product([tiles, 4 * (kernel.places > 0)]), counters=True),
        "tokens": Number(tokens),
    }
    packed = qcc.is_packed(source.type)
    part = qcc.format_of(source).code_part if packed else None
    known["x"] = Read(source, part)
    for box in kernel.maps:
        width = qcc.logical_type(source.type).shape[-1]
        known[box.argument] = TensorMap(
            source, tokens, width, box.element_bytes, box.box, box.swizzle, part
        )
    if packed:
        scales = [scale.role for scale in qcc.format_of(source).block_scales]
        known |= {f"x_{role}": Read(source, role) for role in scales}
        if problem.token_scale is not None:
            known["x_scale"] = Read(source, problem.token_scale.role)
    if op.bias is not None:
        known["bias"] = Read(op.bias)
    if kernel.table:
        known["table"] = Read(words(kernel.table))
    arguments = [known.get(name) or Read(op.weight, name) for name in kernel.arguments]
    shape = Shape(grid, kernel.threads, kernel.shared_bytes)
    [result] = launch(kernel.kernel, shape, arguments, [like(source, op.result.type)], op)
    return result


def _grid(kernel: Launch, tokens: Size) -> tuple[tuple[Size, Size, Size], Size]:
    """`Launch.grid`, and how many tiles there are, for tokens that the program may leave open."""
    s, columns = kernel.schedule, pieces(tokens, kernel.schedule.tokens)
    tiles = product([columns, kernel.strips])
    if not s.persistent:
        return (columns, kernel.strips, kernel.splits), tiles
    work = pieces(product([tiles, kernel.steps]), LEAST_STEPS) if s.stream_k else tiles
    return (least(product([processors(), s.persistent]), work), 1, 1), tiles


def linear_problem(op: qcc.LinearOp, options: LinearScheduling) -> tuple[LinearProblem, ir.Value]:
    """
    What a layer computes, and what its kernel reads in place of the input.

    Raises UnsupportedError for weights that are no packed parameters, and activations of other
    types.
    """
    spelling = qcc.format_spelling(op.weight.type)
    if spelling is None or producer_name(op.weight) != "qcc.param":
        raise _refused(op, f"its weight is {op.weight.type}", "give the parameter a format")
    n, k = qcc.logical_type(op.weight.type).shape
    source, activation, blocks = _activation(op, options.target)
    scale = code_scale(qcc.format_of(source)) if qcc.is_packed(source.type) else None
    result = ir.RankedTensorType(op.result.type)
    rows = [result.shape[axis] for axis in range(result.rank - 1)]
    known = 1
    for extent in rows:
        known = known * extent if extent >= 0 and known >= 0 else -1
    count = known if known >= 0 else options.tokens or 1
    bias = None if op.bias is None else str(ir.RankedTensorType(op.bias.type).element_type)
    memory = str(qcc.logical_type(source.type).element_type)
    converted = not qcc.is_packed(source.type) and memory != activation
    problem = LinearProblem(
        n, k, count, spelling, activation, str(result.element_type), bias,
        memory if converted else None, blocks, scale,
    )  # fmt: skip
    if not qcc.is_packed(source.type):
        require_decoded(op, "linear", "a linear layer", problem.format, activation)
    return problem, source


def _activation(op: qcc.LinearOp, target: str) -> tuple[ir.Value, str, str | None]:
    """
    Codes of rounded activations, if the target multiplies them; else the input itself.

    With the type of the operands, and the format of blocks that are multiplied with their scales.
    """
    multiplied = multiplied_codes(op, target)
    if multiplied is not None:
        codes, operand, blocks = multiplied
        return laid_out(codes, _layout(codes, operand)), operand, blocks
    element = str(ir.RankedTensorType(op.input.type).element_type)
    if element not in CONVERTED:
        raise _refused(op, f"its activations are {element}", "compile the model in f16 or bf16")
    cast = producer(op.input)
    if cast is not None and is_cast(cast):
        wide = cast.operands[0]
        if str(ir.RankedTensorType(wide.type).element_type) in CONVERTED[element]:
            return wide, element, None
    return op.input, element, None


def _layout(codes: ir.Value, operand: str) -> str | None:
    """How a kernel wants the codes of such operands to lie."""
    if operand == BLOCK_OPERANDS[4]:
        return qcc.PAIRS
    if OPERAND_TYPES[operand].is_float:
        return None
    return integer_layout(qcc.format_of(codes).spelling, operand)


def multiplied_codes(op: qcc.LinearOp, target: str) -> tuple[ir.Value, str, str | None] | None:
    """
    The codes of rounded activations that are multiplied as such, if they and the weight can.

    With the type of the operands, and the format of blocks that are multiplied with their scales.
    """
    weight = qcc.format_spelling(op.weight.type)
    if weight is None or producer_name(op.input) != "qcc.dequantize":
        return None
    decoded: Any = op.input.owner
    codes = decoded.operands[0]
    spelling = qcc.format_spelling(codes.type) or ""
    n, k = qcc.logical_type(op.weight.type).shape
    for kind in float_operands(spelling) or integer_operands(spelling):
        if _multiplies(LinearProblem(n, k, 1, weight, kind), target):
            return codes, kind, None
    operand = BLOCK_OPERANDS.get(parse_spelling(spelling).bits)
    problem = LinearProblem(n, k, 1, weight, operand or "", blocks=spelling)
    if operand is None or not _multiplies(problem, target):
        return None
    return codes, operand, spelling


def producer_name(value: ir.Value) -> str:
    """The op that makes a value, nothing for an argument."""
    owner: Any = value.owner
    return "" if isinstance(owner, ir.Block) else owner.name


def _multiplies(problem: LinearProblem, target: str) -> bool:
    """
    Whether the target has an instruction for both operands, with their scales if they are blocks.

    Groups that packets for it would pad to twice their size are rather decoded to halves.
    """
    try:
        if refusal(problem):
            return False
        if problem.blocks is None and (problem.stored_group or 1) >= 2 * (problem.group or 1):
            return False
        return multiplies_any_tokens(problem, target)
    except UnsupportedError:
        return False


def _refused(op: qcc.LinearOp, why: str, next_step: str) -> UnsupportedError:
    return unsupported(op, "linear", "a linear layer", why, next_step)
