"""
The Python API: `qcc.compile` and `qcc.load`.

    module = qcc.compile(model, example_inputs, recipe="w4a16-g128")
    result = module(*inputs)
    module.save("model.qcc")
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..dialects.errors import UsageError
from .artifact import Artifact
from .console import Silent
from .module import Module, thread_count
from .options import CompileOptions
from .private_folder import PrivateFolder

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

__all__ = ["Module", "compile", "load"]


def compile(
    model: nn.Module | ExportedProgram | str | os.PathLike[str],
    example_inputs: Any = None,
    *,
    recipe: str | Path | Mapping[str, Any] | None = None,
    target: str = "cpu",
    dynamic_shapes: Any = None,
    weights: str | os.PathLike[str] | None = None,
    threads: int | Sequence[int] | None = None,
    calibration: str | os.PathLike[str] | Iterable[Any] | None = None,
    seed: int = 0,
    golden: bool = True,
    validate: bool = False,
    operands: str = "f16",
    device: str = "v1A",
    dpus: int | None = None,
    tokens: int = 128,
    functions: Iterable[str] = (),
    schedules: str | os.PathLike[str] | None = None,
    x_bytes: int | None = None,
) -> Module:
    """
    Compile a module with example inputs, an exported program, or what the command line takes.

    `recipe` is a built-in name, a TOML file or a mapping of the same schema; None keeps the
    model's own precision. `dynamic_shapes` is torch.export's. The result is callable on NumPy
    arrays and torch tensors. Raises QccError.

    `calibration` has the samples for static activation scales: an iterable of input tuples, the
    path of a .npz file, "module:function", or "random" (docs/recipes.md). `validate` executes the
    program before and after each pass and raises AccuracyError where one changes it. `operands`
    is what tensor cores multiply where the model has fp32, "f16" or "bf16" (docs/cuda.md).
    `device`, `dpus`, `tokens` and `functions` are those of target upmem (docs/pim.md).
    `schedules` is a database of `qcc tune`, whose schedules the layers of target cpu take
    (docs/tuning.md). `x_bytes` is how many bytes stand for a value of fp32 x there, 2 or 3
    (docs/benchmarks.md).
    """
    from .driver import compile_model
    from .frontend import sources
    from .signature import eager_results
    from .targets import require_target

    thread_count(threads)  # before hours of work, not after
    require_target(target)
    options = CompileOptions(
        recipe, target, calibration=calibration, seed=seed, golden=golden, validate=validate,
        operands=operands, device=device, dpus=dpus, tokens=tokens,
        functions=tuple(functions),
        schedules=None if schedules is None else Path(schedules), x_bytes=x_bytes,
    )  # fmt: skip
    folder = PrivateFolder()
    path = folder.path / "module.qcc"
    with _opened(sources, model, example_inputs, dynamic_shapes, weights) as source:
        report = compile_model(source, options, path, Silent())
        results = eager_results(source.program)
    for warning in report["warnings"]:
        warnings.warn(warning, stacklevel=2)
    module = Module(Artifact.open(path, verify=False), report, threads, None, results)
    # The open file stays readable after it is unlinked; until then it can be found.
    weakref.finalize(module, folder.remove)
    return module


def _opened(
    sources: Any, model: Any, example_inputs: Any, dynamic_shapes: Any, weights: Any
) -> Any:
    import torch

    if isinstance(model, torch.nn.Module):
        return sources.from_module(model, example_inputs, dynamic_shapes, weights=weights)
    if isinstance(model, torch.export.ExportedProgram):
        return sources.from_program(model, weights=weights)
    if not isinstance(model, str | os.PathLike):
        raise UsageError(
            "model-type",
            f"cannot compile a {type(model).__name__}",
            next_step="give an nn.Module with example inputs, an ExportedProgram, or a path",
        )
    return sources.open_model(os.fspath(model), weights, example_inputs=example_inputs)


def load(
    path: str | os.PathLike[str],
    *,
    verify: bool = True,
    precision: str | None = None,
    threads: int | Sequence[int] | None = None,
    emulate: bool = False,
) -> Module:
    """
    Open an artifact; nothing from it runs until it is called.

    `verify` checks every hash. `precision` chooses among those that the artifact serves
    (`Module.precisions`), by default the first. `threads` is their number, by default one for
    each processor that this process may use, or a list of processors to pin them to. `emulate`
    runs kernels for a GPU on this processor (docs/cuda.md). Raises QccError.
    """
    artifact = Artifact.open(path, verify=verify)
    return Module(artifact, artifact.json("report.json"), threads, precision, None, emulate)
