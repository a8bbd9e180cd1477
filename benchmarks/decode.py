"""
Tokens per second of SmolLM2-135M at 4 bits, against torch fp32 eager with a KV cache.

    python -m benchmarks.decode [--recipe R] [--artifact PATH] [--threads N] [--rounds N]

Both decode one token at a time on the same number of threads, in turns within one process; what
counts is the ratio.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import qcc
from benchmarks.eager_decode import EagerDecoder
from qcc.compiler.running import KeyValueCaches, default_threads
from qcc.models import smollm2
from qcc.models.assets import AssetError
from qcc.models.llama import Llama

HERE = Path(__file__).parent
PROMPT = "The capital of France is"

Step = Callable[[np.ndarray], np.ndarray]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    try:
        model, tokenizer = smollm2.load(), smollm2.load_tokenizer()
    except AssetError as error:
        say(str(error))
        return 1
    module = compiled(model, options)
    prompt = np.array([tokenizer.encode(PROMPT).ids])
    tokens = prompt.shape[1] + (options.rounds + 1) * options.tokens
    eager = EagerDecoder(model, tokens)
    steps: dict[str, Step] = {
        "qcc": stepper(module),
        "torch": lambda ids: eager.step(torch.from_numpy(ids)).numpy(),
    }
    say(f"{options.threads} threads, load {load()}, a prompt of {prompt.shape[1]} tokens")
    times = interleaved(steps, prompt, options.rounds, options.tokens)
    for name, seconds in times.items():
        median = float(np.median(seconds))
        best = min(seconds) * 1e3
        say(f"{name:6} {1 / median:7.1f} tokens/s   median {median * 1e3:.2f} ms, best {best:.2f}")
    say(f"ratio of medians, torch / qcc: {ratio(times):.2f} (above 1: qcc is faster)")
    say(f"load {load()} at the end")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--recipe", default=str(HERE / "demo.toml"))
    parser.add_argument("--artifact", help="an artifact of this model, in place of compiling one")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=8, help="tokens of each side in a round")
    return parser.parse_args(arguments)


def compiled(model: Llama, options: argparse.Namespace) -> qcc.Module:
    if options.artifact:
        return qcc.load(options.artifact, threads=options.threads)
    say(f"compiling with {options.recipe}")
    return qcc.compile(
        model,
        smollm2.example_inputs(),
        recipe=options.recipe,
        dynamic_shapes=smollm2.dynamic_shapes(),
        threads=options.threads,
        golden=False,
    )


def stepper(module: qcc.Module) -> Step:
    """The compiled step with its caches: tokens [1, T] to logits [1, T, vocabulary]."""
    running = module._running
    caches = KeyValueCaches(running.code, 1)
    return lambda tokens: running.step(tokens, caches)[0]


def interleaved(
    steps: dict[str, Step], prompt: np.ndarray, rounds: int, tokens: int
) -> dict[str, list[float]]:
    """Seconds of each decoded token; the first round warms up and does not count."""
    following = {name: choice(step(prompt)) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            for _ in range(tokens):
                start = time.perf_counter()
                logits = step(following[name])
                if number:
                    times[name].append(time.perf_counter() - start)
                following[name] = choice(logits)
    return times


def choice(logits: np.ndarray) -> np.ndarray:
    """The likeliest next token, int64 [1, 1], of logits [1, T, vocabulary]."""
    return logits[:, -1:].argmax(-1).astype(np.int64)


def ratio(times: dict[str, list[float]]) -> float:
    """
    >>> ratio({"qcc": [1.0, 2.0, 3.0], "torch": [3.0, 3.0, 9.0]})
    1.5
    """
    return float(np.median(times["torch"]) / np.median(times["qcc"]))


def load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
