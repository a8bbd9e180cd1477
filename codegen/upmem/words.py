"""Words as C: sums of a number and of names times numbers, modulo 2**32, which C's uint32_t are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WORD = 1 << 32


@dataclass(frozen=True)
class Word:
    """
    constant + Σ factor · name.

    A name is that of a variable, or C that needs no parentheses in a product.
    """

    constant: int = 0
    terms: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_constant(self) -> bool:
        return not self.terms

    @property
    def is_name(self) -> bool:
        """One variable and nothing else, so that repeating it costs the reader nothing."""
        return self.constant == 0 and list(self.terms.values()) == [1]

    @property
    def is_simple(self) -> bool:
        """A number, or one name in it: repeated rather than named."""
        return len(self.terms) < 2

    def plus(self, other: Word) -> Word:
        terms = dict(self.terms)
        for name, factor in other.terms.items():
            terms[name] = (terms.get(name, 0) + factor) % WORD
        kept = {name: factor for name, factor in terms.items() if factor}
        return Word((self.constant + other.constant) % WORD, kept)

    def times(self, factor: int) -> Word:
        terms = {name: known * factor % WORD for name, known in self.terms.items()}
        kept = {name: each for name, each in terms.items() if each}
        return Word(self.constant * factor % WORD, kept)

    def minus(self, other: Word) -> Word:
        return self.plus(other.times(-1))

    def __str__(self) -> str:
        """
        >>> print(Word(3, {"row": 1, "token": 8}), Word(WORD - 2, {"a": WORD - 1, "b": 1}))
        row + 8 * token + 3 b - a - 2
        >>> print(Word(WORD - 2), Word(WORD - 2, {"a": WORD - 1}))
        4294967294u 4294967294u - a
        """
        added = [_product(name, factor) for name, factor in self.terms.items() if factor < WORD / 2]
        taken = [
            _product(name, WORD - factor)
            for name, factor in self.terms.items()
            if factor >= WORD / 2
        ]
        if added and self.constant >= WORD / 2:
            taken.append(str(WORD - self.constant))
        elif self.constant or not added:
            added.append(literal(self.constant))
        return " - ".join([" + ".join(added), *taken])


def literal(value: int) -> str:
    """
    >>> literal(7), literal(1 << 31)
    ('7', '2147483648u')
    """
    return str(value) if value < WORD / 2 else f"{value}u"


def name(text: str) -> Word:
    return Word(0, {text: 1})


def grouped(word: Word) -> str:
    """As an operand of an operator that binds tighter than a sum."""
    return str(word) if word.is_constant or word.is_name else f"({word})"


def _product(variable: str, factor: int) -> str:
    return variable if factor == 1 else f"{factor} * {variable}"
