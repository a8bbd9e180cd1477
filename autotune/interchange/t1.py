"""
Search spaces as T1 JSON, schema 1.0.0: what Kernel Tuner, KTT, pyATF and others take as input.

The expressions and lists of a file are read as data (expression.py). Kernel Tuner's own reader
evaluates them as Python: give it files of your own only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any

import msgspec
import numpy as np

from ...dialects.errors import IntegrityError, QccError, UsageError
from ...dialects.knobs import Constraint, Knob, Space, Value
from ..draw import draw
from ..task import Task
from .expression import Expression, Written, parse
from .trace import expression_of, membership

SAMPLE = 1024
LONGEST_MEMBERS = 1 << 17


class Parameter(msgspec.Struct, rename="pascal"):
    """A knob; `values` is a Python list as text."""

    name: str
    type: str
    values: str
    default: Any = None


class Condition(msgspec.Struct, rename="pascal"):
    """A rule: a Python expression of some parameters."""

    expression: str
    parameters: list[str] = []


class ConfigurationSpace(msgspec.Struct, rename="pascal"):
    tuning_parameters: list[Parameter]
    conditions: list[Condition] = []


class _Kernel(msgspec.Struct, rename="pascal"):
    kernel_name: str = ""


class _T1(msgspec.Struct, rename="pascal"):
    configuration_space: ConfigurationSpace
    kernel_specification: _Kernel


@dataclass(frozen=True)
class KernelFile:
    """
    What a T1 file says of the kernel beside its space. `language` is one of OpenCL, CUDA, Vulkan
    and Hypertuner: the schema knows no others. `recording` is a cache file to replay.
    """

    name: str
    file: str
    language: str = "CUDA"
    device: str = ""
    recording: str = ""
    default: Mapping[str, Value] = field(default_factory=dict)

    @staticmethod
    def of(
        task: Task, file: str, recording: str = "", default: Mapping[str, Value] | None = None
    ) -> KernelFile:
        """The kernel of a task, in OpenCL if it is none of a GPU: that runs on processors, too."""
        language = "CUDA" if task.kernel.startswith("cuda.") else "OpenCL"
        return KernelFile(kernel_name(task), file, language, task.device, recording, default or {})


def encode_t1(space: Space, kernel: KernelFile) -> bytes:
    """
    `space` with its rules, except those that are `left_out`.

    Raises UsageError for knobs whose names no expression can have, and for a recorded space of more
    than LONGEST_MEMBERS configs.
    """
    for name in space.names:
        _require_identifier(name)
    parameters = [
        Parameter(knob.name, _type(knob), repr(list(knob.values)), _default(knob, kernel))
        for knob in space.knobs
    ]
    document: dict[str, Any] = {
        "General": {"FormatVersion": 1, "TimeUnit": "Milliseconds", "OutputFormat": "JSON"},
        "ConfigurationSpace": ConfigurationSpace(parameters, _conditions(space)),
        "KernelSpecification": _specification(kernel),
        "Search": {"Name": "random_sample", "Attributes": []},
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def kernel_name(task: Task) -> str:
    """As an identifier of C."""
    return "".join(letter if letter.isalnum() else "_" for letter in task.kernel)


def decode_t1(data: bytes, where: str) -> Space:
    """
    The space of a T1 file; `where` names it in errors.

    Raises IntegrityError for anything else.
    """
    try:
        read = msgspec.json.decode(data, type=_T1)
        space = read.configuration_space
        knobs = tuple(map(_knob, space.tuning_parameters))
        rules = [rule for each in space.conditions if (rule := _rule(each, knobs)) is not None]
        return Space(read.kernel_specification.kernel_name, knobs, tuple(rules))
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError, QccError) as error:
        raise IntegrityError(
            "t1-unreadable",
            "not a search space in T1 JSON",
            where=where,
            why=f"{error.what}: {error.why}" if isinstance(error, QccError) else str(error),
            next_step="compare it with the T1 schema, version 1.0.0",
        ) from error


def _require_identifier(name: str) -> None:
    if not name.isidentifier() or iskeyword(name):
        raise UsageError(
            "knob-name",
            f"T1 JSON cannot name the knob {name!r}",
            why="rules are Python expressions of the names of knobs",
            next_step="export to another format, or rename the knob",
        )


def _type(knob: Knob) -> str:
    if not knob.numeric:
        return "string"
    return "int" if all(isinstance(value, int) for value in knob.values) else "float"


def _default(knob: Knob, kernel: KernelFile) -> Value:
    return kernel.default.get(knob.name, knob.values[0])


def _conditions(space: Space) -> list[Condition]:
    knobs = {knob.name: knob for knob in space.knobs}
    texts = {expression_of(rule, knobs): rule.knobs for rule in space.constraints}
    found = [_condition(text, names) for text, names in texts.items() if text and text != "True"]
    if space.members is not None:
        found.append(_members(space, list(space.knobs)))
    return found


def left_out(space: Space) -> list[str]:
    """The rules that cannot be written as expressions: what breaks them fails when measured."""
    return [rule.reason for rule in space.constraints if not _is_written(rule, space)]


def refused_share(space: Space) -> float:
    """Of the configs that a T1 file of `space` allows, those that the rules left out refuse."""
    written = tuple(rule for rule in space.constraints if _is_written(rule, space))
    allowed = Space(space.name, space.knobs, written)
    sample = draw(allowed, np.random.default_rng(0), SAMPLE)
    return 1 - float(space.legal(sample).mean())


def _is_written(rule: Constraint, space: Space) -> bool:
    return expression_of(rule, {knob.name: knob for knob in space.knobs}) is not None


def _condition(text: str, names: tuple[str, ...]) -> Condition:
    needed = parse(text).names
    return Condition(text, [name for name in names if name in needed])


def _members(space: Space, knobs: list[Knob]) -> Condition:
    """A recorded space: its configs are the rule."""
    rows = np.zeros((0, len(knobs)), np.int64) if space.members is None else space.members
    if len(rows) > LONGEST_MEMBERS:
        raise UsageError(
            "space-too-large",
            f"the space '{space.name}' lists {len(rows)} configs",
            why=f"a T1 file can list up to {LONGEST_MEMBERS}",
            next_step="export a space that has rules",
        )
    return Condition(membership(knobs, rows), list(space.names))


def _specification(kernel: KernelFile) -> dict[str, Any]:
    """What the schema wants, and what Kernel Tuner's reader wants beyond it."""
    said = {
        "Language": kernel.language,
        "KernelName": kernel.name,
        "KernelFile": kernel.file,
        "GlobalSize": {"X": "1"},
        "LocalSize": {"X": "1"},
        "ProblemSize": [1],
        "Device": {"Name": kernel.device},
        "Arguments": [],
    }
    return {**said, "SimulationInput": kernel.recording} if kernel.recording else said


def _knob(parameter: Parameter) -> Knob:
    values = parse(parameter.values).value()
    if not isinstance(values, list):
        values = [values]
    if not all(isinstance(value, bool | int | float | str) for value in values):
        raise ValueError(f"parameter {parameter.name!r} has values that are no numbers or texts")
    plain = [int(value) if isinstance(value, bool) else value for value in values]
    return Knob(parameter.name, tuple(plain))


def _rule(condition: Condition, knobs: tuple[Knob, ...]) -> Constraint | None:
    """None for what is always true."""
    expression: Expression = parse(condition.expression)
    arrays = {knob.name: knob.array for knob in knobs}
    unknown = expression.names.difference(arrays)
    if unknown:
        raise ValueError(f"{condition.expression!r} names {min(unknown)}, which is no parameter")
    ordered = dict.fromkeys([*condition.parameters, *arrays])
    names = tuple(name for name in ordered if name in expression.names)
    written = Written(expression, names)
    if names:
        written(*(arrays[name][:1] for name in names))  # whether it computes
        return Constraint(names, written, condition.expression)
    if not written():
        raise ValueError(f"{condition.expression!r} is never true")
    return None
