"""
Which ops of a block are computed by one kernel.

Groups grow from what must be stored backwards to what it is computed from. An op joins the group
of its users if it has but one; what is cheap, as views and constants are, is computed again in
each; else it becomes one more result of a group, or a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from typing import Any

from ..dialects.bindings import arith, ir
from ..dialects.regions import walk
from ..dialects.tile.elements import RULES, VIEWS, input_count, is_splat, strides_of
from ..dialects.tile.extents import Extents
from ..dialects.tile.group_schedule import Work, work_of
from ..dialects.tile.index import Index, Size
from ..dialects.tile.reads import COSTLY, Bodies
from .launching import size_of

SCALAR_DIALECTS = ("arith.", "math.")
IGNORED_USERS = ("tensor.dim",)
LAUNCH = "tile.launch"
PARTS = "builtin.unrealized_conversion_cast"


@dataclass(eq=False)
class Group:
    """
    Ops by position, and what is stored of what they compute.

    `key` is the last op, `first` the first one whose results are stored.
    """

    ops: set[int]
    outputs: list[ir.Value]
    work: Work
    first: int
    key: int = -1


@dataclass
class Leaves:
    """Sizes that are followed no further: a name for each, and where it is."""

    places: dict[str, tuple[ir.Value, int | None]] = field(default_factory=dict)
    names: dict[tuple[ir.Value, int | None], str] = field(default_factory=dict)

    def __call__(self, value: ir.Value, axis: int | None) -> Index:
        key = value, axis
        if key not in self.names:
            name = self.names[key] = f"n{len(self.names)}"
            self.places[name] = key
        return Index.of(Size(self.names[key]))

    def value(self, name: str) -> ir.Value:
        """A size as the program computes it, at the insertion point."""
        value, axis = self.places[name]
        if axis is None:
            return value
        found = size_of(value, axis)
        return found if isinstance(found, ir.Value) else arith.constant(ir.IndexType.get(), found)


class Grouping:
    """The groups of `block`, found on construction."""

    def __init__(self, block: ir.Block) -> None:
        self.ops: list[Any] = list(block.operations)
        self.leaves = Leaves()
        self.extents = Extents(self.leaves)
        self.bodies = Bodies()
        self.made = {v: n for n, op in enumerate(self.ops) for v in op.operation.results}
        known = {*self.made, *block.arguments}
        self.reads = [list(_read_values(op, known)) for op in self.ops]
        self.users: dict[ir.Value, list[int]] = {}
        for number, values in enumerate(self.reads):
            for value in dict.fromkeys(values):
                self.users.setdefault(value, []).append(number)
        self.fusable = [is_fusable(op) for op in self.ops]
        self.groups: list[Group] = []
        self.members: dict[int, list[Group]] = {}
        self.kept_views: set[int] = set()
        self.effects = [n for n, op in enumerate(self.ops) if _touches_cache(op)]
        for number in reversed(range(len(self.ops))):
            if self.fusable[number]:
                self._place(number)

    def _join(self, group: Group, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in group.ops or group not in self.members.get(number, ()):
                group.ops.add(number)
                group.key = max(group.key, number)
                self.members.setdefault(number, []).append(group)

    # ---- growing

    def _place(self, number: int) -> None:
        op = self.ops[number]
        users = {u for v in op.operation.results for u in self.users.get(v, ())}
        found = [group for user in users for group in self.members.get(user, ())]
        hosts = [g for g in dict.fromkeys(found) if number not in g.ops]
        needed = [v for v in op.operation.results if self._is_needed(v)]
        if _is_free(op):
            for group in hosts:
                self._join(group, {number})
            return
        if op.operation.name in VIEWS and needed:
            self.kept_views.add(number)
            needed = []
        if op.operation.name in VIEWS or (not needed and _is_cheap(op)):
            missed = [g for g in hosts if not self._inline(g, number)]
            if missed and op.operation.name not in VIEWS:
                self._store(number, missed)
            elif missed:
                self.kept_views.add(number)
        elif not needed and len(hosts) == 1:
            if not self._inline(hosts[0], number):
                self._store(number, hosts)
        elif hosts or needed:
            self._store(number, hosts)

    def _is_needed(self, value: ir.Value) -> bool:
        """Whether something outside of all groups reads a tensor."""
        return any(
            number in self.kept_views
            or (not self.fusable[number] and self.ops[number].operation.name not in IGNORED_USERS)
            for number in self.users.get(value, ())
        )

    def _stored(self, number: int, group: Group | None) -> list[ir.Value]:
        """The results of an op that more than their shapes is read of, outside of the group."""
        return [
            value
            for value in self.ops[number].operation.results
            if self._is_needed(value)
            or any(other is not group for other in self._reading_groups(value))
        ]

    def _inline(self, group: Group, number: int) -> bool:
        work = self._work(group.outputs, group.ops | {number})
        if work is None or work.repeated > group.work.repeated:
            return False
        if not _keeps_shape(group.work, work):
            return False
        self._join(group, {number})
        group.work = work
        return True

    def _store(self, number: int, hosts: list[Group]) -> None:
        """Results of an op become results of a group that reads them, or of a new one."""
        for group in sorted(hosts, key=lambda each: each.key):
            if self._add_outputs(group, {number}, self._stored(number, group)):
                return
        results = self._stored(number, None)
        for group in self._siblings(number):
            if self._add_outputs(group, {number, *self._shared_makers(group, number)}, results):
                return
        work = self._work(results, {number})
        assert work is not None, str(self.ops[number])
        group = Group(set(), results, work, number)
        self._join(group, {number})
        self.groups.append(group)

    def _add_outputs(self, group: Group, ops: set[int], results: list[ir.Value]) -> bool:
        work = self._work([*group.outputs, *results], group.ops | ops)
        if work is None or work.repeated > group.work.repeated:
            return False
        if any(self._makes_cycle(group, number) for number in ops):
            return False
        self._join(group, ops)
        group.outputs += results
        group.first = min([group.first, *(self.made[v] for v in results)])
        group.work = work
        return True

    def _siblings(self, number: int) -> list[Group]:
        """Groups that make other parts of a value that results of an op are parts of."""
        results = self.ops[number].operation.results
        wholes = [u for v in results for u in self.users.get(v, ())]
        parts = {v for u in wholes if self.ops[u].operation.name == PARTS for v in self.reads[u]}
        return [group for group in self.groups if parts & set(group.outputs)]

    def _shared_makers(self, group: Group, number: int) -> set[int]:
        """What makes the operands that an op and a group both read."""
        read = {v for n in group.ops for v in self.reads[n]}
        makers = {self.made[v] for v in self.reads[number] if v in self.made and v in read}
        return {n for n in makers if self.fusable[n]}

    def _work(self, outputs: list[ir.Value], ops: set[int]) -> Work | None:
        return work_of(outputs, self.extents, lambda op: self._position(op) in ops, self.bodies)

    def _position(self, op: Any) -> int:
        return self.made.get(op.operation.results[0], -1)

    # ---- order

    def _makes_cycle(self, group: Group, number: int) -> bool:
        """Whether a group that stores results of an op would wait for what reads them."""
        start, horizon = self._readers(self.ops[number].operation.results), self._horizon(group)
        pending, seen = [unit for unit in start if unit is not group], set[int | Group]()
        while pending:
            unit = pending.pop()
            if unit is group:
                return True
            if unit not in seen:
                seen.add(unit)
                pending += self._after(unit, horizon)
        return False

    def _horizon(self, group: Group) -> int:
        """
        The op behind which nothing leads back to a group.

        Results are read by later ops; only a group leads back, from its last op to its first
        result.
        """
        horizon, found = -1, group.key
        while found != horizon:
            horizon = found
            found = max([horizon, *(g.key for g in self.groups if g.first <= horizon)])
        return horizon

    def _after(self, unit: int | Group, horizon: int) -> Iterator[int | Group]:
        """What waits for a group, or for an op outside of groups; nothing behind the horizon."""
        near = [v for v in self._made_by(unit) if self.made[v] <= horizon]
        yield from self._readers(near)
        later = [n for n in self.effects if isinstance(unit, int) and n > unit]
        if unit in self.effects and later:
            yield later[0]

    def _readers(self, values: Iterable[ir.Value]) -> Iterator[int | Group]:
        """Groups, and ops outside of groups; some ops are both."""
        for value in values:
            yield from self._reading_groups(value)
            for user in self.users.get(value, ()):
                if user not in self.members or user in self.kept_views or self._stays(user):
                    yield user

    def _reading_groups(self, value: ir.Value) -> Iterator[Group]:
        """Those that use a tensor and do not compute it themselves."""
        for user in self.users.get(value, ()):
            yield from (g for g in self.members.get(user, ()) if self.made[value] not in g.ops)

    def ordered(self) -> list[int | Group]:
        """The ops outside of groups, and the groups, each behind what it needs."""
        units: list[int | Group] = [
            n for n in range(len(self.ops)) if not self._is_fused(n)
        ] + self.groups
        makers = {v: u for u, unit in enumerate(units) for v in self._made_by(unit)}
        waits = [self._needs(unit, makers) - {u} for u, unit in enumerate(units)]
        behind: dict[int, list[int]] = {}
        for u, needed in enumerate(waits):
            for other in needed:
                behind.setdefault(other, []).append(u)
        ready = [(_rank(unit), u) for u, unit in enumerate(units) if not waits[u]]
        heapify(ready)
        found: list[int | Group] = []
        while ready:
            _, u = heappop(ready)
            found.append(units[u])
            for other in behind.get(u, ()):
                waits[other].discard(u)
                if not waits[other]:
                    heappush(ready, (_rank(units[other]), other))
        assert len(found) == len(units), "groups wait for one another"
        return found

    def _is_fused(self, number: int) -> bool:
        """Whether an op is computed in groups alone."""
        return self.fusable[number] and number not in self.kept_views and not self._stays(number)

    def _stays(self, number: int) -> bool:
        """What costs nothing and sizes are made of stays where it is as well."""
        return _is_free(self.ops[number])

    def _made_by(self, unit: int | Group) -> Iterable[ir.Value]:
        return self.ops[unit].operation.results if isinstance(unit, int) else unit.outputs

    def _needs(self, unit: int | Group, makers: dict[ir.Value, int]) -> set[int]:
        if isinstance(unit, Group):
            own = {v for n in unit.ops for v in self.ops[n].operation.results}
            values = {v for n in unit.ops for v in self.reads[n]} - own
            return {makers[v] for v in values if v in makers}
        needed = {makers[v] for v in self.reads[unit] if v in makers}
        if unit in self.effects and unit != self.effects[0]:
            before = self.effects[self.effects.index(unit) - 1]
            needed |= {makers[v] for v in self.ops[before].operation.results if v in makers}
        return needed


def is_fusable(op: Any) -> bool:
    """Whether a kernel can compute the results of an op element by element."""
    name = op.operation.name
    if name in ("tensor.insert_slice", "tensor.extract_slice"):
        return all(stride >= 1 for stride in strides_of(op))
    if name in RULES or name in ("tensor.empty", "tensor.extract"):
        return True
    if name == "arith.constant":
        return is_splat(op) or not isinstance(op.operation.results[0].type, ir.RankedTensorType)
    if name.startswith(SCALAR_DIALECTS):
        kinds = [value.type for value in op.operation.results]
        return not any(isinstance(k, ir.IndexType | ir.RankedTensorType) for k in kinds)
    return False


def _is_free(op: Any) -> bool:
    """Scalars, constants, and tensors without contents: every kernel has its own."""
    name = op.operation.name
    return name in ("tensor.empty", "tensor.extract") or name.startswith(SCALAR_DIALECTS)


def _is_cheap(op: Any) -> bool:
    """What moves elements, or computes them of nothing."""
    if op.operation.name != "linalg.generic":
        return True
    if "reduction" in str(op.attributes["iterator_types"]):
        return False
    inside = walk(op)
    if any(each.operation.name in COSTLY for each in inside):
        return False
    tensors = [v for v in list(op.operands)[: input_count(op)] if _is_tensor(v)]
    return not tensors or len(inside) == 1


def _is_tensor(value: ir.Value) -> bool:
    return isinstance(value.type, ir.RankedTensorType)


def _keeps_shape(before: Work, after: Work) -> bool:
    """A group that owns rows keeps the rows it has; one of elements may become one of rows."""
    return not before.by_rows or before.row_axes == after.row_axes


def _read_values(op: Any, known: set[ir.Value]) -> Iterator[ir.Value]:
    """Operands, and what the regions of an op read of its surroundings."""
    yield from op.operation.operands
    for inner in walk(op):
        yield from (v for v in inner.operation.operands if v in known)


def _touches_cache(op: Any) -> bool:
    if op.operation.name != LAUNCH:
        return False
    for given in op.operation.operands:
        pointer: Any = given.owner
        if not isinstance(pointer, ir.Block) and pointer.operation.name == "tile.pointer":
            source: Any = pointer.operands[0].owner
            if not isinstance(source, ir.Block) and source.operation.name == "tile.cache":
                return True
    return False


def _rank(unit: int | Group) -> int:
    return unit if isinstance(unit, int) else unit.key
