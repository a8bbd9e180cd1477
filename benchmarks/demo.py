"""
The main job from end to end on a real language model: `make demo`.

Compiles SmolLM2-135M to 4 bits through the command line, checks the artifact, and compares it
with the original in torch. What it prints is all measured in this run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os.path import relpath
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import qcc
from benchmarks.console import say
from qcc.models import smollm2
from qcc.models.assets import AssetError
from qcc.models.evaluate import perplexity
from qcc.models.generate import greedy

HERE = Path(__file__).parent
MODEL = "qcc.models.smollm2:smollm2"
PROMPT = "The capital of France is"
NEW_TOKENS = 24
MEBIBYTE = 1 << 20


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default=relpath(HERE / "demo.toml"))
    parser.add_argument("-o", "--output", type=Path, default=Path("build/demo/smollm2.qcc"))
    options = parser.parse_args(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        source = smollm2.SMOLLM2.locate()
    except AssetError as error:
        say(f"The demo's model is not there: {error}")
        return 1
    out = options.output
    start = time.perf_counter()
    with step(1, "Compile SmolLM2-135M, a language model of 135 million weights, to 4 bits"):
        say(f"The model is read from {source.name}, of the package {smollm2.SMOLLM2.package}.")
        qcc_command("compile", MODEL, "--recipe", options.recipe, "-o", str(out), "--timing")
    with step(2, "Verify the artifact: every checksum, and its code against stored results"):
        qcc_command("verify", str(out))
    with step(3, "Let both models continue a sentence (always taking the likeliest next token)"):
        original, compiled = loaded(out)
        write(original, compiled)
    with step(4, "Measure how far the compiled model is from the original"):
        measure(original, compiled, out)
    with step(5, f"Write the layer-by-layer report of {out}"):
        qcc_command("report", str(out))
    say(f"\nDone in {time.perf_counter() - start:.0f} s.")
    say(f"Open {out.with_suffix('.html')} in a browser; {out} is the compiled model.")
    return 0


def loaded(path: Path) -> tuple[torch.nn.Module, qcc.Module]:
    """The original, and what was compiled from it."""
    begin("loading the original into torch, and the compiled model")
    original, compiled = smollm2.load(), qcc.load(path)
    say("done")
    return original, compiled


def write(original: torch.nn.Module, compiled: qcc.Module) -> None:
    tokenizer = smollm2.load_tokenizer()
    prompt = tokenizer.encode(PROMPT).ids
    say(f"Prompt: {PROMPT!r}, {NEW_TOKENS} new tokens, {torch.get_num_threads()} threads")
    writers: dict[str, Callable[[], Sequence[int]]] = {
        "original, torch fp32": lambda: greedy(original, prompt, NEW_TOKENS),
        "compiled by qcc, 4 bits": lambda: compiled.generate(np.array(prompt), NEW_TOKENS).tolist(),
    }
    for name, writer in writers.items():
        begin(name)
        start = time.perf_counter()
        text = tokenizer.decode(writer())
        say(f"{text!r}  ({time.perf_counter() - start:.1f} s)")
    say("(The original computes the whole text anew for each token, the compiled one does not:")
    say("the times are no comparison. `python -m benchmarks.cpu` compares speed.)")


def measure(original: torch.nn.Module, compiled: qcc.Module, path: Path) -> None:
    tokens = smollm2.load_tokenizer().encode((HERE / "demo.txt").read_text()).ids
    say(f"Text: benchmarks/demo.txt, {len(tokens)} tokens: a sign of life, no benchmark.")
    begin("running both models over it")
    found = distance(original, compiled, tokens)
    values = {
        name: perplexity(model, tokens, length=len(tokens)).value
        for name, model in {"original": original, "compiled": compiled}.items()
    }
    say("done")
    say_distance(found)
    for name, value in values.items():
        say(f"  perplexity, {name:24} {value:8.3f}   (how unsure of the text; lower is better)")
    weights = sum(p.numel() * p.element_size() for p in original.parameters())
    say(f"  size of the weights in fp32           {weights / MEBIBYTE:8.1f} MiB")
    say(f"  size of the artifact, code included   {path.stat().st_size / MEBIBYTE:8.1f} MiB")


class Distance(NamedTuple):
    """How the logits of two models differ over the positions of one text."""

    cosine: float
    same_choice: float


def distance(
    original: Callable[[Any], Any], compiled: Callable[[Any], Any], tokens: Sequence[int]
) -> Distance:
    ids = torch.tensor([tokens])
    with torch.no_grad():
        a, b = (np.asarray(model(ids))[0].astype(np.float64) for model in (original, compiled))
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return Distance(float(cosines.mean()), float((a.argmax(1) == b.argmax(1)).mean()))


def say_distance(found: Distance) -> None:
    say(f"  same next token as the original       {found.same_choice:8.1%} of all positions")
    say(f"  cosine of the logits                  {found.cosine:8.4f}   (1 is identical)")


def qcc_command(*arguments: str) -> None:
    """Run the command line as a user would; its failure ends the demo with its exit code."""
    say(f"$ qcc {' '.join(arguments)}")
    command = [str(Path(sys.executable).with_name("qcc")), *arguments]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise SystemExit(code)


@contextmanager
def step(number: int, title: str) -> Iterator[None]:
    """A titled part of the demo; says how long it took."""
    say(f"\n== {number}/5  {title}")
    start = time.perf_counter()
    yield
    say(f"   step {number} took {time.perf_counter() - start:.1f} s")


def begin(what: str) -> None:
    """The first part of a line, before the work that its rest needs."""
    sys.stdout.write(f"  {what:24} … ")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
