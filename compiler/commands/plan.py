"""
Plan a decoder over many PIM nodes and compare it with GPUs and with static placement.

Prints, for each length of context: tokens a second, milliseconds between the tokens of a request,
requests at once, and memory a node. The pipeline's depth is the one that delivers most. Times are
those of models, of none of which a cluster was measured: docs/pim-cluster.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..console import Console, table
from .argument_types import count

SUMMARY = "plan a decoder over a cluster of PIM nodes"
TARGETS = ("pim-cluster",)
COLUMNS = ("context", "system", "stages", "tokens/s", "ms/token", "batch", "GiB/node", "note")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--model", default="72B", help="7B, 13B, 32B or 72B")
    parser.add_argument("--nodes", type=count, default=16)
    parser.add_argument("--node", default="upmem", help="upmem, aim, or a device profile (.toml)")
    parser.add_argument("--gpus", type=count, help="default: as many as hold the longest context")
    parser.add_argument(
        "--context", type=count, nargs="+", default=[32768, 131072, 1048576], metavar="TOKENS"
    )
    parser.add_argument("--weight-bits", type=int, choices=(2, 4, 8), default=4)
    parser.add_argument("--kv-bits", type=int, choices=(4, 8), default=8)
    parser.add_argument("--requests", type=count, default=64)


def run(args: argparse.Namespace, console: Console) -> int:
    from ..pim_cluster import ClusterQuestion, compare

    question = ClusterQuestion(
        args.model, args.nodes, args.node if not args.node.endswith(".toml") else Path(args.node),
        args.gpus, tuple(args.context), args.weight_bits, args.kv_bits, args.requests,
    )  # fmt: skip
    rows: list[dict[str, Any]] = compare(question)
    console.result(rows, table(rows, list(COLUMNS)))
    return 0
