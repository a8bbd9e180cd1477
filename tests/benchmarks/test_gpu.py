"""The GPU suite with the emulator as its device: checks, times, pieces, and what it finds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu, gpu_devices, gpu_kernels, gpu_peers
from benchmarks.gpu_attention import Attention
from benchmarks.gpu_attention import timed as timed_attention
from benchmarks.gpu_cases import random_case
from benchmarks.gpu_convolution import Convolution
from benchmarks.gpu_convolution import timed as timed_convolutions
from benchmarks.gpu_groups import Group
from benchmarks.gpu_launches import Call
from benchmarks.gpu_table import document
from qcc.dialects.tile.attention_problem import default_attention
from qcc.dialects.tile.conv_problem import Window
from qcc.dialects.tile.conv_schedule import default_convolution
from qcc.dialects.tile.problem import LinearProblem

TINY = ["--device", "emulate", "--kinds", "linear", "--weights", "nf4", "--checked", "49x391",
        "--shapes", "32x256", "--tokens", "1"]  # fmt: skip


TOKENS = (1, 17)


def state_of(folder: Path) -> dict:
    return json.loads((folder / "emulate.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "CHECKED_TOKENS", TOKENS)
        assert gpu.main([*TINY, "--results", str(folder)]) == 0
    return folder


def test_kernels_are_checked_and_timed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = state_of(results)
    names = {f"nf4<group=64> x f16 49x448 M={tokens}" for tokens in TOKENS}
    assert set(state["checks"]) == names
    assert all(each["right"] and each["error"] > 0 for each in state["checks"].values())
    row = state["times"]["nf4<group=64> x f16 32x256 M=1"]
    assert row["bytes"] == 32 * 256 // 2 + 4 * 32 * 4 + 256 * 2 + 32 * 2
    assert row["seconds"] > 0
    text = (results / "emulate.md").read_text()
    assert "2 kernels checked against NumPy, 0 wrong." in text
    assert "| `nf4<group=64>` | f16 | 32 x 256 | 1 |" in text


def test_what_is_done_is_not_done_again(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "CHECKED_TOKENS", TOKENS)
    monkeypatch.setattr(gpu.Suite, "check", None)
    monkeypatch.setattr(gpu.Suite, "measure", None)
    assert gpu.main([*TINY, "--results", str(results)]) == 0
    assert "0 pieces done, 0 left" in capsys.readouterr().err


def test_other_kernels_are_measured_again(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "emulate.json").write_text((results / "emulate.json").read_text())
    monkeypatch.setattr(gpu, "header_digest", lambda: "another")
    gpu.main([*TINY, "--results", str(tmp_path), "--minutes", "-1"])
    assert state_of(tmp_path)["checks"] == {}


SANITIZER = """#!/bin/sh
shift 4
echo "$@" >> "{folder}/calls"
test -e "{folder}/again" && echo "2 pieces done, 0 left" >&2 && exit {status}
touch "{folder}/again"
echo "1 pieces done, 1 left; call again to go on" >&2
"""


@pytest.mark.parametrize(("status", "said"), [(0, "clean"), (9, "exit 9")])
def test_sanitizers_go_on_where_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, said: str
) -> None:
    """They check the kernels that were asked for, and a call has no more time than it was given."""
    program = tmp_path / "compute-sanitizer"
    program.write_text(SANITIZER.format(folder=tmp_path, status=status))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(gpu, "SANITIZERS", ("memcheck",))
    monkeypatch.setattr(gpu, "CHECKED_TOKENS", ())
    for sanitizer in ({}, {"memcheck linear nf4": said}):
        gpu.main([*TINY, "--results", str(tmp_path), "--check-only", "--sanitize"])
        assert state_of(tmp_path)["sanitizer"] == sanitizer
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert "--kinds linear --weights=nf4 --minutes 8.00" in first
    assert first.split("--results")[1] == second.split("--results")[1]


def test_a_piece_ends_in_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main([*TINY, "--results", str(tmp_path), "--minutes", "0"])
    assert "left; call again to go on" in capsys.readouterr().err


def test_wrong_results_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = gpu_devices.Emulator.result

    def wrong(self, kernels, calls, given, output):
        result = right(self, kernels, calls, given, output)
        result[0, -1] += np.float16(1)
        return result

    monkeypatch.setattr(gpu_devices.Emulator, "result", wrong)
    options = [*TINY[:-4], "--shapes", "32x256", "--tokens", "1", "--results", str(tmp_path)]
    monkeypatch.setattr(gpu, "CHECKED_TOKENS", (1,))
    assert gpu.main(options) == 1
    state = state_of(tmp_path)
    assert not any(each["right"] for each in state["checks"].values())
    assert state["times"] == {}


def test_the_table_compares_with_limits_and_peers() -> None:
    row = {"n": 4096, "k": 4096, "tokens": 1, "weight": "int4", "activation": "f16",
           "bytes": 8_400_000, "seconds": 2.1e-6}  # fmt: skip
    other = {"kind": "attention", "name": "decode int4", "math": "fp16", "bytes": 8_400_000,
             "operations": 8_000_000, "seconds": 2.1e-6, "peer": 6.3e-6}  # fmt: skip
    peers = {"fp16": 8.4e-6, "int4": 4.2e-6, "triton": "none"}
    state = {"device": "A", "target": "sm_90a", "checks": {}, "times": {"a": row},
             "sanitizer": {"memcheck": "clean"}, "kernels": {"b": other},
             "ceilings": {"copy": 4.2e12, "fp16": 8e14},
             "peers": {"4096x4096 M=1": peers}}  # fmt: skip
    text = document(state)
    assert "| 2.1 | 4000 | 95 % | 15.98 | 2 % | 4.00 | 2.00 |" in text
    assert "| decode int4 | 2.1 | 4000 | 95 % | 3.81 | 0 % | 3.00 |" in text
    assert "compute-sanitizer memcheck: clean." in text


SMALL = {
    "attention": Attention("int4", 3, 2, 1, 70, 64),
    "conv2d": Convolution(
        Window(32, 32, (1, 1)), 8, (3, 1), "int4", "i4", "NHWC 8n 32c", "int4<group=tensor>"
    ),
    "groups": Group("softmax", 3, 24),
}


@pytest.mark.parametrize("kind", SMALL)
def test_other_kernels_are_checked_and_timed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is timed is checked before by a sample of its result; a wrong one would be seen."""
    subject = SMALL[kind]
    for name in ("checked", "timed"):
        monkeypatch.setattr(gpu_kernels, name, lambda kinds: [subject] if kind in kinds else [])
    command = ["--device", "emulate", "--kinds", kind, "--results", str(tmp_path)]
    assert gpu.main(command) == 0
    state = state_of(tmp_path)
    name = gpu.spelled(subject)
    assert state["checks"].keys() == state["kernels"].keys() == {name}
    assert 0 < state["checks"][name]["error"] <= 1
    assert f"| {subject.name} |" in (tmp_path / "emulate.md").read_text()
    trial = subject.trial("sm_90a", sampled=True)
    assert trial.error(np.zeros_like(trial.given[trial.output])) > 1
    assert trial.moved == MOVED[kind]


MOVED = {
    # Queries and results; codes, a scale, of 71 positions of keys and values; flags of keys.
    "attention": 2 * 6 * 64 * 2 + 3 * 71 * (2 * (64 // 2 + 4) + 4),
    # Images and results of bytes, which sm_90a multiplies; codes padded to 64 columns, scales.
    "conv2d": 8 * 3 * 32 * (1 + 1) + 32 * 64 // 2 + 32 * 4 + 2 * 4,
    "groups": 2 * 3 * 24 * 2,
}


def test_layers_that_are_timed_have_kernels() -> None:
    """ResNet-50's in both orders of axes; prompts and decoding in each cache."""
    attention, convolutions = list(timed_attention()), list(timed_convolutions())
    assert all(default_attention(each.problem, "sm_90a") for each in attention)
    assert all(default_convolution(each.problem("sm_90a"), "sm_90a") for each in convolutions)
    names = {each.name for each in (*attention, *convolutions)}
    assert "decode int4 heads=32/8 depth=128 queries=1 keys=4096" in names
    assert "int4 x i8 NHWC 256→256 3x3/1 14x14 N=32" in names


def test_peers_that_fail_say_why() -> None:
    class NoTorch:
        def __getattr__(self, name: str):
            raise RuntimeError(f"no {name}\nat all")

    assert gpu_peers.Torch(NoTorch(), lambda calls: 1.0).seconds("fp16", 64, 64, 1) == "no randn"


class Tensor:
    """An array that says it is on a GPU."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def cuda(self) -> Tensor:
        return self

    cpu = cuda

    def numpy(self) -> np.ndarray:
        return self.array

    def any(self) -> bool:
        return bool(self.array.any())

    def data_ptr(self) -> int:
        return self.array.ctypes.data


class Api:
    """Records the driver's calls; names are their own values."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("CU"):
            return Names()
        if name.endswith("_t"):
            return int

        def call(*arguments: Any) -> tuple[int, str]:
            self.calls.append((name, arguments))
            return 0, name

        return call


class Names:
    def __getattr__(self, name: str) -> str:
        return name


def on_gpu(monkeypatch: pytest.MonkeyPatch, folder: Path, api: Api) -> gpu_devices.Gpu:
    """A device whose torch and driver only record."""
    properties = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, L2_cache_size=50 << 20)
    cuda = SimpleNamespace(
        init=lambda: None, synchronize=lambda: None,
        get_device_properties=lambda ordinal: properties,
        current_stream=lambda: SimpleNamespace(cuda_stream=7),
    )  # fmt: skip
    torch = SimpleNamespace(cuda=cuda, zeros=lambda *_, **__: None, from_numpy=Tensor)
    for name, module in {"torch": torch, "cuda.bindings.driver": api}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return gpu_devices.Gpu(folder)


def test_a_gpu_is_given_pointers_maps_and_numbers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In the order of the kernel's parameters, with the grid and memory of its launch."""
    api = Api()
    device = on_gpu(monkeypatch, tmp_path, api)
    assert (device.target, device.slug) == ("sm_90a", "nvidia-h200")
    problem = LinearProblem(128, 256, 40, "int4<group=128>")
    source, launch = gpu.emitted(problem, "sm_90a")
    monkeypatch.setattr(gpu_devices, "build", lambda *_: SimpleNamespace(code=b"cubin"))
    call_ = Call.linear(launch, 40)
    kernels = device.prepared(source, (call_,))
    case = random_case(problem, launch, 40)
    result = device.result(kernels, (call_,), case.arguments, "y")
    assert (result.shape, result.dtype) == ((40, 128), np.dtype(np.float16))
    calls = dict(api.calls)
    kind, rank, _, sizes, strides, box, *_ = calls["cuTensorMapEncodeTiled"]
    assert (kind, rank) == ("CU_TENSOR_MAP_DATA_TYPE_UINT16", 2)
    assert (sizes, strides, box) == ([256, 40], [512], [64, launch.schedule.tokens])
    _, *grid, threads, one, _, shared, stream, (values, kinds), _ = calls["cuLaunchKernel"]
    assert (tuple(grid), threads, one) == (launch.grid(40), 384, 1)
    assert (shared, stream, values[-1]) == (launch.shared_bytes, 7, 40)
    assert values[0] == "cuTensorMapEncodeTiled"
    assert kinds[0] is None
    assert len(values) == len(launch.arguments)
    assert calls["cuFuncSetAttribute"][2] == launch.shared_bytes


def test_a_failing_call_says_which(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    api = Api()
    device = on_gpu(monkeypatch, tmp_path, api)
    api.cuModuleLoadData = lambda code: (200,)  # type: ignore[attr-defined]
    api.cuGetErrorString = lambda status: (0, b"invalid image")  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="cuModuleLoadData: invalid image"):
        device.call("cuModuleLoadData", b"")
