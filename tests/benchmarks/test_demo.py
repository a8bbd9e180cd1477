"""`make demo` is the first thing that anybody runs, and it runs without pytest's search path."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_starts_as_the_makefile_starts_it() -> None:
    planned = subprocess.run(
        ["make", "--dry-run", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    _python, *words = planned.stdout.splitlines()[-1].split()
    started = subprocess.run(
        [sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert started.returncode == 0, started.stderr
    assert "--recipe" in started.stdout
