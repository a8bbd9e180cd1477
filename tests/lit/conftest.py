"""Collects .mlir files and runs their RUN line, `qcc opt … | filecheck %s`, in this process."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcc.compiler.cli import main

RUN = re.compile(r"^// RUN: (qcc opt .*) \| filecheck %s$", re.MULTILINE)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return LitFile.from_parent(parent, path=file_path) if file_path.suffix == ".mlir" else None


class LitFile(pytest.File):
    def collect(self) -> Iterator[pytest.Item]:
        yield LitTest.from_parent(self, name=self.path.stem)


class LitTest(pytest.Item):
    def runtest(self) -> None:
        text = self.path.read_text()
        lines = RUN.findall(text)
        assert len(lines) == 1, f"{self.path}: needs one RUN line, `qcc opt %s … | filecheck %s`"
        argv = [word.replace("%s", str(self.path)) for word in shlex.split(lines[0])[1:]]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(argv)
        assert code == 0, err.getvalue()
        filecheck = self.config.pluginmanager.get_plugin("filecheck")
        assert filecheck is not None, "run pytest on tests/, whose conftest.py has the matcher"
        filecheck.check(text, out.getvalue(), self.name)
