"""Tile kernels: their text comes back, verifiers refuse, and their meaning is a linear layer."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from qcc.dialects.bindings import MLIRError, ir
from qcc.dialects.context import make_context
from qcc.dialects.formats.packets import to_packets
from qcc.dialects.tile import LinearProblem, Schedule, default_schedule
from qcc.dialects.tile.launch import Launch
from qcc.dialects.tile.reference import run_kernel
from qcc.passes.linear_kernel import linear_kernel


@pytest.fixture
def context() -> Iterator[None]:
    with make_context(), ir.Location.unknown():
        yield


def kernel_of(problem: LinearProblem, **fields: Any) -> tuple[ir.Module, Launch]:
    schedule = default_schedule(problem)
    target = "sm_90a" if "wgmma" in fields.get("instruction", "") else "sm_80"
    schedule = Schedule(**{**vars(schedule), **fields})
    module = ir.Module.create()
    with ir.InsertionPoint(module.body):
        launch = linear_kernel(problem, schedule, "linear", target)
    return module, launch


@pytest.mark.parametrize("weight", ["int4<group=32>", "amxfp4", "dint4", "nf4<group=tensor>"])
def test_text_comes_back(context: None, weight: str) -> None:
    module, _ = kernel_of(LinearProblem(100, 192, 7, weight, bias="f16"))
    assert module.operation.verify()
    text = str(module)
    assert str(ir.Module.parse(text)) == text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stages = 4 : i64, stream", "stages = 40 : i64, stream", "bytes of shared memory exceed"),
        ("warps_n = 1", "warps_n = 64", "threads exceed"),
        ('instruction = "mma.m16n8k16.f16"}', 'instruction = "mma.m16n8k32.s8"}', "multiply"),
        ('instruction = "mma.m16n8k16.f16"}', 'instruction = "mma.m1n1k1"}', "not in the table"),
        ('target = "sm_80"', 'target = "sm_10"', "no CUDA target"),
        ("tensor<8x256xf16>, \"swizzle8\"", "tensor<8x256xf32>, \"swizzle8\"", "element type"),
        ('format = "int4<group=32>"', 'format = "int44"', "tile.decode"),
        ('"tokens"]', '"tokens", "more"]', "names for"),
    ],
)  # fmt: skip
def test_verifiers_refuse(context: None, old: str, new: str, message: str) -> None:
    module, _ = kernel_of(LinearProblem(100, 192, 9, "int4<group=32>"), tokens=8)
    text = str(module)
    assert old in text
    with pytest.raises(MLIRError, match=message):
        ir.Module.parse(text.replace(old, new))


BLOCKS = {"channels": 64, "tokens": 8, "depth": 128, "warps_k": 2, "stages": 2, "streams": False}
GROUPS = {"instruction": "wgmma.f16", "channels": 64, "tokens": 16, "depth": 64, "warps_n": 4,
          "warps_k": 1, "stages": 2, "streams": False}  # fmt: skip
LOOPS = {**BLOCKS, "tokens": 8, "channels": 16, "persistent": 2, "raster": 1}
SHARED = {**GROUPS, "tokens": 8, "persistent": 1, "stream_k": True}


@pytest.mark.parametrize(
    ("weight", "activation", "splits", "fields"),
    [
        ("int4<group=32>", "f16", 1, {}), ("dint4", "bf16", 2, BLOCKS), ("amxfp4", "f16", 1, {}),
        ("int3", "i8", 2, BLOCKS), ("nvfp4<two_level=true>", "f16", 3, {}),
        ("int8<group=32>", "i8", 1, {}), ("uint4", "f16", 1, BLOCKS),
        ("int4<group=40>", "f16", 2, {}), ("int4<group=40>", "f16", 1, BLOCKS),
        ("int4<group=32>", "f16", 2, GROUPS), ("int4<group=32>", "f16", 1, LOOPS),
        ("dint4", "bf16", 1, {**LOOPS, "stream_k": True}), ("int4<group=32>", "f16", 1, SHARED),
    ],
)  # fmt: skip
def test_meaning_is_a_linear_layer(
    context: None, weight: str, activation: str, splits: int, fields: dict[str, Any]
) -> None:
    n = 72 if "instruction" in fields else 37
    problem = LinearProblem(n, 544, 5, weight, activation, "f32", "f32")
    module, launch = kernel_of(problem, **fields, splits=splits)
    rng, fmt = np.random.default_rng(5), problem.format
    parts = fmt.encode_rows(rng.normal(size=(n, 544)).astype(np.float32))
    given = dict(to_packets(fmt, problem.program.order, parts, 544))
    x = rng.integers(-100, 100, (5, 544)).astype(problem.operand.dtype)
    given |= {
        "x": x,
        "x_scale": np.linspace(1, 2, 5, dtype=np.float32),
        "bias": np.arange(n, dtype=np.float32),
        "table": np.array(problem.program.table, np.uint32),
        "y": np.full((5, n), np.nan, np.float32),
        "workspace": np.empty(0),
        "arrivals": np.empty(0),
        "tokens": 5,
    }
    run_kernel(module.body.operations[0], given, launch.grid(5, 3))
    wide = x.astype(np.float64)
    if activation == "i8":
        wide = wide * np.linspace(1, 2, 5, dtype=np.float32)[:, None]
    decoded = fmt.decode_rows(parts, 544).astype(np.float64)
    wanted = wide @ decoded.T + given["bias"]
    magnitude = np.abs(wide) @ np.abs(decoded).T + given["bias"]
    assert (np.abs(given["y"] - wanted) <= 2.0**-20 * magnitude).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("persistent = 2", "persistent = 0", "1 loops over tiles in a kernel of 0 persistent"),
        ("swizzle = 8", "swizzle = 4", "2 rows of ldmatrix meet in a bank"),
        ("raster = 1", "raster = -1", "a raster of -1"),
    ],
)
def test_loops_and_orders_are_those_of_the_schedule(
    context: None, old: str, new: str, message: str
) -> None:
    module, _ = kernel_of(LinearProblem(100, 192, 9, "int4<group=32>"), **LOOPS)
    assert module.operation.verify()
    text = str(module)
    assert old in text
    with pytest.raises(MLIRError, match=message):
        ir.Module.parse(text.replace(old, new))
