"""torchao: int8 weights through `torch.compile`, its one configuration that is fast on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchao  # pyright: ignore[reportMissingImports]
from torch._inductor.utils import fresh_cache
from torchao.quantization import (  # pyright: ignore[reportMissingImports]
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    quantize_,
)

from benchmarks.peers.peer import Copies, Packed, Plain, Step, Variant

COMPILED = "Int8WeightOnly, compiled, bf16 x"


class TorchAo:
    version = torchao.__version__

    def variants(self) -> Sequence[Variant]:
        return [
            Variant(COMPILED, 8, "bf16"),
            Variant("Int8DynamicActivationInt8Weight", 8, "int8"),
        ]

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        if variant.name == COMPILED:
            layer = TorchAoLinear(weight, Int8WeightOnlyConfig(), torch.bfloat16, copies, True)
        else:
            config = Int8DynamicActivationInt8WeightConfig()
            layer = TorchAoLinear(weight, config, torch.float32, copies, False)
        return layer, layer.decoded()


class TorchAoLinear(Plain):
    def __init__(
        self,
        weight: np.ndarray,
        config: Any,
        activations: torch.dtype,
        copies: Copies,
        compiled: bool,
    ) -> None:
        self._type, self._compiled = activations, compiled
        self.weight_bytes = weight.size + 4 * len(weight)
        self.copies = copies.of(self.weight_bytes)
        self._layers = [self._quantized(weight, config) for _ in range(self.copies)]

    def _quantized(self, weight: np.ndarray, config: Any) -> torch.nn.Module:
        n, k = weight.shape
        model = torch.nn.Sequential(torch.nn.Linear(k, n, bias=False))
        model[0].weight = torch.nn.Parameter(torch.from_numpy(weight.copy()), requires_grad=False)
        model = model.to(self._type)
        quantize_(model, config)
        return model

    def decoded(self) -> np.ndarray:
        weight = self._layers[0].get_parameter("0.weight")
        return weight.dequantize().float().detach().numpy()

    def ready(self, threads: int, x: np.ndarray) -> Step:
        torch.set_num_threads(threads)
        given = torch.from_numpy(x).to(self._type)
        layers = self._layers
        if self._compiled:
            torch.compiler.reset()
            # Modules of equal structure share one graph: their parameters are its inputs.
            with fresh_cache():
                layers = [torch.compile(layer, dynamic=False) for layer in self._layers]
                with torch.inference_mode():
                    for layer in layers:
                        layer(given)

        def step(copy: int) -> torch.Tensor:
            with torch.inference_mode():
                return layers[copy % len(layers)](given)

        return step

    def as_array(self, result: object) -> np.ndarray:
        return torch.as_tensor(result).float().numpy()
