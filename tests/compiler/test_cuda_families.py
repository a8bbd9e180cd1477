"""Everything between the products of every family becomes fused kernels, and some are executed."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qcc.codegen.cuda.emulator import build_emulated
from qcc.codegen.cuda.emulator.launch import Mode
from qcc.codegen.cuda.groups import emit_groups
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.models import FAMILIES
from qcc.passes.launching import Scheduling
from qcc.passes.schedule_cuda import cuda_passes
from tests.codegen.cuda import group_runs as runs

PRODUCTS = ("qcc.linear", "qcc.attention", "qcc.conv2d", "qcc.matmul")
FREE = (
    "qcc.param", "arith.", "func.return", "tensor.dim", "tensor.expand_shape",
    "tensor.collapse_shape", "tensor.cast", "tile.", "builtin.unrealized_conversion_cast",
)  # fmt: skip
EXECUTED = ("llama", "moe", "unet")


@pytest.fixture(scope="module")
def grouped(compiled: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """grouped(family): its program with fused groups, in a context of its own."""
    folder: Path = tmp_path_factory.mktemp("families")

    def make(family: str) -> ir.Module:
        path = folder / f"{family}.qcc"
        if not path.exists():
            compiled(family)[1].save(path)
        with zipfile.ZipFile(path) as members:
            module = ir.Module.parse(members.read("model.mlir"))
        for name, run in cuda_passes(Scheduling()).items():
            if name.startswith("expand-") or name == "schedule-groups":
                run(module.operation, None)
        return module

    return make


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_left(grouped: Callable[[str], ir.Module], family: str) -> None:
    with make_context(), ir.Location.unknown():
        module = grouped(family)
        assert module.operation.verify()
        functions = [op for op in module.body.operations if op.operation.name == "func.func"]
        ops = [op for each in functions for op in each.operation.regions[0].blocks[0].operations]
        left = {op.operation.name for op in ops}
        assert {name for name in left if not name.startswith((*PRODUCTS, *FREE))} == set()
        assert emit_groups(runs.groups_of(module)).count("QCC_KERNEL") == len(
            runs.groups_of(module)
        )


def test_groups_of_families_are_right(grouped: Any, tmp_path: Path) -> None:
    """One translation unit; equal sizes fit all that a group reads."""
    with make_context(), ir.Location.unknown():
        modules = [grouped(family) for family in EXECUTED]
        groups = [group for module in modules for group in runs.groups_of(module)]
        for number, group in enumerate(groups):
            group.operation.attributes["symbol"] = ir.StringAttr.get(f"group_{number}")
        built = build_emulated(emit_groups(groups), tmp_path, "families")
        for group in groups:
            sizes = (2,) * runs.size_count(group)
            for what, error in runs.differences(built, group, sizes, modes=(Mode("eager"),)):
                assert error <= 1, what
