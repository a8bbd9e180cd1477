"""The measured rows as Markdown: what fraction of the machine's limits, and of other kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.gpu_peers import CEILING_OF

HEAD = ("weight", "activations", "N x K", "M", "µs", "GB/s", "of copy", "Tops/s", "of math",
        "x fp16", "x best peer")  # fmt: skip


PEER_OF = {"attention": "torch fp16", "conv2d": "cuDNN fp16", "fused group": "torch eager"}


def document(state: dict[str, Any]) -> str:
    """A summary of what was checked, then a row for each timed layer."""
    checks = state["checks"]
    wrong = [key for key, each in checks.items() if not each["right"]]
    lines = [
        f"# Kernels on {state['device']} ({state['target']})",
        "",
        f"{len(checks)} kernels checked against NumPy, {len(wrong)} wrong"
        + (f": {', '.join(wrong)}" if wrong else "") + ".",
    ]  # fmt: skip
    lines += [f"compute-sanitizer {tool}: {said}." for tool, said in state["sanitizer"].items()]
    if not state["ceilings"]:
        lines.append("Times of the emulator mean nothing.")
    lines += [f"Measured limit, {name}: {value / 1e12:.3g} T{_unit(name)}/s."
              for name, value in state["ceilings"].items()]  # fmt: skip
    if state["times"]:
        lines += ["", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
        lines += ["| " + " | ".join(cells) + " |" for cells in _rows(state)]
    lines += [*_kernel_lines(state)]
    return "\n".join(lines) + "\n"


def _kernel_lines(state: dict[str, Any]) -> Iterator[str]:
    """All but linear layers, a table for each kind of kernel."""
    rows, limits = state["kernels"].values(), state["ceilings"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        peer = PEER_OF[kind]
        head = (kind, "µs", "GB/s", "of copy", "Tops/s", "of math", f"x {peer}")
        yield from ("", "| " + " | ".join(head) + " |", "|" + "---|" * len(head))
        for row in (row for row in rows if row["kind"] == kind):
            bandwidth, rate = row["bytes"] / row["seconds"], row["operations"] / row["seconds"]
            other = row["peer"] if isinstance(row["peer"], float) else None
            cells = [
                row["name"], f"{1e6 * row['seconds']:.4g}", f"{bandwidth / 1e9:.4g}",
                _fraction(bandwidth, limits.get("copy")),
                f"{rate / 1e12:.4g}" if row["math"] else "-",
                _fraction(rate, limits.get(row["math"])), _ratio(other, row["seconds"]),
            ]  # fmt: skip
            yield "| " + " | ".join(cells) + " |"


def _unit(name: str) -> str:
    return "B" if name == "copy" else "op"


def _rows(state: dict[str, Any]) -> Iterator[list[str]]:
    limits = state["ceilings"]
    for row in state["times"].values():
        operations = 2 * row["n"] * row["k"] * row["tokens"]
        bandwidth, rate = row["bytes"] / row["seconds"], operations / row["seconds"]
        others = state["peers"].get(f"{row['n']}x{row['k']} M={row['tokens']}", {})
        times = {name: each for name, each in others.items() if isinstance(each, float)}
        yield [
            f"`{row['weight']}`", row["activation"], f"{row['n']} x {row['k']}",
            str(row["tokens"]), f"{1e6 * row['seconds']:.4g}", f"{bandwidth / 1e9:.4g}",
            _fraction(bandwidth, limits.get("copy")), f"{rate / 1e12:.4g}",
            _fraction(rate, limits.get(CEILING_OF[row["activation"]])),
            _ratio(times.get("fp16"), row["seconds"]),
            _ratio(min(times.values(), default=None), row["seconds"]),
        ]  # fmt: skip


def _fraction(value: float, limit: float | None) -> str:
    return f"{100 * value / limit:.0f} %" if limit else "-"


def _ratio(other: float | None, own: float) -> str:
    return f"{other / own:.2f}" if other else "-"
