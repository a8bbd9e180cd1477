"""The command line: quick, quiet, and every outcome an exit code of docs/cli.md."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from qcc import __version__
from qcc.compiler.cli import main
from qcc.compiler.commands import VERBS
from qcc.compiler.targets import require_target
from qcc.dialects.errors import QccError, ResourceError, UnsupportedError, UsageError

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
QCC = [sys.executable, "-m", "qcc.compiler.cli"]

Replace = Callable[..., None]


@pytest.fixture
def replace_module(monkeypatch: pytest.MonkeyPatch) -> Replace:
    """Stand in for a module that a verb imports when it runs."""

    def replace(name: str, **contents: Any) -> None:
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, f"qcc.compiler.{name}", module)

    return replace


class Doubling:
    """A module of one input and one output."""

    signature = SimpleNamespace(
        inputs=(SimpleNamespace(name="x"),), outputs=(SimpleNamespace(name="y"),)
    )
    passed = True
    precision, precisions = "default", ("default",)

    def at_precision(self, name: str) -> Doubling:
        assert name == "default"
        return self

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return 2 * x

    def run(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self(*inputs)]

    def verify(self) -> dict[str, Any]:
        output = {"name": "y", "precision": "default", "max_abs_error": 0.5}
        output |= {"max_rel_error": 0.125, "tolerance": 1e-3}
        passed = {"passed": self.passed}
        return {"outputs": [output | passed], "golden": True, "emulated": False, **passed}


def heavy_modules(*argv: str) -> set[str]:
    """Which of the slow packages the command line imported."""
    program = (
        "import sys\n"
        "from qcc.compiler.cli import main\n"
        "main(sys.argv[1:])\n"
        "heavy = {'torch', 'torch_mlir', 'numpy', 'rich', 'llvmlite'} & set(sys.modules)\n"
        "print('HEAVY', *heavy)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, *argv], capture_output=True, text=True, check=True
    )
    return set(told.stdout.rpartition("HEAVY")[2].split())


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["--version"],
        ["list", "passes"],
        ["list", "ops"],
        ["list", "targets"],
        ["list", "recipes"],
        *([verb, "--help"] for verb in VERBS),
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported(argv: list[str]) -> None:
    assert heavy_modules(*argv) == set()


def test_list_formats_imports_numpy_at_most() -> None:
    assert heavy_modules("list", "formats") <= {"numpy"}


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qcc {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in VERBS)


@pytest.mark.parametrize("argv", [["list", "formats", "--json"], ["--json", "list", "formats"]])
def test_json_before_or_after_the_verb(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"mxfp4", "amxfp4", "int8"} <= {row["name"] for row in rows}
    assert all(row["summary"] for row in rows)


@pytest.mark.parametrize(
    "argv", [[], ["compil"], ["compile"], ["list", "colours"], ["inspect", "a", "--loud"]], ids=str
)
def test_bad_usage_is_code_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "error [usage]" in told.err
    assert "--help" in told.err


def test_errors_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "inspect", str(tmp_path / "none.qcc")]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["exit_code"] == 2
    assert set(told["error"]) == {"code", "what", "where", "why", "next"}


def test_a_damaged_artifact_is_code_7(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = bytearray(sample.read_bytes())
    data[200] ^= 1
    sample.write_bytes(data)
    for verb in ("inspect", "report"):
        assert main([verb, str(sample)]) == 7
        assert re.search(r"error \[[a-z-]+\].*\n.*where: .*\n.*why: .*\n.*next: ", told(capsys))


def told(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


def test_inspect(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(sample)]) == 0
    shown = capsys.readouterr().out
    assert "input  x: float32[batch, 5]" in shown
    assert "2 <= batch <= 8" in shown
    assert "blocks.0.fc.weight/codes   int8<group=channel>  uint8" in shown
    assert main(["inspect", str(sample), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["manifest"]["seed"] == 7
    formats = {tensor["name"]: tensor["format"] for tensor in data["tensors"]}
    assert formats["blocks.0.fc.weight/scales"] == "int8<group=channel>"
    assert formats["bias"] is None


def test_report(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(sample)]) == 0
    page = sample.with_suffix(".html")
    assert page.read_text().startswith("<!doctype html>")
    assert str(page) in capsys.readouterr().out
    page.unlink()
    assert main(["report", str(sample), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "mlp"
    assert not page.exists()


def test_run_by_name_and_by_position(
    tmp_path: Path, replace_module: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[dict[str, Any]] = []

    def load(path: Path, **options: Any) -> Doubling:
        calls.append(options)
        return Doubling()

    replace_module("api", load=load)
    values = np.arange(3, dtype=np.float32)
    out = tmp_path / "y.npz"
    argv = ["run", "a.qcc", "--inputs", str(tmp_path / "x.npz"), "--outputs", str(out)]
    named: list[dict[str, Any]] = [{"x": values}, {"arr_0": values}]
    for arrays in named:
        np.savez(tmp_path / "x.npz", **arrays)
        assert main(argv) == 0
        assert np.load(out)["y"].tolist() == [0.0, 2.0, 4.0]
        out.unlink()
    assert main([*argv, "--precision", "fp8", "--no-verify"]) == 0
    assert calls[-1] == {"verify": False, "precision": "fp8", "emulate": False}
    np.savez(tmp_path / "x.npz", wrong=values)
    assert main(argv) == 2
    assert "the model takes x" in told(capsys)


def test_inputs_never_run_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    canary = tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(canary),)

    np.savez(tmp_path / "x.npz", x=np.array([Payload()], object))
    assert main(["run", "a.qcc", "--inputs", str(tmp_path / "x.npz")]) == 7
    assert "inputs-damaged" in told(capsys)
    assert not canary.exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"PK", b"\x93NUM", b"\xff" * 50])
def test_bad_input_files_are_code_7(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.npz").write_bytes(data)
    assert main(["run", "a.qcc", "--inputs", str(tmp_path / "x.npz")]) == 7
    assert "inputs-damaged" in told(capsys)


def test_verify_passes_and_fails(
    replace_module: Replace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    replace_module("api", load=lambda path, **_: Doubling())
    assert main(["verify", "a.qcc"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("divided by the largest value of the golden output\nPASS a.qcc\n")
    head, row, *_ = (line.split() for line in shown.splitlines())
    assert head == ["output", "precision", "difference", "relative", "allowed", "result"]
    assert row == ["y", "default", "0.5", "0.125", "0.001", "pass"]
    monkeypatch.setattr(Doubling, "passed", False)
    assert main(["verify", "a.qcc"]) == 4
    assert "FAIL a.qcc" in capsys.readouterr().out
    assert main(["verify", "a.qcc", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_bench(
    sample: Path, replace_module: Replace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_module("api", load=lambda path, precision: Doubling())
    kept = tmp_path / "b.json"
    assert main(["bench", str(sample), "-n", "3", "-o", str(kept)]) == 0
    assert re.match(
        r"default: n=3 median=.* spread=.* load=.* threads=\d+\n", capsys.readouterr().out
    )
    assert json.loads(kept.read_text())["runs"] == 3


def test_compile_hands_down_what_was_asked(
    replace_module: Replace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    class Opened(SimpleNamespace):
        def __enter__(self) -> Opened:
            return self

        def __exit__(self, *_: object) -> None:
            seen["closed"] = True

        weights = SimpleNamespace(files=lambda: ())

    def open_model(model: str, weights: str | None, **options: Any) -> Opened:
        seen["opened"] = (model, weights, options)
        return Opened(name="mlp")

    def compile_model(source: Any, options: Any, out: Path, progress: Any) -> dict[str, Any]:
        progress.stage("import")
        progress.advance(1, 2, "fc")
        seen["options"], seen["out"] = options, out
        row = {"name": "fc", "op": "linear", "weights": "int4", "rule": "default", "reason": ""}
        row |= {"keys": None, "values": "int8"}
        sizes = {"bytes_before": 4096, "bytes_after": 1024, "coverage": 0.5}
        return {"layers": [row], "timings": {"import": 1.25}, **sizes}

    replace_module("frontend.sources", open_model=open_model)
    replace_module("options", CompileOptions=SimpleNamespace)
    replace_module("driver", compile_model=compile_model)
    out = tmp_path / "o.qcc"
    argv = ["compile", "m.pt2", "--format", "int4", "--seed", "3", "-o", str(out), "--timing"]
    assert main([*argv, "--print-resolved", "--require-coverage", "0.5"]) == 0
    result = capsys.readouterr()
    assert "4.0 KiB -> 1.0 KiB, 4.00x smaller; coverage 50.0%" in result.out
    times = dict(re.findall(r"^([a-z ]+?) +(\d+\.\d\d)$", result.out, re.MULTILINE))
    assert list(times) == ["load qcc", "open", "import", "other", "total"]
    assert times["import"] == "1.25"
    assert "fc    linear  int4     -            k -, v int8  default" in result.out
    assert "qcc: import" in result.err
    assert seen["out"] == out
    assert seen["closed"]
    assert seen["options"].recipe == {"default": {"weights": "int4"}}
    assert (seen["options"].seed, seen["options"].require_coverage) == (3, 0.5)
    assert main([*argv, "--json"]) == 0
    result = capsys.readouterr()
    assert json.loads(result.out)["coverage"] == 0.5
    events = [json.loads(line) for line in result.err.splitlines()]
    assert {"event": "stage", "stage": "import"} in events
    assert {"stage": "import", "done": 1, "total": 2}.items() <= events[-1].items()
    capsys.readouterr()
    for target, known, nearest in (
        ("mars", "unknown", "cpu"),
        ("cuda:sm_90", "machine", "cuda:sm_90a"),
    ):
        assert main(["compile", "m.pt2", "--target", target]) == 3
        problem = told(capsys)
        assert f"error [target-{known}]" in problem
        assert f"use --target {nearest}" in problem
    assert main(["compile", "m.pt2", "--recipe", "a", "--format", "b"]) == 2
    assert main(["compile", "m.pt2", "--require-coverage", "7"]) == 2


@pytest.mark.parametrize(
    ("raised", "code", "shown"),
    [
        (UnsupportedError("op-unsupported", "no rule for aten.fft"), 3, "op-unsupported"),
        (ResourceError("memory-limit", "too large"), 6, "memory-limit"),
        (MemoryError(), 6, "out-of-memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 6, "out-of-memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 6, "out-of-memory"),
        (KeyboardInterrupt(), 130, "nothing was left half-written"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
        (QccError("odd", "something odd"), 1, "[odd]"),
        (SystemExit(0), 2, "[left-early]"),
        (SystemExit("bye"), 2, "SystemExit(bye)"),
    ],
    ids=str,
)
def test_every_exception_has_its_code(
    raised: BaseException,
    code: int,
    shown: str,
    replace_module: Replace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(path: Path, **_: Any) -> None:
        raise raised

    replace_module("api", load=load)
    replace_module("reproducer", write=lambda error, argv: f"bundle-of-{argv[0]}")
    assert main(["verify", "a.qcc"]) == code
    problem = told(capsys)
    assert shown in problem
    assert ("bundle-of-verify" in problem) == isinstance(raised, ZeroDivisionError)


def test_a_failing_reproducer_does_not_hide_the_bug(
    replace_module: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    replace_module("api", load=lambda path, **_: [][0])
    replace_module("reproducer", write=broken)
    assert main(["verify", "a.qcc"]) == 1
    assert "IndexError" in told(capsys)


def test_warnings_of_libraries_are_hidden_unless_asked_for(
    replace_module: Replace, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(path: Path, **_: Any) -> Doubling:
        warnings.simplefilter("always")  # as a library may do when it is imported
        warnings.warn("old", FutureWarning, stacklevel=1)
        return Doubling()

    replace_module("api", load=load)
    assert main(["verify", "a.qcc"]) == 0
    assert "old" not in told(capsys)
    with pytest.warns(FutureWarning, match="old"):
        assert main(["verify", "a.qcc", "--traceback"]) == 0


def test_traceback_on_request(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["inspect", str(sample.with_name("none.qcc"))]
    assert main(argv) == 2
    assert "Traceback" not in told(capsys)
    assert main([*argv, "--traceback"]) == 2
    assert "Traceback" in told(capsys)


def test_doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["doctor", "--json"]) == 0
    checks = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert checks["numpy"] == {
        "name": "numpy",
        "status": "ok",
        "found": np.__version__,
        "remedy": "",
    }
    assert {"python", "cpu", "memory", "torch-mlir"} <= set(checks)
    assert checks["xgboost-cpu"]["status"] in ("ok", "optional")
    for name in (
        "cuda emulator",
        "cuda compiler",
        "nvdisasm",
        "cuda-bindings",
        "gpu",
        "upmem emulator",
        "upmem timed emulator",
    ):
        found = checks[name]
        assert (
            (found["status"] == "ok") == (found["remedy"] == "") == (found["found"] != "not found")
        )
        assert "\n" not in found["found"]
    monkeypatch.setattr("qcc.compiler.doctor._REQUIRED", ("no-such-package",))
    assert main(["doctor"]) == 6
    assert "no-such-package: `pip install .`" in capsys.readouterr().out


def test_the_documentation_names_every_verb_flag_and_code() -> None:
    text = DOCS.read_text()
    for name, verb in VERBS.items():
        assert f"qcc {name}" in text
        source = Path(verb.__file__ or "").read_text()  # type: ignore[attr-defined]
        for flag in re.findall(r'"(--[a-z-]+)"', source):
            assert flag in text, f"docs/cli.md does not explain {name} {flag}"
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 130, 141, 143):
        assert f"| {code} |" in text


def test_a_file_of_another_kind_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "x.npz", np.zeros(3, np.float32))
    assert main(["opt", str(tmp_path / "x.npz")]) == 2
    assert "it is a file of NumPy arrays (.npz)" in capsys.readouterr().err


def test_shells_without_completion_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print-completion", "fish"]) == 2
    assert "'fish' is no shell" in capsys.readouterr().err


def test_a_target_is_a_name() -> None:
    with pytest.raises(UsageError, match="a target is a name, not None"):
        require_target(None)  # type: ignore[arg-type]
