"""
What a KV cache of few bits costs in accuracy: keys scaled by token against keys scaled by channel.

    python -m benchmarks.key_scales [--windows N] [--length N] [--values F] [--data FOLDER]

SmolLM2's linear layers keep full precision; each row is compiled with qcc and run. The scales of
channels come from as much text as is scored, from behind it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qcc
from benchmarks.accuracy_subjects import read_text
from benchmarks.console import say
from qcc.models import evaluate, smollm2

ROWS = (
    ("none", "token"),
    *((keys, scales) for keys in ("int8", "int4", "int3") for scales in ("token", "channel")),
    ("int4", "channel+token"),
    ("int4<symmetric=false>", "token"),
    ("int4<group=32,symmetric=false>", "token"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    text, tokens, length, _ = read_text(options.data, options.windows)
    length = min(length, options.length, len(tokens) // (2 * options.windows))
    scored, held_out = np.split(np.array(tokens[: 2 * options.windows * length]), 2)
    sample = smollm2.smollm2()
    program = torch.export.export(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes
    )
    samples = [(part[None],) for part in np.split(held_out, options.windows)]
    say(f"{text}: {options.windows} windows of {length} tokens; values in {options.values}")
    say("| keys | scaled by | bytes a token | perplexity |")
    say("|---|---|---:|---:|")
    for keys, scales in ROWS:
        values = "none" if keys == "none" else options.values
        kv = {"k": keys, "v": values, "k_scales": scales}
        module = qcc.compile(
            program, recipe={"default": {"kv": kv}}, calibration=samples, golden=False
        )
        found = evaluate.perplexity(module, scored, options.windows, length)
        size = cache_bytes(module.report)
        say(f"| `{keys}` | {scales if keys != 'none' else '-'} | {size:,} | {found.value:.3f} |")
    return 0


def cache_bytes(report: dict[str, Any]) -> int:
    return report["kv_cache"]["token_bytes"]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--windows", type=int, default=1)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a window")
    parser.add_argument("--values", default="int8", help="the format of values in every row")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
