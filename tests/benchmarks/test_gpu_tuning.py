"""The suite that tunes kernels for GPUs: the recorded driver runs them, its clock counts blocks."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks import gpu_tuned_kernels, gpu_tuning
from benchmarks.gpu_tuned_kernels import subjects
from benchmarks.gpu_tuning import Library, document, place_of
from qcc.autotune.database.document import decode_document
from qcc.codegen.cuda.gpu import Gpu
from qcc.compiler.tuning import cuda_jobs
from qcc.compiler.tuning.cuda_tasks import device_text
from qcc.compiler.tuning.stored_cuda_schedules import StoredCudaSchedules
from qcc.dialects.tile.matmul_problem import MatmulProblem, default_matmul
from tests.compiler import recorded_gpu

GPU = Gpu("Recorded 1000", "abcd", 80)
TINY = MatmulProblem(16, 33, rows=40)
WORDS = ["--kinds", "matmul", "--trials", "2"]


@pytest.fixture(autouse=True)
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tuning, "find_gpu", lambda: GPU)
    monkeypatch.setattr(cuda_jobs, "GPU_BACKEND", recorded_gpu.NAME)
    monkeypatch.setattr(gpu_tuned_kernels, "PRODUCTS", (TINY,))


def test_kernels_are_tuned_in_pieces_and_compared(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(Library, "fastest", lambda *_: ("stand-in", 1e-6))
    words = [*WORDS, "--results", str(tmp_path)]
    assert gpu_tuning.main([*words, "--minutes", "0"]) == 0
    assert "0 kernels done, 1 left; call again to go on" in capsys.readouterr().err
    assert gpu_tuning.main(words) == 0
    told = capsys.readouterr()
    assert "1 kernels done, 0 left" in told.err
    state = json.loads((tmp_path / "recorded-1000-tuning.json").read_text())
    [row] = state["rows"].values()
    assert row["trials"] == 2
    assert row["tuned"] <= row["default"]
    assert row["library"] == ["stand-in", 1e-6]
    assert "| `1 x 40x16x33` |" in told.out
    assert told.out == (tmp_path / "recorded-1000-tuning.md").read_text()
    # What won is what a compilation takes, and nothing is left to do.
    winners = decode_document((tmp_path / "recorded-1000-tuned.json").read_bytes(), "")
    [task] = winners.tasks()
    assert task.device == device_text("sm_80", GPU.name)
    stored = StoredCudaSchedules([("kept", winners)])
    stored.choosers.matmul(TINY, "sm_80")
    assert stored.choices[0].source == "kept"
    assert gpu_tuning.main(words) == 0
    assert "0 kernels done, 0 left" in capsys.readouterr().err


def test_the_table_has_ratios_and_their_means() -> None:
    def row(name: str, default: float, tuned: float, library: float | None) -> dict:
        found = None if library is None else ("cuBLAS", library)
        return {"kernel": "cuda.linear", "name": name, "default": default, "tuned": tuned,
                "library": found}  # fmt: skip

    text = document(
        place_of(""), {"a": row("a", 8e-6, 4e-6, 2e-6), "b": row("b", 2e-6, 2e-6, None)}
    )
    assert "# Tuned kernels on Recorded 1000\n" in text
    assert "| `a` | 8 | 4 | 2.00 | cuBLAS | 2 | 0.25 | 0.50 |" in text
    assert "| `b` | 2 | 2 | 1.00 |  | - | - | - |" in text
    assert "| geometric mean |  |  | 1.41 |  |  | 0.25 | 0.50 |" in text


def test_of_libraries_the_fastest_counts_and_memory_is_given_back(tmp_path) -> None:
    subject = next(each for each in subjects("sm_80", ("linear",), "int4", ((64, 128),), (8,)))
    library = Library(place_of("sm_80"), tmp_path)
    assert library.missing == "there is no GPU"
    assert library.fastest(subject) is None
    freed: list[bool] = []
    cuda = SimpleNamespace(empty_cache=lambda: freed.append(True))
    times: dict[str, float | str] = {"fp16": 3e-6, "int4": 2e-6, "triton": "no Triton here"}
    asked = iter(subject.libraries)

    def seconds_of(made: Any, size: int) -> float | str:
        assert size == 2 * 64 * 128
        return times.get(next(asked), "refused")

    torch = SimpleNamespace(torch=SimpleNamespace(cuda=cuda), seconds_of=seconds_of)
    library._torch = cast(Any, torch)
    assert library.fastest(subject) == ("int4", 2e-6)
    assert freed == [True]


def test_all_kernels_of_the_suite_that_have_schedules(monkeypatch) -> None:
    found = list(subjects("sm_90a", shapes=((4096, 4096),), tokens=(1, 512)))
    kernels = {each.kernel for each in found}
    assert kernels == {"cuda.linear", "cuda.attention", "cuda.conv2d", "cuda.matmul"}
    keys = {each.task("sm_90a, x").problem.get("keys") for each in found}
    assert keys >= {4096, 2048}
    assert len({each.task("sm_90a, x").key for each in found}) > 0.9 * len(found)
    assert default_matmul(TINY).warps_m == 4

    monkeypatch.setattr(gpu_tuning, "find_gpu", lambda: None)
    with pytest.raises(SystemExit, match="no GPU"):
        place_of("")
    assert place_of("sm_89").gpu == ""
