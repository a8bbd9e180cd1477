"""Layers of integers go to DPUs, bit for bit; all else stays and says why; plans fit or say why."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcc.dialects import pim
from qcc.dialects.bindings import MLIRError, ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import ResourceError
from qcc.dialects.formats import Format, format, from_definition
from qcc.dialects.pim.cost import cost_of
from qcc.dialects.pim.device import Device
from qcc.dialects.pim.execute import kernel_sums, reference_run
from qcc.dialects.pim.linear import IntegerLinear, refusal
from qcc.dialects.pim.plan import Plan
from qcc.dialects.pim.profile import read_profile
from qcc.dialects.pim.schedule import Problem, Schedule, Share
from qcc.passes.choose_pim_schedule import Choice, Space
from qcc.passes.partition_pim import PimPartition, partition_pim

DPU = pim.device("v1A")
LAYERS = """
func.func @main(%x: tensor<3x40xf32>) -> (tensor<3x24xf32>, tensor<3x24xf32>, tensor<3x40xf32>) {
  %a = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<24x40xf32>, "WEIGHT">
  %b = "qcc.param"() {symbol = "b"} : () -> !qcc.packed<tensor<24x40xf32>, "WEIGHT">
  %bias = "qcc.param"() {symbol = "bias"} : () -> tensor<24xf32>
  %q = "qcc.quantize"(%x) : (tensor<3x40xf32>) -> !qcc.packed<tensor<3x40xf32>, "INPUT">
  %d = "qcc.dequantize"(%q) : (!qcc.packed<tensor<3x40xf32>, "INPUT">) -> tensor<3x40xf32>
  %0 = "qcc.linear"(%d, %a, %bias) {layer = "first", operandSegmentSizes = array<i32: 1, 1, 1>}
    : (tensor<3x40xf32>, !qcc.packed<tensor<24x40xf32>, "WEIGHT">, tensor<24xf32>)
    -> tensor<3x24xf32>
  %1 = "qcc.linear"(%SECOND, %b) {layer = "second", operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<3x40xf32>, !qcc.packed<tensor<24x40xf32>, "WEIGHT">) -> tensor<3x24xf32>
  %2 = "qcc.rms_norm"(%x) {epsilon = 1.0e-5 : f64, axes = 1 : i64,
    operandSegmentSizes = array<i32: 1, 0>} : (tensor<3x40xf32>) -> tensor<3x40xf32>
  return %0, %1, %2 : tensor<3x24xf32>, tensor<3x24xf32>, tensor<3x40xf32>
}
"""
BIT = from_definition("""
format bit_test {
  title "two values";
  source "test";
  element table values=[-1.0, 1.0];
  block size=channel ragged=false;
  scale scale type=fp32 rule=absmax;
}
""")


def fixed(problem: Problem, device: Device, layer: str) -> Choice:
    """A choice without search."""
    _ = layer
    schedule = Schedule("lanes", 2, 4, shared=True, row_block=4, tasklets=2, row_parts=2)
    share = Share(problem, schedule)
    return Choice(share, cost_of(share, device, 1000), 1000, 1000, 1)


def partitioned(second: str = "d", weight: str = "int4", activation: str = "int4") -> ir.Module:
    text = LAYERS.replace("WEIGHT", weight).replace("INPUT", activation)
    module = ir.Module.parse(text.replace("%SECOND", f"%{second}"))
    partition_pim(PimPartition(choose=fixed))(module.operation, None)
    assert module.operation.verify()
    return module


def test_what_goes_and_what_stays(check: Any) -> None:
    # CHECK: "pim.kernel"
    # CHECK-NOT: "pim.kernel"
    # CHECK: "pim.linear"(%arg0, {{.*}}) {activation = "int4", kernel = "pim_0", layer = "first"
    # CHECK: "qcc.linear"{{.*}}layer = "second"{{.*}}pim.host = "its activations are not rounded
    # CHECK: "qcc.rms_norm"{{.*}}pim.host = "no products
    with make_context():
        check(str(partitioned("x")))


def test_layers_of_one_shape_share_a_kernel() -> None:
    with make_context():
        module = partitioned()
        plan = Plan.of(module)
        assert [layer.kernel for layer in plan.layers] == ["pim_0", "pim_0"]
        assert [layer.parameter for layer in plan.layers] == ["a", "b"]
        assert plan.host == (("qcc.rms_norm", "no products: it would only move its input"),)
        text = str(module)
        assert str(ir.Module.parse(text)) == text


def test_weights_stay_and_inputs_take_turns() -> None:
    with make_context():
        plan = Plan.of(partitioned())
    first, second = plan.layers
    weights = first.sizes["weights"]
    assert plan.offsets["first", "weights"] == 0
    assert plan.offsets["second", "weights"] == weights
    assert plan.offsets["first", "inputs"] == plan.offsets["second", "inputs"] == 2 * weights
    moved = {(t.kind, t.array, t.once) for t in plan.transfers(second)}
    assert moved == {("shard", "weights", True), ("shard", "inputs", False),
                     ("gather", "results", False)}  # fmt: skip
    (row, _) = plan.report()
    assert row["dpus"] == 2
    assert row["dma_bytes"] == 2 * (first.timing.bytes_read + first.timing.bytes_written)
    assert plan.milliseconds > 0 < plan.load_ms


def test_a_full_mram_names_layer_budget_and_need() -> None:
    with make_context():
        module = partitioned()
        small = replace(DPU, mram=400)
        with pytest.raises(ResourceError) as error:
            Plan.of(module, small)
    assert "second does not fit" in str(error.value)
    assert "there are 400" in str(error.value)
    assert "a profile with mram = " in str(error.value)
    enough = int(str(error.value).split("mram = ")[1].split()[0])
    with make_context():
        assert Plan.of(partitioned(), replace(DPU, mram=enough)).layers
        with pytest.raises(ResourceError):
            Plan.of(partitioned(), replace(DPU, mram=enough - 8))


def test_a_device_of_the_users_own(tmp_path: Path) -> None:
    """Limits of a profile travel in the IR; the search keeps to them."""
    profile = tmp_path / "small.toml"
    profile.write_text('base = "v1B"\nwram = 24576\nranks = 1\nmost_tasklets = 12\n')
    small = read_profile(profile)
    text = LAYERS.replace("WEIGHT", "int4").replace("INPUT", "int4").replace("%SECOND", "%d")
    with make_context():
        module = ir.Module.parse(text)
        space = Space(methods=("lanes", "canonical"), finalists=2, groups=(4,), words=(1,))
        partition_pim(PimPartition(small, space=space))(module.operation, None)
        assert module.operation.verify()
        assert 'device = "v1B<wram=24576,most_tasklets=12,ranks=1>"' in str(module)
        plan = Plan.of(ir.Module.parse(str(module)))
        assert plan.dpus <= 64
        assert all(layer.share.schedule.tasklets <= 12 for layer in plan.layers)
        with pytest.raises(MLIRError, match="bytes of WRAM"):
            ir.Module.parse(str(module).replace("wram=24576", "wram=13000"))


@pytest.mark.parametrize(
    ("weight", "activation"),
    [("int4", "int4"), ("int2", "int4"), ("dint4<symmetric=true>", "int8"), ("int4", "uint4"),
     ("uint2", "int3"), ("int4<symmetric=false>", "uint4<group=tensor>"),
     ("int4<group=16>", "int4"), ("int4<group=32,symmetric=false>", "uint4<group=16>"),
     ("mxfp4", "mxfp4"), ("nvfp4<two_level=true>", "int4")],
)  # fmt: skip
def test_kernels_compute_the_layer(weight: str, activation: str) -> None:
    """Equal to exact integer sums bit for bit, and to the decoded product up to rounding."""
    formats = format(weight), format(activation)
    layer = IntegerLinear(24, 40, *formats)
    rng = np.random.default_rng(0)
    w = rng.standard_normal((24, 40)).astype(np.float32)
    x = rng.standard_normal((2, 3, 40)).astype(np.float32)
    bias = rng.standard_normal(24).astype(np.float32)
    parts = formats[0].encode_rows(w)
    with make_context(), ir.Location.unknown():
        share = fixed(layer.problem(4), DPU, "").share
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            from qcc.passes.pim_kernel import pim_kernel

            kernel = pim_kernel(share, DPU, "k")
        held = layer.held(parts)
        found = layer(x, held, bias, kernel_sums(share, reference_run(kernel), held.codes))
    assert np.array_equal(found, layer(x, held, bias))
    rounded = formats[1].quantize(x.reshape(6, 40)).dequantize().astype(np.float64)
    decoded = formats[0].decode_rows(parts, 40).astype(np.float64)
    expected = rounded @ decoded.T + bias
    assert np.allclose(found.reshape(6, 24), expected, rtol=1e-5, atol=1e-5)


def test_a_user_format_of_one_bit() -> None:
    layer = IntegerLinear(8, 16, BIT, format("int3"))
    assert layer.books[0].values == (-1, 1)
    rng = np.random.default_rng(1)
    w, x = (rng.standard_normal((n, 16)).astype(np.float32) for n in (8, 5))
    parts = BIT.encode_rows(w)
    expected = format("int3").quantize(x).dequantize() @ BIT.decode_rows(parts, 16).T
    assert np.allclose(layer(x, layer.held(parts)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ["int4", "int8<group=tensor>"])
def test_a_row_that_is_not_finite_has_no_result(activation: str, lost: float) -> None:
    layer = IntegerLinear(8, 16, format("int4"), format(activation))
    w, x = (np.random.default_rng(n).standard_normal((n, 16)).astype(np.float32) for n in (8, 5))
    held, others = layer.held(format("int4").encode_rows(w)), [0, 1, 3, 4]
    x[2, 7] = lost
    found = layer(x, held)
    assert np.isnan(found[2]).all()
    assert np.array_equal(found[others], layer(x[others], held))


@pytest.mark.parametrize(
    ("fmt", "reason"),
    [
        (format("nf4"), "no small integers"),
        (format("uint8"), "values reach 255; DPUs multiply -128 to 127"),
        (format("fp16"), "no codes of at most 8 bits"),
        (format("amxfp4"), "a scale for each sign"),
        (format("mxfp8_e4m3"), "no small integers"),
        (format("dint4"), "codes without zero point; use symmetric=true"),
    ],
    ids=lambda each: getattr(each, "name", None),
)
def test_formats_that_stay_on_the_host(fmt: Format, reason: str) -> None:
    assert reason in (refusal(fmt, "weights") or "")
