"""The launch plan read off host functions: sizes, memory, views, branches, refusals."""

from __future__ import annotations

import msgspec
import pytest

from qcc.codegen.cuda.emulator.device import EmulatedDevice
from qcc.codegen.cuda.emulator.launch import Mode
from qcc.codegen.cuda.execution import Execution
from qcc.codegen.cuda.plan import CopyStep, Function, LaunchStep, Plan
from qcc.codegen.cuda.read_plan import read_function
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError

KERNEL = """
"tile.kernel"() ({
^bb0(%x: !tile.global<tensor<?xf32>>):
  "tile.return"() : () -> ()
}) {symbol = "k", target = "sm_80", arguments = ["x"], schedule = {instruction = "mma.m16n8k16.f16",
  channels = 16 : i64, tokens = 8 : i64, depth = 128 : i64, warps_n = 1 : i64, warps_m = 1 : i64,
  warps_k = 1 : i64, stages = 2 : i64, splits = 1 : i64, stream_weights = true}} : () -> ()
"""
LAUNCH = """
  %P = "tile.pointer"(SOURCE) {part = ""} : (TYPE) -> !tile.argument
  %W = "tile.result"() {index = 0 : i64, part = ""} : () -> !tile.argument
  %L = "tile.launch"(%n, %c1, %c1, %P, %W) {kernel = "k", threads = 32 : i64,
    shared_bytes = 0 : i64, operandSegmentSizes = array<i32: 3, 2>}
    : (index, index, index, !tile.argument, !tile.argument) -> !tile.launched
  RESULT = "tile.made"(%L, %n) {index = 0 : i64, operandSegmentSizes = array<i32: 1, 1>}
    : (!tile.launched, index) -> tensor<?x8xf32>
"""


def launch(source: str, result: str, kind: str = "tensor<?x8xf32>") -> str:
    text = LAUNCH.replace("SOURCE", source).replace("RESULT", result).replace("TYPE", kind)
    for name in ("%P", "%W", "%L"):
        text = text.replace(name, name + result.removeprefix("%"))
    return text


def read(body: str, results: str = "tensor<?x8xf32>", inputs: str = "") -> Function:
    text = f"""{KERNEL}
func.func @main(%x: tensor<?x8xf32>{inputs}) -> ({results}) {{
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %n = tensor.dim %x, %c0 : tensor<?x8xf32>
  {body}
}}"""
    with make_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        assert module.operation.verify()
        function = read_function(module, "main", {})
    stored = msgspec.json.encode(Plan("sm_80", {"main": function}, (), ()))
    assert msgspec.json.decode(stored, type=Plan).functions["main"] == function
    return function


def places(function: Function) -> list[tuple[str, int, int]]:
    sizes = function.evaluated([(5, 8)], {})
    return [(b.place, sizes[b.bytes], b.last - b.first) for b in function.buffers]


def test_values_of_the_arena_live_as_long_as_they_are_used():
    body = launch("%x", "%a") + launch("%a", "%b") + launch("%b", "%y")
    function = read(body + "return %y : tensor<?x8xf32>")
    assert places(function) == [
        ("input", 160, 0), ("arena", 160, 1), ("arena", 160, 1), ("output", 160, 1),
    ]  # fmt: skip
    first = function.steps[0]
    assert isinstance(first, LaunchStep)
    assert [function.evaluated([(5, 8)], {})[size] for size in first.grid] == [5, 1, 1]


def test_what_nothing_needs_is_not_launched():
    body = launch("%x", "%a") + launch("%x", "%y")
    assert len(read(body + "return %y : tensor<?x8xf32>").steps) == 1


def test_views_are_offsets():
    kind = "tensor<2x8xf32>"
    body = f"%s = tensor.extract_slice %x[3, 0] [2, 8] [1, 1] : tensor<?x8xf32> to {kind}\n"
    function = read(body + launch("%s", "%y", kind) + "return %y : tensor<?x8xf32>")
    step = function.steps[0]
    assert isinstance(step, LaunchStep)
    assert step.arguments[0].offset == 3 * 8 * 4


def test_slices_across_rows_are_refused():
    kind = "tensor<?x4xf32>"
    body = f"%s = tensor.extract_slice %x[0, 0] [%n, 4] [1, 1] : tensor<?x8xf32> to {kind}\n"
    with pytest.raises(UnsupportedError, match="not neighbours in memory"):
        read(body + launch("%s", "%y", kind) + "return %y : tensor<?x8xf32>")


def test_what_is_returned_twice_and_inputs_are_copied():
    function = read(
        launch("%x", "%y") + "return %y, %x, %y : " + ", ".join(["tensor<?x8xf32>"] * 3),
        ", ".join(["tensor<?x8xf32>"] * 3),
    )
    assert [type(step) for step in function.steps] == [LaunchStep, CopyStep, CopyStep]
    assert [function.buffers[output.buffer].index for output in function.outputs] == [0, 1, 2]


def test_branches_write_the_same_memory():
    body = f"""
  %few = arith.cmpi ult, %n, %c4 : index
  %y = scf.if %few -> tensor<?x8xf32> {{ {launch("%x", "%a")} scf.yield %a : tensor<?x8xf32> }}
  else {{ {launch("%x", "%b")} scf.yield %b : tensor<?x8xf32> }}
  return %y : tensor<?x8xf32>"""
    function = read("%c4 = arith.constant 4 : index\n" + body)
    assert [place for place, *_ in places(function)] == ["input", "output"]
    conditions = [step.condition for step in function.steps]
    for rows, taken in ((3, [1, 0]), (4, [0, 1])):
        sizes = function.evaluated([(rows, 8)], {})
        assert [sizes[condition] for condition in conditions if condition is not None] == taken


def test_a_branch_that_yields_what_is_made_outside_copies_it():
    """The other branch would write over it, and it is still used."""
    kind = "tensor<?x8xf32>"
    body = f"""
  %c4 = arith.constant 4 : index
  {launch("%x", "%a")}
  %few = arith.cmpi ult, %n, %c4 : index
  %y = scf.if %few -> {kind} {{ scf.yield %a : {kind} }}
  else {{ {launch("%x", "%b")} scf.yield %b : {kind} }}
  return %y, %a : {kind}, {kind}"""
    function = read(body, f"{kind}, {kind}")
    first, copy, other = function.steps
    result, outside = (output.buffer for output in function.outputs)
    assert isinstance(copy, CopyStep)
    assert (copy.source, copy.target) == (outside, result)
    assert [_written(step) for step in (first, other)] == [outside, result]
    sizes = function.evaluated([(3, 8)], {})
    assert [step.condition and sizes[step.condition] for step in function.steps] == [None, 1, 0]


def test_a_branch_that_yields_one_value_twice_copies_it_once():
    """The two results may differ where the other branch is taken."""
    both = "tensor<?x8xf32>, tensor<?x8xf32>"
    body = f"""
  %c4 = arith.constant 4 : index
  %few = arith.cmpi ult, %n, %c4 : index
  %y, %z = scf.if %few -> ({both}) {{ {launch("%x", "%a")} scf.yield %a, %a : {both} }}
  else {{ {launch("%x", "%b")} {launch("%x", "%d")} scf.yield %b, %d : {both} }}
  return %y, %z : {both}"""
    function = read(body, both)
    outputs = [output.buffer for output in function.outputs]
    once, copy, *others = function.steps
    assert isinstance(copy, CopyStep)
    assert [_written(once), copy.target] == [copy.source, outputs[1]]
    assert [_written(step) for step in others] == outputs


def _written(step: LaunchStep | CopyStep) -> int:
    assert isinstance(step, LaunchStep)
    return step.arguments[1].index


def test_scalars_that_the_caller_gives_are_sizes():
    body = """
  %v = tensor.extract %past[] : tensor<i64>
  %i = arith.index_cast %v : i64 to index
  %t = arith.addi %i, %n : index
""" + launch("%x", "%y").replace('"tile.launch"(%n', '"tile.launch"(%t')
    function = read(body + "return %y : tensor<?x8xf32>", inputs=", %past: tensor<i64>")
    step = function.steps[0]
    assert isinstance(step, LaunchStep)
    assert function.scalars() == [1]
    assert function.evaluated([(5, 8), ()], {1: 7})[step.grid[0]] == 12


def test_grids_that_no_gpu_has_are_refused():
    """As soon as the sizes are known: by the program, or by a call."""
    end = "return %y : tensor<?x8xf32>"
    body = launch("%x", "%y").replace("(%n, %c1, %c1,", "(%c1, %n, %c1,")
    execution = Execution(read(body + end), EmulatedDevice({}, Mode()), stored={})
    execution.situation([(65535, 8)], {})
    with pytest.raises(UnsupportedError, match="65536 blocks along y"):
        execution.situation([(65536, 8)], {})
    body = launch("%x", "%y").replace("(%n, %c1, %c1,", "(%c1, %c1, %many,")
    with pytest.raises(UnsupportedError, match="80000 blocks along z"):
        read("%many = arith.constant 80000 : index\n" + body + end)


def test_ops_without_kernels_are_named():
    body = """
  %y = "qcc.rms_norm"(%x) {axes = 1 : i64, epsilon = 1.0e-5 : f64,
    operandSegmentSizes = array<i32: 1, 0>} : (tensor<?x8xf32>) -> tensor<?x8xf32>
"""
    with pytest.raises(UnsupportedError, match=r"no kernel for qcc\.rms_norm"):
        read(body + "return %y : tensor<?x8xf32>")
