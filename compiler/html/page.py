"""
The report of an artifact as one HTML page: no network, no fonts, no library.

Everything that comes from the model or the recipe is escaped, and the page's own policy lets it
run the one script whose hash it names and load nothing.
"""

from __future__ import annotations

import base64
import hashlib
import math
from html import escape
from importlib.resources import files

from ..console import bytes_text, size_change
from ..cuda.report import KERNEL_COLUMNS, kernel_rows
from ..manifest import Manifest
from ..report_data import Report
from ..upmem.report import COLUMNS, host_rows, layer_rows
from .layers import bytes_section, colours, layer_section, sqnr_section, worst_section
from .parts import decibels, section, table


def render(report: Report, manifest: Manifest) -> str:
    """The whole page."""
    style, script = _asset("page.css"), _asset("page.js")
    kinds = colours(report.layers)
    body = [
        _header(report, manifest),
        _cards(report),
        sqnr_section(report.layers, kinds),
        bytes_section(report.layers, kinds),
        worst_section(report.layers),
        layer_section(report, kinds),
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
        f"<title>qcc: {escape(report.model)}</title><style>{style}</style></head>\n<body>"
        + "\n".join(part for part in body if part)
        + f"\n<script>{script}</script></body></html>\n"
    )


def _header(report: Report, manifest: Manifest) -> str:
    recipe = report.recipe.get("name") or "the model's own precision"
    label = "".join(f'<p class="warning">{escape(text)}</p>' for text in report.warnings)
    if manifest.calibration == "random":
        label += (
            '<p class="warning">Calibrated with random data: figures that depend on activations '
            "say nothing about accuracy.</p>"
        )
    names = [precision.name for precision in manifest.precisions]
    precisions = f" · precisions {escape(', '.join(names))}" if len(names) > 1 else ""
    return (
        f"<h1>{escape(report.model)}</h1><p>target {escape(report.target)} · recipe "
        f"{escape(recipe)} · calibration {escape(manifest.calibration)}{precisions}</p>{label}"
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
        (decibels(min(measured, default=None)), "lowest SQNR"),
    ]
    cache = report.kv_cache
    if cache is not None:
        plain = bytes_text(cache.token_bytes_fp32)
        figures.append((bytes_text(cache.token_bytes), f"KV cache a token, fp32 {plain}"))
    cards = (f'<div class="card"><b>{b}</b><span>{text}</span></div>' for b, text in figures)
    return f'<div class="cards">{"".join(cards)}</div>'


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
    return section(
        "Static activation ranges",
        f"<p>From {escape(calibration.label)}, {calibration.samples} samples.</p>"
        + table(columns, rows),
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
        f'<p class="warning">{escape(each.precision)}: `qcc verify` checks hashes only, since '
        f"{escape(each.reason)}. Next: {escape(each.next_step)}.</p>"
        for each in report.golden.unchecked
    )
    if not rows and not unchecked:
        return ""
    return section(
        "Compiled code against the reference interpreter",
        unchecked + (table(columns, rows) if rows else ""),
    )


def _generation_section(report: Report) -> str:
    """Why a decoder does not generate, where it does not."""
    found = report.generation
    if found is None or found.available or not found.decoder:
        return ""
    return section(
        "No generation token by token",
        f"<p>{escape(found.reason)}.</p><pre><code>{escape(found.next_step)}</code></pre>",
    )


def _kernel_section(report: Report) -> str:
    """The resource table of kernels for a GPU."""
    cuda = report.cuda
    if cuda is None:
        return ""
    rows = [[row[column] for column in KERNEL_COLUMNS] for row in kernel_rows(cuda.kernels)]
    note = f'<p class="warning">{escape(cuda.note)}</p>' if cuda.note else ""
    built = f"<p>Built by {escape(cuda.toolchain)}.</p>" if cuda.toolchain else ""
    return section(f"Kernels for {cuda.machine}", note + built + table(KERNEL_COLUMNS, rows))


def _upmem_section(report: Report) -> str:
    """Layers on DPUs, and what stayed on the host."""
    upmem = report.upmem
    if upmem is None:
        return ""
    rows = [list(row.values()) for row in layer_rows(upmem.layers)]
    stayed = [list(row.values()) for row in host_rows(upmem.host)]
    step = upmem.step_milliseconds
    told = (
        f"<p>Emulator {escape(upmem.emulator)}; by the cycle model, a call takes the layers "
        f"{upmem.milliseconds:.3f} ms and loading {upmem.load_ms:.1f} ms."
        + (f" A step of one token: {step:.3f} ms." if step is not None else "")
        + "</p>"
    )
    kept = "<p>On the host:</p>" + table(("ops", "reason"), stayed) if stayed else ""
    return section(
        f"Layers on up to {upmem.dpus} DPUs {upmem.device}",
        told + table(COLUMNS, rows) + kept,
    )


def _schedule_section(report: Report) -> str:
    """Which layers have a schedule of the tuning database, and why others have not."""
    if report.schedules is None:
        return ""
    rows = []
    for each in report.schedules.layers:
        schedule = " ".join(f"{name}={value}" for name, value in each.schedule.items())
        rows.append((each.layer, each.source, each.reason, schedule))
    return section("Schedules", table(["layer", "from", "reason", "schedule"], rows))


def _timing_section(report: Report) -> str:
    if not report.timings:
        return ""
    rows = [(stage, f"{seconds:.2f} s") for stage, seconds in report.timings.items()]
    return section("Compile time", table(["stage", "time"], rows))


def _origin_section(manifest: Manifest) -> str:
    rows = [*manifest.versions.items(), ("input hash", manifest.input_hash)]
    rows += [("CPU features", " ".join(manifest.cpu_features) or "-"), ("seed", manifest.seed)]
    return section("Made by", table(["what", "value"], rows))


def _error(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _asset(name: str) -> str:
    return (files("qcc.compiler.html") / name).read_text("utf-8")
