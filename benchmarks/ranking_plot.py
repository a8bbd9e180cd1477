"""Predicted against true rank, as one SVG with a panel for each model."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

SIDE, GAP, TITLE, CELLS, SHADES = 180, 24, 34, 45, 4


def rank_plot(name: str, predictions: Mapping[str, NDArray], seconds: NDArray) -> str:
    """
    Darker where more configs lie; ranks from the fastest at the left and the bottom, so that a
    perfect model is the diagonal.
    """
    good = ~np.isnan(seconds)
    true = _ranks(seconds[good])
    width = GAP + len(predictions) * (SIDE + GAP)
    panels = [
        _panel(model, _ranks(predicted[good]), true, GAP + index * (SIDE + GAP))
        for index, (model, predicted) in enumerate(predictions.items())
    ]
    height = TITLE + SIDE + GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="{GAP}" y="14">{escape(name)}: true rank (right) and predicted rank (up)</text>'
        f"{''.join(panels)}</svg>\n"
    )


def _ranks(values: NDArray) -> NDArray[np.float64]:
    """From 0 for the least to below 1."""
    return np.argsort(np.argsort(values, kind="stable"), kind="stable") / len(values)


def _panel(model: str, predicted: NDArray, true: NDArray, left: float) -> str:
    counts, _, _ = np.histogram2d(predicted, true, bins=CELLS, range=((0, 1), (0, 1)))
    shades = np.ceil(SHADES * np.sqrt(counts / counts.max())).astype(int)
    paths = "".join(_shade(shades == shade, shade, left) for shade in range(1, SHADES + 1))
    return (
        f'<text x="{left}" y="{TITLE - 5}">{escape(model)}</text>'
        f'<rect x="{left}" y="{TITLE}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>'
        f'<g fill="#1f4e79">{paths}</g>'
    )


def _shade(cells: NDArray[np.bool_], shade: int, left: float) -> str:
    """One path of all cells [up, right] of a shade; those side by side are one rectangle."""
    size, steps = SIDE // CELLS, []
    edges = np.diff(np.pad(cells.astype(int), ((0, 0), (1, 1))), axis=1)
    for (row, start), (_, end) in zip(
        np.argwhere(edges == 1), np.argwhere(edges == -1), strict=True
    ):
        x, y, run = left + start * size, TITLE + SIDE - (row + 1) * size, (end - start) * size
        steps.append(f"M{x:g} {y}h{run}v{size}h-{run}z")
    return f'<path opacity="{shade / SHADES:.2f}" d="{"".join(steps)}"/>'
