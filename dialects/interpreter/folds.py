"""
Reduction bodies as folds: evaluated once over a whole box instead of once a point.

Two shapes of yielded value are folds of their output `out`, x not depending on out:

    out' = combine(out, x)            combine a ufunc: its reduction, or all its prefixes
    out' = select(condition, x, out)  the x of the last point where the condition holds

A condition may read another output (an argmax reads the running maximum): that one is then
replaced by its prefixes. Float sums are added in NumPy's order, pairwise along the last axis.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .affine import Box
from .element_types import Array
from .frame import Frame
from .program import Code, Step

COMBINERS: dict[str, np.ufunc] = {
    "arith.addf": np.add,
    "arith.mulf": np.multiply,
    "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum,
    "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin,
    "arith.addi": np.add,
    "arith.muli": np.multiply,
    "arith.maxsi": np.maximum,
    "arith.minsi": np.minimum,
    "arith.andi": np.bitwise_and,
    "arith.ori": np.bitwise_or,
    "arith.xori": np.bitwise_xor,
}
ON_BITS: dict[str, np.ufunc] = COMBINERS | {
    "arith.addi": np.logical_xor,
    "arith.muli": np.logical_and,
    "arith.maxsi": np.logical_and,  # i1 true is -1
    "arith.minsi": np.logical_or,
}


def combiner(name: str, dtype: np.dtype) -> np.ufunc | None:
    """The ufunc of a commutative operation on values of `dtype`, None if there is none."""
    return (ON_BITS if dtype.kind == "b" else COMBINERS).get(name)


@dataclass(frozen=True, slots=True)
class Combine:
    """Output number `position` folds `source` with the operation of `step`."""

    position: int
    step: Step
    out: int
    source: int
    needs_prefixes: bool


@dataclass(frozen=True, slots=True)
class Pick:
    """Output number `position` keeps `source` of the last point where `condition` is `wanted`."""

    position: int
    step: Step
    out: int
    source: int
    condition: int
    wanted: bool


Fold = Combine | Pick


@dataclass(frozen=True, slots=True)
class FoldPlan:
    """Steps and folds in an order in which each finds its operands."""

    order: tuple[Step | Fold, ...]
    code: Code


def plan_folds(code: Code, inputs: int) -> FoldPlan | None:
    """How to evaluate a reduction body by folds; None where it is not made of them."""
    makers = {result: step for step in code.steps for result in step.results}
    folds: list[Fold] = []
    for position, (out, result) in enumerate(
        zip(code.arguments[inputs:], code.yields, strict=True)
    ):
        step = makers.get(result)
        fold = as_fold(code, position, out, step) if step else None
        if fold is None:
            return None
        folds.append(fold)
    return ordered(code, inputs, folds)


def as_fold(code: Code, position: int, out: int, step: Step) -> Fold | None:
    readers = sum(out in other.reads for other in code.steps)
    if step.name in COMBINERS and step.operands.count(out) == 1:
        source = step.operands[1 - step.operands.index(out)]
        result = step.results[0]
        observed = readers > 1 or any(result in other.reads for other in code.steps)
        return Combine(position, step, out, source, observed or code.yields.count(result) > 1)
    if step.name != "arith.select" or readers > 1 or code.yields.count(step.results[0]) > 1:
        return None
    condition, if_true, if_false = step.operands
    if if_false == out != if_true:
        return Pick(position, step, out, if_true, condition, True)
    if if_true == out != if_false:
        return Pick(position, step, out, if_false, condition, False)
    return None


def ordered(code: Code, inputs: int, folds: Sequence[Fold]) -> FoldPlan | None:
    """The plan, or None where some fold waits for itself."""
    inside = {*code.arguments, *(result for step in code.steps for result in step.results)}
    known = set(code.arguments[:inputs])
    own = {fold.step.results[0]: fold for fold in folds}
    pending: list[Step | Fold] = [own.get(s.results[0], s) if s.results else s for s in code.steps]
    order: list[Step | Fold] = []
    while pending:
        ready = [item for item in pending if needs(item) & inside <= known]
        if not ready:
            return None
        for item in ready:
            known.update(gives(item))
        order.extend(ready)
        pending = [item for item in pending if item not in ready]
    return FoldPlan(tuple(order), code)


def needs(item: Step | Fold) -> frozenset[int]:
    if isinstance(item, Step):
        return item.reads
    if isinstance(item, Combine):
        return frozenset({item.source})
    return frozenset({item.source, item.condition})


def gives(item: Step | Fold) -> Sequence[int]:
    if isinstance(item, Step):
        return item.results
    return (item.out, *item.step.results) if isinstance(item, Combine) else item.step.results


class Reduction:
    """The axes of a box that are folded, and arrays over the box with those axes made one."""

    def __init__(self, box: Box, is_reduction: Sequence[bool]) -> None:
        self.sizes = box.sizes
        self.folded = tuple(axis for axis, folds in enumerate(is_reduction) if folds)
        self.kept = tuple(axis for axis, folds in enumerate(is_reduction) if not folds)
        self.kept_sizes = [self.sizes[axis] for axis in self.kept]
        self.result_sizes = [1 if a in self.folded else s for a, s in enumerate(box.sizes)]

    def flat(self, array: Array) -> Array:
        """[kept axes…, points] in the order in which the points are visited."""
        moved = np.transpose(np.broadcast_to(array, self.sizes), self.kept + self.folded)
        return moved.reshape(*self.kept_sizes, -1)

    def flat_initial(self, array: Array) -> Array:
        """[kept axes…, 1] of an array that has length 1 along the folded axes."""
        moved = np.transpose(np.broadcast_to(array, self.result_sizes), self.kept + self.folded)
        return moved.reshape(*self.kept_sizes, 1)

    def unflat(self, array: Array) -> Array:
        """The inverse of `flat`."""
        order = self.kept + self.folded
        moved = array.reshape([self.sizes[axis] for axis in order])
        return np.transpose(moved, np.argsort(order))

    def result(self, array: Array) -> Array:
        """[kept axes…] as an array over the box with length 1 along the folded axes."""
        return array.reshape(self.result_sizes)


def run_folds(
    plan: FoldPlan, frame: Frame, inputs: Sequence[Array], initial: Sequence[Array], over: Reduction
) -> list[Array]:
    """The outputs after the box, given those before it."""
    frame.values.update(zip(plan.code.arguments, inputs, strict=False))
    results: list[Array] = [np.empty(0)] * len(initial)
    for item in plan.order:
        if isinstance(item, Step):
            frame.carry_out(item)
        elif isinstance(item, Combine):
            results[item.position] = combine(item, frame, initial[item.position], over)
        else:
            results[item.position] = pick(item, frame, initial[item.position], over)
    for step in plan.code.steps:
        for number in (*step.results, *plan.code.arguments):
            frame.values.pop(number, None)
    return results


def combine(fold: Combine, frame: Frame, initial: Array, over: Reduction) -> Array:
    source = frame.values[fold.source]
    ufunc = ON_BITS[fold.step.name] if source.dtype.kind == "b" else COMBINERS[fold.step.name]
    if not fold.needs_prefixes:
        whole = np.broadcast_to(source, over.sizes)
        reduced = ufunc.reduce(whole, axis=over.folded, keepdims=True, dtype=source.dtype)
        return ufunc(initial, reduced)
    points = np.concatenate([over.flat_initial(initial), over.flat(source)], axis=-1)
    prefixes = ufunc.accumulate(points, axis=-1, dtype=source.dtype)
    frame.values[fold.out] = over.unflat(prefixes[..., :-1])
    frame.values[fold.step.results[0]] = over.unflat(prefixes[..., 1:])
    return over.result(prefixes[..., -1])


def pick(fold: Pick, frame: Frame, initial: Array, over: Reduction) -> Array:
    holds = over.flat(frame.values[fold.condition]) == fold.wanted
    source = over.flat(frame.values[fold.source])
    last = holds.shape[-1] - 1 - np.argmax(holds[..., ::-1], axis=-1)
    chosen = np.take_along_axis(source, last[..., None], axis=-1)
    return over.result(np.where(holds.any(-1, keepdims=True), chosen, over.flat_initial(initial)))
