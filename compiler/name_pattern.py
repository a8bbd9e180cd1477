"""
Patterns over layer names: exact names, globs, and `re:` regular expressions.

Recipes come from strangers, so a pattern must not be able to hang the compiler. Regular
expressions are therefore not given to a backtracking engine: they become a small
nondeterministic automaton, whose time is (length of the name) x (size of the pattern).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import translate

from ..dialects.errors import UsageError
from .pattern_syntax import (
    Characters,
    Edge,
    Either,
    Node,
    Ranges,
    Repeat,
    Sequence,
    parse_expression,
)

LONGEST_PATTERN = 1_000
LARGEST_AUTOMATON = 4_000


@dataclass(frozen=True, slots=True)
class State:
    """
    Consume a character in `ranges`, where given, and go to `targets`; else go there for free.

    `edge` guards a free step: it needs the start (False) or the end (True) of the name.
    """

    targets: tuple[int, ...] = ()
    ranges: Ranges | None = None
    edge: bool | None = None


@dataclass(frozen=True, slots=True)
class NamePattern:
    """
    `text` as the recipe spells it, with the glob or the automaton (state 0 accepts) it means.

    Python translates a glob to atomic groups, which match without backtracking.
    """

    text: str
    glob: re.Pattern[str] | None = None
    states: tuple[State, ...] = ()
    start: int = 0

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` matches; `*` in a glob crosses dots."""
        if self.glob is None:
            return _accepts(self, name)
        return name == self.text or self.glob.match(name) is not None


def name_pattern(text: str) -> NamePattern:
    """Raises UsageError for a pattern that is too long or outside the regular subset."""
    if len(text) > LONGEST_PATTERN:
        raise UsageError(
            "recipe-pattern-long",
            f"a pattern of {len(text):,} characters; the limit is {LONGEST_PATTERN:,}",
            next_step="split it over several rules, or use a glob",
        )
    if not text.startswith("re:"):
        return NamePattern(text, glob=re.compile(translate(text)))
    builder = _Builder()
    start = builder.enter(parse_expression(text[3:]), 0)
    return NamePattern(text, states=tuple(builder.states), start=start)


class _Builder:
    """Builds from the end: the entry of a node is made from the state that follows it."""

    def __init__(self) -> None:
        self.states = [State()]
        self.work = 0

    def enter(self, node: Node, after: int) -> int:
        """The state that matches `node` and goes on to `after`."""
        # Counted as work, not as states: `(){999}` adds none and would still cost its count.
        self.work += 1
        if self.work > LARGEST_AUTOMATON:
            raise UsageError(
                "recipe-pattern-large",
                f"the counts of a regular expression unfold to more than {LARGEST_AUTOMATON:,} "
                "states",
                next_step="use '*' or '+' instead of large counts",
            )
        match node:
            case Characters(ranges):
                return self._add(State((after,), ranges=ranges))
            case Edge(end):
                return self._add(State((after,), edge=end))
            case Sequence(parts):
                for part in reversed(parts):
                    after = self.enter(part, after)
                return after
            case Either(choices):
                return self._add(State(tuple(self.enter(choice, after) for choice in choices)))
            case Repeat(body, low, high):
                return self._repeat(body, low, high, after)

    def _add(self, state: State) -> int:
        self.states.append(state)
        return len(self.states) - 1

    def _repeat(self, body: Node, low: int, high: int | None, after: int) -> int:
        following = self._loop(body, after) if high is None else after
        for _ in range((high or low) - low):
            following = self._add(State((self.enter(body, following), after)))
        for _ in range(low):
            following = self.enter(body, following)
        return following

    def _loop(self, body: Node, after: int) -> int:
        loop = self._add(State())
        self.states[loop] = State((self.enter(body, loop), after))
        return loop


def _accepts(pattern: NamePattern, name: str) -> bool:
    """Whether some path consumes all of `name`; the states reached so far advance together."""
    states = pattern.states
    here = _free_steps(states, [pattern.start], at_start=True, at_end=not name)
    for index, character in enumerate(name):
        code = ord(character)
        after = [
            states[state].targets[0] for state in here if _consumes(states[state].ranges, code)
        ]
        here = _free_steps(states, after, at_start=False, at_end=index + 1 == len(name))
    return 0 in here


def _consumes(ranges: Ranges | None, code: int) -> bool:
    return ranges is not None and any(low <= code <= high for low, high in ranges)


def _free_steps(
    states: tuple[State, ...], entered: Iterable[int], *, at_start: bool, at_end: bool
) -> set[int]:
    """All states that `entered` reach without a character."""
    allowed = {None: True, False: at_start, True: at_end}
    reached: set[int] = set()
    waiting = list(entered)
    while waiting:
        state = waiting.pop()
        if state in reached:
            continue
        reached.add(state)
        if states[state].ranges is None and allowed[states[state].edge]:
            waiting.extend(states[state].targets)
    return reached
