"""Fused kernels against the interpreter: every case, in all modes of the emulator, odd sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qcc.codegen.cuda.compilers import find_compiler, nvrtc_libraries
from qcc.codegen.cuda.emulator import EmulatedModule, build_emulated
from qcc.codegen.cuda.emulator.launch import KernelViolation
from qcc.codegen.cuda.groups import emit_groups
from qcc.codegen.cuda.resources import resources
from qcc.codegen.cuda.toolchain import Job, build
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile.group import GroupSchedule
from qcc.passes.launching import Scheduling
from qcc.passes.schedule_groups import GroupScheduling, schedule_groups
from tests.codegen.cuda import group_runs as runs
from tests.codegen.cuda.group_cases import CASES, softmax

DEFAULT = Scheduling()
SIZES = ((2, 3, 5), (1, 1, 1), (0, 4, 2), (37, 129, 3))


@dataclass
class Built:
    groups: dict[str, list[Any]]
    module: EmulatedModule


def scheduled(text: str, options: Scheduling = DEFAULT) -> ir.Module:
    module = ir.Module.parse(text)
    schedule_groups(options)(module.operation, None)
    assert module.operation.verify()
    return module


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """All cases as one translation unit."""
    with make_context(), ir.Location.unknown():
        groups: dict[str, list[Any]] = {}
        modules = []
        for number, (name, text) in enumerate(CASES.items()):
            module = scheduled(text)
            modules.append(module)
            groups[name] = runs.groups_of(module)
            for index, group in enumerate(groups[name]):
                group.operation.attributes["symbol"] = ir.StringAttr.get(f"case_{number}_{index}")
        source = emit_groups([group for each in groups.values() for group in each])
        yield Built(groups, build_emulated(source, tmp_path_factory.mktemp("groups"), "groups"))


@pytest.mark.parametrize("name", CASES)
def test_one_kernel_that_is_right(built: Built, name: str) -> None:
    [group] = built.groups[name]
    for sizes in dict.fromkeys(each[: runs.size_count(group)] for each in SIZES):
        for what, error in runs.differences(built.module, group, sizes):
            assert error <= 1, (what, sizes)


SCHEDULES = {
    "a thread": GroupSchedule(32, 1, 1, 1),
    "a thread that keeps": GroupSchedule(64, 4, 1, 1, True),
    "some lanes": GroupSchedule(64, 2, 1, 4, True),
    "some lanes that read again": GroupSchedule(64, 2, 1, 8),
    "a warp": GroupSchedule(128, 1, 1, 32, True),
    "two warps": GroupSchedule(64, 4, 1, 64, True),
    "a block of few columns": GroupSchedule(256, 1, 1, 256, True),
}


def test_every_schedule_gives_the_same(tmp_path: Path) -> None:
    with make_context(), ir.Location.unknown():
        groups = []
        modules = []
        for number, schedule in enumerate(SCHEDULES.values()):
            options = GroupScheduling("sm_80", lambda _, chosen=schedule: chosen)
            modules.append(scheduled(CASES["softmax of 64 columns"], options))
            [group] = runs.groups_of(modules[-1])
            group.operation.attributes["symbol"] = ir.StringAttr.get(f"softmax_{number}")
            groups.append(group)
        module = build_emulated(emit_groups(groups), tmp_path, "schedules")
        for group in groups:
            for rows in (1, 5, 37):
                for what, error in runs.differences(module, group, (rows,)):
                    assert error <= 1, (what, rows)


FAULTS = {
    "no barrier": ("sync_threads();", "// not all"),
    "an exchange too few": ("for (int distance = 16;", "for (int distance = 8;"),
    "a warp too few": ("other < 2", "other < 1"),
    "beyond the rows": ("const int row = blockIdx.x;", "const int row = blockIdx.x + 1;"),
    "another register": ("_kept[i] = ", "_kept[0] = "),
}


def test_planted_faults_are_found(tmp_path: Path) -> None:
    options = GroupScheduling("sm_80", lambda _: SCHEDULES["two warps"])
    text = softmax(256)
    with make_context(), ir.Location.unknown():
        module = scheduled(text, options)
        [group] = runs.groups_of(module)
        source = emit_groups([group])
        name = runs.name_of(group)
        texts = []
        for number, (old, new) in enumerate(FAULTS.values()):
            assert old in source, old
            texts.append(source.replace(old, new).replace(name, f"softmax_{number}"))
        faulty = build_emulated("\n".join(texts), tmp_path, "faults")
        for number, what in enumerate(FAULTS):
            group.operation.attributes["symbol"] = ir.StringAttr.get(f"softmax_{number}")
            assert _fails(faulty, group), what


def _fails(module: EmulatedModule, group: Any) -> bool:
    try:
        return any(error > 1 for _, error in runs.differences(module, group, (3,)))
    except KernelViolation:
        return True


def test_what_has_no_rule_is_named() -> None:
    text = CASES["softmax of 4 columns"].replace("math.exp", "math.erfc")
    with make_context(), ir.Location.unknown():
        module = scheduled(text)
        with pytest.raises(UnsupportedError, match=r"no rule for math\.erfc"):
            emit_groups(runs.groups_of(module))


ANGLES = """
#map = affine_map<(d0, d1) -> (d0, d1)>
func.func @main(%x: tensor<?x64xf32>) -> tensor<?x64xf32> {
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x64xf32>
  %e = tensor.empty(%n) : tensor<?x64xf32>
  %y = linalg.generic {indexing_maps = [#map, #map], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x64xf32>) outs(%e : tensor<?x64xf32>) {
  ^bb0(%a: f32, %o: f32):
    %b = math.sin %a : f32
    %c = math.cos %a : f32
    %d = arith.addf %b, %c : f32
    linalg.yield %d : f32
  } -> tensor<?x64xf32>
  return %y : tensor<?x64xf32>
}
"""


def test_default_schedules_keep_their_columns_in_registers(tmp_path: Path) -> None:
    """Rows of language models; angles too, whose code for large ones may want memory."""
    with make_context(), ir.Location.unknown():
        modules = [scheduled(softmax(n)) for n in (64, 1024, 5000, 32000)] + [scheduled(ANGLES)]
        groups = []
        for number, module in enumerate(modules):
            [group] = runs.groups_of(module)
            group.operation.attributes["symbol"] = ir.StringAttr.get(f"group_{number}")
            groups.append(group)
        job = Job("groups", emit_groups(groups), "sm_90a")
    compiler = next(nvrtc_libraries(), None) or find_compiler()
    found = resources(build(job, tmp_path, compiler))
    assert len(found) == len(groups)
    for name, used in found.items():
        assert not used.spills, name
        assert used.stack == 0, name
        assert used.registers * 1024 <= 64 * 1024 or name != "group_3"
