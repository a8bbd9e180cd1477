"""
A machine of the user's own: a TOML file that replaces fields of a built-in device.

Every error names the file, the key, what it has and the nearest value that can be.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .device import ADDRESSES, DEVICES, DMA_UNIT, LEAST_STACK, Device

MOST_TASKLETS = 24


def read_profile(path: Path) -> Device:
    """The device in a TOML file; UsageError naming the key, or the value, that cannot be."""
    try:
        given = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            "pim-profile-unreadable", "no device can be read from a file", where=str(path),
            why=str(error), next_step='give TOML, such as base = "v1A" and ranks = 20, a line each',
        ) from error  # fmt: skip
    base = _base(given.pop("base", "v1A"), str(path))
    made = _replaced(base, {"name": path.stem, "base": base.name} | given, str(path))
    _check(made, str(path))
    return made


def _base(name: object, where: str) -> Device:
    if isinstance(name, str) and name in DEVICES:
        return DEVICES[name]
    known = " or ".join(f'"{each}"' for each in DEVICES)
    raise _bad_value(f"base = {name!r}", "a profile starts from a built-in device", where,
                     f"use {known}")  # fmt: skip


def _replaced(record: Any, given: dict[str, Any], where: str) -> Any:
    """A record with some fields replaced, nested ones by tables of the same name."""
    known = {each.name: getattr(record, each.name) for each in fields(record)}
    made: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise UsageError(
                "pim-profile-key", f"a device has no {key!r}", where=where,
                next_step=f"it has {', '.join(known)}",
            )  # fmt: skip
        made[key] = _typed(key, known[key], value, where)
    return replace(record, **made)


def _typed(key: str, old: Any, value: Any, where: str) -> Any:
    if is_dataclass(old) and isinstance(value, dict):
        return _replaced(old, value, f"{where} [{key}]")
    if isinstance(old, tuple) and isinstance(value, list):
        return tuple(_typed(key, old[0], each, where) for each in value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(old, float) and number:
        return float(value)
    if type(value) is not type(old):
        raise UsageError(
            "pim-profile-type", f"{key} = {value!r} is no {type(old).__name__}", where=where,
            next_step=f"write it as {_written(key, old)}",
        )  # fmt: skip
    return value


def _written(key: str, old: Any) -> str:
    """A key with the value that it has, as TOML."""
    if is_dataclass(old):
        return f"a table, [{key}]"
    value = list(old) if isinstance(old, tuple) else old
    return f"{key} = {value!r}".replace("'", '"')


def _check(made: Device, where: str) -> None:
    for key, value in _numbers(asdict(made)):
        may_be_0 = key in ("setup_ms", "launch_ms", "runtime")
        if not isfinite(value) or value < 0 or (value == 0 and not may_be_0):
            bound = "0 or a positive" if may_be_0 else "a positive"
            raise _bad_value(f"{key} = {value}", f"it must be {bound} number", where)
    for key, most in ADDRESSES.items():
        if getattr(made, key) > most:
            raise _bad_value(f"{key} = {getattr(made, key)}", f"there can be {most} at most", where,
                             f"{key} = {most} is the largest")  # fmt: skip
    for why, next_step in _contradictions(made):
        raise _bad_value(f"the profile {made.name} is no DPU", why, where, next_step)


def _contradictions(made: Device) -> Iterator[tuple[str, str]]:
    """What cannot be, and the nearest that can."""
    host = made.host
    lengths = tuple(map(len, (host.active, host.to_dpu, host.from_dpu)))
    if len(set(lengths)) > 1:
        yield ("active, to_dpu and from_dpu must be of one length, and have "
               f"{', '.join(map(str, lengths))}", "give a rate for each number of active DPUs"
        )  # fmt: skip
    if list(host.active) != sorted(set(host.active)):
        yield "active must ascend", f"active = {sorted(set(host.active))}"
    for key in ("wram", "mram", "stack"):
        value = getattr(made, key)
        if value % DMA_UNIT:
            near = max(DMA_UNIT, value // DMA_UNIT * DMA_UNIT)
            yield f"{key} = {value} is no multiple of {DMA_UNIT}", f"{key} = {near} is near"
    if made.stack < LEAST_STACK:
        yield f"a stack of {made.stack} bytes is too small", f"stack = {LEAST_STACK} is the least"
    if made.buffer_bytes(1) <= 0:
        yield (f"a WRAM of {made.wram} bytes holds no runtime of {made.runtime}, a stack of "
               f"{made.stack} and a buffer",
               _smaller_stack(made))  # fmt: skip
    if made.most_tasklets > MOST_TASKLETS:
        yield (f"{made.most_tasklets} tasklets are more than the {MOST_TASKLETS} of any DPU",
               f"most_tasklets = {MOST_TASKLETS} is the largest")  # fmt: skip


def _smaller_stack(made: Device) -> str:
    """The largest stack beside which there is room for a buffer, or the least WRAM for any."""
    room = (made.wram - made.runtime - 1) // DMA_UNIT * DMA_UNIT
    if room >= LEAST_STACK:
        return f"stack = {room} is the largest"
    return f"wram = {-(-(made.runtime + LEAST_STACK + 1) // DMA_UNIT) * DMA_UNIT} is the least"


def _bad_value(what: str, why: str, where: str, next_step: str = "") -> UsageError:
    next_step = next_step or "correct the profile, or leave the key out"
    return UsageError("pim-profile-value", what, where=where, why=why, next_step=next_step)


def _numbers(record: dict[str, Any]) -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            found += _numbers(value)
        elif isinstance(value, tuple):
            found += [(key, each) for each in value]
        elif not isinstance(value, str):
            found.append((key, value))
    return found
