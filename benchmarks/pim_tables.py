"""The measured tables (pim_data/, with their sources and licences) and how far the model is off."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "pim_data"


@dataclass(frozen=True)
class Row:
    """One measurement and what the model makes of it; None where the model has no such kernel."""

    name: str
    shape: str
    measured: float
    modelled: float | None
    trusted: bool = True
    counted: bool = True  # in the mean error of its table

    @property
    def error(self) -> float | None:
        """In per cent; positive where the model is too slow."""
        return None if self.modelled is None else 100 * (self.modelled / self.measured - 1)


def read(name: str) -> list[dict[str, str]]:
    """Rows of a table; its head of comments says where it comes from."""
    text = (DATA / name).read_text().splitlines()
    return list(csv.DictReader(line for line in text if not line.startswith("#")))


def mean_error(rows: Iterable[Row]) -> tuple[float, float, float]:
    """Mean of the errors, mean and largest of their sizes, in per cent."""
    errors = [row.error for row in rows if row.counted and row.error is not None]
    sizes = [abs(error) for error in errors]
    return sum(errors) / len(errors), sum(sizes) / len(sizes), max(sizes)


def lines(rows: Sequence[Row], unit: str) -> list[str]:
    """A line for each row."""
    head = f"{'':12}{'':>14}{'measured ' + unit:>16}{'model':>14}{'error':>9}"
    return [head, *(_line(row) for row in rows)]


def _line(row: Row) -> str:
    start = f"{row.name:12}{row.shape:>14}{row.measured:16.3f}"
    if row.modelled is None:
        return f"{start}{'-':>14}{'-':>9}   not modelled"
    note = "" if row.trusted else "   outside the trusted region: locks or handshakes"
    small = "" if row.counted else "   fixed costs, not counted"
    return f"{start}{row.modelled:14.3f}{row.error:+8.1f}%{note}{small}"


def summary(name: str, rows: Sequence[Row]) -> str:
    counted = [row for row in rows if row.counted and row.error is not None]
    if not counted:
        return f"{name:15} not modelled ({len(rows)} rows)"
    mean, size, worst = mean_error(counted)
    trust = "" if all(row.trusted for row in counted) else "   locks or handshakes: not trusted"
    errors = f"bias {mean:+6.1f} %   mean error {size:5.1f} %   worst {worst:5.1f} %"
    return f"{name:15} {len(counted):4} rows   {errors}{trust}"
