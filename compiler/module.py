"""A compiled model: callable, verifiable, savable."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.cpu.features import missing_features
from .artifact import Artifact
from .golden import output_errors, tolerance
from .manifest import Signature
from .plan import Plan
from .publish import publish_copy
from .running import RunningCode
from .signature_check import check_inputs
from .tensor_layout import unpack_tensors


class Module:
    """An opened artifact. Its code is loaded at the first call."""

    def __init__(
        self, artifact: Artifact, report: dict[str, Any], threads: int | None = None
    ) -> None:
        self._artifact = artifact
        self._threads = threads
        self.report = report

    @property
    def signature(self) -> Signature:
        return self._artifact.manifest.entry

    def __call__(self, *inputs: Any) -> Any:
        """
        Run the model on NumPy arrays or torch tensors, given in the order of the signature.

        Returns one result, or a tuple of several, as torch tensors if any input was one. Raises
        UsageError for inputs of another type or shape.
        """
        as_torch = any(hasattr(value, "detach") for value in inputs)
        arrays = [_as_array(value) for value in inputs]
        check_inputs(self.signature, arrays)
        results = self._code(arrays)
        converted = [_as_tensor(array) for array in results] if as_torch else results
        return converted[0] if len(converted) == 1 else tuple(converted)

    @cached_property
    def _code(self) -> RunningCode:
        code = self._artifact.json("kernels/cpu.json")
        if missing_features(self._artifact.manifest.cpu_features):
            object_, parts, results = self._rebuilt()
        else:
            object_ = self._artifact.read("kernels/cpu.o")
            parts, results = code["parts"], code["results"]
        tensor = self._artifact.tensor
        return RunningCode(object_, parts, results, tensor, self._threads)

    def _rebuilt(self) -> tuple[bytes, Sequence[str], Sequence[tuple[str, int]]]:
        """Code for this processor from the stored IR, where it lacks what the object uses."""
        from .rebuild import rebuild

        code = rebuild(self._artifact.read("model.mlir").decode())
        return code.object, code.parts, code.results

    def verify(self) -> dict[str, Any]:
        """
        Replay the golden inputs and compare with the golden outputs.

        {"passed": bool, "outputs": [{"name", "max_abs_error", "max_rel_error", "tolerance",
        "passed"}]}; passed with no outputs when the artifact stores none.
        """
        if "golden/inputs.safetensors" not in self._artifact:
            return {"passed": True, "outputs": [], "golden": False}
        inputs, expected = (
            _in_order(unpack_tensors(self._artifact.read(f"golden/{kind}.safetensors")))
            for kind in ("inputs", "outputs")
        )
        limit = tolerance(Plan.from_json(self._artifact.json("plan.json")))
        names = [value.name for value in self.signature.outputs]
        outputs = [
            {**error, "tolerance": limit, "passed": error["max_rel_error"] <= limit}
            for error in output_errors(names, expected, self._code(inputs))
        ]
        return {"passed": all(o["passed"] for o in outputs), "outputs": outputs, "golden": True}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Copy the artifact to `path`; a file already there is replaced at once or not at all."""
        publish_copy(self._artifact.path, Path(path))


def _in_order(tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [tensors[str(index)] for index in range(len(tensors))]


def _as_array(value: Any) -> np.ndarray:
    if not hasattr(value, "detach"):
        return np.asarray(value)
    tensor = value.detach().cpu()
    if str(tensor.dtype) != "torch.bfloat16":
        return tensor.numpy()
    import ml_dtypes
    import torch

    return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)


def _as_tensor(array: np.ndarray) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)
