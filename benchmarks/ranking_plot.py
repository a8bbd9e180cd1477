"""Predicted against true rank, as one SVG with a panel for each model."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
from numpy.typing import NDArray

SIDE, GAP, TITLE, CELLS = 180, 24, 34, 45


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
    counts, _, _ = np.histogram2d(true, predicted, bins=CELLS, range=((0, 1), (0, 1)))
    size, most = SIDE / CELLS, counts.max()
    cells = "".join(
        f'<rect x="{left + x * size:.0f}" y="{TITLE + SIDE - (y + 1) * size:.0f}" '
        f'width="{size:.0f}" height="{size:.0f}" opacity="{np.sqrt(counts[x, y] / most):.2f}"/>'
        for x, y in np.argwhere(counts > 0).tolist()
    )
    return (
        f'<text x="{left}" y="{TITLE - 5}">{escape(model)}</text>'
        f'<rect x="{left}" y="{TITLE}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#999"/>'
        f'<g fill="#1f4e79">{cells}</g>'
    )
