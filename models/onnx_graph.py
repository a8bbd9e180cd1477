"""
An ONNX graph as a torch module: real vision models come as ONNX files.

Only what the PP-OCR and residual networks use: 26 operators of opsets 11 to 17. Weights become
parameters, shape arithmetic stays outside of the tensors, so that the module can be exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Operator = Callable[..., Any]


class OnnxGraph(nn.Module):
    """
    The graph of an ONNX file with one result; inputs are tensors in the order of the file.

    Needs the package `onnx`. Raises NotImplementedError for an operator it does not have.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        import onnx  # pyright: ignore[reportMissingImports]  # only for such files

        graph = onnx.load(str(path)).graph
        self.inputs = [value.name for value in graph.input]
        (self.output,) = [value.name for value in graph.output]
        self.constants: dict[str, list[int] | float] = {}
        self.names: dict[str, str] = {}
        for tensor in graph.initializer:
            self._keep(tensor.name, onnx.numpy_helper.to_array(tensor))
        self.nodes: list[tuple[str, list[str], str, dict[str, Any]]] = []
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type == "Constant":
                self._keep(node.output[0], onnx.numpy_helper.to_array(attributes["value"]))
            elif node.op_type in OPERATORS:
                self.nodes.append((node.op_type, list(node.input), node.output[0], attributes))
            else:
                raise NotImplementedError(f"{path}: the operator {node.op_type} is not known here")

    def _keep(self, name: str, array: np.ndarray) -> None:
        if array.dtype.kind == "i":
            self.constants[name] = array.ravel().tolist()
            return
        if array.ndim == 0:
            self.constants[name] = float(array)
            return
        self.names[name] = name.replace(".", "_")
        self.register_parameter(self.names[name], nn.Parameter(torch.tensor(array), False))

    def forward(self, *inputs: Tensor) -> Tensor:
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        values |= self.constants
        values |= {name: getattr(self, own) for name, own in self.names.items()}
        for operator, operands, result, attributes in self.nodes:
            arguments = [values[name] if name else None for name in operands]
            values[result] = OPERATORS[operator](*arguments, **attributes)
        return values[self.output]


def _conv(x: Tensor, w: Tensor, b: Tensor | None = None, *, pads: Sequence[int] = (0, 0, 0, 0),
          strides: Sequence[int] = (1, 1), dilations: Sequence[int] = (1, 1), group: int = 1,
          **_: Any) -> Tensor:  # fmt: skip
    top, left, bottom, right = pads
    if (top, left) != (bottom, right):
        x, top, left = F.pad(x, (left, right, top, bottom)), 0, 0
    return F.conv2d(x, w, b, list(strides), [top, left], list(dilations), group)


def _batch_norm(x: Tensor, w: Tensor, b: Tensor, mean: Tensor, variance: Tensor, *,
                epsilon: float = 1e-5, **_: Any) -> Tensor:  # fmt: skip
    return F.batch_norm(x, mean, variance, w, b, eps=epsilon)


def _average_pool(x: Tensor, *, kernel_shape: Sequence[int], strides: Sequence[int],
                  pads: Sequence[int] = (0, 0, 0, 0), **_: Any) -> Tensor:  # fmt: skip
    top, left, bottom, right = pads
    if (top, left) != (bottom, right):
        raise NotImplementedError("an average pool whose borders differ")
    return F.avg_pool2d(x, list(kernel_shape), list(strides), [top, left], count_include_pad=False)


def _slice(x: Any, starts: list[int], ends: list[int], axes: list[int] | None = None,
           steps: list[int] | None = None) -> Any:  # fmt: skip
    for axis, start, end, step in zip(axes or range(len(starts)), starts, ends,
                                      steps or [1] * len(starts), strict=True):  # fmt: skip
        part = slice(start, None if end > 2**31 - 2 else end, step)
        x = x[part] if isinstance(x, list) else x[(slice(None),) * axis + (part,)]
    return x


def _concat(*parts: Any, axis: int) -> Any:
    if isinstance(parts[0], list):
        return [number for part in parts for number in part]
    return torch.cat(parts, axis)


def _reshape(x: Tensor, shape: list[int], **_: Any) -> Tensor:
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])


def _squeeze(x: Any, axes: Sequence[int]) -> Any:
    return x if isinstance(x, list) else x.squeeze(tuple(axes))


def _clip(x: Tensor, low: float, high: float) -> Tensor:
    return torch.clamp(x, low, high)


def _mean(x: Tensor, *, axes: Sequence[int], keepdims: int = 1) -> Tensor:
    return x.mean(list(axes), bool(keepdims))


OPERATORS: dict[str, Operator] = {
    "Add": torch.add,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda x, *, to: x,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": torch.div,
    "Flatten": lambda x, *, axis=1: x.flatten(axis),
    "Gemm": lambda x, w, b, **_: F.linear(x, w, b),
    "GlobalAveragePool": lambda x: x.mean((2, 3), True),
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(x * alpha + beta, 0, 1),
    "MatMul": torch.matmul,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "ReduceMean": _mean,
    "Relu": torch.relu,
    "Reshape": _reshape,
    "Shape": lambda x: list(x.shape),
    "Sigmoid": torch.sigmoid,
    "Slice": _slice,
    "Softmax": lambda x, *, axis: torch.softmax(x, axis),
    "Sqrt": torch.sqrt,
    "Squeeze": _squeeze,
    "Sub": torch.sub,
    "Transpose": lambda x, *, perm: x.permute(list(perm)),
}
