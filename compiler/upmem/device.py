"""The DPUs that a program is compiled for: a built-in system or a profile, or a part of one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...dialects.errors import UsageError
from ...dialects.pim.device import DEVICES, Device, device
from ...dialects.pim.profile import read_profile


def chosen_device(name: str, dpus: int | None) -> Device:
    """
    The device of a name or a TOML file, with `dpus` in place of all that it has.

    Raises UsageError for an unknown name, a bad profile, or a number that no ranks make up.
    """
    found = device(name) if name in DEVICES or not name.endswith(".toml") else _profile(name)
    if dpus is None or dpus == found.dpus:
        return found
    return _part(found, dpus)


def _profile(name: str) -> Device:
    return read_profile(Path(name))


def _part(whole: Device, dpus: int) -> Device:
    """Some whole ranks of a system, or some DPUs of one rank."""
    each = whole.dpus_per_rank
    base = whole.base or whole.name
    if 1 <= dpus <= each:
        return replace(whole, base=base, ranks=1, dpus_per_rank=dpus)
    if dpus % each == 0 and 0 < dpus <= whole.dpus:
        return replace(whole, base=base, ranks=dpus // each)
    nearest = min(max(1, round(dpus / each)) * each, whole.dpus) if dpus > 0 else 1
    raise UsageError(
        "pim-dpus",
        f"{dpus} DPUs are no part of {whole.name}",
        why=f"it has {whole.ranks} ranks of {each}: up to {each} DPUs of one rank, or whole ranks "
        f"up to {whole.dpus} DPUs",
        next_step=f"use --dpus {nearest}, or a profile with other ranks",
    )
