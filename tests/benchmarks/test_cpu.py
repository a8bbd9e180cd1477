"""The harness on a tiny layer: what it measures is right, and what it writes is complete."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import cpu
from benchmarks.cpu_probe import Limits, Probe
from benchmarks.cpu_rounds import Cell, Contestant, Sample, Timed, kept, measure
from benchmarks.cpu_table import cell_rows
from benchmarks.peers.peer import Copies, Plain, Step, Variant
from benchmarks.peers.qcc_linear import FORMATS, Qcc, QccLinear
from qcc.dialects.formats import available

STEADY = Limits(1e10, 1e11, 1e11, 4e11)


class Doubling(Plain):
    """y = 2 x, or a wrong multiple of it from one of its copies."""

    weight_bytes = 100

    def __init__(self, factors: tuple[float, ...]) -> None:
        self.copies, self._factors = len(factors), factors
        self.calls: list[int] = []

    def ready(self, threads: int, x: np.ndarray) -> Step:
        def step(copy: int) -> np.ndarray:
            self.calls.append(copy % self.copies)
            return self._factors[copy % self.copies] * x

        return step


def entered(linear: Doubling, x: np.ndarray) -> Contestant:
    return Contestant("peer", Variant("doubling", 4), linear, 2 * x)


@pytest.fixture
def x() -> np.ndarray:
    return np.arange(1, 7, dtype=np.float32).reshape(2, 3)


def test_a_wrong_copy_is_never_timed(x: np.ndarray) -> None:
    good, bad = Doubling((2, 2, 2)), Doubling((2, 2, 3))
    timed = measure(Cell(3, 3, 2, 1), [entered(good, x), entered(bad, x)], x, lambda: STEADY, 3)
    assert [entry.reason for entry in timed] == ["", "wrong result"]
    assert [len(entry.samples) for entry in timed] == [3, 0]
    rows = cell_rows(Cell(3, 3, 2, 1), timed)
    assert "median_seconds" not in rows[1]


def test_the_timed_calls_of_a_burst_each_take_another_copy(x: np.ndarray) -> None:
    linear = Doubling((2, 2, 2, 2))
    measure(Cell(3, 3, 2, 1), [entered(linear, x)], x, lambda: STEADY, 3)
    warm, bursts = linear.calls[:5], linear.calls[5:]
    assert warm == [0, 1, 2, 3, 0]
    assert bursts == 3 * [0, 1, 2, 3]


def test_samples_beside_a_fallen_probe_are_left_out(x: np.ndarray) -> None:
    timed = Timed(entered(Doubling((2,)), x), 0.0)
    slow_memory = Limits(0.6e10, 1e11, 1e11, 4e11)
    slow_clock = Limits(1e10, 0.6e11, 1e11, 4e11)
    all_limits = [STEADY, slow_memory, STEADY, slow_clock, STEADY, STEADY]
    timed.samples = [Sample(i, 1.0, limits) for i, limits in enumerate(all_limits)]
    assert [sample.round for sample in kept([timed])[0]] == [0, 2, 4, 5]


def test_disturbed_samples_count_only_where_there_is_nothing_else(x: np.ndarray) -> None:
    mostly, always = (Timed(entered(Doubling((2,)), x), 0.0) for _ in range(2))
    mostly.samples = [Sample(i, 1.0, STEADY, disturbed=i == 1) for i in range(4)]
    always.samples = [Sample(i, 1.0, STEADY, disturbed=True) for i in range(4)]
    usable = kept([mostly, always])
    assert [sample.round for sample in usable[0]] == [0, 2, 3]
    assert len(usable[1]) == 4


def test_rows_are_compared_with_the_fastest_peer_of_their_width(x: np.ndarray) -> None:
    def timed(peer: str, width: int, seconds: float) -> Timed:
        linear = Doubling((2,))
        row = Contestant(peer, Variant(f"{seconds}", width), linear, 2 * x)
        return Timed(row, 0.0, samples=[Sample(i, seconds, STEADY) for i in range(3)])

    entries = [timed("qcc", 4, 1.0), timed("b", 4, 3.0), timed("c", 4, 2.0), timed("d", 8, 0.5)]
    rows = cell_rows(Cell(10, 10, 1, 1), entries)
    assert [row["ratio"] for row in rows] == [2.0, pytest.approx(2 / 3), 1.0, 1.0]
    assert [row["against"] for row in rows] == ["c 2.0", "c 2.0", "c 2.0", "d 0.5"]


def test_limits_follow_the_slower_of_memory_and_arithmetic() -> None:
    limits = Limits(bandwidth=10.0, float_rate=100.0, bf16_rate=200.0, int8_rate=400.0)
    assert limits.seconds("fp32", weight_bytes=10, operations=50) == 1.0
    assert limits.seconds("fp32", weight_bytes=10, operations=800) == 8.0
    assert limits.seconds("bf16", weight_bytes=10, operations=800) == 4.0
    assert limits.seconds("int8", weight_bytes=10, operations=800) == 2.0


def test_the_probe_reads_and_multiplies() -> None:
    probe = Probe(2, read_bytes=1 << 20)
    limits = probe()
    probe.close()
    assert min(limits.bandwidth, limits.float_rate, limits.bf16_rate, limits.int8_rate) > 0
    # Adds up every byte it claims to read: 1 MiB of 64-bit ones.
    assert probe._read(probe._memory.ctypes.data, probe._memory.nbytes) == (1 << 20) // 8


def test_every_four_bit_format_of_qcc_has_a_row() -> None:
    rows = {spelling.partition("<")[0] for spelling, width in FORMATS.values() if width == 4}
    weights = {name for name in available() if name.endswith("4") and not name.startswith("pact")}
    assert weights <= rows


def test_qcc_rows_mean_what_their_recipe_says() -> None:
    weight = np.random.default_rng(0).standard_normal((64, 128), np.float32)
    rows = {variant.name: variant for variant in Qcc().variants()}
    x = weight[:2]
    errors = {}
    for name in ("mxfp4", "int8 + int8 x"):
        linear, meaning = Qcc().linear(rows[name], weight, Copies(1))
        exact = x @ weight.T
        expected = linear.multiplied(x) @ meaning.T
        errors[name] = np.abs(expected - exact).max() / np.abs(exact).max()
    assert 1e-4 < errors["int8 + int8 x"] < errors["mxfp4"] < 0.2


def test_both_ways_of_calling_qcc_give_one_result() -> None:
    weight = np.random.default_rng(1).standard_normal((32, 64), np.float32)
    linear = QccLinear(weight, {"weights": "int8"}, Copies(0, most=2), None)
    kernel = linear.ready(1, weight[:3])
    whole = linear.whole_call(weight[:3])
    np.testing.assert_array_equal(linear.as_array(kernel(1)), whole(2))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, str]:
    folder = tmp_path_factory.mktemp("cpu")
    files = folder / "a.json", folder / "a.md"
    where = ["--json", str(files[0]), "-o", str(files[1])]
    what = ["--shapes", "64x256", "--batch", "1,3", "--peers", "qcc,torch,ggml"]
    assert cpu.main(["--quick", *what, "--formats", "int4 g32,fp32", *where]) == 0
    return json.loads(files[0].read_text()), files[1].read_text()


def test_the_table_holds_every_row(result: tuple[dict, str]) -> None:
    data, text = result
    assert [(cell["m"], cell["threads"]) for cell in data["cells"]] == [(1, 1), (3, 1)]
    assert set(data["peers"]) == {"qcc", "torch", "ggml"}
    for cell in data["cells"]:
        rows = {f"{row['peer']} {row['row']}": row for row in cell["rows"]}
        assert {"qcc fp32", "qcc int4 g32", "torch fp32", "torch linear_dynamic fbgemm"} <= set(
            rows
        )
        assert rows["qcc int4 g32"]["weight_bytes"] == 64 * 256 * 5 // 8
        for name, row in rows.items():
            assert row["reason"] == "" or "median_seconds" not in row, name
            assert row["error"] is not None, name
            assert name in text
    assert "## Smallest calls" in text
    assert {call["call"] for call in data["smallest_calls"]} >= {
        "qcc fp32",
        "qcc fp32, through the public call",
        "torch fp32",
    }


def test_a_package_that_is_not_there_is_named(result: tuple[dict, str]) -> None:
    data, text = result
    state = data["peers"]["ggml"]
    assert f"* ggml: {state}" in text
    assert (state == "not installed") == (not any(r["peer"] == "ggml" for r in _rows(data)))


def test_an_unknown_peer_is_refused_with_those_that_exist(capsys) -> None:
    with pytest.raises(SystemExit):
        cpu.main(["--peers", "qcc,gmml"])
    assert "no peer gmml; there are qcc, torch" in capsys.readouterr().err


def _rows(data: dict) -> list[dict]:
    return [row for cell in data["cells"] for row in cell["rows"]]
