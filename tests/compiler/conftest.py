"""A small made artifact with every kind of member, for the tests of what reads one."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import qcc
from qcc.compiler.artifact import ArtifactWriter, TensorSpec
from qcc.compiler.tensor_layout import pack_tensors
from qcc.models import FAMILIES, Sample

TENSORS: dict[str, np.ndarray] = {
    "blocks.0.fc.weight/codes": np.arange(15, dtype=np.uint8).reshape(3, 5),
    "blocks.0.fc.weight/scales": np.array([0.5, 1.0, 2.0], np.float32),
    "bias": np.array([1.0, -2.5, 3.0], np.float32),
    "empty": np.zeros((0, 4), np.float16),
    "scalar": np.array(1.5, ml_dtypes.bfloat16),
}
METADATA = {"blocks.0.fc.weight": "int8<group=channel>"}

FIELDS: dict[str, Any] = {
    "target": "cpu",
    "cpu_features": ["avx2", "fma"],
    "options": {"recipe": "w8a16", "validate": False},
    "seed": 7,
    "input_hash": "ab" * 32,
    "calibration": "random",
    "generation": {"context": 128},
    "entry": {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 5]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 3]}],
        "dims": {"batch": {"min": 2, "max": 8}},
    },
}

REPORT: dict[str, Any] = {
    "model": "mlp",
    "target": "cpu",
    "recipe": {"name": "w8a16"},
    "layers": [
        {
            "name": "blocks.0.fc",
            "op": "linear",
            "shape": [3, 5],
            "weights": "int8<group=channel>",
            "activations": None,
            "rule": "default",
            "reason": "",
            "bytes_before": 60,
            "bytes_after": 27,
            "sqnr_db": 43.25,
        },
        {
            "name": "head",
            "op": "linear",
            "shape": [7, 3],
            "weights": None,
            "activations": None,
            "rule": 'rule 1: match="head"',
            "reason": "7 rows do not divide by 32",
            "bytes_before": 84,
            "bytes_after": 84,
            "sqnr_db": None,
        },
    ],
    "coverage": 0.41,
    "bytes_before": 144,
    "bytes_after": 111,
    "golden": {"outputs": [{"name": "y", "max_abs_error": 0.001, "max_rel_error": 0.01}]},
}

BINDING: dict[str, Any] = {"parts": list(TENSORS), "results": [["f32", 2]], "caches": []}

WriteSample = Callable[..., Path]
Compiled = Callable[..., tuple[Sample, qcc.Module]]


@pytest.fixture(scope="session")
def compiled() -> Compiled:
    """
    compiled(family, recipe=None): its example and the module, compiled once for all tests.

    For tests that only call or save the module: compiling is most of the time of this folder.
    """

    @cache
    def make(family: str, recipe: str) -> tuple[Sample, qcc.Module]:
        sample = FAMILIES[family]()
        shapes, chosen = sample.dynamic_shapes, json.loads(recipe)
        module = qcc.compile(sample.module, sample.inputs, dynamic_shapes=shapes, recipe=chosen)
        return sample, module

    return lambda family, recipe=None: make(family, json.dumps(recipe))


def write_artifact(
    path: Path, report: dict[str, Any] = REPORT, tensors: dict[str, np.ndarray] = TENSORS
) -> Path:
    with ArtifactWriter(path) as writer:
        writer.add("plan.json", b'{"resolved": []}')
        specs = [TensorSpec(name, array.shape, array.dtype) for name, array in tensors.items()]
        with writer.add_weights(specs, METADATA) as weights:
            for name, array in tensors.items():
                weights.write(name, array)
        writer.add("golden/inputs.safetensors", pack_tensors({"0": np.ones((2, 5), np.float32)}))
        writer.add("kernels/cpu.o", b"")
        writer.add("kernels/cpu.json", json.dumps(BINDING).encode())
        writer.add("report.json", json.dumps(report).encode())
        writer.finish(FIELDS)
    return path


@pytest.fixture
def write_sample() -> WriteSample:
    return write_artifact


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "model.qcc")


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    return TENSORS


@pytest.fixture
def report_data() -> dict[str, Any]:
    return json.loads(json.dumps(REPORT))
