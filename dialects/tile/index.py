"""
Indices and sizes as polynomials of whole numbers, simplified with what is known of their ranges.

    index = 64 * row + 4 * lane + i          a sum of products of atoms
    atoms:  Size n           an extent known at launch, at least 0
            Variable v       of a loop or a thread, 0 <= v < extent, a multiple of `step`
            Quotient a / b, Remainder a % b      of polynomials, b > 0
            Loaded           a number read from memory: nothing is known of it

What a kernel reads is described once in these terms; schedules ask for contiguity and alignment,
the emitter prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import gcd

Term = tuple["Atom", ...]


@dataclass(frozen=True, slots=True)
class Size:
    """An extent that the launch gives, by the name of the kernel's argument or of its owner."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """`name` is what the kernel calls it; without an extent, only that it is not negative."""

    name: str
    extent: Index | None = None
    step: int = 1


@dataclass(frozen=True, slots=True)
class Quotient:
    of: Index
    by: Index


@dataclass(frozen=True, slots=True)
class Remainder:
    of: Index
    by: Index


@dataclass(frozen=True, slots=True)
class Loaded:
    """`key` tells numbers apart; `variables` are those that the place read depends on."""

    key: object
    variables: frozenset[Variable] = frozenset()


Atom = Size | Variable | Quotient | Remainder | Loaded


@dataclass(frozen=True)
class Index:
    """
    A polynomial: its terms and their factors, in a fixed order.

    >>> d = Index.of(Variable("d", Index.of(8)))
    >>> str((d * 4 + 3) // 4), str((d * 4 + 3) % 4), str(d % 8), str(d * 2 + d)
    ('d', '3', 'd', '3 * d')
    >>> f = Index.of(Variable("f"))
    >>> str(f // 64 * 64 + f % 64)
    'f'
    """

    terms: tuple[tuple[Term, int], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    @staticmethod
    def of(value: int | Atom | Index) -> Index:
        if isinstance(value, Index):
            return value
        if isinstance(value, int):
            return Index((((), value),) if value else ())
        return Index((((value,), 1),))

    def __add__(self, other: int | Index) -> Index:
        return _sum([*self.terms, *Index.of(other).terms])

    def __sub__(self, other: int | Index) -> Index:
        return self + Index.of(other) * -1

    def __mul__(self, other: int | Index) -> Index:
        return _sum(
            [
                (tuple(sorted((*a, *b), key=_order)), x * y)
                for a, x in self.terms
                for b, y in Index.of(other).terms
            ]
        )

    def __floordiv__(self, other: int | Index) -> Index:
        return divided(self, Index.of(other))[0]

    def __mod__(self, other: int | Index) -> Index:
        return divided(self, Index.of(other))[1]

    @property
    def constant(self) -> int | None:
        """The number that this is, or None."""
        if not self.terms:
            return 0
        (term, factor), *more = self.terms
        return factor if not more and not term else None

    @property
    def atom(self) -> Atom | None:
        """The one atom that this is, or None."""
        match self.terms:
            case (((atom,), 1),):
                return atom
        return None

    def __str__(self) -> str:
        return " + ".join(_term_text(term, factor) for term, factor in self.terms) or "0"


ZERO, ONE = Index(()), Index((((), 1),))


def product(factors: Iterable[Index]) -> Index:
    result = ONE
    for factor in factors:
        result = result * factor
    return result


def atoms(index: Index) -> Iterator[Atom]:
    """Those of the polynomial, and those inside of them."""
    for term, _ in index.terms:
        for atom in term:
            yield atom
            if isinstance(atom, Quotient | Remainder):
                yield from atoms(atom.of)
                yield from atoms(atom.by)


def variables(index: Index) -> frozenset[Variable]:
    found: set[Variable] = set()
    for atom in atoms(index):
        if isinstance(atom, Variable):
            found.add(atom)
        elif isinstance(atom, Loaded):
            found |= atom.variables
    return frozenset(found)


def upper(index: Index) -> Index | None:
    """A polynomial of sizes that the index never exceeds."""
    total = ZERO
    for term, factor in index.terms:
        if factor < 0:
            if any(isinstance(atom, Loaded) for atom in term):
                return None
            if all(isinstance(atom, Size) for atom in term):
                total = total + Index(((term, factor),))
            continue  # no atom is negative
        bounds = [_largest(atom) for atom in term]
        if any(bound is None for bound in bounds):
            return None
        total = total + product(bound for bound in bounds if bound is not None) * factor
    return total


def is_below(index: Index, bound: Index) -> bool:
    """Whether index < bound whatever the sizes are; an index is never negative."""
    highest = upper(index)
    return highest is not None and all(f >= 0 for _, f in (bound - 1 - highest).terms)


def multiple_of(index: Index, number: int) -> bool:
    """Whether the index is always a multiple of `number`."""
    return all(_known_factor(term, factor) % number == 0 for term, factor in index.terms)


@cache
def divided(of: Index, by: Index) -> tuple[Index, Index]:
    """
    Quotient and remainder, simplified: of = by * quotient + remainder, 0 <= remainder < by.

    Terms that are multiples of `by` leave; the rest may be known to be smaller. A part below g
    beside multiples of g changes no quotient by a multiple of g.
    """
    if by == ONE:
        return of, ZERO
    if of.constant is not None and by.constant is not None:
        return Index.of(of.constant // by.constant), Index.of(of.constant % by.constant)
    whole, rest = _split(of, by)
    if is_below(rest, by):
        return whole, rest
    step = by.constant
    if step is not None:
        for g in sorted({gcd(_known_factor(t, f), step) for t, f in rest.terms}, reverse=True):
            coarse, fine = _parts(rest, g)
            if 1 < g < step and fine != ZERO and is_below(fine, Index.of(g)):
                more, left = divided(coarse, by)
                return whole + more, left + fine
    match rest.atom:
        case Quotient(inner, over) if (merged := _flat(inner, over, by)) is not None:
            return whole + merged, Index.of(Remainder(rest, by))
    return whole + Index.of(Quotient(rest, by)), Index.of(Remainder(rest, by))


def _flat(inner: Index, over: Index, by: Index) -> Index | None:
    """a / b / c where that is below 1 or a constant quotient: a / (b * c)."""
    return ZERO if is_below(inner, over * by) else None


def delinearized(index: Index, extents: Iterable[Index]) -> tuple[Index, ...]:
    """
    The indices whose row-major place `index` is; the first takes what is left.

    >>> f = Index.of(Variable("f"))
    >>> [str(each) for each in delinearized(f, map(Index.of, (5, 4, 1)))]
    ['f / 4', 'f % 4', '0']
    """
    sizes, places = list(extents), []
    for size in reversed(sizes[1:]):
        if size == ONE:
            places.append(ZERO)
            continue
        index, place = divided(index, size)
        places.append(place)
    first = ZERO if sizes and sizes[0] == ONE else index
    return (first, *reversed(places)) if sizes else ()


def linearized(indices: Iterable[Index], extents: Iterable[Index]) -> Index:
    """The row-major place of `indices`."""
    place = ZERO
    for index, extent in zip(indices, extents, strict=True):
        place = place * extent + index
    return place


def _split(of: Index, by: Index) -> tuple[Index, Index]:
    """The terms that are multiples of `by`, over it, and the others."""
    whole, rest = [], []
    divisor = by.terms[0] if len(by.terms) == 1 else None
    for term, factor in of.terms:
        over = None if divisor is None else _over(term, factor, *divisor)
        (rest if over is None else whole).append((term, factor) if over is None else over)
    return _sum(whole), _sum(rest)


def _over(term: Term, factor: int, by: Term, number: int) -> tuple[Term, int] | None:
    left = list(term)
    for atom in by:
        if atom not in left:
            return None
        left.remove(atom)
    return (tuple(left), factor // number) if factor % number == 0 else None


def _parts(index: Index, number: int) -> tuple[Index, Index]:
    """The terms known to be multiples of `number`, and the others."""
    coarse = [t for t in index.terms if _known_factor(*t) % number == 0]
    return _sum(coarse), _sum([t for t in index.terms if t not in coarse])


def _known_factor(term: Term, factor: int) -> int:
    for atom in term:
        factor *= atom.step if isinstance(atom, Variable) else 1
    return abs(factor)


def _largest(atom: Atom) -> Index | None:
    match atom:
        case Size():
            return Index.of(atom)
        case Variable(extent=extent, step=step):
            whole = None if extent is None else extent.constant
            if whole is not None:
                return Index.of((whole - 1) // step * step)
            return None if extent is None else extent - 1
        case Remainder(by=by):
            return by - 1
        case Quotient(of=of, by=by):
            highest = upper(of)
            if highest is None or by.constant is None:
                return None
            number = highest.constant
            return highest if number is None else Index.of(number // by.constant)
    return None


def _sum(terms: Iterable[tuple[Term, int]]) -> Index:
    total: dict[Term, int] = {}
    for term, factor in terms:
        total[term] = total.get(term, 0) + factor
    found = {term: factor for term, factor in total.items() if factor}
    while _recombine(found):
        pass
    return Index(tuple(sorted(found.items(), key=lambda item: _term_order(item[0]))))


def _recombine(terms: dict[Term, int]) -> bool:
    """x * b * (a / b) + x * (a % b) => x * a."""
    for term, factor in list(terms.items()):
        for atom in term:
            if not isinstance(atom, Remainder):
                continue
            others = list(term)
            others.remove(atom)
            quotient = Index.of(Quotient(atom.of, atom.by)) * atom.by
            pair = (Index(((tuple(others), factor),)) * quotient).terms
            if len(pair) == 1 and terms.get(pair[0][0]) == pair[0][1]:
                del terms[term], terms[pair[0][0]]
                for more, number in (Index(((tuple(others), factor),)) * atom.of).terms:
                    terms[more] = terms.get(more, 0) + number
                    if not terms[more]:
                        del terms[more]
                return True
    return False


def _order(atom: Atom) -> tuple[str, str]:
    return type(atom).__name__, str(atom) if isinstance(atom, Loaded) else _atom_text(atom)


def _term_order(term: Term) -> tuple[int, list[tuple[str, str]]]:
    return -len(term), [_order(atom) for atom in term]


def _atom_text(atom: Atom) -> str:
    match atom:
        case Size(name=name) | Variable(name=name):
            return name
        case Quotient(of=of, by=by):
            return f"{_grouped(of)} / {_grouped(by)}"
        case Remainder(of=of, by=by):
            return f"{_grouped(of)} % {_grouped(by)}"
    return f"[{atom.key}]"


def _grouped(index: Index) -> str:
    simple = index.constant is not None or isinstance(index.atom, Size | Variable)
    return str(index) if simple else f"({index})"


def _term_text(term: Term, factor: int) -> str:
    parts = [_atom_text(atom) for atom in term]
    if len(term) + (factor != 1) > 1:
        parts = [f"({p})" if " " in p else p for p in parts]
    if factor != 1 or not parts:
        parts.insert(0, str(factor))
    return " * ".join(parts)
