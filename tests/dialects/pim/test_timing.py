"""The cycle model: fits of pim.md, saturation, synchronization; device profiles."""

from pathlib import Path

import pytest

from qcc.dialects.errors import QccError
from qcc.dialects.pim.device import device
from qcc.dialects.pim.profile import read_profile
from qcc.dialects.pim.timing import Trace, simulate

DPU = device("v1A")


def cycles(*traces: Trace) -> float:
    return simulate(traces, DPU).cycles


@pytest.mark.parametrize("size", [64, 256, 1024, 2048])
def test_sixteen_readers_follow_the_measured_line(size: int) -> None:
    """pim.md §2.6: 8.9985 · B + 537.81 cycles, reached to 3.5 %."""
    assert cycles(*[[("read", size)]] * 16) == pytest.approx(8.9985 * size + 537.81, rel=0.036)


def test_one_isolated_request() -> None:
    assert cycles([("read", 8)]) == pytest.approx(81)
    assert cycles([("write", 8)]) == pytest.approx(65)


def test_the_pipeline_saturates_at_eleven_tasklets() -> None:
    work = [("compute", 4400.0)]
    alone = cycles(work)
    assert alone == pytest.approx(4400 * 11 * DPU.factor)
    assert cycles(*[work] * 11) == pytest.approx(alone)
    assert cycles(*[work] * 22) == pytest.approx(2 * alone)


def test_waiting_tasklets_leave_their_slots_to_others() -> None:
    mixed = [("compute", 500.0), ("read", 1024), ("compute", 500.0)]
    together = cycles(*[mixed] * 16)
    assert together < 16 * 1000 * DPU.factor + 16 * DPU.dma.busy(1024)
    assert together >= 16 * 1000 * DPU.factor


def test_counts() -> None:
    run = simulate([[("compute", 5.0), ("read", 64), ("write", 8)]] * 2, DPU)
    assert (run.slots, run.bytes_read, run.bytes_written, run.requests) == (10, 128, 16, 4)
    assert run.engine == pytest.approx(2 * (DPU.dma.busy(64) + DPU.dma.busy(8)))


def test_a_barrier_waits_for_the_last() -> None:
    late, early = [("compute", 1000.0), ("barrier", 0)], [("compute", 1.0), ("barrier", 0)]
    after = [("compute", 10.0)]
    assert cycles(late + after, early + after) == pytest.approx((1000 + 10) * 11 * DPU.factor)


def test_those_who_have_ended_are_not_waited_for() -> None:
    assert cycles([("barrier", 0)], []) == 0


def test_locks_are_owned_by_one() -> None:
    held = [("lock", 0), ("compute", 100.0), ("unlock", 0)]
    run = simulate([held] * 4, DPU)
    assert run.cycles == pytest.approx(400 * 11 * DPU.factor)
    assert not run.trusted


def test_a_handshake_needs_both() -> None:
    run = cycles([("compute", 100.0), ("notify", 1)], [("wait", 0), ("compute", 50.0)])
    assert run == pytest.approx(150 * 11 * DPU.factor)
    with pytest.raises(QccError, match=r"\[1\] wait for ever"):
        cycles([], [("wait", 0)])


def test_impossible_runs_are_refused() -> None:
    with pytest.raises(QccError, match="25 tasklets"):
        cycles(*[[("compute", 1.0)]] * 25)
    with pytest.raises(QccError, match="no event"):
        cycles([("sleep", 1.0)])


def test_a_profile_replaces_fields(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('base = "v1B"\nranks = 4\n[host]\nto_dpu_limit = 9\n[dma]\nsetup = 40.0\n')
    made = read_profile(path)
    assert (made.name, made.dpus, made.wram) == ("mine", 256, 63488)
    assert (made.host.to_dpu_limit, made.dma.setup) == (9.0, 40.0)


@pytest.mark.parametrize("text", ["v9", "v1A<wram>", "v1A<clock_mhz=3>", "v1A<wram=-8>"])
def test_a_bad_spelling_is_refused(text: str) -> None:
    with pytest.raises(QccError, match=r"no UPMEM device|no limit"):
        device(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank = 4", "no 'rank'"),
        ('clock_mhz = "fast"', "is no float"),
        ("wram = 1001", "wram = 1000 is near"),
        ("wram = 512", "wram = 920 is the least"),
        ("ranks = 0", "a positive number"),
        ("most_tasklets = 64", "64 tasklets"),
        ("[host]\nto_dpu = [1.0]", "one length"),
        ("[host]\nactive = [4, 1, 16, 64]", "ascend"),
        ('base = "v3"', "starts from a built-in device"),
        ("stack = 65536", "stack = 64872 is the largest"),
        ("ranks = ", "mine.toml"),
    ],
)
def test_a_bad_profile_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(QccError, match=message):
        read_profile(path)
