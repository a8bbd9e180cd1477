"""Whether kernels are timed on the GPU of this machine, or judged without one."""

from __future__ import annotations

from ...codegen.cuda.gpu import Gpu, find_gpu
from ...dialects.errors import ResourceError, UnsupportedError
from ..targets import Target

CUDA = "cuda"
MEASURES = ("auto", "gpu", "static")


def target_here(name: str) -> str:
    """
    The name of a target; "cuda" is the machine of the GPU that is here.

    Raises ResourceError for that without one.
    """
    if name != CUDA:
        return name
    gpu = find_gpu()
    if gpu is None:
        raise ResourceError(
            "tune-no-gpu",
            "there is no GPU whose machine target 'cuda' could mean",
            why="no CUDA driver answers; `qcc doctor` tells more",
            next_step="name a machine, as --target cuda:sm_90a: kernels are judged without a GPU",
        )
    return f"cuda:{gpu.machine}"


def chosen_gpu(target: Target, measure: str) -> Gpu | None:
    """
    The GPU to time kernels of `target` on; None to judge them without one.

    "auto" takes the GPU that runs them, if there is one. Raises for "gpu" where there is none.
    """
    if measure == "static" or (target.emulated and measure != "gpu"):
        return None
    gpu = find_gpu()
    if gpu is not None and gpu.runs(target.machine) and not target.emulated:
        return gpu
    if measure != "gpu":
        return None
    if gpu is None:
        raise ResourceError(
            "tune-no-gpu",
            "there is no GPU to time kernels on",
            why="no CUDA driver answers; `qcc doctor` tells more",
            next_step="use --measure static, which judges kernels without one",
        )
    raise UnsupportedError(
        "tune-gpu",
        f"the GPU here runs no kernels of target '{target.name}'",
        why=f"{gpu.name} is {gpu.machine}",
        next_step=f"use --target cuda:{gpu.machine}, or --measure static",
    )
