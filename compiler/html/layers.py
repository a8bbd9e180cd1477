"""Layers in the HTML report: charts of noise and bytes, those to widen first, the table."""

import math
from collections.abc import Sequence
from html import escape

from ..console import bytes_text, kv_text
from ..report_data import Layer, Report
from .parts import decibels, number_cell, section
from .svg import Bar, bar_chart, bytes_axis, linear_axis

_COLOURS = 8
_WORST = 3
_CLEARLY_BELOW_INT8 = 7.5  # bits a weight


def colours(layers: Sequence[Layer]) -> dict[str, str]:
    """A colour class for each weight format, in order of appearance."""
    formats = dict.fromkeys(layer.weights for layer in layers if layer.weights)
    return {name: f"f{index % _COLOURS}" for index, name in enumerate(formats)}


def sqnr_section(layers: Sequence[Layer], kinds: dict[str, str]) -> str:
    groups = [
        [Bar(layer.sqnr_db, f"{layer.name}: {decibels(layer.sqnr_db)}", _kind(layer, kinds))]
        for layer in layers
    ]
    chart = bar_chart(
        groups,
        linear_axis((layer.sqnr_db for layer in layers), "dB"),
        "SQNR of each layer's weights",
    )
    return section("Signal to quantization noise per layer", _legend(kinds) + chart)


def bytes_section(layers: Sequence[Layer], kinds: dict[str, str]) -> str:
    groups = [
        [
            Bar(
                layer.bytes_before,
                f"{layer.name} before: {bytes_text(layer.bytes_before)}",
                "before",
            ),
            Bar(
                layer.bytes_after,
                f"{layer.name} after: {bytes_text(layer.bytes_after)}",
                _kind(layer, kinds),
            ),
        ]
        for layer in layers
    ]
    sizes = [size for layer in layers for size in (layer.bytes_before, layer.bytes_after)]
    legend = '<div class="legend"><span><span class="dot before"></span>before</span></div>'
    return section(
        "Bytes per layer, on a logarithmic scale",
        legend + bar_chart(groups, bytes_axis(sizes), "weight bytes of each layer"),
    )


def worst_section(layers: Sequence[Layer]) -> str:
    """The layers to look at first, with the recipe lines that would widen them."""
    noisy = [layer for layer in layers if layer.sqnr_db is not None and layer.weights]
    noisy = sorted(noisy, key=lambda layer: (layer.sqnr_db or 0.0, layer.name))[:_WORST]
    if not noisy:
        return ""
    lines = "\n\n".join(
        f"[[rule]]  # {layer.sqnr_db:.1f} dB in {_bits(layer):.2f} bits\n"
        f"match = {_toml(layer.name)}\nweights = {_toml(_wider(layer))}"
        for layer in noisy
    )
    return section(
        "Should accuracy fall, widen these first",
        "<p>Recipe rules for the layers with the lowest SQNR; <code>none</code> keeps the "
        f"model's own precision:</p><pre><code>{escape(lines)}</code></pre>",
    )


def layer_section(report: Report, kinds: dict[str, str]) -> str:
    columns = [
        ("layer", False),
        ("op", False),
        ("shape", False),
        ("weights", False),
        ("activations", False),
        ("KV cache", False),
        ("before", True),
        ("after", True),
        ("SQNR dB", True),
        ("rule", False),
        ("reason", False),
    ]
    head = "".join(
        f'<th{_number(number)}><button type="button">{name}</button></th>'
        for name, number in columns
    )
    caches = report.kv_cache.layers if report.kv_cache else ()
    reasons = {cache.name: cache.reason for cache in caches}
    rows = "".join(
        _layer_row(layer, reasons.get(layer.name) or layer.reason, kinds) for layer in report.layers
    )
    return section("Layers", f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _layer_row(layer: Layer, reason: str, kinds: dict[str, str]) -> str:
    sqnr = layer.sqnr_db
    cells = [
        f'<td class="wrap name"><code>{escape(layer.name)}</code></td>',
        f"<td>{escape(layer.op)}</td>",
        f"<td>{'&times;'.join(map(str, layer.shape))}</td>",
        f'<td><span class="dot {_kind(layer, kinds)}"></span>{escape(layer.weights or "-")}</td>',
        f"<td>{escape(layer.activations or '-')}</td>",
        f"<td>{escape(kv_text(layer.keys, layer.values) or '-')}</td>",
        number_cell(layer.bytes_before, bytes_text(layer.bytes_before)),
        number_cell(layer.bytes_after, bytes_text(layer.bytes_after)),
        number_cell(-1e9 if sqnr is None else sqnr, _sqnr_text(layer)),
        f'<td class="wrap"><code>{escape(layer.rule)}</code></td>',
        f'<td class="wrap">{escape(reason)}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _bits(layer: Layer) -> float:
    """Stored bits a weight, with scales and padding."""
    return 8 * layer.bytes_after / max(1, math.prod(layer.shape))


def _wider(layer: Layer) -> str:
    return "int8" if _bits(layer) <= _CLEARLY_BELOW_INT8 else "none"


def _sqnr_text(layer: Layer) -> str:
    """That of the layer, then that of each of its views."""
    values = {"": layer.sqnr_db} | layer.view_sqnr_db
    return "<br>".join(
        f"{escape(name)} {'-' if value is None else format(value, '.1f')}".strip()
        for name, value in values.items()
    )


def _legend(kinds: dict[str, str]) -> str:
    items = [
        f'<span><span class="dot {kind}"></span>{escape(name)}</span>'
        for name, kind in kinds.items()
    ]
    items.append('<span><span class="dot kept"></span>model precision</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def _kind(layer: Layer, kinds: dict[str, str]) -> str:
    return kinds[layer.weights] if layer.weights else "kept"


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _toml(raw: str) -> str:
    """A basic TOML string; layer names hold no control characters, but a report may."""
    return '"' + "".join(_toml_char(char) for char in raw) + '"'


def _toml_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"
