"""
Run an opened program in PyTorch, its weights read one at a time.

The graph holds ATen operators only (a file's were looked up in a list), so running it runs no
code but torch's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export.graph_signature import ConstantArgument

from .sources import OpenedModel
from .torch_weights import laid_out_like, to_numpy, to_torch


def run_program(opened: OpenedModel, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """
    The user outputs of the program on its tensor inputs, in order.

    A weight lives from its first use to the last use of what views it.
    """
    signature = opened.program.graph_signature
    given = iter(inputs)
    arguments: list[Any] = []
    names: dict[str, str] = {}
    for spec in signature.input_specs:
        if spec.kind.name != "USER_INPUT":
            names[spec.arg.name] = spec.target or ""
            arguments.append(None)
        elif isinstance(spec.arg, ConstantArgument):
            arguments.append(spec.arg.value)
        else:
            arguments.append(to_torch(next(given).copy()))
    with torch.no_grad():
        results = _Streaming(opened, names).run(*arguments, enable_io_processing=False)
    kept = zip(signature.output_specs, results, strict=True)
    return [
        to_numpy(result)
        for spec, result in kept
        if spec.kind.name == "USER_OUTPUT" and isinstance(result, torch.Tensor)
    ]


class _Streaming(fx.Interpreter):
    """Reads a parameter, buffer or constant from its source at each node that takes it."""

    def __init__(self, opened: OpenedModel, names: dict[str, str]) -> None:
        super().__init__(opened.program.graph_module)
        self._opened, self._names = opened, names

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        return fx.map_arg(args, self._value)

    def _value(self, node: fx.Node) -> Any:
        name = self._names.get(node.name) if node.op == "placeholder" else None
        if name is None:
            return self.env[node]
        return laid_out_like(self._opened.weights.read(name), node.meta["val"])
