"""Plans: the host's C really runs, against dpu.h on emulated DPUs, and so does the executor."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from qcc.codegen.upmem.build_dpu import build_rv32
from qcc.codegen.upmem.build_host import build_with_host, host_program
from qcc.codegen.upmem.dpu_program import DpuProgram
from qcc.codegen.upmem.emit_dpu import dpu_program
from qcc.codegen.upmem.emit_host import constants, emit_host, identifier
from qcc.codegen.upmem.execute import Emulated, Rung
from qcc.codegen.upmem.execute_plan import EmulatedPlan
from qcc.codegen.upmem.sources import HERE
from qcc.codegen.upmem.toolchain import candidates, host_compiler
from qcc.dialects import pim
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.interpreter import interpret
from qcc.dialects.interpreter.pim_linear import linear_rule
from qcc.dialects.pim.cost import cost_of
from qcc.dialects.pim.device import Device
from qcc.dialects.pim.execute import kernel_sums
from qcc.dialects.pim.kernel import walk
from qcc.dialects.pim.layer import Layer
from qcc.dialects.pim.layout import dpu_arrays, product_of
from qcc.dialects.pim.linear import HeldWeights, Sums
from qcc.dialects.pim.placed_layers import Adding, PlacedLayers
from qcc.dialects.pim.plan import Launched, Plan
from qcc.dialects.pim.schedule import Problem, Schedule, Share
from qcc.passes.choose_pim_schedule import Choice
from qcc.passes.partition_pim import PimPartition, partition_pim

LAYERS = """
func.func @main(%x: tensor<3x40xf32>) -> (tensor<3x24xf32>, tensor<3x24xf32>, tensor<3x10xf32>) {
  %a = "qcc.param"() {symbol = "a"} : () -> !qcc.packed<tensor<24x40xf32>, "int2">
  %b = "qcc.param"() {symbol = "b"} : () -> !qcc.packed<tensor<24x40xf32>, "int2">
  %c = "qcc.param"() {symbol = "c"} : () -> !qcc.packed<tensor<10x40xf32>, "int2">
  %q = "qcc.quantize"(%x) : (tensor<3x40xf32>) -> !qcc.packed<tensor<3x40xf32>, "int2">
  %d = "qcc.dequantize"(%q) : (!qcc.packed<tensor<3x40xf32>, "int2">) -> tensor<3x40xf32>
  %0 = "qcc.linear"(%d, %a) {layer = "block.0.first", operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<3x40xf32>, !qcc.packed<tensor<24x40xf32>, "int2">) -> tensor<3x24xf32>
  %1 = "qcc.linear"(%d, %b) {layer = "block.0.second", operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<3x40xf32>, !qcc.packed<tensor<24x40xf32>, "int2">) -> tensor<3x24xf32>
  %2 = "qcc.linear"(%d, %c) {layer = "head", operandSegmentSizes = array<i32: 1, 1, 0>}
    : (tensor<3x40xf32>, !qcc.packed<tensor<10x40xf32>, "int2">) -> tensor<3x10xf32>
  return %0, %1, %2 : tensor<3x24xf32>, tensor<3x24xf32>, tensor<3x10xf32>
}
"""
SCHEDULES = {  # of different numbers of DPUs, so that some have nothing to do
    24: Schedule("canonical", 3, 2, row_block=8, tasklets=3, row_parts=3, token_parts=2),
    10: Schedule("lanes", 2, 4, shared=True, row_block=4, tasklets=2, row_parts=2),
}


def chosen(problem: Problem, device: Device, layer: str) -> Choice:
    share = Share(problem, SCHEDULES[problem.rows])
    return Choice(share, cost_of(share, device, 1000), 1000, 1000, 1)


@pytest.fixture
def module() -> Iterator[ir.Module]:
    with make_context():
        module = ir.Module.parse(LAYERS)
        partition_pim(PimPartition(pim.device("v1A"), choose=chosen))(module.operation, None)
        yield module


def kernels_of(module: ir.Module) -> dict[str, pim.KernelOp]:
    ops = walk(module)
    return {op.symbol.value: op for op in ops if op.operation.name == "pim.kernel"}


def drawn(plan: Plan, number: int = 0) -> dict[str, tuple[dict[str, np.ndarray], np.ndarray]]:
    """For each layer the arrays of its DPUs, and the product that they should make."""
    found = {}
    for i, layer in enumerate(plan.layers):
        p, draw = layer.share.problem, np.random.default_rng(i)
        weights = draw.integers(0, len(p.weights), (p.rows, p.k))
        draw = np.random.default_rng(100 + i + number)
        inputs = draw.integers(0, len(p.activations), (p.tokens, p.k))
        want = np.array(p.activations)[inputs] @ np.array(p.weights)[weights].T
        found[layer.name] = dpu_arrays(layer.share, weights, inputs), want
    return found


def needs_clang() -> None:
    if not candidates():
        pytest.skip("needs a clang for RV32: pip install 'qcc[pim-emu]'")


def test_memory_is_kept_from_layer_to_layer(module: ir.Module, built: Path) -> None:
    """Weights are brought once; two calls of all layers follow, in turns of two programs."""
    needs_clang()
    plan = Plan.of(module)
    dpus = EmulatedPlan(plan, kernels_of(module), built)
    for layer in plan.layers:
        dpus.load(layer, drawn(plan)[layer.name][0])
    for call in range(2):
        for layer in plan.layers:
            arrays, want = drawn(plan, call)[layer.name]
            arrays["results"][:] = 77
            dpus.run(layer, arrays)
            np.testing.assert_array_equal(product_of(layer.share, arrays["results"]), want)
            assert sum(launch.instructions for launch in dpus.launches) > 0


@pytest.mark.parametrize("rung", ["native", "rv32"])
def test_a_program_runs_with_its_layers_on_dpus(module: ir.Module, built: Path, rung: Rung) -> None:
    """The interpreter runs the host's part; sums of DPUs are those of NumPy, so is all else."""
    if rung == "rv32":
        needs_clang()
    plan, kernels = Plan.of(module), kernels_of(module)
    draw = np.random.default_rng(0)
    stored = {name: draw.standard_normal((10 if name == "c" else 24, 40)).astype(np.float32)
              for name in "abc"}  # fmt: skip
    inputs = [draw.standard_normal((3, 40)).astype(np.float32)]

    def parts(symbol: str) -> Mapping[str, np.ndarray]:
        layer = next(each for each in plan.layers if each.parameter == symbol)
        return layer.linear.weight.encode_rows(stored[symbol])

    def sums(layer: Layer, weights: HeldWeights) -> Sums:
        return kernel_sums(layer.share, Emulated(kernels[layer.kernel], built, rung), weights.codes)

    def results(by: Adding | None) -> list[np.ndarray]:
        rules = {"pim.linear": linear_rule(PlacedLayers(plan, parts, by))}
        return interpret(module, inputs, stored.__getitem__, rules=rules)

    exact = results(None)
    for want, got in zip(exact, results(sums), strict=True):
        np.testing.assert_array_equal(got, want)
    for layer, got in zip(plan.layers, exact, strict=True):
        rounded = layer.linear.activation.quantize(inputs[0]).dequantize()
        weights = layer.linear.weight.quantize(stored[layer.parameter]).dequantize()
        np.testing.assert_allclose(got, rounded @ weights.T, rtol=1e-4, atol=1e-4)


MAIN = """
#include "plan.h"

static void *take(size_t bytes) {
    void *data = malloc(bytes);
    if (!data || fread(data, 1, bytes, stdin) != bytes) exit(9);
    return data;
}

int main(void) {
    struct qcc_dpus dpus;
    struct plan_constants constants;
    void *results = malloc(1 << 20);
    DPU_ASSERT(plan_open(&dpus));
    LOADS
    DPU_ASSERT(plan_load(&dpus, &constants));
    CALLS
    DPU_ASSERT(dpu_free(dpus.set));
    return 0;
}
"""


def bytes_of(layer: Launched, array: str, arrays: dict[str, np.ndarray]) -> bytes:
    """As the plan moves them: each DPU's padded to whole units."""
    size, parts = layer.sizes[array], arrays[array]
    once = array in ("table", "reorder")
    each = [np.ascontiguousarray(part).tobytes().ljust(size, b"\0") for part in parts]
    return each[0] if once else b"".join(each)


def written_main(plan: Plan, sent: list[bytes]) -> str:
    """A main that reads arrays from its input in the order of `sent`, and writes results."""
    given, loads, calls = drawn(plan), [], []
    for name, layer, transfer in constants(plan):
        sent.append(bytes_of(layer, transfer.array, given[layer.name][0]))
        loads.append(f"constants.{name} = take({len(sent[-1])});")
    for layer in plan.layers:
        inputs = []
        for transfer in plan.transfers(layer):
            if transfer.kind == "shard" and not transfer.once:
                sent.append(bytes_of(layer, transfer.array, given[layer.name][0]))
                inputs.append(f"take({len(sent[-1])})")
        size = layer.sizes["results"] * layer.share.schedule.dpus
        call = f"plan_{identifier(layer.name)}(&dpus, {', '.join(inputs)}, results)"
        calls.append(f"DPU_ASSERT({call});")
        calls.append(f"fwrite(results, 1, {size}, stdout);")
    text = MAIN.replace("LOADS", "\n    ".join(loads))
    return text.replace("CALLS", "\n    ".join(calls))


def test_the_host_program_runs(module: ir.Module, built: Path, tmp_path: Path) -> None:
    needs_clang()
    plan = Plan.of(module)
    sent: list[bytes] = []
    for name, text in emit_host(plan, "plan").items():
        (tmp_path / name).write_text(text)
    (tmp_path / "main.c").write_text(written_main(plan, sent))
    for name, kernel in kernels_of(module).items():
        (tmp_path / f"{name}.dpu").write_bytes(build_rv32(dpu_program(kernel), built))
    sources = [tmp_path / "main.c", tmp_path / "plan.c"]
    program = host_program("plan", sources, built)
    done = subprocess.run([program], input=b"".join(sent), capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    place = 0
    for layer in plan.layers:
        arrays, want = drawn(plan)[layer.name]
        size = layer.sizes["results"]
        results = arrays["results"]
        for part in range(len(results)):
            raw = done.stdout[place + part * size :][: results[part].nbytes]
            results[part] = np.frombuffer(raw, results.dtype).reshape(results[part].shape)
        place += size * len(results)
        np.testing.assert_array_equal(product_of(layer.share, results), want)
    assert place == len(done.stdout)


def test_any_names_of_layers_are_names_in_c(tmp_path: Path) -> None:
    text = LAYERS.replace('"block.0.first"', '"0"').replace('"block.0.second"', '"a.b"')
    with make_context():
        module = ir.Module.parse(text.replace('"head"', '"a/b"'))
        partition_pim(PimPartition(pim.device("v1A"), choose=chosen))(module.operation, None)
        texts = emit_host(Plan.of(module), "plan")
    assert {"plan_layer_0(", "plan_a_b(", "plan_a_b_2("} <= set(
        re.findall(r"plan_\w+\(", texts["plan.c"])
    )
    for name, each in texts.items():
        (tmp_path / name).write_text(each)
    headers = [f"-I{HERE / 'host'}", f"-I{tmp_path}"]
    command = [host_compiler(), "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *headers]
    subprocess.run([*command, tmp_path / "plan.c"], check=True)


def test_text_of_a_host_program(golden: Callable[[str, str], None], module: ir.Module) -> None:
    texts = emit_host(Plan.of(module), "plan")
    golden(texts["plan.h"] + texts["plan.c"], ".c")


def test_dpu_h_refuses_what_hardware_refuses(built: Path, tmp_path: Path) -> None:
    """Unaligned and too long transfers, unknown symbols, reading from a set: by their errors."""
    needs_clang()
    checks = {
        'dpu_broadcast_to(set, "mram", 4, data, 8, DPU_XFER_DEFAULT)': "INVALID_MRAM_ACCESS",
        'dpu_broadcast_to(set, "mram", 0, data, 12, DPU_XFER_DEFAULT)': "INVALID_MRAM_ACCESS",
        'dpu_broadcast_to(set, "word", 2, data, 4, DPU_XFER_DEFAULT)': "INVALID_WRAM_ACCESS",
        'dpu_broadcast_to(set, "word", 0, data, 16, DPU_XFER_DEFAULT)': "INVALID_SYMBOL_ACCESS",
        'dpu_broadcast_to(set, "none", 0, data, 8, DPU_XFER_DEFAULT)': "UNKNOWN_SYMBOL",
        'dpu_copy_from(set, "word", 0, data, 4)': "INVALID_DPU_SET",
        "dpu_launch(set, DPU_SYNCHRONOUS)": "DPU_FAULT",
        'dpu_load(set, "absent.dpu", NULL)': "ELF_NO_SUCH_FILE",
        'dpu_load(set, "main.c", NULL)': "ELF_INVALID_FILE",
    }
    lines = [f"if ({call} != DPU_ERR_{name}) return {i};\n" for i, (call, name) in
             enumerate(checks.items(), 1)]  # fmt: skip
    (tmp_path / "main.c").write_text(
        "#include <dpu.h>\nint main(void) {\nstruct dpu_set_t set;\nuint8_t data[64] = {0};\n"
        'DPU_ASSERT(dpu_alloc(2, NULL, &set));\nDPU_ASSERT(dpu_load(set, "halts.dpu", NULL));\n'
        + "".join(lines)
        + "return 0;\n}\n"
    )
    text = (
        "#include <qcc_dpu.h>\n__host uint32_t word;\n__mram_noinit uint8_t mram[64];\n"
        "int main(void) { halt(); }\n"
    )
    image = build_rv32(DpuProgram("halts", text, 2), built)
    (tmp_path / "halts.dpu").write_bytes(image)
    program = host_program("refusals", [tmp_path / "main.c"], built)
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, list(checks)[done.returncode - 1]


def test_host_programs_are_kept(built: Path, tmp_path: Path) -> None:
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    first = host_program("kept", [tmp_path / "main.c"], built)
    assert host_program("kept", [tmp_path / "main.c"], built) == first
    assert build_with_host("kept", [tmp_path / "main.c"], (), built) != first
