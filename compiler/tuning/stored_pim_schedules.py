"""
Schedules of layers on DPUs out of a tuning database; where it has none, they are chosen as ever.

A layer takes what was tuned for its shape, formats and tokens on these DPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf

from ...autotune.database import Store, best_of
from ...dialects.errors import QccError
from ...dialects.knobs import Value
from ...dialects.pim.cost import cost_of
from ...dialects.pim.device import Device
from ...dialects.pim.estimate import estimated_cycles
from ...dialects.pim.legality import illegal
from ...dialects.pim.plan import Plan
from ...dialects.pim.schedule import Problem, Share
from ...dialects.pim.space import KERNEL, schedule_of, values_of
from ...passes.choose_pim_schedule import Choice, choose_schedule, simulated_cycles
from .choices import NOT_TUNED, reasons_against
from .choices import Choice as LayerChoice
from .upmem_backend import pim_problem
from .upmem_jobs import device_text


class StoredPimSchedules:
    """Stores by name, the earlier before the later."""

    def __init__(self, stores: Sequence[tuple[str, Store]], device: Device) -> None:
        self._choices: dict[Problem, LayerChoice] = {}
        self._best: dict[Problem, tuple[str, Mapping[str, Value]]] = {}
        for name, store in stores:
            for task in store.tasks():
                if (task.kernel, task.device) == (KERNEL, device_text(device)):
                    best = best_of(store.measurements(task))
                    # Sizes of other tuners, or formats that this program does not define.
                    with suppress(KeyError, ValueError, QccError):
                        problem = pim_problem(task)
                        if best is not None:
                            self._best.setdefault(problem, (name, best.values))

    def choose(self, problem: Problem, device: Device, layer: str) -> Choice:
        """A Chooser of `partition_pim`."""
        source, values = self._best.get(problem, ("", {}))
        reasons = [NOT_TUNED]
        if source:
            reasons = reasons_against(
                values, schedule_of, lambda made: illegal(Share(problem, made), device)
            )
            share = Share(problem, schedule_of(values)) if not reasons else None
            cycles = simulated_cycles(share, device) if share else inf
            if share and cycles == inf:
                reasons = [f"the program exceeds {device.iram} instructions of IRAM"]
            elif share:
                self._choices[problem] = LayerChoice(layer, values, source)
                cost = cost_of(share, device, cycles)
                return Choice(share, cost, cycles, estimated_cycles(share, device), 1)
        made = choose_schedule(problem, device, layer=layer)
        chosen = values_of(made.schedule)
        self._choices[problem] = LayerChoice(layer, chosen, reason="; ".join(reasons))
        return made

    def choices(self, plan: Plan) -> list[LayerChoice]:
        """Of the layers of a plan, which `choose` was asked about; equal ones share a kernel."""
        return [
            replace(self._choices[layer.share.problem], layer=layer.name) for layer in plan.layers
        ]
