"""docs/accuracy.md as text, from measured rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from benchmarks.accuracy_rows import ROWS, Row
from benchmarks.accuracy_subjects import Subject
from qcc.dialects.formats import format

WIDTH = 110
HEAD = """
Written by `python -m benchmarks.accuracy`, which compiles each row with qcc and runs the compiled
artifact. Weights are rounded to the nearest value in all linear or convolution layers; nothing is
trained, calibrated or tuned. Above the formats stands full precision, in torch and compiled. Bits
count a weight's code and its share of block scales; a scale or zero point for a whole row counts
nothing, and MXFP6 keeps a code a byte.
"""
CAPTIONS = {
    "language": """
Lower is better. "Full precision" is the public Q4_1 file decoded to fp32: its linear weights
already lie on an asymmetric 4-bit grid with groups of 32, so int4 with those groups would reproduce
it exactly and mean nothing. **Integer formats are therefore given shifted groups (48, 96, 192)**,
which have to round. Embedding and head keep full precision. The model is very sensitive to
rounding, and the text is short: differences of a few percent are noise.
""",
    "sentence": """
Spearman correlation (times 100) of the cosine similarities with people's scores, higher is better,
and the mean cosine of the sentence vectors to those of torch in fp32. Correlation hardly moves at 4
bits and can even rise, so it does not rank formats; the cosine does. Embeddings keep full
precision.
""",
    "image": """
Higher is better; agreement is the share of images classed as torch classes them in fp32. One
standard error of top-1 on 2,000 images is 0.9 points. Integers and nf4 scale by output channel:
rows of 27 or 144 weights are not divisible by the groups of the other tables. A convolution's
inputs have their blocks along its channels.
""",
}


@dataclass(frozen=True, slots=True)
class Section:
    """A subject and its records by row key, in the order they were measured."""

    subject: Subject
    records: dict[str, dict[str, Any]]


def document(sections: Sequence[Section]) -> str:
    title = "# Accuracy of the formats on real models"
    return "\n".join([title, "", wrapped(HEAD), "", *(section_text(part) for part in sections)])


def wrapped(text: str) -> str:
    """One paragraph in lines of the documentation's width."""
    return fill(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False)


def section_text(section: Section) -> str:
    subject = section.subject
    lines = [
        f"## {subject.title}",
        "",
        wrapped(f"Measured on {subject.settings}. {CAPTIONS[subject.kind]}"),
        "",
        *table(section),
        "",
    ]
    return "\n".join(lines)


def table(section: Section) -> Iterator[str]:
    columns = section.subject.columns
    header = ("weights", "activations", "bits", *columns)
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * 2 + "---:|" * (len(header) - 2)
    for row, record in ordered(section.records):
        yield "| " + " | ".join((*labels(row, record, section), *figures(record, section))) + " |"


def ordered(records: dict[str, dict[str, Any]]) -> Iterator[tuple[Row | str, dict[str, Any]]]:
    """Full precision first, then the formats in the order of `ROWS`."""
    rows = {row.key: row for row in ROWS}
    for key, record in records.items():
        if key not in rows:
            yield key, record
    for key, row in rows.items():
        if key in records:
            yield row, records[key]


def labels(row: Row | str, record: dict[str, Any], section: Section) -> tuple[str, str, str]:
    if isinstance(row, str):
        return row, "-", "32"
    spelling = row.spelling(section.subject.kind)
    activations = "-" if row.activations == "none" else f"`{row.activations}`"
    others = record.get("others", {})
    counts = ", ".join(f"{count} layers {name}" for name, count in others.items())
    note = f" ({counts})" if others else ""
    return f"`{spelling}`{note}", activations, f"{format(spelling).bits_per_value:g}"


def figures(record: dict[str, Any], section: Section) -> list[str]:
    columns = section.subject.columns
    if "error" in record:
        return [f"not supported: {record['error']}", *[""] * (len(columns) - 1)]
    return [f"{record['metrics'][name]:.{digits}f}" for name, digits in columns.items()]
