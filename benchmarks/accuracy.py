"""
Every format's accuracy on real models, next to full precision: writes docs/accuracy.md.

    python -m benchmarks.accuracy [--windows N] [--formats a,b] [--data ../shared/data] [-o PATH]

Each row is compiled with qcc and run. Data that is not there is named and left out; nothing else is
used in its place, but for the demo's own text in place of WikiText-2, and the table says so.
`--state FOLDER` keeps finished rows, and the next call continues after them; with `--finished` it
measures nothing and writes those rows. Whatever is finished is in the file at any time.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

import qcc
from benchmarks.accuracy_rows import ROWS, Row, chosen, distinct
from benchmarks.accuracy_state import Record, State
from benchmarks.accuracy_subjects import SUBJECTS, Limits, Subject, missing
from benchmarks.accuracy_table import Section, document
from benchmarks.console import say
from qcc.dialects.errors import UnsupportedError
from qcc.models.assets import AssetError
from qcc.models.family import Sample

TORCH, COMPILED = "torch fp32", "qcc fp32"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        rows = chosen(options.formats)
    except KeyError as error:
        known = ", ".join(row.key for row in ROWS)
        say(f"no row {error}; there are {known}")
        return 2
    sections: list[Section] = []
    limits = Limits(options.windows, options.pairs, options.images)
    for name in options.models.split(","):
        subject = opened(name, options.data, limits)
        if subject is None:
            continue
        state = State(options.state, subject.name, subject.settings)
        sections.append(section := Section(subject, {}))
        own = distinct(rows, subject.kind)
        found = finished(own, state) if options.finished else measured(subject, own, state)
        for key, record in found:
            section.records[key] = record
            options.output.write_text(document(sections), encoding="utf-8")
    say(f"wrote {options.output}" if sections else "nothing could be measured")
    return 0 if sections else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--windows", type=int, default=2, help="of 1024 tokens, for perplexity")
    parser.add_argument("--pairs", type=int, default=100, help="sentence pairs of each set")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--formats", help=f"rows, of {','.join(row.key for row in ROWS)}")
    parser.add_argument("--models", default=",".join(SUBJECTS), help="any of the default's")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--state", type=Path, help="folder that keeps finished rows")
    parser.add_argument("--finished", action="store_true", help="only write what --state has")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/accuracy.md"))
    return parser.parse_args(arguments)


def opened(name: str, data: Path, limits: Limits) -> Subject | None:
    """The subject, or None after saying what it lacks."""
    for path in missing(name, data):
        say(f"{name}: {path} is missing (--data names the folder)")
    try:
        return SUBJECTS[name](data, limits)
    except (AssetError, OSError) as error:
        say(f"{name}: left out: {error}")
    return None


def measured(subject: Subject, rows: Sequence[Row], state: State) -> Iterator[tuple[str, Record]]:
    """The two full-precision rows, then each format; what `state` holds is not measured again."""
    program: ExportedProgram | None = None
    formats = {row.key: row for row in rows}
    for key in (TORCH, COMPILED, *formats):
        record = state.get(key)
        if record is None:
            start = time.perf_counter()
            program = program or exported(subject.sample)
            record = measure(subject, program, formats.get(key), key)
            state.put(key, record)
            seconds = time.perf_counter() - start
            say(f"{subject.name} {key}: {record}  ({seconds:.0f} s, load {os.getloadavg()[0]:.1f})")
        yield key, record


def finished(rows: Sequence[Row], state: State) -> Iterator[tuple[str, Record]]:
    """The rows that `state` holds."""
    for key in (TORCH, COMPILED, *(row.key for row in rows)):
        record = state.get(key)
        if record is not None:
            yield key, record


def exported(sample: Sample) -> ExportedProgram:
    return torch.export.export(sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes)


def measure(subject: Subject, program: ExportedProgram, row: Row | None, key: str) -> Record:
    """The metrics of one row, or the error with which qcc refuses it."""
    if key == TORCH:
        return {"metrics": subject.measure(subject.sample.module)}
    recipe = row.recipe(subject.kind) if row else None
    try:
        module = qcc.compile(program, recipe=recipe, golden=False)
        return {"metrics": subject.measure(module), **formats_of(module.report, row)}
    except UnsupportedError as error:
        return {"error": error.code}
    finally:
        gc.collect()  # the artifact's file and code go with the module


def formats_of(report: dict[str, Any], row: Row | None) -> Record:
    """The formats that layers got in place of the row's own, by their number of layers."""
    if row is None:
        return {}
    layers = [layer for layer in report["layers"] if layer["op"] in ("linear", "conv2d")]
    moved = [layer["weights"] or "fp32" for layer in layers if refused(layer)]
    return {"others": dict(Counter(moved))}


def refused(layer: dict[str, Any]) -> bool:
    """Whether the layer was to have the row's format, and does not admit it."""
    return layer["rule"] == "default" and bool(layer["reason"])


if __name__ == "__main__":
    raise SystemExit(main())
