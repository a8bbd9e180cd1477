"""The examples of pages without a test of their own run, and print what they say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def examples(page: str) -> str:
    text = (ROOT / page).read_text("utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("page", ["README.md", "docs/generation.md"])
def test_examples(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a line promises, `print(…)  # (5,)`, it prints."""
    monkeypatch.chdir(tmp_path)
    code = examples(page)
    exec(compile(code, page, "exec"), {})
    promised = re.findall(r"^print\(.*\) +# (True|False|\(.*\))$", code, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
    assert set(promised) <= set(printed)
    assert len(printed) == code.count("print(")
