"""`qcc list` reads sources; what it says is what importing them says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qcc.compiler import listing
from qcc.compiler.cli import main
from qcc.compiler.recipe import builtin_recipes
from qcc.dialects import formats, qcc


def test_ops_are_the_dialects_ops() -> None:
    classes = [value for name, value in vars(qcc).items() if name.endswith("Op")]
    assert set(listing.ops()) >= {value.OPERATION_NAME for value in classes}
    assert all(listing.ops().values())


def test_recipes_are_the_built_in_recipes() -> None:
    assert listing.recipes() == builtin_recipes()


def test_formats_are_the_available_formats() -> None:
    assert listing.formats() == formats.available()


def test_passes_are_the_registered_passes() -> None:
    from qcc.compiler.opt import KNOWN

    assert {"raise-torch", "outline-loops"} <= set(KNOWN)
    assert set(listing.passes()) == set(KNOWN)
    assert all(listing.passes().values())


def test_passes_are_read_off_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "passes"
    folder.mkdir()
    (folder / "registry.py").write_text(
        "from .fold_twice import fold_twice\n"
        "OTHER = {'no-pass': 1}\n"
        "PASSES: dict[str, object] = {'fold-twice': fold_twice}\n"
    )
    (folder / "fold_twice.py").write_text('"""\nFold what is\nthere twice.\n\nMore.\n"""\n')
    monkeypatch.setattr(listing, "_ROOT", tmp_path)
    assert listing.passes() == {"fold-twice": "Fold what is there twice."}
    assert main(["list", "passes"]) == 0
    assert "fold-twice  Fold what is there twice." in capsys.readouterr().out
    assert "qcc.passes.fold_twice" not in sys.modules
