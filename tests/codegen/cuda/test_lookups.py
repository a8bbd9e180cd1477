"""Rows of packed tables: every format, row by row and in packets, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcc.codegen.cuda.emulator import EmulatedModule, build_emulated
from qcc.codegen.cuda.emulator.launch import ALL_MODES, device_array
from qcc.codegen.cuda.groups import emit_groups
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import parse_spelling
from qcc.dialects.formats.stored import to_layout
from qcc.dialects.interpreter.constants import constant_array
from qcc.dialects.tile.control import walk
from qcc.dialects.tile.group import GroupSchedule
from qcc.passes.expand_lookups import expand_lookups
from qcc.passes.launching import Scheduling
from qcc.passes.schedule_groups import schedule_groups
from tests.codegen.cuda import group_runs as runs

ROWS, COLUMNS = 37, 96
TABLES = [
    ("int8", None), ("int8", "mma16"), ("int8", "mma8"), ("int4<group=32>", None),
    ("int4<group=32>", "mma16"), ("int3<group=48>", None), ("int3<group=48>", "mma16"),
    ("uint5<group=32>", "mma16"), ("int6", "mma8"), ("dint4<group=32>", "mma16"),
    ("dint4<group=32>", None), ("nf4<group=32>", "mma16_pairs"), ("fp8_e4m3", None),
    ("int4<group=32,scale=fp16>", "mma16"), ("int8<scale=bf16>", None),
    ("mxfp4", None), ("mxfp6_e2m3", "mma16"), ("mxint8", None), ("nvfp4<two_level=true>", None),
    ("nvfp4", "mma16"), ("amxfp4", "mma16"), ("amxfp4", None), ("fp16", None), ("bf16", None),
    ("fp16", "mma16"), ("sawb4<alpha=1.5>", None), ("pact4", None),
]  # fmt: skip


def program(spelling: str, layout: str | None) -> str:
    packed = f'!qcc.packed<tensor<{ROWS}x{COLUMNS}xf32>, "{spelling}">'
    stored = f', layout = "{layout}"' if layout else ""
    result = f"tensor<?x?x{COLUMNS}xf32>"
    return f"""
    func.func @main(%i: tensor<?x?xi64>) -> {result} {{
      %w = "qcc.param"() {{symbol = "w"{stored}}} : () -> {packed}
      %y = "qcc.embedding"(%w, %i) : ({packed}, tensor<?x?xi64>) -> {result}
      return %y : {result}
    }}"""


def scheduled(spelling: str, layout: str | None) -> ir.Module:
    module = ir.Module.parse(program(spelling, layout))
    expand_lookups(module.operation)
    schedule_groups(Scheduling())(module.operation, None)
    return module


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[list[ir.Module], EmulatedModule]]:
    with make_context(), ir.Location.unknown():
        modules = [scheduled(*table) for table in TABLES]
        groups = []
        for number, module in enumerate(modules):
            [group] = runs.groups_of(module)
            group.operation.attributes["symbol"] = ir.StringAttr.get(f"table_{number}")
            groups.append(group)
        folder: Path = tmp_path_factory.mktemp("lookups")
        yield modules, build_emulated(emit_groups(groups), folder, "lookups")


def arguments(module: ir.Module, indices: np.ndarray, parts: dict[str, np.ndarray]) -> list[Any]:
    """What the launch reads: the indices, parts of the table, constants."""
    ops = [op for each in module.body.operations for op in walk(each)]
    found = []
    for pointer in (op for op in ops if op.operation.name == "tile.pointer"):
        owner: Any = pointer.operation.operands[0].owner
        if isinstance(owner, ir.Block):
            found.append(indices)
        elif owner.operation.name == "arith.constant":
            found.append(np.ascontiguousarray(constant_array(owner.attributes["value"])))
        else:
            found.append(np.ascontiguousarray(parts[pointer.part.value]))
    return [device_array(each) for each in found]


@pytest.mark.parametrize("table", range(len(TABLES)), ids=[f"{s} {o}" for s, o in TABLES])
def test_rows_as_they_are_stored(built: tuple[list[ir.Module], EmulatedModule], table: int) -> None:
    modules, module = built
    spelling, layout = TABLES[table]
    fmt, random = parse_spelling(spelling), np.random.default_rng(table)
    weights = random.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    parts = fmt.encode_rows(weights)
    wanted = fmt.decode_rows(parts, COLUMNS)
    indices = np.array([[0, 36, 7], [7, ROWS, -1]], np.int64)
    [group] = runs.groups_of(modules[table])
    schedule = GroupSchedule.of(group.schedule)
    stored = to_layout(fmt, layout, parts, (ROWS, COLUMNS))
    for mode in ALL_MODES:
        given = arguments(modules[table], indices, stored)
        result = device_array(np.zeros((2, 3, COLUMNS), np.float32))
        grid = -(-result.size // schedule.per_block)
        module.launch(f"table_{table}", grid, schedule.threads, 0, [*given, result, 2, 3], mode)
        np.testing.assert_array_equal(result[0], wanted[[0, 36, 7]])
        np.testing.assert_array_equal(result[1, 0], wanted[7])
        assert np.isnan(result[1, 1:]).all()


def test_orders_of_other_targets_are_refused() -> None:
    with (
        make_context(),
        ir.Location.unknown(),
        pytest.raises(UnsupportedError, match="in the order panel16"),
    ):
        scheduled("int8", "panel16")
