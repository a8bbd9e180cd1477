"""The accuracy table on models small enough for a test; its real data is optional there too."""

from pathlib import Path

import numpy as np
import pytest
import torch

import qcc
from benchmarks import accuracy
from benchmarks.accuracy_rows import ROWS, Row
from benchmarks.accuracy_state import State
from benchmarks.accuracy_subjects import Limits, Model, Subject, classes, missing, read_text, spread
from benchmarks.accuracy_table import Section, document
from qcc.models import evaluate, llama
from qcc.models.assets import AssetError
from qcc.models.family import Sample

TOKENS = np.random.default_rng(5).integers(0, 128, 64)


def tiny_language_model() -> Subject:
    def measure(model: Model) -> dict[str, float]:
        return {"perplexity": evaluate.perplexity(model, TOKENS, 2, 32).value}

    sample = Sample(llama.tiny(), llama.example_inputs(), llama.dynamic_shapes())
    return Subject("tiny", "Tiny", "language", sample, {"perplexity": 3}, "2 windows", measure)


def test_every_row_names_a_known_format_for_every_model() -> None:
    assert len({row.key for row in ROWS}) == len(ROWS)
    for row in ROWS:
        for kind in ("language", "sentence", "image"):
            assert qcc.format(row.spelling(kind)).bits_per_value <= 16


def test_no_integer_row_falls_on_the_grid_of_the_language_model() -> None:
    rows = [row for row in ROWS if row.weights.startswith(("int", "dint"))]
    assert len(rows) > 8
    assert all(qcc.format(row.weights).block.size != 32 for row in rows)


def test_rows_are_compiled_measured_and_written() -> None:
    subject, state = tiny_language_model(), State(None, "tiny", "2 windows")
    rows = (Row("int8", "int8"), Row("int2", "int2"), Row("ragged", "int4<group=48>"))
    records = dict(accuracy.measured(subject, rows, state))
    values = {key: record["metrics"]["perplexity"] for key, record in records.items()}
    exact = values["torch fp32"]
    assert values["qcc fp32"] == pytest.approx(exact, rel=1e-5)
    assert 0 < abs(values["int8"] - exact) < abs(values["int2"] - exact)
    # Rows of 64 and 128 weights have no groups of 48: the table must not call that int4.
    assert values["ragged"] == pytest.approx(exact, rel=1e-5)
    assert records["ragged"]["others"] == {"fp32": 14}
    text = document([Section(subject, {"int8": records["int8"]})])
    assert f"| `int8` | - | 8 | {values['int8']:.3f} |" in text


def test_a_refused_format_is_a_row_that_says_so() -> None:
    text = document([Section(tiny_language_model(), {"nf4": {"error": "some-code"}})])
    assert "| not supported: some-code |" in text


def test_finished_rows_are_not_measured_again(tmp_path: Path) -> None:
    def never(_: Model) -> dict[str, float]:
        raise AssertionError("measured again")

    subject = tiny_language_model()
    for key in ("torch fp32", "qcc fp32", "int8"):
        State(tmp_path, "tiny", "2 windows").put(key, {"metrics": {"perplexity": 7.0}})
    kept = Subject(**{**fields(subject), "measure": never})
    rows = (Row("int8", "int8"),)
    records = dict(accuracy.measured(kept, rows, State(tmp_path, "tiny", "2 windows")))
    assert [record["metrics"]["perplexity"] for record in records.values()] == [7.0] * 3
    assert State(tmp_path, "tiny", "3 windows").get("int8") is None
    rows = (Row("int8", "int8"), Row("int6", "int6"))
    found = dict(accuracy.finished(rows, State(tmp_path, "tiny", "2 windows")))
    assert list(found) == ["torch fp32", "qcc fp32", "int8"]


def fields(subject: Subject) -> dict[str, object]:
    return {name: getattr(subject, name) for name in Subject.__slots__}


def test_missing_data_is_named_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "accuracy.md"
    arguments = ["--models", "resnet20,resnet56", "--data", str(tmp_path), "-o", str(out)]
    assert accuracy.main(arguments) == 1
    said = capsys.readouterr().out
    assert "resnet20.safetensors is missing" in said
    assert "test_2000.npz is missing" in said
    assert not out.exists()
    assert len(missing("minilm", tmp_path)) == 3


def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["--formats", "int9"]) == 2
    assert "int8" in capsys.readouterr().out


def test_without_the_text_the_demo_s_own_is_named(tmp_path: Path) -> None:
    try:
        name, tokens, length, windows = read_text(tmp_path, 5)
    except AssetError as error:
        pytest.skip(f"needs the tokenizer: {error}")
    assert name.startswith("benchmarks/demo.txt")
    assert (length, windows) == (len(tokens), 1)
    assert length > 100


def test_classes_are_those_of_the_largest_logits() -> None:
    images = torch.arange(12.0).reshape(6, 2)
    found = classes(lambda part: -part if part[0, 0] else part, images, batch=2)
    assert found.tolist() == [1, 1, 0, 0, 0, 0]


def test_a_subset_is_spread_over_the_whole() -> None:
    assert spread(2000, 2000) == list(range(2000))
    assert spread(2000, 1000) == list(range(0, 2000, 2))


def test_limits_are_part_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "wikitext2_valid.txt").write_text("one two three " * 700)
    try:
        name, tokens, length, windows = read_text(tmp_path, Limits(1, 1, 1).windows)
    except AssetError as error:
        pytest.skip(f"needs the tokenizer: {error}")
    assert (name, length, windows) == ("WikiText-2 validation", 1024, 1)
    assert len(tokens) > 1024
