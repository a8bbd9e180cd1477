"""
Why no schedule of a space fits, and the nearest device that one would fit.

Near is what exceeds a budget least, as a share of it; of schedules whose pieces are no whole units
of DMA, or whose codes make no such table, no budget would help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ..dialects.errors import ResourceError
from ..dialects.pim.device import ADDRESSES, Device
from ..dialects.pim.legality import budgets, illegal
from ..dialects.pim.schedule import METHODS, Problem, Schedule, Share

MOST_DPUS = 2560
"""Of the largest system that was built."""


def unplaceable(
    problem: Problem,
    device: Device,
    layer: str,
    methods: tuple[str, ...],
    schedules: Iterable[Schedule],
    fits: Callable[[Device, tuple[str, ...]], bool],
) -> ResourceError:
    """
    The error for a problem none of whose `schedules` is legal; `fits` tries another device and
    other methods.
    """
    shares = [Share(problem, each) for each in schedules]
    nearest = min(shares, key=lambda share: _distance(share, device), default=None)
    reasons = list(illegal(nearest, device)) if nearest else ["the space has no schedule"]
    return ResourceError(
        "pim-layer-unplaceable",
        f"{layer}: no schedule of {', '.join(methods)} fits {device.name}",
        where=f"{problem.rows} x {problem.k} weights, {problem.tokens} tokens",
        why="; ".join(reasons),
        next_step=_way_out(nearest, device, tuple(methods), fits),
    )


def exceeds_iram(problem: Problem, device: Device, layer: str, least: int) -> ResourceError:
    """The error where every program that was written is too long; `least` of the shortest."""
    return ResourceError(
        "pim-layer-unplaceable",
        f"{layer}: no program fits the IRAM of {device.name}",
        where=f"{problem.rows} x {problem.k} weights, {problem.tokens} tokens",
        why=f"the shortest has about {least} instructions; there is room for {device.iram}",
        next_step=f"it fits a profile with iram = {least}",
    )


def _distance(share: Share, device: Device) -> tuple[bool, float]:
    shares = [need / most for _, need, most in budgets(share, device)]
    over = sum(each > 1 for each in shares)
    return len(list(illegal(share, device))) > over, max(shares)


def _way_out(
    nearest: Share | None,
    device: Device,
    methods: tuple[str, ...],
    fits: Callable[[Device, tuple[str, ...]], bool],
) -> str:
    if nearest is None:
        return "allow more methods"
    ways = []
    needed = {field: need for field, need, most in budgets(nearest, device) if need > most}
    possible = all(need <= ADDRESSES[field] for field, need in needed.items())
    if needed and possible and not _distance(nearest, device)[0]:
        s = nearest.schedule
        told = ", ".join(f"{field} = {need}" for field, need in needed.items())
        ways.append(
            f"{s.method} with p = {s.p}, {s.tasklets} tasklets and {s.dpus} DPUs fits a profile "
            f"with {told}"
        )
    ranks = max(1, device.ranks)
    while ranks * device.dpus_per_rank * 2 <= MOST_DPUS:
        ranks *= 2
        if fits(replace(device, ranks=ranks), methods):
            ways.append(f"{ranks * device.dpus_per_rank} such DPUs are enough")
            break
    other = [each for each in METHODS if each not in methods and fits(device, (each,))]
    ways += [f"the method {each} fits" for each in other[:1]]
    ways.append("give the layer no format, so that it stays on the host")
    return "; or ".join(ways)
