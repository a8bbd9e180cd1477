"""
Tokens per second of SmolLM2-135M's prompt, against torch fp32 eager and llama.cpp.

    python -m benchmarks.prompt [--recipes R,R] [--lengths 64,512] [--threads N] [--rounds N]
                                [--llama FOLDER]

All process the same tokens into empty caches, up to the logits of the last one (torch: of all), in
turns within one process; what counts is the ratio within a round. llama.cpp takes part if FOLDER
has its libraries; its model is the same with the linear layers as Q4_0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import qcc
from benchmarks.console import compared, load, say
from benchmarks.eager_decode import EagerDecoder
from benchmarks.peers.llama_cpp import smollm2_q4_0
from qcc.compiler.running import KeyValueCaches, default_threads
from qcc.models import smollm2
from qcc.models.assets import AssetError
from qcc.models.llama import Llama

RECIPES = "w4a8-dint4,w4a16-g32"
Prompt = Callable[[np.ndarray], object]


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    try:
        model = smollm2.load()
    except AssetError as error:
        say(str(error))
        return 1
    prompts = {name: compiled(model, name, options) for name in options.recipes.split(",")}
    prompts["torch fp32"] = eager(model)
    if options.llama:
        prompts["llama.cpp Q4_0"] = llama(model, options)
    random = np.random.default_rng(0)
    for length in options.lengths:
        tokens = random.integers(0, model.config.vocabulary, (1, length))
        times = interleaved(prompts, tokens, options.rounds)
        say(f"{length} tokens, {options.threads} threads, load {load()}")
        for line in compared(times, length):
            say(line)
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--recipes", default=RECIPES, help="names or files, with commas")
    parser.add_argument("--lengths", type=numbers, default=[64, 512], help="tokens, with commas")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--llama", type=Path, help="a folder with llama.cpp's libraries")
    return parser.parse_args(arguments)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def compiled(model: Llama, recipe: str, options: argparse.Namespace) -> Prompt:
    say(f"compiling with {recipe}")
    module = qcc.compile(
        model,
        smollm2.example_inputs(),
        recipe=recipe,
        dynamic_shapes=smollm2.dynamic_shapes(),
        threads=options.threads,
        golden=False,
    )
    running = module._running
    return lambda tokens: running.step(tokens, KeyValueCaches(running.code, 1), last_only=True)


def eager(model: Llama) -> Prompt:
    def prompt(tokens: np.ndarray) -> object:
        return EagerDecoder(model, tokens.shape[1]).step(torch.from_numpy(tokens))

    return prompt


def llama(model: Llama, options: argparse.Namespace) -> Prompt:
    peer = smollm2_q4_0(options.llama, options.threads, max(options.lengths))

    def prompt(tokens: np.ndarray) -> object:
        peer.clear()
        return peer.step(tokens[0], model.config.vocabulary)

    return prompt


def interleaved(
    prompts: dict[str, Prompt], tokens: np.ndarray, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each round; the first one warms up and does not count."""
    times: dict[str, list[float]] = {name: [] for name in prompts}
    for number in range(rounds + 1):
        for name, prompt in prompts.items():
            start = time.perf_counter()
            prompt(tokens)
            if number:
                times[name].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    raise SystemExit(main())
