"""
The values of a kernel as C: what is written where it is used, and what gets a variable.

A word of one use is written in place, one of several uses gets a name. A load is written in place
only where nothing is stored in between. What one operation alone reads, and replaces, stays one
variable: `sum += …`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...dialects.bindings import ir
from .printer import Printer
from .words import Word, name

# What may change memory: a load is not written behind one of these.
BARS = frozenset({"pim.store", "pim.dma_in", "pim.dma_out", "pim.barrier", "pim.order", "pim.loop"})


class KernelText:
    """The C of one kernel as it is written."""

    def __init__(self, out: Printer) -> None:
        self.out = out
        self.words: dict[Any, Word] = {}
        self.arrays: dict[Any, str] = {}  # buffers and arrays by value
        self._taken: list[set[str]] = [set()]
        self._variables: set[str] = set()  # those that may be changed

    # ---- names

    def fresh(self, wanted: str) -> str:
        """`wanted`, or with a number where a variable in scope has that name."""
        taken = set().union(*self._taken)
        found, number = wanted, 1
        while found in taken:
            number += 1
            found = f"{wanted}_{number}"
        self._taken[-1].add(found)
        return found

    @contextmanager
    def scope(self, header: str) -> Iterator[None]:
        """A block of C; names declared inside are free again behind it."""
        with self.out.block(header):
            self._taken.append(set())
            yield
            self._taken.pop()

    # ---- values

    def word(self, value: Any) -> Word:
        return self.words[value]

    def define(self, value: Any, word: Word, hint: str) -> None:
        """The word of a value; a variable for it where it is used more than once, or in a loop."""
        if word.is_simple or (uses(value) < 2 and not read_in_loop(value)):
            self.words[value] = word
            return
        self.words[value] = self.declare(f"const uint32_t {self.fresh(hint)}", str(word))

    def declare(self, declaration: str, text: str) -> Word:
        self.out.line(f"{declaration} = {text};")
        return name(declaration.split()[-1])

    def variable(self, value: Any, text: str, hint: str) -> None:
        """A variable that may be changed, if its one reader replaces it."""
        if replaceable(value):
            self.words[value] = self.changeable(text, hint)
        else:
            self.words[value] = self.declare(f"const uint32_t {self.fresh(hint)}", text)

    def changeable(self, text: str, hint: str) -> Word:
        variable = self.fresh(hint)
        self._variables.add(variable)
        return self.declare(f"uint32_t {variable}", text)

    def may_replace(self, value: Any) -> bool:
        """Whether the value is a variable that its one reader may change."""
        return str(self.words[value]) in self._variables and replaceable(value)

    def add_to(self, value: Any, before: Any, text: str, hint: str = "sum") -> None:
        """value = before + text: in the variable of `before` where nobody else reads that."""
        word = self.words[before]
        if self.may_replace(before):
            self.out.line(f"{word} += {text};")
            self.words[value] = word
            return
        self.variable(value, f"{word} + {text}" if word != Word() else text, hint)


def uses(value: Any) -> int:
    return sum(1 for _ in value.uses)


def users(value: Any) -> list[Any]:
    return [use.owner for use in value.uses]


def read_in_loop(value: Any) -> bool:
    """Whether a value that its writer named is read by a loop that it stands before."""
    if "name" not in value.owner.operation.attributes:
        return False
    return any(each.operation.block != block_of(value) for each in users(value))


def block_of(value: Any) -> Any:
    """The block that a value is defined in."""
    owner = value.owner
    return owner if isinstance(owner, ir.Block) else owner.operation.block


def is_addition(op: Any) -> bool:
    return op.operation.name in ("pim.lookup_accumulate", "arith.addi")


def replaceable(value: Any) -> bool:
    """
    Whether a variable of the value may be changed by its reader.

    There is one reader, in the same block, and it adds to the value or carries it through a loop.
    """
    readers = users(value)
    if len(readers) != 1 or readers[0].operation.block != block_of(value):
        return False
    reader = readers[0].operation
    if reader.name == "pim.loop":
        return value in list(reader.opview.initial)
    return is_addition(reader) and reader.operands[0] == value


def written_in_place(op: Any) -> bool:
    """
    Whether a load has one reader, with nothing stored between them.

    What a lookup adds to has a variable, and so has a sum that is added to again.
    """
    readers = users(op.operation.results[0])
    if len(readers) != 1 or readers[0].operation.block != op.operation.block:
        return False
    reader = readers[0].operation
    if reader.name in ("pim.loop", "pim.yield"):
        return False
    added_once = reader.name == "arith.addi" and not replaceable(reader.results[0])
    if replaceable(op.operation.results[0]) and not added_once:
        return False
    return not any(each.operation.name in BARS for each in between(op, reader))


def between(op: Any, last: Any) -> Iterator[Any]:
    """The operations behind `op` and before `last`, of the same block."""
    inside = False
    for each in op.operation.block.operations:
        if each.operation == last:
            return
        if inside:
            yield each
        inside = inside or each.operation == op.operation


def singular(buffer: str) -> str:
    """
    One element of an array with a name in the plural.

    >>> singular("codes"), singular("table"), singular("upper")
    ('code', 'table_entry', 'upper_entry')
    """
    return re.sub("s$", "", buffer) if buffer.endswith("s") else f"{buffer}_entry"
