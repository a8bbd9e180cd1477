"""Linear layers to kernels: which share one, what a parameter's layout becomes, what is refused."""

from dataclasses import replace

import pytest

from qcc.codegen.cuda.plan import LaunchStep
from qcc.codegen.cuda.read_plan import read_function
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.regions import walk
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import machine
from qcc.dialects.tile.launch import Launch
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.passes.schedule_linear import LinearScheduling, schedule_linear

LAYERS = """
func.func @main(%x: tensor<3x2x128xf16>) -> (tensor<3x2x48xf16>, tensor<3x2x48xf16>) {
  %a = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<48x128xf32>, "W">
  %b = "qcc.param"() {symbol = "b"} : () -> !qcc.packed<tensor<48x128xf32>, "W">
  %0 = "qcc.linear"(%x, %a) {SEGMENTS} : (tensor<3x2x128xf16>, !qcc.packed<tensor<48x128xf32>, "W">)
    -> tensor<3x2x48xf16>
  %1 = "qcc.linear"(%x, %b) {SEGMENTS} : (tensor<3x2x128xf16>, !qcc.packed<tensor<48x128xf32>, "W">)
    -> tensor<3x2x48xf16>
  return %0, %1 : tensor<3x2x48xf16>, tensor<3x2x48xf16>
}
"""
ROUNDED = """
func.func @main(%x: tensor<?x128xf16>) -> tensor<?x48xf16> {
  %w = "qcc.param"() {symbol = "w"} : () -> !qcc.packed<tensor<48x128xf32>, "W">
  %q = "qcc.quantize"(%x) : (tensor<?x128xf16>) -> !qcc.packed<tensor<?x128xf16>, "int8">
  %d = "qcc.dequantize"(%q) : (!qcc.packed<tensor<?x128xf16>, "int8">) -> tensor<?x128xf16>
  %0 = "qcc.linear"(%d, %w) {SEGMENTS} : (tensor<?x128xf16>, !qcc.packed<tensor<48x128xf32>, "W">)
    -> tensor<?x48xf16>
  return %0 : tensor<?x48xf16>
}
"""

SEGMENTS = "operandSegmentSizes = array<i32: 1, 1, 0>"


def scheduled(text: str, options: LinearScheduling | None = None) -> str:
    with make_context():
        module = ir.Module.parse(text.replace("SEGMENTS", SEGMENTS))
        schedule_linear(options or LinearScheduling())(module.operation, None)
        assert module.operation.verify()
        return str(module)


def test_equal_layers_share_a_kernel(check):
    # CHECK: "tile.kernel"
    # CHECK-NOT: "tile.kernel"
    # CHECK: "qcc.param"() {layout = "mma16", symbol = "a"}
    # CHECK: "qcc.param"() {layout = "mma16", symbol = "b"}
    # CHECK: "tile.pointer"(%arg0)
    # CHECK: "tile.launch"({{.*}}) {kernel = "linear_int4_0"
    # CHECK: "tile.launch"({{.*}}) {kernel = "linear_int4_0"
    # CHECK-NOT: qcc.linear
    check(scheduled(LAYERS.replace("W", "int4<group=32>")))


def test_tables_are_stored_in_pairs(check):
    # CHECK: layout = "mma16_pairs"
    check(scheduled(LAYERS.replace("W", "nf4")))


def test_rounded_activations_are_read_as_codes(check):
    # CHECK: mma.m16n8k32.s8
    # CHECK: layout = "mma8_pairs"
    # CHECK: %[[Q:.*]] = "qcc.quantize"
    # CHECK: "tile.pointer"(%[[Q]]) {part = "codes"}
    check(scheduled(ROUNDED.replace("W", "dint4")))


def test_fp8_is_multiplied_where_the_target_can(check):
    # CHECK: mma.m16n8k32.e4m3
    # CHECK: layout = "mma8"
    # CHECK: %[[Q:.*]] = "qcc.quantize"
    # CHECK: "tile.pointer"(%[[Q]]) {part = "codes"}
    text = ROUNDED.replace('"int8"', '"fp8_e4m3"').replace("W", "mxfp4")
    check(scheduled(text, LinearScheduling("sm_89")))


def test_fp8_is_decoded_where_it_cannot(check):
    # CHECK: mma.m16n8k16.f16
    text = ROUNDED.replace('"int8"', '"fp8_e4m3"').replace("W", "mxfp4")
    check(scheduled(text, LinearScheduling("sm_90a")))


@pytest.mark.parametrize(("target", "group"), [("sm_90a", "wgmma.e4m3"), ("sm_100a", "tcgen05.")])
def test_fp8_of_enough_channels_is_multiplied_by_groups_of_warps(target, group):
    """Few tokens and many, where tensor copies bring the rows; else both are decoded to halves."""
    text = ROUNDED.replace('"int8"', '"fp8_e4m3"').replace("W", "fp8_e4m3").replace("48", "144")
    assert f'instruction = "{group}' in scheduled(text, LinearScheduling(target))
    odd = text.replace("x128x", "x120x")
    assert "mma.m16n8k16.f16" in scheduled(odd, LinearScheduling(target))


@pytest.mark.parametrize(("group", "scales"), [("channel", "?"), ("tensor", "1")])
def test_fp8_may_have_a_scale(group, scales):
    """NestedFP's upper half times codes in fp8, whose scale the epilogue multiplies by."""
    text = ROUNDED.replace('"int8"', f'"fp8_e4m3<group={group}>"')
    made = scheduled(text.replace("W", "nestedfp16<view=fp8_e4m3>"), LinearScheduling("sm_89"))
    assert "mma.m16n8k32.e4m3" in made
    assert 'arguments = ["x", "upper", "x_scale", "y"' in made
    assert f"!tile.global<tensor<{scales}xf32>>" in made


@pytest.mark.parametrize(
    ("weight", "x", "instruction", "in_tensor_memory"),
    [
        ("mxfp4", "mxfp4", "mma.m16n8k64.mxf4", "mxf4"),
        ("amxfp4<scale=pot>", "amxfp4<scale=potr>", "mma.m16n8k64.mxf4", "mxf4"),
        ("nvfp4<two_level=true>", "nvfp4", "mma.m16n8k64.nvf4", "mxf4nvf4"),
        ("mxfp6_e2m3", "mxfp8_e4m3", "mma.m16n8k32.mxf8", "mxf8f6f4"),
    ],
)
def test_blocks_are_multiplied_with_their_scales_where_the_target_can(
    weight, x, instruction, in_tensor_memory
):
    """Elsewhere, and with scales that no instruction takes, both are decoded to f16."""
    text = ROUNDED.replace('"int8"', f'"{x}"').replace("W", weight)
    native = scheduled(text, LinearScheduling("sm_120a"))
    assert f'instruction = "{instruction}"' in native
    assert ('layout = "pairs"' in native) == ("k64" in instruction)
    copied = scheduled(text, LinearScheduling("sm_100a"))
    assert f'instruction = "tcgen05.{in_tensor_memory}"' in copied
    assert "tile.tensor_map" in copied
    odd = text.replace("x128x", "x72x")  # rows that tensor copies do not bring
    assert "tile.mma_scaled" not in scheduled(odd, LinearScheduling("sm_100a"))
    for target in ("sm_80", "sm_89", "sm_90a"):
        assert "tile.mma_scaled" not in scheduled(text, LinearScheduling(target))
    other = text.replace(f'"{x}"', '"amxfp4"')
    assert "mma.m16n8k16.f16" in scheduled(other, LinearScheduling("sm_120a"))


def test_weights_without_bytes_read_the_decoded_activations(check):
    # CHECK: mma.m16n8k16.f16
    # CHECK: %[[D:.*]] = "qcc.dequantize"
    # CHECK: "tile.pointer"(%[[D]])
    check(scheduled(ROUNDED.replace("W", "nf4")))


def test_open_tokens_are_the_option_s():
    options = LinearScheduling("sm_90a", tokens=100)
    with make_context():
        module = ir.Module.parse(ROUNDED.replace("W", "int8").replace("SEGMENTS", SEGMENTS))
        schedule_linear(options)(module.operation, None)
        launch = Launch.of(module.body.operations[0])
    assert (launch.target, launch.schedule.tokens) == ("sm_90a", 128)
    assert launch.grid(300) == (3, 1, launch.schedule.splits)


def test_refusals():
    with pytest.raises(UnsupportedError, match="activations are f32"):
        scheduled(LAYERS.replace("W", "int4").replace("128xf16", "128xf32"))
    plain = LAYERS.replace('!qcc.packed<tensor<48x128xf32>, "W">', "tensor<48x128xf16>")
    with pytest.raises(UnsupportedError, match="give the parameter a format"):
        scheduled(plain)


@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_100a"])
def test_a_grid_is_what_the_kernel_counts_on(target: str) -> None:
    """Of tokens, strips and splits, also where operands come by tensor maps, which have a width."""
    text = LAYERS.replace("W", "int4<group=128>").replace("3x2x", "3x100x")
    text = text.replace("x128xf", "x1024xf").replace("x48xf16", "x512xf16").replace("48x", "512x")
    with make_context():
        module = ir.Module.parse(text.replace("SEGMENTS", SEGMENTS))
        schedule_linear(LinearScheduling(target))(module.operation, None)
        ops = list(walk(module))
        [kernel] = [op for op in ops if op.operation.name == "tile.kernel"]
        launches = [op for op in ops if op.operation.name == "tile.launch"]
        assert len(launches) == 2
        for op in launches:
            sizes = (each.owner.attributes["value"] for each in list(op.operation.operands)[:3])
            grid = tuple(ir.IntegerAttr(size).value for size in sizes)
            assert grid == Launch.of(kernel).grid(300)


@pytest.mark.parametrize("stream_k", [False, True])
def test_persistent_blocks_are_as_many_as_the_device_runs(stream_k: bool) -> None:
    """A number that the plan asks the device for, and no more than there is work for."""
    chosen = Schedule("mma.m16n8k16.f16", 16, 8, 64, 1, 1, 1, 2, persistent=2, stream_k=stream_k)
    text = LAYERS.replace("W", "int4<group=64>").replace("x128xf", "x512xf")
    text = text.replace("3x2x", "?x2x")
    options = LinearScheduling("sm_80", choose=lambda problem, target: chosen)
    with make_context():
        module = ir.Module.parse(text.replace("SEGMENTS", SEGMENTS))
        schedule_linear(options)(module.operation, None)
        [kernel] = [op for op in walk(module) if op.operation.name == "tile.kernel"]
        launch, function = Launch.of(kernel), read_function(module, "main", {})
    for rows, processors in ((1, 3), (9, 3), (9, 100)):
        sizes = function.evaluated([(rows, 2, 512)], {}, processors=processors)
        for step in function.steps:
            assert isinstance(step, LaunchStep)
            assert tuple(sizes[size] for size in step.grid) == launch.grid(2 * rows, processors)
            scratch, counters = step.arguments[-3:-1]
            words = launch.workspace_words(2 * rows, processors)
            assert sizes[function.buffers[scratch.index].bytes] == 4 * words
            assert sizes[counters.index] == 4 * launch.arrival_words(2 * rows)
            assert (words > 0) == stream_k


def test_shares_of_tensor_memory_are_not_empty() -> None:
    problem = LinearProblem(128, 256, 32, "int8")
    schedule = replace(default_schedule(problem, "sm_100a"), depth=128)
    assert schedule.instruction.startswith("tcgen05.")
    reasons = {
        n: list(illegal(problem, replace(schedule, splits=n), machine("sm_100a"))) for n in (2, 4)
    }
    assert reasons[2] == []
    assert "4 blocks share 2 steps of K" in reasons[4][0]
