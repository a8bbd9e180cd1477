"""Pieces of the HTML report: sections, tables, numbers."""

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td class="wrap">{escape(str(cell))}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def number_cell(key: float, shown: str) -> str:
    return f'<td class="number" data-key="{key}">{shown}</td>'


def decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"
