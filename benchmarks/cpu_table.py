"""The rows of `benchmarks.cpu` as data and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.cpu_rounds import ENOUGH, Cell, Sample, Timed, kept, ratio

Row = dict[str, Any]
COLUMNS = (
    "row", "bits", "x", "median ms", "best ms", "GB/s", "GOP/s", "of limit", "best peer / row",
    "error", "samples",
)  # fmt: skip


def cell_rows(cell: Cell, entries: Sequence[Timed], ours: str = "qcc") -> list[Row]:
    """
    A row for each entry.

    `against` is the fastest row of the same width that is not ours, and `ratio` its time by this
    row's: above 1, this row is faster.
    """
    samples = kept(entries)
    best = _fastest(entries, samples, ours)
    rows = []
    for index, timed in enumerate(entries):
        rival = best.get(timed.contestant.variant.width)
        row = _row(cell, timed, samples[index])
        if rival is not None and samples[index]:
            row["against"] = _name(entries[rival])
            row["ratio"] = ratio(samples[index], samples[rival])
        rows.append(row)
    return rows


def _fastest(
    entries: Sequence[Timed], samples: dict[int, list[Sample]], ours: str
) -> dict[int, int]:
    """The place of the fastest entry of each width that is not ours; settled ones go first."""
    best: dict[int, tuple[bool, float, int]] = {}
    for index, timed in enumerate(entries):
        if timed.contestant.peer == ours or not samples[index]:
            continue
        width = timed.contestant.variant.width
        median = float(np.median([sample.seconds for sample in samples[index]]))
        candidate = (len(samples[index]) < ENOUGH, median, index)
        best[width] = min(best.get(width, candidate), candidate)
    return {width: index for width, (_, _, index) in best.items()}


def _name(timed: Timed) -> str:
    return f"{timed.contestant.peer} {timed.contestant.variant.name}"


def _row(cell: Cell, timed: Timed, samples: Sequence[Sample]) -> Row:
    variant, size = timed.contestant.variant, timed.contestant.linear.weight_bytes
    row: Row = {
        "n": cell.n, "k": cell.k, "m": cell.m, "threads": cell.threads,
        "peer": timed.contestant.peer, "row": variant.name, "width": variant.width,
        "compute": variant.compute, "weight_bytes": size,
        "error": timed.error if timed.error == timed.error else None, "reason": timed.reason,
        "samples_kept": len(samples), "samples_disturbed": sum(s.disturbed for s in samples),
        "samples_taken": len(timed.samples),
    }  # fmt: skip
    if not samples:
        row["reason"] = row["reason"] or "the machine was never quiet"
        return row
    seconds = np.array([sample.seconds for sample in samples])
    least = [s.limits.seconds(variant.compute, size, cell.operations) for s in samples]
    median = float(np.median(seconds))
    return row | {
        "median_seconds": median,
        "best_seconds": float(seconds.min()),
        "bytes_per_second": size / median,
        "operations_per_second": cell.operations / median,
        "fraction_of_limit": float(np.median(least / seconds)),
        "bandwidth": float(np.median([sample.limits.bandwidth for sample in samples])),
        "float_rate": float(np.median([sample.limits.float_rate for sample in samples])),
        "bf16_rate": float(np.median([sample.limits.bf16_rate for sample in samples])),
        "int8_rate": float(np.median([sample.limits.int8_rate for sample in samples])),
    }


def document(result: dict[str, Any]) -> str:
    lines = ["# CPU kernels against peers", "", *_heading(result), ""]
    for cell in result["cells"]:
        lines += [*_cell_text(cell), ""]
    lines += [*_calls_text(result["smallest_calls"]), ""]
    return "\n".join(lines)


def _heading(result: dict[str, Any]) -> Iterator[str]:
    machine = result["machine"]
    yield (
        f"{machine['processor']}, {machine['processors']} processors "
        f"({', '.join(machine['features'])}), last-level cache "
        f"{machine['last level cache'] >> 20} MiB; load {_load(machine['load'])} at the start, "
        f"{_load(result['load'])} at the end; {result['rounds']} rounds."
    )
    yield ""
    for name, state in result["peers"].items():
        yield f"* {name}: {state}"


def _cell_text(cell: dict[str, Any]) -> Iterator[str]:
    rows = cell["rows"]
    yield f"## {cell['n']}x{cell['k']}, M = {cell['m']}, {cell['threads']} threads"
    yield ""
    timed = [row for row in rows if "bandwidth" in row]
    if timed:
        probes = {
            name: float(np.median([row[name] for row in timed])) / 1e9
            for name in ("bandwidth", "float_rate", "bf16_rate", "int8_rate")
        }
        yield (
            f"Probes beside the rows (medians): read {probes['bandwidth']:.1f} GB/s, "
            f"fp32 {probes['float_rate']:.0f} GFLOP/s, "
            f"bf16 {probes['bf16_rate']:.0f}, int8 {probes['int8_rate']:.0f} GOP/s; "
            f"load {_load(cell['load'])}."
        )
        yield ""
    yield "| " + " | ".join(COLUMNS) + " |"
    yield "|---" * 1 + "|---:" + "|---" + "|---:" * (len(COLUMNS) - 3) + "|"
    for row in sorted(rows, key=lambda row: (row["width"], row.get("median_seconds", np.inf))):
        yield "| " + " | ".join(_figures(row)) + " |"


def _figures(row: Row) -> list[str]:
    bits = f"{8 * row['weight_bytes'] / (row['n'] * row['k']):.2f}"
    name = f"{row['peer']} {row['row']}"
    name = f"**{name}**" if row["peer"] == "qcc" else name
    first = [name, bits, row["compute"]]
    taken = f"{row['samples_kept']}/{row['samples_taken']}"
    if "median_seconds" not in row:
        return [*first, row["reason"], *[""] * (len(COLUMNS) - 5), taken]
    unsettled = "" if row["samples_kept"] >= ENOUGH else " (unsettled)"
    return [
        *first,
        f"{row['median_seconds'] * 1e3:.3f}",
        f"{row['best_seconds'] * 1e3:.3f}",
        f"{row['bytes_per_second'] / 1e9:.1f}",
        f"{row['operations_per_second'] / 1e9:.0f}",
        f"{row['fraction_of_limit']:.0%}",
        f"{row['ratio']:.2f}" if row.get("ratio") else "",
        f"{row['error']:.0e}",
        taken + unsettled,
    ]


def _calls_text(calls: Sequence[Row]) -> Iterator[str]:
    yield "## Smallest calls"
    yield ""
    yield "A layer of 256x256 with one row of x, again and again, and after 5 ms of rest: medians."
    yield ""
    yield "| call | threads | again and again, µs | after a rest, µs |"
    yield "|---|---:|---:|---:|"
    for call in calls:
        yield (
            f"| {call['call']} | {call['threads']} | {call['busy_seconds'] * 1e6:.1f} | "
            f"{call['rested_seconds'] * 1e6:.1f} |"
        )


def _load(values: Sequence[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)
