"""Buffers while a plan is read: made as values appear, merged, and given places at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from .plan import Argument, Box, Buffer, CopyStep, LaunchStep


@dataclass(eq=False)
class Memory:
    """A buffer in the making; `bytes` is a row of the size table."""

    place: str
    bytes: int
    name: str = ""
    index: int = 0
    merged: Memory | None = None

    def found(self) -> Memory:
        """The buffer itself, or the one that it became part of."""
        return self if self.merged is None else self.merged.found()


@dataclass(frozen=True)
class Tensor:
    """A tensor of the function: memory, if it has any, and extents, rows of the size table."""

    extents: tuple[int, ...]
    element: str
    memory: Memory | None
    offset: int = 0


@dataclass(frozen=True)
class Packed:
    """A packed value: the memory of its parts."""

    extents: tuple[int, ...]
    parts: dict[str, Memory]


@dataclass(frozen=True)
class Pointer:
    """An argument of a launch that points to memory, or is a tensor map of it."""

    memory: Memory
    offset: int = 0
    box: Box | None = None


@dataclass(frozen=True)
class Result:
    """An argument of a launch that points to what it makes."""

    index: int
    part: str


@dataclass
class Pending:
    """A launch whose pointers are not numbers yet."""

    step: LaunchStep
    arguments: list[Pointer | Result | Argument]
    made: dict[int, Tensor | Packed] = field(default_factory=dict)

    def written(self) -> list[Memory]:
        """The memory of what it makes, as far as anything asked for it."""
        parts = [
            list(made.parts.values()) if isinstance(made, Packed) else [made.memory]
            for made in self.made.values()
        ]
        return [memory for each in parts for memory in each if memory is not None]

    def pointed(self) -> list[Pointer | Argument]:
        """The arguments, results among them as the memory that was made for them."""
        return [self._placed(each) for each in self.arguments]

    def _placed(self, argument: Pointer | Result | Argument) -> Pointer | Argument:
        if not isinstance(argument, Result):
            return argument
        made = self.made[argument.index]
        memory = made.parts[argument.part] if isinstance(made, Packed) else made.memory
        assert memory is not None
        return Pointer(memory)


@dataclass(frozen=True)
class PendingCopy:
    """All of `target` from `source`, from byte `offset` on."""

    source: Memory
    offset: int
    target: Memory
    condition: int | None

    def written(self) -> list[Memory]:
        return [self.target]


@dataclass
class Placement:
    """Numbers for memories, in the order of their first use, with the steps that use them."""

    order: list[Memory] = field(default_factory=list)
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)

    def number(self, memory: Memory, step: int) -> int:
        root = memory.found()
        if id(root) not in self._numbers:
            self._numbers[id(root)] = len(self.order)
            self.spans[len(self.order)] = step, step
            self.order.append(root)
        number = self._numbers[id(root)]
        first, last = self.spans[number]
        self.spans[number] = min(first, step), max(last, step)
        return number

    def placed(self, pending: list[Pending | PendingCopy]) -> list[LaunchStep | CopyStep]:
        return [self._step(index, each) for index, each in enumerate(pending)]

    def _step(self, index: int, pending: Pending | PendingCopy) -> LaunchStep | CopyStep:
        if isinstance(pending, PendingCopy):
            return CopyStep(
                self.number(pending.source, index), self.number(pending.target, index),
                pending.offset, pending.condition,
            )  # fmt: skip
        arguments = [
            Argument("pointer", self.number(each.memory, index), each.offset, box=each.box)
            if isinstance(each, Pointer)
            else each
            for each in pending.pointed()
        ]
        return msgspec.structs.replace(pending.step, arguments=tuple(arguments))

    def buffers(self) -> tuple[Buffer, ...]:
        return tuple(
            Buffer(memory.place, memory.bytes, memory.name, memory.index, *self.spans[number])
            for number, memory in enumerate(self.order)
        )
