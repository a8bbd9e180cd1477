"""
Compile a model to a `.qcc` artifact.

MODEL is an exported program (model.pt2) or your own code (module:factory, file.py:factory), the
latter usually with --weights. Without --recipe or --format the model keeps its own precision.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..console import Console, bytes_text, cache_text, kv_text, size_change, table
from ..npz import read_npz
from ..publish import require_writable, spare_inputs
from ..stopwatch import Stopwatch
from ..targets import require_target
from .argument_types import count, fraction, seed

if TYPE_CHECKING:
    from ..options import CompileOptions

SUMMARY = "compile a model to an artifact"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="model.pt2, or module:factory")
    add("--weights", metavar="FILE", help="safetensors file, shard index or state dict")
    add(
        "-o",
        "--output",
        metavar="OUT.qcc",
        type=Path,
        help="default: the model's name in this folder",
    )
    number_format = parser.add_mutually_exclusive_group()
    number_format.add_argument(
        "--recipe", metavar="R", help="built-in name (`qcc list recipes`), .toml, or plan.json"
    )
    number_format.add_argument("--format", metavar="F", help="this format for every weight")
    add("--target", default="cpu", metavar="T", help="`qcc list targets` (default: cpu)")
    add("--operands", choices=["f16", "bf16"], default="f16", help="what tensor cores multiply")
    add("--device", default="v1A", metavar="D", help="upmem: v1A (default), v1B or a profile.toml")
    add("--dpus", type=count, metavar="N", help="upmem: use so many DPUs (default: all)")
    add("--tokens", type=count, default=128, metavar="N", help="upmem: choose kernels for N rows")
    add(
        "--functions",
        default="",
        metavar="F,…",
        help="upmem: on DPUs too: gelu, norm, …, all, auto",
    )
    add("--x-bytes", type=int, choices=[2, 3], help="cpu: bytes for a value of fp32 x")
    add("--schedules", metavar="F", type=Path, help="what `qcc tune` found: a database")
    add("--example-inputs", metavar="X.npz", help="inputs to trace module:factory with")
    add("--calib", metavar="S", help="samples for static activation scales: random, X.npz, m:f")
    add("--calib-samples", type=count, metavar="N", help="use at most N of them")
    add("--seed", type=seed, metavar="N", default=0, help="seed of everything random (default: 0)")
    add("--require-coverage", type=fraction, metavar="P", help="fail below this fraction, 0 to 1")
    add("--allow-pickle", action="store_true", help="read pickled weights in a child process")
    add("--validate", action="store_true", help="execute the program before and after each pass")
    add("--no-golden", action="store_true", help="store no golden inputs and outputs")
    add("--timing", action="store_true", help="print the time of each stage")
    add("--print-resolved", action="store_true", help="print each layer's format and its rule")
    add("--print-ir-after-all", type=Path, metavar="DIR", help="write the IR after each pass")
    add("--stop-after", metavar="STAGE", help="raise or assign: write the IR of it, no artifact")


def run(args: argparse.Namespace, console: Console) -> int:
    watch = Stopwatch()
    options = _options(args)
    inputs = (
        args.model, args.weights, args.recipe, args.format, args.calib, args.example_inputs,
        args.schedules,
    )  # fmt: skip
    if args.output:
        spare_inputs(args.output, inputs)
        require_writable(args.output)
    examples = read_npz(Path(args.example_inputs)) if args.example_inputs else None
    with closing(console.progress()) as progress:
        progress.stage("open")
        with watch.phase("load qcc"):
            from ..driver import compile_model
            from ..frontend.sources import open_model
        with watch.phase("open"):
            opened = open_model(
                args.model, args.weights, example_inputs=examples, allow_pickle=args.allow_pickle
            )
        with opened as source:
            out = args.output or Path(f"{source.name}{'.mlir' if args.stop_after else '.qcc'}")
            spare_inputs(out, (*inputs, *source.weights.files()))
            require_writable(out)
            report = compile_model(source, options, out, progress)
    report["timings"] = watch.with_total(report["timings"])
    for text in report.get("warnings", []):
        console.note(f"warning: {text}")
    _tell_calibration(console, args.calib, report)
    _tell_unchecked(console, report)
    if note := (report.get("cuda") or {}).get("note"):
        console.note(f"warning: {note}")
    console.result({"output": str(out)} | report, _text(args, out, report))
    return 0


def _options(args: argparse.Namespace) -> CompileOptions:
    from ..options import CompileOptions

    require_target(args.target)
    return CompileOptions(
        recipe={"default": {"weights": args.format}} if args.format else args.recipe,
        target=args.target,
        calibration=args.calib,
        calibration_samples=args.calib_samples,
        seed=args.seed,
        require_coverage=args.require_coverage,
        golden=not args.no_golden,
        validate=args.validate,
        print_ir_after_all=args.print_ir_after_all,
        stop_after=args.stop_after,
        operands=args.operands,
        device=args.device,
        dpus=args.dpus,
        tokens=args.tokens,
        functions=tuple(filter(None, args.functions.split(","))),
        schedules=args.schedules,
        x_bytes=args.x_bytes,
    )


def _text(args: argparse.Namespace, out: Path, report: dict[str, Any]) -> str:
    parts: list[str] = []
    if args.print_resolved:
        parts.append(_resolved(report) + "\n")
    if args.print_resolved and report.get("schedules"):
        columns = ["layer", "source", "reason"]
        parts.append(table(report["schedules"]["layers"], columns) + "\n")
    if args.timing:
        rows = [{"stage": name, "s": f"{s:.2f}"} for name, s in report["timings"].items()]
        parts.append(table(rows, ["stage", "s"]) + "\n")
    if "validation" in report:
        columns = ["pass", "against", "max_rel_error", "tolerance"]
        parts.append(table(report["validation"], columns) + "\n")
    parts.append(_summary(out, report))
    return "\n".join(parts)


def _resolved(report: dict[str, Any]) -> str:
    """What was decided for each layer, and why a KV format is only rounded to."""
    caches = report.get("kv_cache", {}).get("layers", [])
    reasons = {cache["name"]: cache["reason"] for cache in caches if cache["reason"]}
    rows = [
        {
            **layer,
            "kv": kv_text(layer["keys"], layer["values"]),
            "reason": reasons.get(layer["name"], layer["reason"]),
        }
        for layer in report.get("layers", [])
    ]
    return table(rows, ["name", "op", "weights", "activations", "kv", "rule", "reason"])


def _tell_calibration(console: Console, given: str | None, report: dict[str, Any]) -> None:
    calibration = report.get("calibration")
    if calibration is not None and not calibration["fit_for_accuracy"]:
        console.note(f"warning: static scales are from {calibration['label']}")
    elif given is not None and calibration is None and "layers" in report:
        console.note("no layer has static activation scales: the samples of --calib had no use")


def _tell_unchecked(console: Console, report: dict[str, Any]) -> None:
    for each in report.get("golden", {}).get("unchecked", []):
        console.note(
            f"warning: {each['precision']}: `qcc verify` will check hashes only, since "
            f"{each['reason']}; next: {each['next_step']}"
        )


def _summary(out: Path, report: dict[str, Any]) -> str:
    if "bytes_after" not in report:
        return f"wrote {out}"
    before, after = report["bytes_before"], report["bytes_after"]
    factor, way = size_change(before, after) if after else (0, "")
    ratio = f", {factor:.2f}x {way}" if after else ""
    lines = [
        f"wrote {out}",
        f"weights {bytes_text(before)} -> {bytes_text(after)}{ratio}; "
        f"coverage {report['coverage']:.1%}",
    ]
    cache = report.get("kv_cache")
    if cache is not None:
        lines.append(cache_text(cache["token_bytes"], cache["token_bytes_fp32"]))
    if schedules := report.get("schedules"):
        tuned = sum(layer["source"] != "default" for layer in schedules["layers"])
        total = len(schedules["layers"])
        lines.append(f"{tuned} of {total} layers have schedules of {schedules['database']}")
    generation = report.get("generation", {})
    if generation.get("decoder") and not generation["available"]:
        lines.append(f"no generation token by token: {generation['reason']}")
        lines.append(f"  {generation['next_step']}")
    return "\n".join([*lines, f"next: qcc verify {out}; qcc report {out}"])
