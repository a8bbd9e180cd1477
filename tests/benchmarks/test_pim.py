"""The cycle model stays as near to measured DPUs as docs/pim.md says (spec pim.md §5.2)."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pim import DMA_FIT, LIMIT, SETTLED_CYCLES, modelled_ms
from benchmarks.pim_subjects import Bench, dma, lut
from benchmarks.pim_tables import Row, lines, mean_error, read, summary
from qcc.codegen.upmem.toolchain import candidates
from qcc.dialects.errors import QccError
from qcc.dialects.pim.device import device

needs_clang = pytest.mark.skipif(
    not candidates(), reason="needs a clang for RV32: pip install 'qcc[pim-emu]'"
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(device("v1A"), tmp_path_factory.getbasetemp() / "upmem")


@needs_clang
@pytest.mark.parametrize(
    ("kernel", "error"),
    [("GEMV", 10), ("MLP", 10), ("HST-S", 10), ("RED", 30), ("VA", 30), ("SEL", 25)],
)
def test_kernels_of_prim(bench: Bench, kernel: str, error: float) -> None:
    """One row of table A each, 16 DPUs; the limits are those that users are told."""
    table = read("pim_prim_hw.csv")
    rows = [row for row in table if (row["kernel"], row["dpus"]) == (kernel, "16")]
    row = min(rows, key=lambda each: abs(float(each["hw_ms"]) - 5))
    ms, trusted = modelled_ms(bench, kernel, 16, int(row["size"]))
    assert abs(ms / float(row["hw_ms"]) - 1) * 100 < error
    assert trusted == (kernel != "SEL")  # it has a chain of handshakes


@needs_clang
def test_lut_loops_of_table_b(bench: Bench) -> None:
    rows = []
    for given in read("pim_lut_loops.csv"):
        if given["in_table_b"] == "1":
            ran = lut(bench, int(given["cb"]), int(given["f"]))
            rows.append(Row("lut", "", float(given["hw_cycles"]), ran.timing.cycles / ran.launches))
    assert len(rows) == 14
    assert mean_error(rows)[1] < LIMIT


@needs_clang
@pytest.mark.parametrize("block", [64, 1024, 2048])
def test_dma_of_sixteen_tasklets(bench: Bench, block: int) -> None:
    ran = dma(bench, block)
    assert abs(ran.timing.cycles / ran.launches / DMA_FIT[block] - 1) < 0.04


def test_tables_say_where_they_come_from() -> None:
    assert len(read("pim_prim_hw.csv")) == 190
    lut_rows = read("pim_lut_loops.csv")
    assert len(lut_rows) == 62
    assert sum(float(row["hw_cycles"]) >= SETTLED_CYCLES for row in lut_rows) == 40
    folder = Path(__file__).parents[2] / "benchmarks" / "pim_data"
    for name in ("pim_prim_hw.csv", "pim_lut_loops.csv"):
        head = (folder / name).read_text()
        assert "MIT License" in head
        assert "github.com/" in head


def test_errors_are_counted_and_shown() -> None:
    rows = [Row("a", "1", 10, 11), Row("a", "2", 10, 8), Row("a", "3", 10, 20, counted=False),
            Row("b", "1", 5, None)]  # fmt: skip
    assert mean_error(rows) == pytest.approx((-5, 15, 20))
    text = "\n".join(lines(rows, "ms"))
    assert "+10.0%" in text
    assert "not counted" in text
    assert "not modelled" in text
    assert "2 rows" in summary("a", rows[:3])
    assert "not trusted" in summary("c", [Row("c", "", 1, 1, trusted=False)])


@needs_clang
def test_a_wrong_result_is_no_measurement(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarks.pim_subjects as subjects

    wrong = subjects.with_headers("va").replace("sums[i] += terms[i]", "sums[i] -= terms[i]")
    monkeypatch.setattr(subjects, "with_headers", lambda name: wrong)
    with pytest.raises((ValueError, QccError), match="something else"):
        subjects.va(bench, 1, 4096)
