"""
Layers of BERT-base, OPT-125M and ViT-B on DPUs: qcc's choice against other methods.

    python -m benchmarks.pim_goals [--formats W1A3,W4A4] [--columns 32,4096] [--objective layer]
    python -m benchmarks.pim_goals --exhaustive
    python -m benchmarks.pim_goals --sizes

Each method is tuned by the same search, over p, residency, groups, tasklets and the split of rows
and tokens: `multiply` (8-bit multiplications in register tiles), `packed` (operation-packed table,
resident or streamed), `fly` (a table made for each group of activations), `canonical` (LoCaLUT's
tables, reordered with ties), and `lanes`, two tokens a word. Times are those of the cycle model,
which `benchmarks.pim --validate` holds against hardware; kernels only, unless --objective says
"layer", which adds launch and transfers. Columns are the tokens of one call: 32 to 512 as in
decoding of a batch, 4096 a batch of 32 sequences of 128.

--exhaustive simulates every schedule of a smaller space and prints how far the choice is from the
best. --sizes prints tables of spec pim.md §1.7, whether they are those, and what ties save.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path

from qcc.dialects.pim.device import Device, device
from qcc.dialects.pim.lookup_tables import TablePair
from qcc.dialects.pim.profile import read_profile
from qcc.dialects.pim.schedule import METHODS, Problem
from qcc.passes.choose_pim_schedule import Choice, Space, choose_schedule, exhaustive

BOOKS = {1: (-1, 1)} | {
    bits: (*range(1 << (bits - 1)), *range(-(1 << (bits - 1)), 0)) for bits in (2, 3, 4)
}
FORMATS = {"W1A3": (1, 3), "W1A4": (1, 4), "W2A2": (2, 2), "W4A4": (4, 4)}
SQUARE, UP, DOWN = (768, 768), (3072, 768), (768, 3072)
MODELS = {  # layers of one block: (outputs, inputs) and how many
    "BERT-base": ((SQUARE, 4), (UP, 1), (DOWN, 1)),
    "OPT-125M": ((SQUARE, 4), (UP, 1), (DOWN, 1)),
    "ViT-B": (((2304, 768), 1), (SQUARE, 1), (UP, 1), (DOWN, 1)),
}
SIZED = {**FORMATS, "W1A1": (1, 1), "W2A4": (2, 4), "W3A3": (3, 3)}
PUBLISHED = {  # columns, bytes of the canonical and of the full reordering table: spec pim.md §1.7
    ("W1A3", 5): (792, 25344, 3840), ("W1A3", 6): (1716, 109824, 46080),
    ("W1A3", 7): (3432, 439296, 645120), ("W1A3", 8): (6435, 1647360, 10321920),
    ("W1A4", 3): (816, 6528, 48), ("W1A4", 7): (170544, 21829632, 645120),
    ("W2A2", 4): (35, 8960, 6144), ("W2A2", 5): (56, 57344, 245760),
    ("W2A2", 6): (84, 344064, 5898240), ("W2A4", 5): (15504, 15876096, 245760),
    ("W4A4", 2): (136, 69632, 512), ("W4A4", 3): (816, 6684672, 49152),
}  # fmt: skip
FEASIBLE = {  # largest p: packed in WRAM and MRAM, canonical in WRAM and MRAM, likewise
    "W1A3": (3, 6, 5, 8), "W1A4": (3, 5, 3, 7), "W2A2": (3, 6, 4, 6), "W2A4": (2, 4, 2, 5),
    "W3A3": (2, 4, 2, 4), "W4A4": (1, 3, 1, 3),
}  # fmt: skip
BASELINES = ("fly", "packed")
COLUMNS = (32, 64, 128, 256, 512, 4096)
GOALS = {"best of fly and packed": 1.9, "multiply, W1A3": 4.7}


def main(arguments: Sequence[str] | None = None) -> int:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.pim_goals", description=__doc__,
                                     formatter_class=raw)  # fmt: skip
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--columns", default=",".join(map(str, COLUMNS)))
    parser.add_argument("--objective", choices=("kernel", "layer"), default="kernel")
    parser.add_argument("--device", type=Path, help="a profile other than v1A")
    parser.add_argument("--exhaustive", action="store_true")
    parser.add_argument("--sizes", action="store_true")
    options = parser.parse_args(arguments)
    target = read_profile(options.device) if options.device else device("v1A")
    if options.sizes:
        return print_sizes()
    if options.exhaustive:
        print_exhaustive(target, options.formats.split(","))
    else:
        columns = [int(each) for each in options.columns.split(",")]
        print_goals(target, options.formats.split(","), columns, options.objective)
    return 0


def say(text: str = "") -> None:
    print(text, flush=True)  # noqa: T201


def problem(shape: tuple[int, int], columns: int, formats: str) -> Problem:
    weights, activations = FORMATS[formats]
    return Problem(*shape, columns, BOOKS[weights], BOOKS[activations])


@dataclass(frozen=True)
class Tuned:
    """The best schedule of each method for each layer, searched for once."""

    target: Device
    objective: str
    found: dict[tuple[object, ...], Choice] = field(default_factory=dict)

    def best(self, shape: tuple[int, int], columns: int, formats: str, method: str) -> Choice:
        key = shape, columns, formats, method
        if key not in self.found:
            space = Space(methods=(method,), objective=self.objective)
            self.found[key] = choose_schedule(problem(*key[:3]), self.target, space)
        return self.found[key]

    def fastest(
        self, shape: tuple[int, int], columns: int, formats: str, methods: Sequence[str]
    ) -> Choice:
        given = [self.best(shape, columns, formats, method) for method in methods]
        return min(given, key=lambda each: each.milliseconds(self.objective))

    def block_ms(self, model: str, columns: int, formats: str, methods: Sequence[str]) -> float:
        """One block of a model, each layer with the fastest of some methods."""
        return sum(
            many * self.fastest(shape, columns, formats, methods).milliseconds(self.objective)
            for shape, many in MODELS[model]
        )


def print_goals(
    target: Device, formats: Sequence[str], columns: Sequence[int], objective: str
) -> None:
    tuned = Tuned(target, objective)
    say(f"{target.name}, {target.dpus} DPUs; milliseconds of a block's linear layers, {objective}")
    say(f"{'model':10} {'format':6} {'columns':>7} " + " ".join(f"{m:>10}" for m in METHODS)
        + f" {'best/base':>10} {'vs multiply':>11} {'canonical/base':>14}")  # fmt: skip
    ratios: dict[str, list[float]] = {}
    for precision, count, model in product(formats, columns, MODELS):
        sums = {m: tuned.block_ms(model, count, precision, (m,)) for m in METHODS}
        chosen = tuned.block_ms(model, count, precision, METHODS)
        base = tuned.block_ms(model, count, precision, BASELINES)
        row = {
            "best of fly and packed": base / chosen,
            f"multiply, {precision}": sums["multiply"] / chosen,
            "canonical against fly and packed": base / sums["canonical"],
        }
        for name, value in row.items():
            ratios.setdefault(name, []).append(value)
        say(f"{model:10} {precision:6} {count:7} "
            + " ".join(f"{sums[m]:10.4f}" for m in METHODS)
            + " {:10.2f} {:11.2f} {:14.2f}".format(*row.values()))  # fmt: skip
    say()
    for name, found in ratios.items():
        goal = f", goal {GOALS[name]}" if name in GOALS else ""
        say(f"geometric mean against {name:34} {geometric(found):6.2f}{goal}; least "
            f"{min(found):.2f}, most {max(found):.2f}, {len(found)} rows")  # fmt: skip
    print_choices(tuned, formats, columns)


def print_choices(tuned: Tuned, formats: Sequence[str], columns: Sequence[int]) -> None:
    say("chosen schedules:")
    shapes = sorted({shape for layers in MODELS.values() for shape, _ in layers})
    for shape, precision, count in product(shapes, formats, columns):
        first = tuned.fastest(shape, count, precision, METHODS)
        s = first.schedule
        say(f"  {shape} {precision} {count:5}: {s.method} p={s.p} groups={s.groups} "
            f"words={s.words} {'shared' if s.shared else 'private'} {s.residency} "
            f"tasklets={s.tasklets} grid={s.row_parts}x{s.token_parts}x{s.k_parts} "
            f"estimate/simulation={first.estimate / first.cycles:.3f}")  # fmt: skip


def geometric(values: Sequence[float]) -> float:
    return prod(values) ** (1 / len(values))


def print_exhaustive(target: Device, formats: Sequence[str]) -> None:
    """The choice against all schedules of a space that can be simulated in minutes."""
    worst = 1.0
    for precision in formats:
        for shape, columns, grids in (
            ((96, 192), 512, ((1, 64, 1), (2, 32, 2))), ((768, 384), 64, ((4, 16, 1), (1, 64, 1))),
        ):  # fmt: skip
            for methods in (("canonical", "packed"), ("fly", "lanes"), METHODS):
                space = Space(methods=methods, tasklets=(12, 16), groups=(4, 16), words=(1, 4),
                              grids=grids, objective="kernel")  # fmt: skip
                given = problem(shape, columns, precision)
                chosen = choose_schedule(given, target, space)
                best = exhaustive(given, target, space)
                worst = max(worst, chosen.cycles / best.cycles)
                say(f"{precision} {shape} {columns:4} columns, {'+'.join(methods):40} "
                    f"{best.considered:5} schedules, chosen/best {chosen.cycles / best.cycles:.4f}"
                    f", {chosen.schedule.method} p={chosen.schedule.p}")  # fmt: skip
    say(f"worst {100 * (worst - 1):.2f} % from the best")


def print_sizes() -> int:
    """Sizes of tables, held against those of spec pim.md §1.7; 1 where one differs."""
    say(f"{'format':6} {'p':>2} {'packed B':>14} {'columns':>8} {'canonical B':>12} "
        f"{'reduction':>10} {'reorder p!':>12} {'with ties':>12} {'smaller':>8} "
        f"{'pim.md':>7}")  # fmt: skip
    differ = 0
    for name, (weights, activations) in SIZED.items():
        for p in range(2, 9):
            if p * weights > 16:
                continue
            t = TablePair(BOOKS[weights], BOOKS[activations], p)
            full, ties = t.bytes("full reorder"), t.bytes("reorder")
            ratio = t.bytes("packed") / t.bytes("canonical")
            given = PUBLISHED.get((name, p), (t.columns, t.bytes("canonical"), full))
            same = given == (t.columns, t.bytes("canonical"), full)
            differ += not same
            told = ("equal" if same else "DIFFERS") if (name, p) in PUBLISHED else ""
            say(f"{name:6} {p:2} {t.bytes('packed'):14} {t.columns:8} {t.bytes('canonical'):12} "
                f"{ratio:9.2f}x {full:12} {ties:12} {full / ties:7.1f}x {told:>7}")  # fmt: skip
    say()
    say(f"largest p of 32 KiB of WRAM / 32 MiB of MRAM{'packed':>10}{'canonical':>12}{'pim.md':>9}")
    for name, expected in FEASIBLE.items():
        found = tuple(
            largest_p(name, kind, share)
            for kind in ("packed", "canonical")
            for share in (32 << 10, 32 << 20)
        )
        differ += found != expected
        told = "equal" if found == expected else "DIFFERS"
        say(f"{name:44}{found[0]:6} / {found[1]}{found[2]:8} / {found[3]}{told:>9}")
    return int(differ > 0)


def largest_p(name: str, kind: str, share: int) -> int:
    """Of tables that fit some bytes; canonical ones with their full reordering table."""
    weights, activations = SIZED[name]
    best = 0
    for p in range(1, 1 + min(8, 16 // weights)):
        t = TablePair(BOOKS[weights], BOOKS[activations], p)
        reorder = t.bytes("full reorder") if kind == "canonical" and t.needs_reorder else 0
        if t.bytes(kind) + reorder <= share:
            best = p
    return best


if __name__ == "__main__":
    sys.exit(main())
