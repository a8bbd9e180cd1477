"""`check`: FileCheck comments in a test's own source, held against a text."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options
from filecheck.parser import Parser, pattern_for_opts

# FileCheck passes over a directive without its colon, and so over what it was meant to check.
MISSPELT = re.compile(r"^\s*(#|//).*\bCHECK(?!(-[A-Z]+(-\d+)?)?(\{LITERAL\})?:)", re.MULTILINE)

Check = Callable[[str], None]


def filecheck(directives: str, text: str, name: str = "test") -> None:
    """Fail unless `text` satisfies the CHECK comments in `directives`, none of them misspelt."""
    wrong = MISSPELT.search(directives)
    assert wrong is None, f"{name}: not a directive: {wrong and wrong.group().strip()}"
    options = Options(match_filename=name)  # pyright: ignore[reportCallIssue]  # it fills its caches itself
    parser = Parser(options, io.StringIO(directives), *pattern_for_opts(options))
    matcher = Matcher(options, FInput(name, text), parser)
    assert matcher.run() == 0, f"{name}: FileCheck failed on\n{text}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(text, suffix) holds a whole text against tests/golden/<file>/<test><suffix>."""

    def compare(text: str, suffix: str) -> None:
        name = request.node.name.replace("[", "-").rstrip("]")
        path = Path(__file__).parent / "golden" / request.path.stem / f"{name}{suffix}"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        kept = path.read_text() if path.exists() else ""
        assert text == kept, f"{path} differs: pytest --update-golden, then read the difference"

    return compare


def pytest_configure(config: pytest.Config) -> None:
    """The collector of tests/lit checks its files in the same way."""
    config.pluginmanager.register(_Filecheck(), "filecheck")


class _Filecheck:
    check = staticmethod(filecheck)


@pytest.fixture
def check(request: pytest.FixtureRequest) -> Check:
    """check(text) holds the CHECK comments of the test that asks for it against `text`."""
    function = request.function
    assert isinstance(function, FunctionType)
    return lambda text: filecheck(inspect.getsource(function), text, function.__name__)
