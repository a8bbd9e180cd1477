"""
Run an artifact on the arrays of an .npz file.

Inputs are found by the model's input names (`qcc inspect` shows them), or in order as arr_0,
arr_1, …, which is what numpy.savez(path, x, y) writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..console import Console, table
from ..publish import require_writable, spare_inputs

SUMMARY = "run an artifact on arrays from an .npz file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifact", metavar="OUT.qcc", type=Path)
    parser.add_argument("--inputs", metavar="X.npz", type=Path, required=True)
    parser.add_argument("--outputs", metavar="Y.npz", type=Path, help="where to store the results")
    parser.add_argument("--emulate", action="store_true", help="run kernels for a GPU on the CPU")
    parser.add_argument("--precision", metavar="NAME", help="which one (default: the first)")
    parser.add_argument("--no-verify", action="store_true", help="skip the hash checks")


def run(args: argparse.Namespace, console: Console) -> int:
    from ..npz import in_order, read_npz, write_npz

    if args.outputs:
        spare_inputs(args.outputs, [args.artifact, args.inputs])
        require_writable(args.outputs)
    arrays = read_npz(args.inputs)
    from ..api import load

    module = load(
        args.artifact,
        verify=not args.no_verify,
        precision=args.precision,
        emulate=args.emulate,
    )
    names = [value.name for value in module.signature.inputs]
    results = module.run(in_order(arrays, names))
    outputs = {
        value.name: result for value, result in zip(module.signature.outputs, results, strict=True)
    }
    if args.outputs:
        write_npz(args.outputs, outputs)
    rows = [_described(name, array) for name, array in outputs.items()]
    shown = table(rows, ["name", "dtype", "shape", "min", "max"])
    console.result({"outputs": rows, "file": str(args.outputs) if args.outputs else None}, shown)
    return 0


def _described(name: str, array: Any) -> dict[str, Any]:
    filled = array.size > 0
    return {
        "name": name,
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "min": float(array.min()) if filled else None,
        "max": float(array.max()) if filled else None,
    }
