"""A compiled model: callable, verifiable, savable."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..dialects.errors import ResourceError, UnsupportedError, UsageError
from .arrays import as_array, as_integers, as_tensor
from .artifact import Artifact
from .backends import start, stored_code
from .cuda.tensors import device_results, on_gpu
from .manifest import Precision, Signature, Value
from .nesting import bound, rebuilt
from .replay import output_errors, reproduced_names
from .signature_check import check_count, check_inputs, check_prompt, check_stop, flat_parameters
from .targets import Target, require_target
from .tensor_layout import unpack_tensors


@dataclass(frozen=True)
class Captured:
    """A recorded call: give it other values of the same shapes. Its memory is freed by `close`."""

    _call: Callable[..., Any]
    close: Callable[[], None]

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """As Module.__call__, for arrays on the CPU; raises UsageError for other shapes."""
        return self._call(*inputs, **keywords)

    def __enter__(self) -> Captured:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Module:
    """An opened artifact. Its code is loaded at the first call."""

    def __init__(
        self,
        artifact: Artifact,
        report: dict[str, Any],
        threads: int | Sequence[int] | None = None,
        precision: str | None = None,
        eager_results: Callable[[list[Any]], Any] | None = None,
        emulate: bool = False,
    ) -> None:
        self._target = _executed(require_target(artifact.manifest.target), emulate)
        self._artifact = artifact
        self._threads = thread_count(threads)
        self._precision = _chosen(artifact.manifest.precisions, precision)
        self._by_precision: dict[str, Module] = {self._precision.name: self}
        self.report = report
        self._eager_results = eager_results

    @property
    def signature(self) -> Signature:
        return self._artifact.manifest.entry

    @property
    def precision(self) -> str:
        """The precision that this module runs in."""
        return self._precision.name

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that the artifact serves from one copy of its weights, the default first."""
        return tuple(each.name for each in self._artifact.manifest.precisions)

    def at_precision(self, name: str) -> Module:
        """
        The module in another precision: the same mapped weights, other code, loaded once.

        Raises UnsupportedError for a precision that the artifact does not have.
        """
        if name not in self._by_precision:
            other = Module(
                self._artifact, self.report, self._threads, name, self._eager_results,
                self._target.emulated,
            )  # fmt: skip
            other._by_precision = self._by_precision
            self._by_precision.setdefault(name, other)
        return self._by_precision[name]

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """
        Run the model on NumPy arrays, torch tensors or lists, given as the model takes them.

        By position or by name, nested as in the model's own `forward`; shapes and dtypes are those
        of `signature.inputs`. Returns what the model returns, nested alike, as torch tensors if any
        input was one. Inputs are never written to. Raises UsageError for inputs of another type or
        shape. May be called from several threads; calls take turns.
        """
        values = self._flat(inputs, keywords)
        if any(on_gpu(value) for value in values) and self._target.on_gpu:
            return self._nested(device_results(self._running, self.signature, values))
        return self._answer(values, self._running.call)

    def run(self, inputs: Sequence[Any]) -> list[np.ndarray]:
        """The results in the order of `signature.outputs`, of inputs in that of the signature."""
        return self._called(self._arrays(inputs), self._running.call)

    def captured(self, *inputs: Any, **keywords: Any) -> Captured:
        """
        A call for inputs of these shapes, as a CUDA graph that is launched as a whole.

        Call what is returned with other values, and close it, or use it in a `with` statement.
        Raises UnsupportedError for targets other than cuda.
        """
        arrays = self._arrays(self._flat(inputs, keywords))
        recorded = self._running.captured(arrays)

        def call(*inputs: Any, **keywords: Any) -> Any:
            return self._answer(self._flat(inputs, keywords), recorded)

        return Captured(call, recorded.close)

    def _flat(self, inputs: Sequence[Any], keywords: dict[str, Any]) -> list[Any]:
        """The inputs in the order of the signature."""
        parameters = self.signature.parameters or flat_parameters(self.signature)
        return bound(parameters, len(self.signature.inputs), inputs, keywords)

    def _arrays(self, values: Sequence[Any]) -> list[np.ndarray]:
        wanted = self.signature.inputs
        if len(wanted) == len(values):
            pairs = zip(values, wanted, strict=True)
            values = [as_array(value, entry) for value, entry in pairs]
        check_inputs(self.signature, values)
        return list(values)

    def _called(
        self, arrays: Sequence[np.ndarray], call: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    ) -> list[np.ndarray]:
        # The IR's integers have no sign; what their bits mean the signature says.
        return [
            array.view(value.dtype) if value.dtype.startswith("uint") else array
            for array, value in zip(call(arrays), self.signature.outputs, strict=True)
        ]

    def _answer(
        self, values: Sequence[Any], call: Callable[[Sequence[np.ndarray]], list[np.ndarray]]
    ) -> Any:
        """The results of arrays on the CPU, of the kind that the inputs have."""
        results = self._called(self._arrays(values), call)
        as_torch = any(hasattr(value, "detach") for value in values)
        return self._nested([as_tensor(array) for array in results] if as_torch else results)

    def _nested(self, results: list[Any]) -> Any:
        """Results as the model returns them."""
        if self._eager_results is not None:
            return self._eager_results(results)
        if self.signature.results is not None:
            return rebuilt(self.signature.results, iter(results))
        return results[0] if len(results) == 1 else tuple(results)

    def __repr__(self) -> str:
        made = self._artifact.manifest
        options = [f"target={made.target!r}", f"recipe={made.options.get('recipe')!r}"]
        if len(self.precisions) > 1:
            options.append(f"precision={self.precision!r}")
        values = (", ".join(map(_described, each)) for each in self._entries())
        size = sum(self._artifact.spec(name).nbytes for name in self._artifact.tensor_names())
        model = repr(made.options.get("model", "?"))
        return f"Module({model}, {', '.join(options)}, {' -> '.join(values)}, {size} bytes)"

    def _entries(self) -> tuple[tuple[Value, ...], tuple[Value, ...]]:
        return self.signature.inputs, self.signature.outputs

    def __copy__(self) -> Module:
        return self

    def __deepcopy__(self, memo: object) -> Module:
        """Itself: a module has no state that a call changes."""
        return self

    def __reduce__(self) -> Any:
        raise UsageError(
            "module-pickle",
            "a compiled module cannot be pickled",
            why="its weights and code are mapped from a file",
            next_step="save it with module.save(path) and give the path to qcc.load there",
        )

    @cached_property
    def _running(self) -> Any:
        return self._started(self._target)

    def _started(self, target: Target) -> Any:
        code = stored_code(self._artifact, self._precision)
        return start(code, target, self._artifact.tensor, self._threads)

    @cached_property
    def _checked(self) -> tuple[Any, bool]:
        """What is verified, and whether that is the emulator because there is no GPU."""
        if not self._target.on_gpu:
            return self._running, False
        try:
            return self._running, False
        except ResourceError:
            return self._started(replace(self._target, emulated=True)), True

    @property
    def generates(self) -> bool:
        """Whether the model computes token by token, with a KV cache."""
        return self._artifact.manifest.generation is not None

    def generate(
        self, tokens: Any, max_new_tokens: int, stop: int | Sequence[int] | None = None
    ) -> np.ndarray:
        """
        Greedy continuation of `tokens` (int64 [T] or [batch, T]) by up to `max_new_tokens`.

        Returns the new tokens, [n] or [batch, n]; ends early when every sequence has produced
        `stop`, or one of several. Raises UsageError for a model that does not compute token by
        token, and before the first step for tokens, a count or a length that it cannot take.
        """
        if not self.generates:
            told = self.report.get("generation") or {}
            raise UsageError(
                "no-step",
                "this model does not compute token by token",
                why=told.get("reason", ""),
                next_step=told.get("next_step", ""),
            )
        count = check_count(max_new_tokens)
        prompt = np.atleast_2d(as_array(tokens))
        check_prompt(self.signature, prompt, count)
        ends = check_stop(stop, self.signature.inputs[0].limit)
        prompt = as_integers(prompt, np.dtype(np.int64), "tokens")
        caches = self._running.caches(len(prompt))
        produced = np.zeros((len(prompt), 0), np.int64)
        following = prompt
        while produced.shape[1] < count:
            logits = self._running.step(following, caches, last_only=True)[0]
            last = logits if logits.ndim == 2 else logits[:, -1]
            following = last.argmax(-1)[:, None]
            produced = np.concatenate([produced, following], 1)
            if ends and np.isin(produced, ends).any(1).all():
                break
        return produced[0] if np.ndim(tokens) == 1 else produced

    def verify(self) -> dict[str, Any]:
        """
        Replay the golden inputs, whole and token by token, and compare with the golden outputs.

        {"passed": bool, "outputs": [{"name", "precision", "max_abs_error", "max_rel_error",
        "tolerance", "passed"}], "golden": bool, "emulated": bool}; passed with no outputs when the
        artifact stores none, and then with "reason" and "next_step". It is this module's precision
        that is checked. "emulated": kernels for a GPU ran in the emulator, as there was no GPU.
        Errors and tolerance are relative to the largest value of the golden output, but for
        "max_abs_error".
        """
        stored = self._precision.outputs
        if stored is None or stored not in self._artifact:
            nothing = {"passed": True, "outputs": [], "golden": False, "emulated": False}
            return nothing | self._unchecked()
        inputs, expected = (
            _in_order(unpack_tensors(self._artifact.read(member)))
            for member in ("golden/inputs.safetensors", stored)
        )
        names = [value.name for value in self.signature.outputs]
        checked, (running, emulated) = self._precision, self._checked
        whole = output_errors(names, expected, running.call(inputs))
        outputs = [self._judged(error, checked.tolerance) for error in whole]
        alone = running.reproduced(inputs)
        if alone is not None:
            errors = output_errors(reproduced_names(names), expected, alone)
            outputs += [self._judged(error, 0.0) for error in errors]
        if self.generates:
            names = [f"{name} (token by token)" for name in names]
            stepped = running.in_two_steps(inputs[0])
            steps = output_errors(names, expected, stepped)
            outputs += [self._judged(error, checked.step_tolerance) for error in steps]
        passed = all(output["passed"] for output in outputs)
        return {"passed": passed, "outputs": outputs, "golden": True, "emulated": emulated}

    def _unchecked(self) -> dict[str, str]:
        """Why no golden outputs are stored."""
        for told in (self.report.get("golden") or {}).get("unchecked", []):
            if told["precision"] == self.precision:
                return {"reason": told["reason"], "next_step": told["next_step"]}
        return {
            "reason": "it was compiled without them",
            "next_step": "compile with golden outputs",
        }

    def _judged(self, error: dict[str, Any], tolerance: float) -> dict[str, Any]:
        passed = error["max_rel_error"] <= tolerance
        return {**error, "precision": self.precision, "tolerance": tolerance, "passed": passed}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Copy the artifact to `path`; a file already there is replaced at once or not at all."""
        self._artifact.copy_to(Path(path))


def _executed(target: Target, emulate: bool) -> Target:
    """The target as it is to be run."""
    if not emulate or target.emulated:
        return target
    if target.family != "cuda":
        raise UsageError(
            "emulate",
            f"code for {target.name} is not emulated",
            why="the emulator runs kernels for GPUs",
            next_step="leave it out: the code runs on this processor",
        )
    return replace(target, emulated=True)


def thread_count(threads: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
    """
    A positive number, the processors that threads are pinned to, or None for every processor.

    Raises UsageError for anything else, and for processors that this process may not use.
    """
    if threads is None:
        return None
    usable = os.sched_getaffinity(0)
    if not isinstance(threads, Sequence):
        if _is_integer(threads) and threads > 0:
            return int(threads)
    elif threads and all(map(_is_integer, threads)) and set(threads) <= usable:
        return tuple(map(int, threads))
    raise UsageError(
        "threads",
        f"{threads!r} is no number of threads, and no list of processors",
        why=f"this process may use {', '.join(map(str, sorted(usable)))}",
        next_step="give 1 or more, the processors to pin threads to, or None for every processor",
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _chosen(precisions: Sequence[Precision], name: str | None) -> Precision:
    if name is None:
        return precisions[0]
    for precision in precisions:
        if precision.name == name:
            return precision
    raise UnsupportedError(
        "precision-unknown",
        f"the artifact has no precision '{name}'",
        why=f"it has {', '.join(precision.name for precision in precisions)}",
        next_step="name one of these, or none for the first",
    )


def _in_order(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [tensors[str(index)] for index in range(len(tensors))]


def _described(value: Value) -> str:
    return f"{value.name}: {value.dtype}[{', '.join(map(str, value.shape))}]"
