"""The recorded driver refuses what the driver's documentation says is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.compiler.recorded_driver import RecordedDriver

BYTES = np.zeros(64, np.uint8)
HOST = BYTES.ctypes.data


def launched(
    grid: tuple[int, int, int] = (1, 1, 1), threads: int = 32, shared: int = 0
) -> Callable[[RecordedDriver], Any]:
    def launch(driver: RecordedDriver) -> None:
        driver.capture(
            lambda: driver.launch((b"cubin", "k"), grid, threads, shared, [], "a kernel")
        )

    return launch


def mapped(
    shape: tuple[int, int], box: tuple[int, int], swizzle: int = 0, offset: int = 0
) -> Callable[[RecordedDriver], Any]:
    return lambda driver: driver.tensor_map(driver.allocate(4096) + offset, shape, 2, box, swizzle)


def freed(driver: RecordedDriver) -> int:
    address = driver.allocate(64)
    driver.free(address)
    return address


@pytest.fixture
def driver() -> RecordedDriver:
    made = RecordedDriver({})
    made.function(made.load(b"cubin"), "k", 64 << 10)
    return made


ALLOWED: list[Callable[[RecordedDriver], Any]] = [
    launched((2**31 - 1, 65535, 65535), 1024, 64 << 10),
    mapped((8, 64), (8, 64), 128),
    lambda driver: driver.to_device(driver.allocate(64), HOST, 64),
]
REFUSED: dict[str, Callable[[RecordedDriver], Any]] = {
    "no blocks": launched((0, 1, 1)),
    "blocks along y": launched((1, 65536, 1)),
    "blocks along z": launched((1, 1, 65536)),
    "threads": launched(threads=1056),
    "shared memory that was not asked for": launched(shared=65 << 10),
    "shared memory of no machine": lambda driver: driver.function(b"cubin", "k", 164 << 10),
    "a kernel of no module": lambda driver: driver.function(b"other", "k", 0),
    "no bytes": lambda driver: driver.allocate(0),
    "freed twice": lambda driver: driver.free(freed(driver)),
    "a part is freed": lambda driver: driver.free(driver.allocate(64) + 16),
    "freed memory": lambda driver: driver.clear(freed(driver), 1),
    "past the end": lambda driver: driver.to_device(driver.allocate(48), HOST, 64),
    "a copy past the end": lambda driver: driver.between(
        driver.allocate(48), driver.allocate(64), 64
    ),
    "a large box": mapped((512, 8), (512, 8)),
    "a box wider than its swizzle": mapped((8, 128), (8, 128), 128),
    "a map amid 16 bytes": mapped((8, 64), (8, 64), offset=8),
    "rows of 20 bytes": mapped((8, 10), (8, 8)),
    "a map past the end": mapped((64, 64), (8, 64)),
    "waiting in a recording": lambda driver: driver.capture(driver.synchronize),
    "a mark that was forgotten": lambda driver: [driver.forget(driver.mark()), driver.wait_for(1)],
    "a graph of no recording": lambda driver: driver.replay([]),
    "a closed driver": lambda driver: [driver.close(), driver.allocate(1)],
    "closed twice": lambda driver: [driver.close(), driver.close()],
}


@pytest.mark.parametrize("work", ALLOWED)
def test_up_to_the_limits(driver: RecordedDriver, work: Callable[[RecordedDriver], Any]) -> None:
    work(driver)


@pytest.mark.parametrize("what", REFUSED)
def test_refused(driver: RecordedDriver, what: str) -> None:
    with pytest.raises(AssertionError, match="CUDA_ERROR"):
        REFUSED[what](driver)


def test_a_failure_ends_a_recording_and_a_stream(driver: RecordedDriver) -> None:
    def fail() -> None:
        raise ValueError

    with pytest.raises(ValueError), driver.working_on(7):  # noqa: PT011
        driver.capture(fail)
    driver.synchronize()
    assert driver.stream != 7


def test_work_of_another_thread_in_a_stream_is_refused(driver: RecordedDriver) -> None:
    told: list[str] = []

    def other() -> None:
        try:
            driver.synchronize()
        except AssertionError as error:
            told.append(str(error))

    with driver.working_on(7):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert told == ["work on the stream of another thread"]
