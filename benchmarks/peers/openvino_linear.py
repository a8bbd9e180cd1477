"""OpenVINO: fp32, and compressed weights that its CPU plug-in decodes inside the layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino  # pyright: ignore[reportMissingImports]
from openvino import opset13 as ops  # pyright: ignore[reportMissingImports]

from benchmarks.peers.peer import Copies, Packed, Plain, Step, Variant, decoded, integers


class OpenVino:
    version = openvino.__version__.split("-")[0]

    def variants(self) -> Sequence[Variant]:
        return [
            Variant("fp32", 32),
            Variant("i8 per channel", 8),
            Variant("i8 per channel, dynamic int8 x", 8, "int8"),
            Variant("i4 g32", 4),
            Variant("i4 g128", 4),
            Variant("i4 g32, dynamic int8 x", 4, "int8"),
        ]

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        kind, _, options = variant.name.partition(" ")
        group = weight.shape[1]
        if options.startswith("g"):
            group = int(options.split(",")[0][1:])
        # 0 keeps activations in fp32; the plug-in's own default would depend on the processor.
        dynamic = 32 if "dynamic" in options else 0
        layer = OpenVinoLinear(weight, kind, group, dynamic, copies)
        return layer, layer.decoded()


class OpenVinoLinear(Plain):
    """A compiled model for each copy of the weights."""

    def __init__(
        self, weight: np.ndarray, kind: str, group: int, dynamic: int, copies: Copies
    ) -> None:
        self._dynamic, self._kind, self._weight = dynamic, kind, weight
        self._scales = np.zeros((0, 0), np.float32)
        if kind == "fp32":
            self.weight_bytes = weight.nbytes
        else:
            bits = int(kind[1:])
            self._weight, self._scales = integers(weight, bits, group)
            self.weight_bytes = self._weight.size * bits // 8 + self._scales.nbytes
        self.copies = copies.of(self.weight_bytes)
        self._requests: tuple[int, list] = (0, [])

    def decoded(self) -> np.ndarray:
        return self._weight if self._kind == "fp32" else decoded(self._weight, self._scales)

    def ready(self, threads: int, x: np.ndarray) -> Step:
        if self._requests[0] != threads:
            self._requests = (threads, [self._request(threads) for _ in range(self.copies)])
        requests = self._requests[1]
        given = np.ascontiguousarray(x)

        def step(copy: int) -> np.ndarray:
            request = requests[copy % len(requests)]
            request.infer([given], share_inputs=True, share_outputs=True)
            return request.get_output_tensor(0).data

        return step

    def as_array(self, result: object) -> np.ndarray:
        return np.array(result, np.float32)

    def _request(self, threads: int):
        x = ops.parameter([-1, self._weight.shape[1]], np.float32)
        product = ops.matmul(x, self._constant(), False, True)
        model = openvino.Model([product], [x])
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # each model would pin its threads to the same processors
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": self._dynamic,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        return openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def _constant(self):
        if self._kind == "fp32":
            return ops.constant(self._weight)
        n, k = self._weight.shape
        groups = self._scales.shape[1]
        shape = [n, groups, k // groups]
        if self._kind == "i8":
            codes = ops.constant(self._weight.reshape(shape))
        else:
            codes = ops.constant(_nibbles(self._weight, shape))
        plain = ops.convert(codes, "f32")
        scaled = ops.multiply(plain, ops.constant(self._scales[..., None]))
        return ops.reshape(scaled, np.array([n, k], np.int64), False)


def _nibbles(codes: np.ndarray, shape: Sequence[int]):
    """Two's-complement nibbles, low first, as an i4 tensor."""
    flat = (codes.reshape(-1) & 15).astype(np.uint8)
    packed = flat[0::2] | (flat[1::2] << 4)
    tensor = openvino.Tensor(openvino.Type.i4, openvino.Shape(shape))
    tensor.data.reshape(-1)[:] = packed.view(np.int8)
    return tensor
