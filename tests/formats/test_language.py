"""Definitions written by users: the documented examples, and errors that show the place."""

import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

from qcc.dialects.errors import QccError, UsageError
from qcc.dialects.formats import (
    FormatSyntaxError,
    available,
    format,
    from_definition,
    parse_spelling,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format-language.md"
FORMAT = "format f {{ element {element}; block size=8; scale scale {scale}; {more} }}"


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """The `.fmt` files of the documentation page."""
    for body in re.findall(r"```fmt\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        name = re.match(r"# (\S+)", body)
        assert name is not None
        (tmp_path / name[1]).write_text(body, "utf-8")
    return tmp_path


def test_documented_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = PAGE.read_text("utf-8").partition("## Errors")[2]
    message = textwrap.dedent("".join(re.findall(r"^ {4}.*\n", shown, re.MULTILINE)))
    mistake = message.splitlines()[2][4:]
    monkeypatch.chdir(tmp_path)
    Path("e3m2.fmt").write_text(f"format e3m2 {{\n{mistake}\n}}\n")
    with pytest.raises(QccError) as refused:
        format("e3m2.fmt")
    assert str(refused.value) + "\n" == message


def test_documented_table(examples: Path, rng: np.random.Generator) -> None:
    fmt = format(examples / "tri.fmt", group=128)
    assert (fmt.bits, fmt.bits_per_value) == (3, 3.25)
    x = rng.standard_normal((4, 256)).astype(np.float32)
    q = fmt.quantize(x)
    scale = np.repeat(np.abs(x).reshape(4, 2, 128).max(axis=2), 128, axis=1)
    choices = fmt.element_values() * scale[..., None]
    error = np.abs(q.dequantize() - x)
    np.testing.assert_allclose(error, np.abs(choices - x[..., None]).min(axis=2), atol=1e-6)
    assert q.nbytes == 4 * (96 + 8)


def test_documented_minifloat(examples: Path, rng: np.random.Generator) -> None:
    x = rng.standard_normal((8, 32)).astype(np.float32)
    q = format(str(examples / "e2m3_16.fmt")).quantize(x)
    scales = np.exp2(np.floor(np.log2(np.abs(x).reshape(8, 2, 16).max(axis=2))) - 2)
    assert np.array_equal(q.scale_values["scale"], scales.astype(np.float32))
    assert q.nbytes == 8 * (24 + 2)
    assert format(str(examples / "e2m3_16.fmt"), scale="ceil").spelling.endswith("<scale=ceil>")


def test_user_formats_round_trip_through_text(examples: Path) -> None:
    fmt = format(examples / "tri.fmt", group=32)
    assert re.fullmatch(r"tri@[0-9a-f]{12}<group=32>", fmt.spelling)
    assert parse_spelling(fmt.spelling) == fmt
    assert from_definition(fmt.definition, group=32) == fmt
    other = from_definition(fmt.definition.replace("0.25", "0.3"))
    assert other.spelling.split("<")[0] != fmt.spelling.split("<")[0]


def test_family_of_a_user() -> None:
    text = (
        "family q bits=[3, 5] { element integer bits=$bits signed=true range=symmetric;"
        " scale scale type=fp32 rule=absmax; }"
    )
    assert from_definition(text, "q5").bits == 5
    with pytest.raises(UsageError, match="q3, q5"):
        from_definition(text)
    with pytest.raises(UsageError, match="not 'q4'"):
        from_definition(text, "q4")


def test_every_builtin_says_what_and_whence() -> None:
    for name in available():
        table = {"table": np.linspace(-1, 1, 16)} if name == "lut4" else {}
        assert format(name, **table).source


def test_error_shows_line_caret_and_expectation() -> None:
    with pytest.raises(FormatSyntaxError) as caught:
        from_definition("format f {\n  element minifloat exponent=3 mantissa 2;\n}")
    shown = str(caught.value)
    assert "line 2, column 41" in shown
    lines = shown.splitlines()
    caret = next(index for index, line in enumerate(lines) if line.strip() == "^")
    assert lines[caret - 1][lines[caret].index("^")] == "2"
    assert "expected '='" in shown
    assert caught.value.exit_code == 2


NESTED = "format f {{ element nested; admit max_abs=1 limit=1.8; {more} }}"
MISTAKES = {
    "": "ends too early",
    "format f {": "ends too early",
    "format f { }": "needs a element",
    "format f { element gizmo; }": "known: dint",
    "format f { element table values=[1, 2, 3]; }": "power of two",
    "format f { element table values=[1e39, 2]; }": "cannot be",
    "format f { element table values=[1, x]; }": "cannot be",
    "format f { element table values=1; }": "cannot be",
    "format f { element table; }": "needs values=",
    "format f { element table values=[1, 2] values=[1, 2]; }": "given twice",
    "format f { element table values=[1, 2]; element nested; }": "a second element",
    "format f { element minifloat exponent=99999999 mantissa=1; }": "from 2 to 8",
    "format f { element minifloat exponent=999999999999999 mantissa=1; }": "from 2 to 8",
    "format f { element minifloat exponent=3 mantissa=9; }": "13 bits",
    "format f { element minifloat exponent=8 mantissa=7; }": "specials=ieee",
    "format f { element minifloat exponent=3 mantisa=2; }": "mantissa",
    "format f { element minifloat exponent=$e mantissa=2; }": "no option or parameter 'e'",
    "format f { option a: b = c; element table values=[1, 2]; }": "default of a",
    "format f { option a: b; option a: b; element table values=[1, 2]; }": "declared twice",
    "format f { when z=1 { block size=3; } element table values=[1, 2]; }": "no option 'z'",
    "format f { pack sideways; element table values=[1, 2]; }": "bits or bytes",
    'format f { title "a"; title "b"; element table values=[1, 2]; }': "given twice",
    "family f b=[] { element table values=[1, 2]; }": "no members",
    NESTED.format(more="view int4 part=upper scale=1;"): "one possible view",
    NESTED.format(more="view fp8_e4m3 part=upper scale=1; " * 2): "a second view",
    NESTED.format(
        more="option view: a = a; view fp8_e4m3 part=upper scale=1;"
    ): "option view already",
    FORMAT.format(element="nested", scale="type=fp32 rule=absmax", more=""): "neither scales",
    FORMAT.format(
        element="integer bits=4 signed=true", scale="type=fp32 rule=absmax", more=""
    ): "range=symmetric",
    FORMAT.format(
        element="minifloat exponent=2 mantissa=1", scale="type=e8m0 rule=absmax", more=""
    ): "e8m0",
    FORMAT.format(
        element="minifloat exponent=2 mantissa=1", scale="type=fp32 rule=range", more=""
    ): "does not fit",
    FORMAT.format(
        element="integer bits=4 signed=false", scale="type=fp32 rule=range", more=""
    ): "zero point or offset",
    FORMAT.format(
        element="table values=[1, 2]", scale="type=fp32 rule=absmax value=3.0", more=""
    ): "does not read value=",
    FORMAT.format(
        element="minifloat exponent=2 mantissa=1",
        scale="type=e8m0 rule=floor minimum=4.0 flush=smallest",
        more="",
    ): "rule=floor with type=e8m0 does not read minimum=4.0",
    FORMAT.format(
        element="minifloat exponent=2 mantissa=1",
        scale="type=fp32 rule=absmax rounding=floor",
        more="",
    ): "does not read rounding=floor",
    FORMAT.format(
        element="minifloat exponent=2 mantissa=1",
        scale="type=e4m3 rule=absmax",
        more="scale t type=fp32 rule=second_level minimum=0.5;",
    ): "does not read minimum=0.5",
    FORMAT.format(
        element="table values=[1, 2]", scale="type=fp32 rule=absmax of=positive", more=""
    ): "of=negative",
    FORMAT.format(
        element="table values=[1, 2]",
        scale="type=fp32 rule=absmax",
        more="zero_point type=int8;",
    ): "rule=range",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_named(text: str) -> None:
    with pytest.raises(FormatSyntaxError) as caught:
        from_definition(text)
    assert MISTAKES[text] in str(caught.value)
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe format",
        b"format f {" + b"x" * (10 << 20),
        b"[" * 60000,
        b"format f { element table values=" + b"[" * 20000 + b"]" * 20000 + b"; }",
        b"format f { element table values=[" + b"1," * 30000 + b"1]; }",
        b"\0" * 100,
        b"format f { element minifloat exponent=" + b"9" * 9000 + b" mantissa=1; }",
        b"format f { " + b"pack bits; " * 5000 + b"}",
        b"format f { element table values=[nan, inf]; }",
        "format \u202ef { }".encode(),
    ],
    ids=lambda data: repr(data[:24]),
)
def test_hostile_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "hostile.fmt"
    path.write_bytes(data)
    with pytest.raises(QccError):
        format(path)


def test_a_folder_is_no_definition(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        format(tmp_path)
