"""
The report of an artifact as one HTML page: no network, no fonts, no library.

Everything that comes from the model or the recipe is escaped, and the page's own policy lets it
run the one script whose hash it names and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from .console import bytes_text, kv_text, size_change
from .cuda_report import KERNEL_COLUMNS, kernel_rows
from .manifest import Manifest
from .report_data import Layer, Report
from .svg import Bar, bar_chart, bytes_axis, linear_axis
from .upmem_report import COLUMNS, host_rows, layer_rows

_COLOURS = 8
_WORST = 3
_CLEARLY_BELOW_INT8 = 7.5  # bits a weight


def render(report: Report, manifest: Manifest) -> str:
    """The whole page."""
    style, script = _asset("html_report.css"), _asset("html_report.js")
    kinds = _kinds(report.layers)
    body = [
        _header(report, manifest),
        _cards(report),
        _sqnr_section(report.layers, kinds),
        _bytes_section(report.layers, kinds),
        _worst_section(report.layers),
        _layer_section(report, kinds),
        _calibration_section(report),
        _golden_section(report),
        _generation_section(report),
        _kernel_section(report),
        _upmem_section(report),
        _schedule_section(report),
        _timing_section(report),
        _origin_section(manifest),
    ]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>qcc: {_text(report.model)}</title><style>{style}</style></head>\n<body>"
        + "\n".join(part for part in body if part)
        + f"\n<script>{script}</script></body></html>\n"
    )


def _header(report: Report, manifest: Manifest) -> str:
    recipe = report.recipe.get("name") or "the model's own precision"
    label = "".join(f'<p class="warning">{_text(text)}</p>' for text in report.warnings)
    if manifest.calibration == "random":
        label += (
            '<p class="warning">Calibrated with random data: figures that depend on activations '
            "say nothing about accuracy.</p>"
        )
    names = [precision.name for precision in manifest.precisions]
    precisions = f" · precisions {_text(', '.join(names))}" if len(names) > 1 else ""
    return (
        f"<h1>{_text(report.model)}</h1><p>target {_text(report.target)} · recipe "
        f"{_text(recipe)} · calibration {_text(manifest.calibration)}{precisions}</p>{label}"
    )


def _cards(report: Report) -> str:
    before, after = report.bytes_before, report.bytes_after
    factor, way = size_change(before, after) if after else (math.nan, "smaller")
    quantized = sum(layer.weights is not None for layer in report.layers)
    measured = [layer.sqnr_db for layer in report.layers if layer.sqnr_db is not None]
    figures = [
        (bytes_text(after), f"weights, from {bytes_text(before)}"),
        (f"{factor:.2f}&times;", way),
        (f"{report.coverage:.1%}", "of weight bytes quantized"),
        (f"{quantized} / {len(report.layers)}", "layers quantized"),
        (_decibels(min(measured, default=None)), "lowest SQNR"),
    ]
    cache = report.kv_cache
    if cache is not None:
        plain = bytes_text(cache.token_bytes_fp32)
        figures.append((bytes_text(cache.token_bytes), f"KV cache a token, fp32 {plain}"))
    cards = (f'<div class="card"><b>{b}</b><span>{text}</span></div>' for b, text in figures)
    return f'<div class="cards">{"".join(cards)}</div>'


def _sqnr_section(layers: Sequence[Layer], kinds: dict[str, str]) -> str:
    groups = [
        [Bar(layer.sqnr_db, f"{layer.name}: {_decibels(layer.sqnr_db)}", _kind(layer, kinds))]
        for layer in layers
    ]
    chart = bar_chart(
        groups,
        linear_axis((layer.sqnr_db for layer in layers), "dB"),
        "SQNR of each layer's weights",
    )
    return _section("Signal to quantization noise per layer", _legend(kinds) + chart)


def _bytes_section(layers: Sequence[Layer], kinds: dict[str, str]) -> str:
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
    return _section(
        "Bytes per layer, on a logarithmic scale",
        legend + bar_chart(groups, bytes_axis(sizes), "weight bytes of each layer"),
    )


def _worst_section(layers: Sequence[Layer]) -> str:
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
    return _section(
        "Should accuracy fall, widen these first",
        "<p>Recipe rules for the layers with the lowest SQNR; <code>none</code> keeps the "
        f"model's own precision:</p><pre><code>{_text(lines)}</code></pre>",
    )


def _bits(layer: Layer) -> float:
    """Stored bits a weight, with scales and padding."""
    return 8 * layer.bytes_after / max(1, math.prod(layer.shape))


def _wider(layer: Layer) -> str:
    return "int8" if _bits(layer) <= _CLEARLY_BELOW_INT8 else "none"


def _layer_section(report: Report, kinds: dict[str, str]) -> str:
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
    return _section("Layers", f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")


def _layer_row(layer: Layer, reason: str, kinds: dict[str, str]) -> str:
    sqnr = layer.sqnr_db
    cells = [
        f'<td class="wrap name"><code>{_text(layer.name)}</code></td>',
        f"<td>{_text(layer.op)}</td>",
        f"<td>{'&times;'.join(map(str, layer.shape))}</td>",
        f'<td><span class="dot {_kind(layer, kinds)}"></span>{_text(layer.weights or "-")}</td>',
        f"<td>{_text(layer.activations or '-')}</td>",
        f"<td>{_text(kv_text(layer.keys, layer.values) or '-')}</td>",
        _number_cell(layer.bytes_before, bytes_text(layer.bytes_before)),
        _number_cell(layer.bytes_after, bytes_text(layer.bytes_after)),
        _number_cell(-1e9 if sqnr is None else sqnr, _sqnr_text(layer)),
        f'<td class="wrap"><code>{_text(layer.rule)}</code></td>',
        f'<td class="wrap">{_text(reason)}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _sqnr_text(layer: Layer) -> str:
    """That of the layer, then that of each of its views."""
    values = {"": layer.sqnr_db} | layer.view_sqnr_db
    return "<br>".join(
        f"{_text(name)} {'-' if value is None else format(value, '.1f')}".strip()
        for name, value in values.items()
    )


def _calibration_section(report: Report) -> str:
    """The static range of each operand beside the extremes that calibration saw."""
    calibration = report.calibration
    if calibration is None:
        return ""
    rows = [
        (
            f"{layer}, operand {index}" if index else layer,
            f"{seen.range[0]:.5g} … {seen.range[1]:.5g}",
            f"{seen.least:.5g} … {seen.most:.5g}",
            f"{seen.mean:.5g}",
            f"{math.sqrt(seen.second_moment):.5g}",
            f"{seen.count:,}",
        )
        for layer, operands in calibration.layers.items()
        for index, seen in enumerate(operands)
    ]
    columns = ["layer", "static range", "seen", "mean", "root mean square", "values"]
    return _section(
        "Static activation ranges",
        f"<p>From {_text(calibration.label)}, {calibration.samples} samples.</p>"
        + _table(columns, rows),
    )


def _golden_section(report: Report) -> str:
    if report.golden is None:
        return ""
    rows = [
        (
            output.name or str(index),
            output.precision or "-",
            _error(output.max_abs_error),
            _error(output.max_rel_error),
        )
        for index, output in enumerate(report.golden.outputs)
    ]
    columns = ["output", "precision", "largest difference", "divided by the largest value"]
    unchecked = "".join(
        f'<p class="warning">{_text(each.precision)}: `qcc verify` checks hashes only, since '
        f"{_text(each.reason)}. Next: {_text(each.next_step)}.</p>"
        for each in report.golden.unchecked
    )
    if not rows and not unchecked:
        return ""
    return _section(
        "Compiled code against the reference interpreter",
        unchecked + (_table(columns, rows) if rows else ""),
    )


def _generation_section(report: Report) -> str:
    """Why a decoder does not generate, where it does not."""
    found = report.generation
    if found is None or found.available or not found.decoder:
        return ""
    return _section(
        "No generation token by token",
        f"<p>{_text(found.reason)}.</p><pre><code>{_text(found.next_step)}</code></pre>",
    )


def _kernel_section(report: Report) -> str:
    """The resource table of kernels for a GPU."""
    cuda = report.cuda
    if cuda is None:
        return ""
    rows = [[row[column] for column in KERNEL_COLUMNS] for row in kernel_rows(cuda.kernels)]
    note = f'<p class="warning">{_text(cuda.note)}</p>' if cuda.note else ""
    built = f"<p>Built by {_text(cuda.toolchain)}.</p>" if cuda.toolchain else ""
    return _section(f"Kernels for {cuda.machine}", note + built + _table(KERNEL_COLUMNS, rows))


def _upmem_section(report: Report) -> str:
    """Layers on DPUs, and what stayed on the host."""
    upmem = report.upmem
    if upmem is None:
        return ""
    rows = [list(row.values()) for row in layer_rows(upmem.layers)]
    stayed = [list(row.values()) for row in host_rows(upmem.host)]
    step = upmem.step_milliseconds
    told = (
        f"<p>Emulator {_text(upmem.emulator)}; by the cycle model, a call takes the layers "
        f"{upmem.milliseconds:.3f} ms and loading {upmem.load_ms:.1f} ms."
        + (f" A step of one token: {step:.3f} ms." if step is not None else "")
        + "</p>"
    )
    kept = "<p>On the host:</p>" + _table(("ops", "reason"), stayed) if stayed else ""
    return _section(
        f"Layers on up to {upmem.dpus} DPUs {upmem.device}",
        told + _table(COLUMNS, rows) + kept,
    )


def _schedule_section(report: Report) -> str:
    """Which layers have a schedule of the tuning database, and why others have not."""
    if report.schedules is None:
        return ""
    rows = []
    for each in report.schedules.layers:
        schedule = " ".join(f"{name}={value}" for name, value in each.schedule.items())
        rows.append((each.layer, each.source, each.reason, schedule))
    return _section("Schedules", _table(["layer", "from", "reason", "schedule"], rows))


def _timing_section(report: Report) -> str:
    if not report.timings:
        return ""
    rows = [(stage, f"{seconds:.2f} s") for stage, seconds in report.timings.items()]
    return _section("Compile time", _table(["stage", "time"], rows))


def _origin_section(manifest: Manifest) -> str:
    rows = [*manifest.versions.items(), ("input hash", manifest.input_hash)]
    rows += [("CPU features", " ".join(manifest.cpu_features) or "-"), ("seed", manifest.seed)]
    return _section("Made by", _table(["what", "value"], rows))


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f'<td class="wrap">{_text(str(cell))}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _legend(kinds: dict[str, str]) -> str:
    items = [
        f'<span><span class="dot {kind}"></span>{_text(name)}</span>'
        for name, kind in kinds.items()
    ]
    items.append('<span><span class="dot kept"></span>model precision</span>')
    return f'<div class="legend">{"".join(items)}</div>'


def _kinds(layers: Sequence[Layer]) -> dict[str, str]:
    """A colour class for each weight format, in order of appearance."""
    formats = dict.fromkeys(layer.weights for layer in layers if layer.weights)
    return {name: f"f{index % _COLOURS}" for index, name in enumerate(formats)}


def _kind(layer: Layer, kinds: dict[str, str]) -> str:
    return kinds[layer.weights] if layer.weights else "kept"


def _number(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _number_cell(key: float, shown: str) -> str:
    return f'<td class="number" data-key="{key}">{shown}</td>'


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} dB"


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _toml(text: str) -> str:
    """A basic TOML string; layer names hold no control characters, but a report may."""
    return '"' + "".join(_toml_char(char) for char in text) + '"'


def _toml_char(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _text(text: str) -> str:
    return escape(text)


def _asset(name: str) -> str:
    return (files("qcc.compiler") / name).read_text("utf-8")
