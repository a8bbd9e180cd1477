"""The bindings of the driver, against an API that refuses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from qcc.codegen.cuda.driver import CudaBindings
from qcc.dialects.errors import ResourceError

CODES = {0: b"CUDA_SUCCESS", 2: b"CUDA_ERROR_OUT_OF_MEMORY"}


class Api:
    """Answers every call with its name, and those in `refused` with an error."""

    CUpointer_attribute = SimpleNamespace(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL=9)
    CUevent_flags = SimpleNamespace(CU_EVENT_DISABLE_TIMING=2)
    CUstreamCaptureMode = SimpleNamespace(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL=1)

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refused: set[str] = set()

    def cuGetErrorName(self, status: int) -> tuple[int, bytes]:
        return 0, CODES[status]

    cuGetErrorString = cuGetErrorName

    def __getattr__(self, name: str) -> Callable[..., tuple[int, str]]:
        def call(*_: Any) -> tuple[int, str]:
            self.calls.append(name)
            return 2 * (name in self.refused), f"what {name} gave"

        return call


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", made)
    return made


@pytest.mark.parametrize("refused", ["cuCtxSetCurrent", "cuStreamCreate"])
def test_a_context_without_a_stream_is_given_back(api: Api, refused: str) -> None:
    api.refused.add(refused)
    with pytest.raises(ResourceError, match="the CUDA driver refuses") as told:
        CudaBindings()
    assert told.value.where == refused
    assert "CUDA_ERROR_OUT_OF_MEMORY" in told.value.why
    assert api.calls[-1] == "cuDevicePrimaryCtxRelease"


def test_memory_is_asked_for_its_gpu(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = CudaBindings()
    monkeypatch.setattr(
        api, "cuPointerGetAttribute", lambda kind, at: (0, {(9, 256): 1}[kind, at]), raising=False
    )
    assert (driver.ordinal_of(256), driver.ordinal) == (1, 0)


def test_marks_are_events(api: Api) -> None:
    driver = CudaBindings()
    before = len(api.calls)
    driver.wait_for(driver.mark())
    calls = [name for name in api.calls[before:] if name != "cuCtxSetCurrent"]
    assert calls == ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent"]
    api.refused.add("cuEventRecord")
    with pytest.raises(ResourceError, match="marking a stream"):
        driver.mark()
    assert api.calls[-1] == "cuEventDestroy"


def test_a_graph_that_cannot_be_launched_is_freed(api: Api) -> None:
    driver = CudaBindings()
    api.refused.add("cuGraphInstantiate")
    with pytest.raises(ResourceError, match="refuses making a graph"):
        driver.capture(lambda: None)
    assert api.calls[-1] == "cuGraphDestroy"
    driver.close()
    assert api.calls[-2:] == ["cuStreamDestroy", "cuDevicePrimaryCtxRelease"]
