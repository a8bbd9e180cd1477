"""torch: its fp32 and bf16 linear layers, and the int8 and int4 kernels it has for the CPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from benchmarks.peers.peer import Copies, Packed, Plain, Step, Variant, decoded, integers

GROUP = 32
Weights = Sequence[torch.Tensor]
Call = Callable[[torch.Tensor, Weights], torch.Tensor]


class Torch:
    version = torch.__version__

    def variants(self) -> Sequence[Variant]:
        engines = torch.backends.quantized.supported_engines
        dynamic = [name for name in ("fbgemm", "x86", "onednn") if name in engines]
        return [
            Variant("fp32", 32),
            Variant("bf16", 16, "bf16"),
            *(Variant(f"linear_dynamic {name}", 8, "int8") for name in dynamic),
            Variant("int8pack, bf16 x", 8, "bf16"),
            Variant("int4pack g32, bf16 x", 4, "bf16"),
        ]

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        if variant.name.startswith("linear_dynamic"):
            codes, scales = integers(weight, 8, weight.shape[1])
            layer = Dynamic(codes, scales, variant.name.split()[1], copies)
            return layer, decoded(codes, scales)
        packers = {
            "fp32": (_fp32, functional.linear, torch.float32),
            "bf16": (_bf16, functional.linear, torch.bfloat16),
            "int8pack, bf16 x": (_int8, torch.ops.aten._weight_int8pack_mm, torch.bfloat16),
            "int4pack g32, bf16 x": (_int4, _int4_mm, torch.bfloat16),
        }
        pack, call, type_ = packers[variant.name]
        weights, meaning = pack(weight)
        size = sum(part.nbytes for part in weights)
        packed = [[part.clone() for part in weights] for _ in range(copies.of(size))]
        return TorchLinear(packed, size, call, type_), meaning


class TorchLinear(Plain):
    def __init__(
        self,
        packed: Sequence[Weights],
        weight_bytes: int,
        call: Callable[..., torch.Tensor],
        activations: torch.dtype,
    ) -> None:
        self.weight_bytes = weight_bytes
        self.copies = len(packed)
        self._packed, self._call, self._type = packed, call, activations

    def ready(self, threads: int, x: np.ndarray) -> Step:
        torch.set_num_threads(threads)
        given = torch.from_numpy(x).to(self._type)

        def step(copy: int) -> torch.Tensor:
            with torch.inference_mode():
                return self._call(given, *self._packed[copy % self.copies])

        return step

    def as_array(self, result: object) -> np.ndarray:
        return torch.as_tensor(result).float().numpy()


class Dynamic(TorchLinear):
    """Weights int8 by channel, activations int8 by call, through one of torch's engines."""

    def __init__(self, codes: np.ndarray, scales: np.ndarray, engine: str, copies: Copies) -> None:
        self._engine = engine
        # Where int16 sums of pairs can overflow, torch itself takes seven bits of activations.
        self._reduced = engine != "onednn" and not torch.cpu._is_vnni_supported()
        self._use_engine()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's quantized tensors: deprecated, in use
            quantized = torch.ops.aten._make_per_channel_quantized_tensor(
                torch.from_numpy(codes),
                torch.from_numpy(scales[:, 0]).double(),
                torch.zeros(len(codes), dtype=torch.int64),
                0,
            )
            size = codes.nbytes + scales.nbytes
            pack = torch.ops.quantized.linear_prepack
            packed = [[pack(quantized, None)] for _ in range(copies.of(size))]
        super().__init__(packed, size, self._dynamic, torch.float32)

    def ready(self, threads: int, x: np.ndarray) -> Step:
        self._use_engine()
        return super().ready(threads, x)

    def _use_engine(self) -> None:
        torch.backends.quantized.engine = self._engine  # pyright: ignore[reportAttributeAccessIssue]

    def _dynamic(self, x: torch.Tensor, packed: object) -> torch.Tensor:
        return torch.ops.quantized.linear_dynamic(x, packed, self._reduced)


def _fp32(weight: np.ndarray) -> tuple[Weights, np.ndarray]:
    return [torch.from_numpy(weight)], weight


def _bf16(weight: np.ndarray) -> tuple[Weights, np.ndarray]:
    rounded = torch.from_numpy(weight).to(torch.bfloat16)
    return [rounded], rounded.float().numpy()


def _int8(weight: np.ndarray) -> tuple[Weights, np.ndarray]:
    codes, scales = integers(weight, 8, weight.shape[1])
    halves = torch.from_numpy(scales[:, 0]).to(torch.bfloat16)
    return [torch.from_numpy(codes), halves], decoded(codes, halves.float().numpy()[:, None])


def _int4(weight: np.ndarray) -> tuple[Weights, np.ndarray]:
    codes, scales = integers(weight, 4, GROUP)
    lifted = torch.from_numpy(codes.astype(np.int32) + 8)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(lifted, 1)
    halves = torch.from_numpy(scales).to(torch.bfloat16)
    pairs = torch.stack([halves.T, torch.zeros_like(halves.T)], dim=2).contiguous()
    return [packed, pairs], decoded(codes, halves.float().numpy())


def _int4_mm(x: torch.Tensor, packed: torch.Tensor, pairs: torch.Tensor) -> torch.Tensor:
    return torch.ops.aten._weight_int4pack_mm_for_cpu(x, packed, GROUP, pairs)
