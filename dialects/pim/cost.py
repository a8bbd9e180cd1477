"""
What a layer costs on DPUs: kernel, launch, transfers, energy (spec pim.md §2.7, device.py).

Weights and tables are brought once, when a model is loaded; a call brings inputs and fetches
results. Energy is power times time: host transfers at the host's, kernels at that of the DPUs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .device import Device
from .footprint import arrays, sizes_of
from .schedule import Share


@dataclass(frozen=True)
class Cost:
    """Milliseconds and bytes of one call, and what is brought once."""

    kernel_ms: float
    launch_ms: float
    to_dpu_ms: float
    from_dpu_ms: float
    bytes_in: int
    bytes_out: int
    weight_bytes: int
    table_bytes: int
    joules: float

    @property
    def total_ms(self) -> float:
        return self.kernel_ms + self.launch_ms + self.to_dpu_ms + self.from_dpu_ms


def cost_of(share: Share, device: Device, cycles: float) -> Cost:
    """The cost of a call whose kernel takes `cycles`."""
    sizes = sizes_of(arrays(share))
    inputs = sizes.get("inputs", 0) + sizes.get("places", 0)
    held = sizes["weights"] * share.schedule.dpus, sizes.get("table", 0) + sizes.get("reorder", 0)
    return moving_cost(device, share.schedule.dpus, inputs, sizes["results"], cycles, *held)


def moving_cost(
    device: Device,
    dpus: int,
    inputs: int,
    results: int,
    cycles: float,
    weight_bytes: int = 0,
    table_bytes: int = 0,
) -> Cost:
    """Of a call that moves `inputs` bytes to each of some DPUs, and `results` from each."""
    kernel = device.milliseconds(cycles)
    inward = transfer_ms(device, dpus, inputs, inward=True)
    outward = transfer_ms(device, dpus, results, inward=False)
    seconds = (kernel + device.host.launch_ms) / 1e3
    joules = seconds * dpus * device.power.dpu_watts
    joules += (kernel + device.host.launch_ms + inward + outward) / 1e3 * device.power.host_watts
    return Cost(
        kernel, device.host.launch_ms, inward, outward, inputs * dpus, results * dpus,
        weight_bytes, table_bytes, joules,
    )  # fmt: skip


def transfer_ms(device: Device, dpus: int, size: int, *, inward: bool) -> float:
    """
    Milliseconds of one transfer of `size` bytes to, or from, each of some DPUs.

    Rates between the measured numbers of DPUs of a rank are interpolated in their logarithms.
    """
    host = device.host
    rates, most = (
        (host.to_dpu, host.to_dpu_limit) if inward else (host.from_dpu, host.from_dpu_limit)
    )
    ranks = -(-dpus // device.dpus_per_rank)
    active = min(dpus, device.dpus_per_rank)
    rate = float(np.exp(np.interp(np.log(active), np.log(host.active), np.log(rates))))
    gigabytes = size * dpus / 1e9
    return host.setup_ms + gigabytes / min(rate * ranks, most) * 1e3


def broadcast_ms(device: Device, size: int) -> float:
    """Milliseconds of the same `size` bytes to all DPUs; the limit counts every copy."""
    return device.host.setup_ms + size * device.dpus / 1e6 / device.host.broadcast_limit
