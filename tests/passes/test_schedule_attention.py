"""Attention to kernels: one kernel or two, what a cache is made of, what is refused."""

import pytest

from qcc.codegen.cuda.families import emit_sources, kernels_of
from qcc.codegen.cuda.plan import LaunchStep
from qcc.codegen.cuda.read_plan import read_function
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile.attention_problem import (
    AttentionProblem,
    Rows,
    default_attention,
    shared_bytes,
)
from qcc.passes.attention_kernel import attention_kernel
from qcc.passes.launching import Scheduling
from qcc.passes.schedule_attention import schedule_attention

PLAIN = """
func.func @main(%q: tensor<2x4x7x64xQ>, %k: tensor<2x2x7x64xK>, %v: tensor<2x2x7x32xV>MASK)
    -> tensor<2x4x7x32xQ> {
  %y = "qcc.attention"(%q, %k, %vGIVEN) {scale = 0.125 : f64, cache = "", causal = true,
    operandSegmentSizes = array<i32: 1, 1, 1, COUNT, 0>}
    : (tensor<2x4x7x64xQ>, tensor<2x2x7x64xK>, tensor<2x2x7x32xV>KIND) -> tensor<2x4x7x32xQ>
  return %y : tensor<2x4x7x32xQ>
}
"""
STEP = """
func.func @step(%q: tensor<?x4x?x64xf16>, %k: tensor<?x2x?x64xf16>, %v: tensor<?x2x?x32xf16>,
    %past: tensor<i64>) -> tensor<?x4x?x32xf16> {
  %y = "qcc.attention"(%q, %k, %v, %past) {scale = 0.125 : f64, cache = "cache.0", causal = true,
    key_format = "KEY", value_format = "VALUE", operandSegmentSizes = array<i32: 1, 1, 1, 0, 1>}
    : (tensor<?x4x?x64xf16>, tensor<?x2x?x64xf16>, tensor<?x2x?x32xf16>, tensor<i64>)
    -> tensor<?x4x?x32xf16>
  return %y : tensor<?x4x?x32xf16>
}
"""


def scheduled(text: str) -> ir.Module:
    module = ir.Module.parse(text)
    schedule_attention(Scheduling())(module.operation, None)
    assert module.operation.verify()
    return module


def plain(query: str = "f16", key: str = "f16", value: str = "f16", mask: str = "") -> str:
    text = PLAIN.replace("MASK", f", %m: {mask}" * bool(mask)).replace("GIVEN", ", %m" * bool(mask))
    text = text.replace("COUNT", str(int(bool(mask)))).replace("KIND", f", {mask}" * bool(mask))
    return text.replace("xQ>", f"x{query}>").replace("xK>", f"x{key}>").replace("xV>", f"x{value}>")


def test_few_rows_share_keys_and_are_folded(check):
    # CHECK-COUNT-2: "tile.warp_kernel"
    # CHECK-NOT: "tile.warp_kernel"
    # CHECK: "tile.launch"{{.*}}kernel = "attention_few_0"
    # CHECK: "tile.launch"{{.*}}kernel = "attention_fold_0"
    # CHECK-NOT: qcc.attention
    with make_context():
        check(str(scheduled(plain())))


def test_a_mask_is_given_with_its_strides():
    with make_context():
        module = scheduled(plain("f32", "f32", "f32", "tensor<2x1x7x7xf32>"))
        (name,) = (n for n in kernels_of(module) if n.startswith("attention_few"))
        source = emit_sources(module, {name})[0].text
        assert "mask_head" in source
        function = read_function(module, "main", {})
        sizes = function.evaluated([(2, 4, 7, 64), (2, 2, 7, 64), (2, 2, 7, 32), (2, 1, 7, 7)], {})
        steps = [step for step in function.steps if isinstance(step, LaunchStep)]
        step = next(step for step in steps if step.kernel == name)
        heads, elements, *strides = (sizes[each.index] for each in step.arguments[-6:])
        assert (heads, elements, strides) == (2, 98, [49, 0, 7, 1])


def test_a_step_has_a_kernel_for_few_rows_and_one_for_many(check):
    # CHECK: "tile.cache"{{.*}}symbol = "cache.0.keys.codes"{{.*}}tensor<?x2x?x512xi32>
    # CHECK: "tile.cache"{{.*}}symbol = "cache.0.keys.scale"{{.*}}tensor<?x2x?x1xf32>
    # CHECK: "tile.cache"{{.*}}symbol = "cache.0.values"{{.*}}tensor<?x2x?x32xf16>
    # CHECK: "tile.cache"{{.*}}symbol = "cache.0.flags"
    # CHECK: %[[CODES:.*]] = "qcc.quantize"
    # CHECK: "tile.launch"{{.*}}kernel = "append_0"
    # CHECK: scf.if
    # CHECK: "tile.launch"{{.*}}kernel = "attention_few_0"
    # CHECK: else
    # CHECK: "tile.launch"{{.*}}kernel = "attention_many_0"
    with make_context():
        check(str(scheduled(STEP.replace("KEY", "int4").replace("VALUE", "fp16"))))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (plain("f16", "bf16", "f16"), "its operands are f16, bf16 and f16"),
        (plain("f16", "f16", "f16", "tensor<7x7xf16>"), "its mask is tensor<7x7xf16>"),
        (STEP.replace("KEY", "int4<group=8>").replace("VALUE", "int4"), "use group=16"),
    ],
)
def test_refusals_name_a_reason(text: str, reason: str) -> None:
    with make_context(), pytest.raises(UnsupportedError, match=reason):
        scheduled(text)


@pytest.mark.parametrize("spelling", [None, "int8", "int4<group=16>", "nf4", "mxfp8_e4m3"])
def test_shared_memory_is_foreseen(spelling: str | None) -> None:
    """What schedules are chosen by is what kernels then take, for heads of every depth."""
    with make_context(), ir.Location.unknown():
        module = ir.Module.create()
        for depth in (40, 64, 80, 96, 128, 192):
            rows = (Rows.of(name, depth, spelling, "f16") for name in ("key", "value"))
            problem = AttentionProblem(*rows, scale=1.0, rows=32)
            schedule = default_attention(problem)
            with ir.InsertionPoint(module.body):
                made = attention_kernel(problem, schedule, f"of_{depth}", "sm_80")
            foreseen = shared_bytes(problem, schedule)
            assert foreseen - 1024 <= made.shared_bytes <= foreseen + 128
        assert module.operation.verify()
