"""ONNX graphs as torch modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from qcc.models.onnx_graph import OnnxGraph

RANDOM = np.random.default_rng(0)


def constant(name: str, values: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(values, name))


def saved(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", [x], [y], initializers)
    onnx.save(helper.make_model(graph), str(path))
    return path


def test_a_graph_with_shape_arithmetic(tmp_path: Path) -> None:
    w = RANDOM.standard_normal((4, 3, 3, 3), np.float32)
    nodes = [
        constant("w", w),
        constant("ends", np.array([2])),
        constant("starts", np.array([0])),
        constant("rest", np.array([-1])),
        constant("half", np.array(0.5, np.float32)),
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 0, 0, 1], strides=[2, 1]),
        helper.make_node("Mul", ["c", "half"], ["m"]),
        helper.make_node("Shape", ["m"], ["shape"]),
        helper.make_node("Slice", ["shape", "starts", "ends"], ["leading"]),
        helper.make_node("Concat", ["leading", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["m", "sizes"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
        helper.make_node("Softmax", ["t"], ["y"], axis=2),
    ]
    model = OnnxGraph(saved(tmp_path / "model.onnx", nodes, {}))
    x = torch.randn(2, 3, 7, 6)
    convolved = F.conv2d(F.pad(x, (0, 1, 1, 0)), torch.tensor(w), stride=(2, 1)) * 0.5
    expected = convolved.flatten(2).transpose(1, 2).softmax(2)
    assert torch.allclose(model(x), expected, atol=1e-6)
    exported = torch.export.export(model, (x,)).module()
    assert torch.allclose(exported(x), expected, atol=1e-6)


def test_initializers_norms_and_limits(tmp_path: Path) -> None:
    weights = {name: np.abs(RANDOM.standard_normal(3, np.float32)) for name in ("s", "b", "m", "v")}
    nodes = [
        constant("low", np.array(0, np.float32)),
        constant("high", np.array(1, np.float32)),
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["n"], epsilon=1e-3),
        helper.make_node("Clip", ["n", "low", "high"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Squeeze", ["p"], ["y"], axes=[2, 3]),
    ]
    x = torch.randn(2, 3, 5, 4)
    s, b, m, v = (torch.tensor(weights[name]) for name in ("s", "b", "m", "v"))
    expected = F.batch_norm(x, m, v, s, b, eps=1e-3).clamp(0, 1).mean((2, 3))
    model = OnnxGraph(saved(tmp_path / "model.onnx", nodes, weights))
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_an_unknown_operator_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.onnx", [helper.make_node("Einsum", ["x"], ["y"])], {})
    with pytest.raises(NotImplementedError, match="Einsum"):
        OnnxGraph(path)
