"""Every model family from torch to an artifact, held against eager torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qcc
from qcc.models import FAMILIES, Sample

Compiled = Callable[..., tuple[Sample, qcc.Module]]
PRECISE = 1e-4
QUANTIZED = [
    ("mlp", {"default": {"weights": "int8"}}),
    ("mlp", "mxfp4"),
    ("mlp", {"default": {"weights": "amxfp4"}}),
    ("llama", {"default": {"weights": "int4"}}),
    ("resnet", {"default": {"weights": "int8"}}),
]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def eager(sample: Sample, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    with torch.no_grad():
        results = sample.module(*inputs)
    return list(results) if isinstance(results, tuple | list) else [results]


def called(module: qcc.Module, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    results = module(*inputs)
    return list(results) if isinstance(results, tuple) else [results]


def relative_errors(found: list[torch.Tensor], expected: list[torch.Tensor]) -> list[float]:
    assert [tuple(f.shape) for f in found] == [tuple(e.shape) for e in expected]
    assert [f.dtype for f in found] == [e.dtype for e in expected]
    return [
        float((f - e).abs().max() / e.abs().max()) for f, e in zip(found, expected, strict=True)
    ]


def other_sizes(sample: Sample) -> tuple[torch.Tensor, ...]:
    """Inputs with every dynamic axis two longer, tokens from the range of the example's."""
    generator = torch.Generator().manual_seed(1)
    grown = []
    for tensor, axes in zip(sample.inputs, sample.dynamic_shapes or (), strict=True):
        shape = [size + 2 * (axis in axes) for axis, size in enumerate(tensor.shape)]
        if tensor.dtype.is_floating_point:
            grown.append(torch.randn(shape, generator=generator))
        elif tensor.dtype == torch.bool:
            grown.append(torch.ones(shape, dtype=torch.bool))
        else:
            top = int(tensor.max()) + 1
            grown.append(torch.randint(0, top, shape, generator=generator, dtype=tensor.dtype))
    return tuple(grown)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_matches_eager_torch(compiled: Compiled, name: str) -> None:
    sample, module = compiled(name)
    assert sample.dynamic_shapes
    for inputs in (sample.inputs, other_sizes(sample)):
        errors = relative_errors(called(module, inputs), eager(sample, inputs))
        assert max(errors) < PRECISE
    result = module.verify()
    assert result["passed"]
    assert result["outputs"]


@pytest.mark.parametrize(("name", "recipe"), QUANTIZED, ids=str)
def test_quantized_family_verifies(compiled: Compiled, name: str, recipe: Any) -> None:
    sample, module = compiled(name, recipe)
    result = module.verify()
    assert result["passed"], result
    assert module.report["bytes_after"] < module.report["bytes_before"]
    errors = relative_errors(called(module, sample.inputs), eager(sample, sample.inputs))
    assert PRECISE / 1000 < max(errors) < 1


def test_gpt2_is_exact_to_fp32(compiled: Compiled) -> None:
    """tanh-GELU with its own constant, not torch-mlir's shortened one."""
    sample, module = compiled("gpt2")
    assert max(relative_errors(called(module, sample.inputs), eager(sample, sample.inputs))) < 2e-6


def test_saved_and_loaded_is_the_same(compiled: Compiled, tmp_path: Path) -> None:
    sample, module = compiled("mlp", "mxfp4")
    path = tmp_path / "m.qcc"
    module.save(path)
    loaded = qcc.load(path)
    x = sample.inputs[0].numpy()
    np.testing.assert_array_equal(loaded(x), module(x))
    assert isinstance(loaded(x), np.ndarray)
    assert loaded.verify()["passed"]
    assert loaded.report["layers"] == module.report["layers"]


def test_threads_change_no_bit(compiled: Compiled, tmp_path: Path) -> None:
    sample, module = compiled("mlp", {"default": {"weights": "int8"}})
    path = tmp_path / "m.qcc"
    module.save(path)
    results = [qcc.load(path, threads=threads)(*sample.inputs) for threads in (1, 2, 5)]
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_two_compilations_are_identical(tmp_path: Path) -> None:
    sample = FAMILIES["mlp"]()
    program = torch.export.export(
        sample.module, sample.inputs, dynamic_shapes=sample.dynamic_shapes
    )
    paths = [tmp_path / "a.qcc", tmp_path / "b.qcc"]
    for path in paths:
        qcc.compile(program, recipe={"default": {"weights": "int8"}}).save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_processor_without_the_features_gets_its_own_code(
    compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, module = compiled("mlp", "mxfp4")
    path = tmp_path / "m.qcc"
    module.save(path)
    expected = module(*sample.inputs)
    asked: list[Any] = []

    def missing(features: Any) -> list[str]:
        asked.append(features)
        return ["invented"]

    monkeypatch.setattr("qcc.compiler.backends.missing_features", missing)
    loaded = qcc.load(path)
    read: list[str] = []
    artifact_read = type(loaded._artifact).read

    def tracked(self: Any, name: str) -> bytes:
        read.append(name)
        return artifact_read(self, name)

    monkeypatch.setattr(type(loaded._artifact), "read", tracked)
    assert torch.equal(loaded(*sample.inputs), expected)
    assert asked
    assert "model.mlir" in read
    assert "kernels/cpu.o" not in read
