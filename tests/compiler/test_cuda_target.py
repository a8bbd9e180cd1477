"""Whole models for a GPU: compiled, stored, emulated, launched through a driver, and refused."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.export import Dim

import qcc
from qcc.codegen.cuda.compilers import Outcome
from qcc.codegen.cuda.driver_device import open_gpu
from qcc.codegen.cuda.plan import LaunchStep
from qcc.codegen.cuda.program import CudaCode
from qcc.compiler.backends import stored_code
from qcc.compiler.cli import main
from qcc.compiler.cuda.binaries import with_binaries
from qcc.compiler.cuda.devices import emulated_device
from qcc.compiler.cuda.members import read_binding
from qcc.compiler.cuda.running import CudaRunning
from qcc.compiler.cuda.tensors import device_array
from qcc.compiler.cuda.workspaces import KEPT_STREAMS
from qcc.compiler.targets import require_target
from qcc.dialects.errors import (
    IntegrityError,
    QccError,
    ResourceError,
    UnsupportedError,
    UsageError,
)
from tests.compiler.recorded_driver import OWN_STREAM, RecordedDriver

K, HIDDEN, N = 72, 50, 21


class Layers(nn.Module):
    """Two layers of odd sizes, an activation between, and three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(K, HIDDEN), nn.Linear(HIDDEN, N, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Layers().eval().requires_grad_(False)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("QCC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def path(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ({0: Dim("batch", max=8), 1: Dim("time", max=40)},)
    x = torch.randn(2, 5, K)
    made = qcc.compile(
        model, (x,), recipe={"default": {"weights": "int4<group=24>"}}, target="cuda:emulate",
        dynamic_shapes=sizes,
    )  # fmt: skip
    out = tmp_path_factory.mktemp("artifact") / "layers.qcc"
    made.save(out)
    return out


@pytest.fixture(scope="module")
def code(path: Path) -> CudaCode:
    module = qcc.load(path)
    found = stored_code(module._artifact, module._precision)
    assert isinstance(found, CudaCode)
    return found


def test_golden_outputs_are_those_of_the_interpreter(path: Path) -> None:
    result = qcc.load(path).verify()
    assert result["golden"]
    assert result["passed"]
    # Far closer than what fp16 operands may differ by: both round them.
    assert all(output["max_rel_error"] < 1e-5 for output in result["outputs"])


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 40)])
def test_sizes_are_dynamic(path: Path, model: nn.Module, shape: tuple[int, int]) -> None:
    x = torch.randn(*shape, K)
    y = qcc.load(path)(x)
    assert y.shape == (*shape, N)
    assert (y - model(x)).norm() < 0.2 * model(x).norm()


@pytest.mark.parametrize(
    ("machine", "k", "product"),
    [("sm_120a", K - 1, b"mma_m16n8k64_mxf4"), ("sm_100a", 96, b"tensor_mma_mxf4")],
)
def test_blocks_of_both_sides(tmp_path: Path, machine: str, k: int, product: bytes) -> None:
    """Multiplied natively: the reference multiplies the very same numbers."""
    side = {"format": "amxfp4", "scale": "pot"}
    recipe = {"default": {"weights": side, "activations": side}}
    layer, x = nn.Linear(k, N), torch.randn(5, k)
    made = qcc.compile(layer, (x,), recipe=recipe, target=f"cuda:emulate:{machine}")
    result = made.verify()
    assert result["passed"]
    assert all(output["max_rel_error"] < 1e-5 for output in result["outputs"])
    made.save(tmp_path / "layer.qcc")
    with zipfile.ZipFile(tmp_path / "layer.qcc") as archive:
        assert product in archive.read("kernels/cuda/linear.cu")


def test_members_tell_what_runs(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        source = archive.read("kernels/cuda/linear.cu").decode()
        binding = json.loads(archive.read("kernels/cuda.json"))
        stored = b"".join(archive.read(name) for name in names)
    assert str(Path(__file__).parent).encode() not in stored, "nothing names a folder of ours"
    assert "kernels/cuda/groups.cu" in names
    assert not [name for name in names if name.endswith((".o", ".cubin"))]
    assert source.startswith('#include "qcc_cuda.cuh"')
    launched = {step["kernel"] for step in binding["plan"]["functions"]["main"]["steps"]}
    written = {kernel for source in binding["sources"] for kernel in source["kernels"]}
    assert launched == written


def test_commands(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", np.ones((1, 2, K), np.float32))
    assert main(["run", str(path), "--inputs", str(tmp_path / "x.npz")]) == 0
    assert main(["verify", str(path)]) == 0
    assert "PASS" in capsys.readouterr().out
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "kernels for sm_80, run by the emulator" in text
    assert "linear_int4_0" in text
    assert main(["report", str(path), "-o", str(tmp_path / "r.html")]) == 0
    assert "Kernels for sm_80" in (tmp_path / "r.html").read_text()


def test_a_damaged_plan_is_refused(path: Path) -> None:
    module = qcc.load(path)
    binding = module._artifact.json(module._precision.binding)
    binding["plan"]["functions"]["main"]["sizes"] = 3.14
    damaged = SimpleNamespace(json=lambda name: binding)
    with pytest.raises(IntegrityError, match="launch plan is damaged"):
        read_binding(damaged, module._precision)  # type: ignore[arg-type]


def launches(code: CudaCode) -> list[LaunchStep]:
    return [s for s in code.plan.functions["main"].steps if isinstance(s, LaunchStep)]


def with_cubins(code: CudaCode) -> CudaCode:
    return replace(code, cubins={source.family: source.family.encode() for source in code.sources})


@pytest.fixture
def driver(code: CudaCode) -> RecordedDriver:
    device = emulated_device(code)
    return RecordedDriver({name.encode(): each for name, each in device._modules.items()})


def test_a_driver_is_asked_for_what_the_plan_says(
    path: Path, code: CudaCode, driver: RecordedDriver
) -> None:
    module = qcc.load(path)
    device = open_gpu(with_cubins(code), driver)
    running = CudaRunning(with_cubins(code), module._artifact.tensor, device)
    x = np.random.default_rng(1).standard_normal((3, 4, K)).astype(np.float32)
    [wanted] = module.run([x])
    for _ in range(2):
        np.testing.assert_array_equal(running.call([x])[0], wanted)
    kernels = [step.kernel for step in launches(code)]
    assert [call[1] for call in driver.calls if call[0] == "launch"] == 2 * kernels
    assert len([call for call in driver.calls if call[0] == "function"]) == len(set(kernels))
    told = next(call[3] for call in driver.calls if call[0] == "launch")
    assert "of layer first on " in told
    running.close()
    assert not driver.memory, "everything that was allocated is freed"
    device.close()
    assert driver.closed
    assert not driver.loaded


def test_a_module_s_calls_are_captured(path: Path, model: nn.Module) -> None:
    module = qcc.load(path)
    x, other, longer = torch.randn(2, 3, K), torch.randn(2, 3, K), torch.randn(2, 4, K)
    with module.captured(x) as call:
        assert torch.equal(call(other), module(other))
        assert torch.equal(call(x=x), module(x))
        with pytest.raises(UsageError, match="recorded for inputs"):
            call(longer)
    on_cpu = qcc.compile(model, (x,))
    with pytest.raises(UnsupportedError, match="only calls of CUDA kernels"):
        on_cpu.captured(x)


def test_graphs_are_replayed_on_new_inputs(
    path: Path, code: CudaCode, driver: RecordedDriver
) -> None:
    module = qcc.load(path)
    device = open_gpu(with_cubins(code), driver)
    running = CudaRunning(with_cubins(code), module._artifact.tensor, device)
    rng = np.random.default_rng(2)
    x, y = (rng.standard_normal((2, 3, K)).astype(np.float32) for _ in range(2))
    call = running.captured([x])
    for each in (y, x):
        np.testing.assert_array_equal(call([each])[0], module.run([each])[0])
    assert [c for c in driver.calls if c[0] == "replay"] == 2 * [("replay", len(launches(code)))]
    with pytest.raises(UsageError, match="recorded for inputs"):
        call([x[:1]])
    call.close()
    running.close()
    assert not driver.graphs
    assert not driver.memory


class Tensor:
    """What qcc asks of a torch tensor on the GPU, over the recorded driver's memory."""

    is_cuda, device, stream = True, None, None

    def __init__(self, driver: RecordedDriver, array: np.ndarray) -> None:
        self.driver, self.shape = driver, array.shape
        self.dtype = f"torch.{array.dtype}"
        self.address = driver.allocate(array.nbytes)
        driver.to_device(self.address, array.ctypes.data, array.nbytes)
        self.nbytes = array.nbytes

    def detach(self) -> Tensor:
        return self

    def contiguous(self) -> Tensor:
        return self

    def data_ptr(self) -> int:
        return self.address

    def new_empty(self, shape: tuple[int, ...], dtype: Any) -> Tensor:
        return Tensor(self.driver, np.zeros(shape, str(dtype).removeprefix("torch.")))

    def numpy(self) -> np.ndarray:
        array = np.empty(self.shape, self.dtype.removeprefix("torch."))
        self.driver.to_host(array.ctypes.data, self.address, array.nbytes)
        return array


def test_tensors_on_the_gpu_are_not_copied(
    path: Path, code: CudaCode, driver: RecordedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = qcc.load(path)
    x = np.random.default_rng(3).standard_normal((2, 3, K)).astype(np.float32)
    [wanted] = module.run([x])
    running = CudaRunning(
        with_cubins(code), module._artifact.tensor, open_gpu(with_cubins(code), driver)
    )
    monkeypatch.setitem(module.__dict__, "_running", running)
    monkeypatch.setattr("qcc.compiler.cuda.tensors._stream", lambda tensor: 77)
    module._target = require_target("cuda:sm_80")
    copies: list[int] = []
    monkeypatch.setattr(driver, "to_host", lambda *call: copies.append(call[2]))
    tensor = Tensor(driver, x)
    monkeypatch.setattr(driver, "to_device", lambda *call: copies.append(call[2]))
    monkeypatch.setattr(Tensor, "__init__", _made)
    result = module(tensor)
    assert not copies
    assert {call[2] for call in driver.calls if call[0] == "launch"} == {77}
    assert driver.stream == OWN_STREAM
    monkeypatch.undo()
    np.testing.assert_array_equal(result.numpy(), wanted)


def test_streams_do_not_share_memory(path: Path, code: CudaCode, driver: RecordedDriver) -> None:
    """Calls on two streams may run at once; a call after another on one stream uses its memory."""
    running = CudaRunning(
        with_cubins(code), qcc.load(path)._artifact.tensor, open_gpu(with_cubins(code), driver)
    )
    x: Any = Tensor(driver, np.ones((2, 3, K), np.float32))

    def empty(*made: Any) -> Any:
        return Tensor(driver, np.empty(*made))

    taken = []
    for stream in (1, 1, 2):
        before = set(driver.memory)
        running.call_on_device([x], empty, stream)
        taken.append(len(set(driver.memory) - before))
    first, again, other = taken
    assert first == other > again == 1, "the result alone is new"
    kept = set(driver.memory)
    running.close()
    assert len(kept - set(driver.memory)) > 2 * (first - 1)


def test_streams_without_end_share_the_memory_of_a_few(
    path: Path, code: CudaCode, driver: RecordedDriver
) -> None:
    """A stream that takes over what another one used waits for it, and no stream else waits."""
    module = qcc.load(path)
    running = CudaRunning(
        with_cubins(code), module._artifact.tensor, open_gpu(with_cubins(code), driver)
    )
    array = np.random.default_rng(4).standard_normal((2, 3, K)).astype(np.float32)
    x: Any = Tensor(driver, array)
    results: list[Tensor] = []

    def empty(*made: Any) -> Any:
        results.append(Tensor(driver, np.empty(*made)))
        return results[-1]

    streams = [10, 11, 12, 13, 10, 14, 15, 14, 11]
    held = []
    for stream in streams:
        running.call_on_device([x], empty, stream)
        held.append(len(driver.memory) - len(results))
    assert held[3] == held[-1]
    waits = [call[1:] for call in driver.calls if call[0] == "wait"]
    assert waits == [(14, 11), (15, 12), (11, 13)]
    assert len(driver.marks) == KEPT_STREAMS == 4
    for result in results:
        np.testing.assert_array_equal(result.numpy(), module.run([array])[0])
    running.close()
    assert len(driver.memory) == 1 + len(results)
    assert not driver.marks


def test_tensors_of_another_gpu_are_refused(
    path: Path, code: CudaCode, driver: RecordedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = qcc.load(path)
    running = CudaRunning(
        with_cubins(code), module._artifact.tensor, open_gpu(with_cubins(code), driver)
    )
    monkeypatch.setitem(module.__dict__, "_running", running)
    module._target = require_target("cuda:sm_80")
    tensor = Tensor(driver, np.ones((2, 3, K), np.float32))
    driver.ordinals[tensor.address] = 1
    with pytest.raises(UsageError, match="input 'x' is on GPU 1, the program is on GPU 0") as told:
        module(tensor)
    assert "cuda:0" in told.value.next_step
    assert not [call for call in driver.calls if call[0] == "launch"]


def test_what_another_stream_still_writes_is_waited_for(
    path: Path, code: CudaCode, driver: RecordedDriver
) -> None:
    module = qcc.load(path)
    running = CudaRunning(
        with_cubins(code), module._artifact.tensor, open_gpu(with_cubins(code), driver)
    )
    array = np.ones((2, 3, K), np.float32)
    interface = {
        "shape": array.shape, "typestr": "<f4", "version": 3, "strides": None,
        "data": (Tensor(driver, array).address, False),
    }  # fmt: skip

    def empty(*made: Any) -> Any:
        return Tensor(driver, np.empty(*made))

    def called(**more: int) -> list[tuple[Any, ...]]:
        driver.calls.clear()
        given = SimpleNamespace(__cuda_array_interface__={**interface, **more})
        running.call_on_device([device_array(given, module.signature.inputs[0])], empty, 77)
        return [call[:3] for call in driver.calls if call[0] in ("wait", "launch")]

    assert called(stream=55)[0] == ("wait", 77, 55)
    assert called(stream=55)[1][0] == "launch"
    assert {call[0] for call in called()} == {"launch"}
    assert len(driver.marks) == 1, "those of the producer are forgotten"


def _made(tensor: Tensor, driver: RecordedDriver, array: np.ndarray) -> None:
    tensor.driver, tensor.shape, tensor.dtype = driver, array.shape, f"torch.{array.dtype}"
    tensor.address, tensor.nbytes = driver.allocate(array.nbytes), array.nbytes


def test_warp_groups_copy_by_tensor_maps() -> None:
    """On sm_90a: few tokens by pointers, many by a tensor map, chosen by the call."""
    torch.manual_seed(1)
    layer = nn.Linear(256, 256).half().eval()
    made = qcc.compile(
        layer, (torch.randn(2, 256).half(),), recipe={"default": {"weights": "int8"}},
        target="cuda:emulate:sm_90a", dynamic_shapes=({0: Dim("tokens", max=999)},), golden=False,
    )  # fmt: skip
    code = stored_code(made._artifact, made._precision)
    assert isinstance(code, CudaCode)
    device = emulated_device(code)
    driver = RecordedDriver({n.encode(): each for n, each in device._modules.items()}, (9, 0))
    running = CudaRunning(
        with_cubins(code), made._artifact.tensor, open_gpu(with_cubins(code), driver)
    )
    kernels = []
    for tokens in (5, 70):
        x = torch.randn(tokens, 256).half()
        [result] = running.call([x.numpy()])
        np.testing.assert_array_equal(result, made(x).detach().numpy())
        error = np.abs(result - layer(x).detach().numpy()).max()
        assert error < 0.02
        kernels.append([call[1] for call in driver.calls if call[0] == "launch"])
        driver.calls.clear() if tokens == 5 else None
    few, many = kernels
    assert few != many
    assert ("tensor_map", (70, 256)) in [call[:2] for call in driver.calls]


def test_verifying_tells_where_the_emulator_stood_in(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_: CudaCode) -> None:
        raise ResourceError("cuda-driver", "no GPU")

    monkeypatch.setattr("qcc.codegen.cuda.driver_device.open_gpu", absent)
    module = qcc.load(path)
    assert not module.verify()["emulated"]
    module = qcc.load(path)
    module._target = require_target("cuda:sm_80")
    result = module.verify()
    assert result["passed"]
    assert result["emulated"]


def test_another_gpu_is_refused(code: CudaCode, driver: RecordedDriver) -> None:
    driver._capability = (9, 0)
    with pytest.raises(UnsupportedError, match=r"sm_90 \(a recorded GPU\)"):
        open_gpu(with_cubins(code), driver)
    assert driver.closed
    driver._capability, driver.closed = (8, 9), False  # of the same generation, and later
    open_gpu(with_cubins(code), driver)


def test_a_cubin_that_is_refused_leaves_nothing_open(
    code: CudaCode, driver: RecordedDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = driver.load

    def all_but_groups(cubin: bytes) -> bytes:
        if cubin == b"groups":
            raise ResourceError("cuda-driver", "the CUDA driver refuses loading a cubin")
        return load(cubin)

    monkeypatch.setattr(driver, "load", all_but_groups)
    code = with_cubins(code)
    code = replace(
        code, cubins=dict(sorted(code.cubins.items(), key=lambda each: each[0] == "groups"))
    )
    with pytest.raises(ResourceError, match="refuses loading"):
        open_gpu(code, driver)
    assert driver.closed
    assert not driver.loaded


def test_sources_alone_do_not_run_on_a_gpu(code: CudaCode, driver: RecordedDriver) -> None:
    with pytest.raises(UnsupportedError, match="no cubins for sm_80"):
        open_gpu(code, driver)


def test_a_compiler_that_refuses_is_told_with_kernel_and_line(
    code: CudaCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        version = "a compiler that refuses"

        def compile(self, source: str, name: str, flags: Any) -> Outcome:
            if name != "linear":
                return Outcome(b"a cubin", "")
            line = source.splitlines().index("linear_int4_0(") + 2
            return Outcome(None, f"{name}.cu({line}): error: it does not like this")

    monkeypatch.setattr("qcc.compiler.cuda.binaries.find_compiler", Refusing)
    with pytest.raises(QccError, match="does not compile for sm_80") as told:
        with_binaries(code)
    assert "kernel 'linear_int4_0', linear.cu:" in told.value.where
    folder = Path(told.value.next_step.rsplit(" ", 1)[1])
    assert (folder / "qcc_cuda.cuh").is_file()
