"""
Tokens per second of SmolLM2-135M at 4 bits, against torch fp32 eager and llama.cpp.

    python -m benchmarks.decode [--recipes R,R] [--artifact PATH] [--threads N] [--rounds N]
                                [--llama FOLDER]

All decode one token at a time with a KV cache, on the same number of threads, in turns within one
process; what counts is the ratio within a round. llama.cpp takes part if FOLDER has its libraries;
its model is the same with the linear layers as Q4_0.
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

RECIPES = f"{Path(__file__).parent / 'demo.toml'},w4a16-g32"
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
    prompt = np.array([tokenizer.encode(PROMPT).ids])
    tokens = prompt.shape[1] + (options.rounds + 1) * options.tokens
    steps = {name: stepper(module) for name, module in compiled(model, options).items()}
    eager = EagerDecoder(model, tokens)
    steps["torch fp32"] = lambda ids: eager.step(torch.from_numpy(ids)).numpy()
    if options.llama:
        peer, vocabulary = (
            smollm2_q4_0(options.llama, options.threads, tokens),
            model.config.vocabulary,
        )
        steps["llama.cpp Q4_0"] = lambda ids: peer.step(ids[0], vocabulary)[None, None]
    say(f"{options.threads} threads, load {load()}, a prompt of {prompt.shape[1]} tokens")
    for line in compared(interleaved(steps, prompt, options.rounds, options.tokens)):
        say(line)
    say(f"load {load()} at the end")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--recipes", default=RECIPES, help="names or files, with commas")
    parser.add_argument("--artifact", help="an artifact of this model, in place of compiling one")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=8, help="tokens of each side in a round")
    parser.add_argument("--llama", type=Path, help="a folder with llama.cpp's libraries")
    return parser.parse_args(arguments)


def compiled(model: Llama, options: argparse.Namespace) -> dict[str, qcc.Module]:
    if options.artifact:
        return {options.artifact: qcc.load(options.artifact, threads=options.threads)}
    found = {}
    for recipe in options.recipes.split(","):
        say(f"compiling with {recipe}")
        found[Path(recipe).stem] = qcc.compile(
            model,
            smollm2.example_inputs(),
            recipe=recipe,
            dynamic_shapes=smollm2.dynamic_shapes(),
            threads=options.threads,
            golden=False,
        )
    return found


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


if __name__ == "__main__":
    raise SystemExit(main())
