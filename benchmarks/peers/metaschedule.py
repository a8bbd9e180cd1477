"""
TVM's MetaSchedule: kernels of linear layers, tuned in a process of their own.

    python -m benchmarks.peers.metaschedule FOLDER TRIALS < layers.json

reads a JSON list of `Layer`s, and of each writes a library with the functions `main` and, where the
schedule wants weights in another order, `pack`; and last what tuning it took, so that what is there
is not tuned again. Only functions import TVM.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import msgspec
import numpy as np

from qcc.autotune.measure.backend import Run
from qcc.dialects.errors import UnsupportedError

BATCH = 8
"""Candidates that are measured before the model learns from them; `qcc tune` has as many."""
NEEDED = ("tvm", "xgboost", "psutil", "cloudpickle")


@dataclass(frozen=True, slots=True)
class Layer:
    """
    y [m, n] = x [m, k] · wᵀ in fp32. Of int8 all candidates of TVM 0.27 fail to build where the
    processor has VNNI: they call its instruction with the types that it had in an older LLVM.
    """

    n: int
    k: int
    m: int

    def inputs(self) -> tuple[np.ndarray, np.ndarray]:
        """Random x and w."""
        rng = np.random.default_rng(0)
        x, w = (self.m, self.k), (self.n, self.k)
        return rng.standard_normal(x, np.float32), rng.standard_normal(w, np.float32)

    @property
    def name(self) -> str:
        return f"{self.n}x{self.k}x{self.m}"


class Found(msgspec.Struct, frozen=True):
    """What `trials` gave, `failed` of which did not run, after `seconds`; the shape of w packed."""

    trials: int
    failed: int
    seconds: float
    packed: list[int] | None


def require_tvm() -> None:
    """Raises UnsupportedError where MetaSchedule cannot run."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UnsupportedError(
            "tvm-extra",
            f"MetaSchedule needs packages that are not installed: {', '.join(missing)}",
            where=sys.executable,
            why="TVM is a baseline of this benchmark alone, and nothing else of qcc needs it",
            next_step="pip install 'qcc[tune,tvm]'",
        )


def tune(layers: Sequence[Layer], folder: Path, trials: int) -> None:
    """
    Those that `folder` does not have, which should be for that many trials.

    Raises UnsupportedError where TVM cannot.
    """
    missing = [asdict(layer) for layer in layers if not _told(folder, layer).exists()]
    if not missing:
        return
    require_tvm()
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", __name__, str(folder), str(trials)]
    with (folder / "log.txt").open("a") as log:
        ended = subprocess.run(words, input=json.dumps(missing), text=True, stderr=log, check=False)
    if ended.returncode:
        raise UnsupportedError(
            "tvm-failed",
            f"MetaSchedule ended with exit status {ended.returncode}",
            where=f"{folder}/log.txt",
            why="with TVM-FFI 0.1.15 and later, TVM 0.27 crashes when it reads a target",
            next_step="read the end of that file; pip install 'qcc[tune,tvm]' has what works",
        )


def found(layer: Layer, folder: Path) -> Found:
    return msgspec.json.decode(_told(folder, layer).read_bytes(), type=Found)


def _told(folder: Path, layer: Layer) -> Path:
    return folder / f"{layer.name}.json"


def _library(folder: Path, layer: Layer) -> Path:
    return folder / f"{layer.name}.so"


class MetaScheduleKernel:
    """What `tune` left of a layer, on random inputs, in the protocol of qcc's own kernels."""

    def __init__(self, layer: Layer, folder: Path) -> None:
        os.environ["TVM_NUM_THREADS"] = "1"  # read when the first kernel runs
        runtime = import_module("tvm").runtime
        library = runtime.load_module(str(_library(folder, layer)))
        x, w = layer.inputs()
        self._expected = x.astype(np.float64) @ w.astype(np.float64).T
        weight = runtime.tensor(w)
        if shape := found(layer, folder).packed:
            weight = runtime.tensor(np.zeros(shape, w.dtype))
            library["pack"](runtime.tensor(w), weight)
        self._y = runtime.tensor(np.zeros((layer.m, layer.n), np.float32))
        self._main, self._given = library["main"], (runtime.tensor(x), weight)

    def check(self) -> str:
        self._main(*self._given, self._y)
        error = np.abs(self._y.numpy() - self._expected).max() / np.abs(self._expected).max()
        return "" if error < 1e-4 else f"off by {error:.1g} of the largest result"

    def run(self) -> Run:
        start = time.perf_counter()
        self._main(*self._given, self._y)
        return Run(time.perf_counter() - start)

    def close(self) -> None:
        pass


def main(words: Sequence[str]) -> int:
    folder, trials = Path(words[0]), int(words[1])
    os.environ["TVM_NUM_THREADS"] = "1"
    os.dup2(2, 1)
    logging.disable(logging.INFO)
    builder = _builder()
    import_module("tvm.s_tir.tensor_intrin")  # half a minute, once; not time spent tuning
    for given in json.load(sys.stdin):
        layer = Layer(**given)
        told = _tuned(layer, folder, trials, builder)
        _told(folder, layer).write_bytes(msgspec.json.encode(told))
    return 0


def _tuned(layer: Layer, folder: Path, trials: int, builder: Any) -> Found:
    """Writes the library."""
    meta = import_module("tvm.s_tir.meta_schedule")
    target = import_module("tvm").target.Target(
        {"kind": "llvm", "mcpu": llvm.get_host_cpu_name(), "num-cores": 1}
    )
    module = _module(layer)
    config = meta.runner.EvaluatorConfig(number=3, repeat=5, min_repeat_ms=20)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as work:
        database = meta.tune_tir(
            mod=module,
            target=target,
            work_dir=work,
            max_trials_global=trials,
            num_trials_per_iter=BATCH,
            num_tuning_cores=1,
            cost_model=meta.cost_model.XGBModel(num_tuning_cores=1),
            builder=builder,
            runner=meta.runner.LocalRunner(timeout_sec=120, evaluator_config=config),
            seed=0,
        )
        seconds = time.perf_counter() - start
        records = database.get_all_tuning_records()
        failed = sum(float(each.run_secs[0]) > 1e9 for each in records)
        schedule = meta.tir_integration.compile_tir(database, module, target)
        if schedule is None:
            raise SystemExit(f"{layer.name}: none of {len(records)} candidates worked")
    packed = _write(layer, schedule.mod["main"], target, _library(folder, layer))
    return Found(len(records), failed, seconds, packed)


def _module(layer: Layer) -> Any:
    """A module of one function, whose weights may be stored in any order."""
    tvm = import_module("tvm")
    te = import_module("tvm.te")
    x = te.placeholder((layer.m, layer.k), "float32", name="x")
    w = te.placeholder((layer.n, layer.k), "float32", name="w")
    r = te.reduce_axis((0, layer.k), "r")

    def product(i: Any, j: Any) -> Any:
        return te.sum(x[i, r] * w[j, r], axis=r)

    function = te.create_prim_func([x, w, te.compute((layer.m, layer.n), product, name="y")])
    function = function.with_attr("layout_free_buffers", [1]).with_attr("global_symbol", "main")
    return tvm.IRModule({"main": function})


def _write(layer: Layer, function: Any, target: Any, path: Path) -> list[int] | None:
    """
    What stores weights in the order that the schedule reads them becomes a function `pack`, where
    there is any; the shape of what it makes.
    """
    tvm = import_module("tvm")
    relax = import_module("tvm.relax")
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((layer.m, layer.k), "float32"))
    w = relax.Var("w", relax.TensorType((layer.n, layer.k), "float32"))
    with builder.function("whole", [x, w]):
        name = builder.add_func(function, "main")
        info = relax.TensorType((layer.m, layer.n), "float32")
        builder.emit_func_output(builder.emit(relax.call_tir(name, [x, w], info)))
    split = relax.transform.SplitLayoutRewritePreproc()(builder.get())
    functions = {each.name_hint: function for each, function in split.functions_items()}
    names = {"main_prepacked": "main", "main_weight_prepack": "pack"}
    if "main_prepacked" not in functions:
        names = {"main": "main"}
    kernels = {
        kind: functions[name].with_attr("global_symbol", kind) for name, kind in names.items()
    }
    tvm.compile(tvm.IRModule(kernels), target=target).export_library(str(path))
    return [int(size) for size in kernels["pack"].params[-1].shape] if "pack" in kernels else None


def _builder() -> Any:
    """
    Builds in this process: each process of TVM's own builder would first parse the tensor
    instructions of all targets, half a minute of processor time, and run out of its time.
    """
    building = import_module("tvm.s_tir.meta_schedule.builder")
    local = import_module("tvm.s_tir.meta_schedule.builder.local_builder")

    class Here(building.PyBuilder):
        def build(self, build_inputs: Any) -> list[Any]:
            return [building.BuilderResult(*_built(local, each)) for each in build_inputs]

    return local.derived_object(Here)()


def _built(local: Any, given: Any) -> tuple[str | None, str | None]:
    """The library of a candidate, or what was wrong with it."""
    try:
        module = local.default_build(given.mod, given.target, None)
        return local.default_export(module), None
    except Exception as error:  # noqa: BLE001 - whatever a candidate does, the search goes on
        return None, str(error)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
