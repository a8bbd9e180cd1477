"""The HTML report: everything is in it, nothing in it can act, and it needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from qcc.compiler.artifact import Artifact
from qcc.compiler.html.page import render
from qcc.compiler.html.svg import Bar, bar_chart, bytes_axis, linear_axis, nice_ceiling
from qcc.compiler.manifest import Manifest
from qcc.compiler.recipe import recipe_from_toml
from qcc.compiler.report_data import decode_report
from qcc.dialects.errors import IntegrityError

HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """Tags, attributes and text of a page, with a check that elements nest."""

    VOID = frozenset({"meta", "line", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def manifest(sample: Path) -> Manifest:
    with Artifact.open(sample) as artifact:
        return artifact.manifest


@pytest.fixture
def rendered(manifest: Manifest) -> Callable[[dict[str, Any]], str]:
    return lambda data: render(decode_report(json.dumps(data).encode(), "here"), manifest)


def test_everything_is_told(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    report_data["timings"] = {"import": 1.5}
    text = " ".join(Page(rendered(report_data)).texts)
    for part in (
        *("mlp", "w8a16", "blocks.0.fc", "linear", "int8<group=channel>", "43.2", "60 B", "27 B"),
        *('rule 1: match="head"', "7 rows do not divide by 32", "41.0%", "1 / 2", "144 B", "111 B"),
        *("0.001", "0.01", "1.50 s", "avx2 fma", "ab" * 32, "1.30"),
    ):
        assert part in text, part


def test_random_calibration_is_labelled(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    assert "Calibrated with random data" in rendered(report_data)


def test_nothing_from_the_model_becomes_markup(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    clean = Page(rendered(report_data))
    report_data["model"] = report_data["recipe"]["name"] = HOSTILE
    report_data["timings"] = {"import": 1.5, HOSTILE: 1.0}
    report_data["golden"]["outputs"][0]["name"] = HOSTILE
    for key in ("name", "op", "weights", "activations", "rule", "reason"):
        report_data["layers"][0][key] = HOSTILE
    page = Page(rendered(report_data))
    assert page.tags.count("script") == clean.tags.count("script") == 1
    assert "img" not in page.tags
    assert {name for name, _ in page.attributes} == {name for name, _ in clean.attributes}
    assert sum(HOSTILE in text for text in page.texts) >= 10


def test_the_page_loads_nothing(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    html = rendered(report_data)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|src=|href=", html.replace("// Sort", ""))
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html


def test_charts_are_well_formed_with_a_bar_a_layer(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    report_data["layers"] *= 40
    charts = re.findall(r"<svg.*?</svg>", rendered(report_data), re.DOTALL)
    sqnr, size = (ElementTree.fromstring(chart) for chart in charts)
    assert len(sqnr.findall("rect")) == 40
    assert len(size.findall("rect")) == 160
    assert sqnr.findall("rect")[0].findtext("title") == "blocks.0.fc: 43.2 dB"


def test_suggested_rules_are_a_recipe(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    report_data["layers"][0]["name"] = 'odd"name\\x'
    page = Page(rendered(report_data))
    lines = next(text for text in page.texts if text.startswith("[[rule]]"))
    assert tomllib.loads(lines)["rule"][0]["match"] == 'odd"name\\x'
    assert recipe_from_toml(lines, source="report").rules[0].settings.weights


@pytest.mark.parametrize(("bytes_after", "wider"), [(9, "int8"), (12, "int8"), (17, "none")])
def test_suggested_formats_are_wider_than_those_in_use(
    rendered: Callable[[dict[str, Any]], str],
    report_data: dict[str, Any],
    bytes_after: int,
    wider: str,
) -> None:
    """Of fifteen weights, in 4.8, 6.4 and 9 bits."""
    report_data["layers"][0]["bytes_after"] = bytes_after
    page = Page(rendered(report_data))
    lines = next(text for text in page.texts if text.startswith("[[rule]]"))
    assert [rule["weights"] for rule in tomllib.loads(lines)["rule"]] == [wider]


def test_the_formats_of_a_cache_and_why_they_are_not_used_are_told(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    report_data["layers"][1] |= {"op": "attention", "keys": "int4", "values": None}
    cache = {"name": "head", "token_bytes": 9, "reason": "rows share a scale"}
    report_data["kv_cache"] = {"token_bytes": 9, "token_bytes_fp32": 9, "layers": [cache]}
    texts = Page(rendered(report_data)).texts
    assert "k int4, v -" in texts
    assert "rows share a scale" in texts


def test_what_is_not_checked_or_cannot_generate_says_why(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    report_data["golden"]["unchecked"] = [
        {"precision": "fp16", "reason": HOSTILE, "next_step": "n"}
    ]
    found = {"available": False, "decoder": True, "reason": "static", "next_step": HOSTILE}
    report_data["generation"] = found
    page = Page(rendered(report_data))
    assert sum(HOSTILE in text for text in page.texts) == 2
    assert "No generation token by token" in page.texts


def test_a_model_of_nothing_has_a_report(
    rendered: Callable[[dict[str, Any]], str], report_data: dict[str, Any]
) -> None:
    empty = report_data | {"layers": [], "bytes_before": 0, "bytes_after": 0, "golden": None}
    page = Page(rendered(empty | {"recipe": {}, "coverage": 0.0}))
    assert "0 B" in page.texts
    assert not any("nan" in text.lower().split() for text in page.texts)
    assert not any("nan" in (value or "").lower() for _, value in page.attributes)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"model": 1}', b"\xff", b"[" * 100_000], ids=lambda d: d[:9]
)
def test_other_data_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        decode_report(data, "here")
    assert caught.value.where == "here"


def test_values_of_every_size_stay_inside_the_chart() -> None:
    values = [0.0, -3.0, 1e-9, 1e12, math.inf, -math.inf, None]
    chart = ElementTree.fromstring(
        bar_chart([[Bar(v, "t", "k")] for v in values], linear_axis(values, "u"), "l")
    )
    rects = chart.findall("rect")
    assert len(rects) == 6
    for rect in rects:
        top, height = float(rect.attrib["y"]), float(rect.attrib["height"])
        assert 0 <= top <= top + height <= 180


def test_equal_values_and_none_have_an_axis() -> None:
    for values in ([], [0.0, 0.0], [5.0, 5.0]):
        chart = ElementTree.fromstring(
            bar_chart([[Bar(v, "", "k")] for v in values], linear_axis(values, "u"), "l")
        )
        rects = chart.findall("rect")
        assert len(rects) == len(values)
        assert len({(rect.attrib["y"], rect.attrib["height"]) for rect in rects}) <= 1
        for element in chart.iter():
            assert "nan" not in " ".join(element.attrib.values())


def test_nice_ceilings() -> None:
    for value in (1e-7, 0.3, 1.0, 9.99, 10.0, 12345.6):
        assert value <= nice_ceiling(value) <= 2.5 * value


def test_sizes_share_an_axis_with_round_labels() -> None:
    axis = bytes_axis([0, 60, 27, 113 << 20])
    rows = [axis.y(value) for value in (113 << 20, 60, 27, 0)]
    assert rows == sorted(rows)
    assert len(set(rows)) == 4
    assert all(re.fullmatch(r"\d+ ([KMGT]i)?B", label) for _, label in axis.ticks)
    assert bytes_axis([]).y(0) > bytes_axis([]).y(4)
