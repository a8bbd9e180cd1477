"""ONNX Runtime: MatMul, MatMulNBits and DynamicQuantizeMatMul in graphs made for the purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime  # pyright: ignore[reportMissingImports]
from onnx import TensorProto, helper, numpy_helper  # pyright: ignore[reportMissingImports]

from benchmarks.peers.peer import Copies, Packed, Plain, Step, Variant, decoded, integers

FLOAT, INT8 = 1, 4  # accuracy levels of MatMulNBits


class OnnxRuntime:
    version = onnxruntime.__version__

    def variants(self) -> Sequence[Variant]:
        return [
            Variant("MatMul fp32", 32),
            Variant("DynamicQuantizeMatMul", 8, "int8"),
            Variant("MatMulNBits 8 b32, int8", 8, "int8"),
            Variant("MatMulNBits 4 b32, int8", 4, "int8"),
            Variant("MatMulNBits 4 b128, int8", 4, "int8"),
            Variant("MatMulNBits 4 b32, fp32", 4),
            Variant("MatMulNBits 2 b32, int8", 2, "int8"),
        ]

    def linear(self, variant: Variant, weight: np.ndarray, copies: Copies) -> Packed:
        if variant.name == "MatMul fp32":
            return OnnxLinear(_fp32(weight), weight.shape, copies), weight
        if variant.name == "DynamicQuantizeMatMul":
            codes, scales = integers(weight, 8, weight.shape[1])
            layer = OnnxLinear(_dynamic(codes, scales), weight.shape, copies)
            return layer, decoded(codes, scales)
        _, bits, block, level = variant.name.replace(",", "").split()
        group = int(block[1:])
        codes, scales = integers(weight, int(bits), group)
        accuracy = INT8 if level == "int8" else FLOAT
        node = _blocks(codes, scales, int(bits), accuracy)
        return OnnxLinear(node, weight.shape, copies), decoded(codes, scales)


class Node:
    """One operator: its arrays by name, and how to make it between named values."""

    def __init__(
        self, arrays: dict[str, np.ndarray], build: Callable[[dict[str, str], str], object]
    ) -> None:
        self.arrays, self.build = arrays, build


def _fp32(weight: np.ndarray) -> Node:
    build = lambda names, y: helper.make_node("MatMul", ["x", names["w"]], [y])  # noqa: E731
    return Node({"w": np.ascontiguousarray(weight.T)}, build)


def _dynamic(codes: np.ndarray, scales: np.ndarray) -> Node:
    def build(names: dict[str, str], y: str) -> object:
        inputs = ["x", names["w"], names["s"]]
        return helper.make_node("DynamicQuantizeMatMul", inputs, [y], domain="com.microsoft")

    return Node({"w": np.ascontiguousarray(codes.T), "s": scales[:, 0].copy()}, build)


def _blocks(codes: np.ndarray, scales: np.ndarray, bits: int, accuracy: int) -> Node:
    n, k = codes.shape
    blocks = scales.shape[1]
    lifted = (codes.astype(np.int16) + 2 ** (bits - 1)).astype(np.uint8)
    per_byte = 8 // bits
    packed = np.zeros((n, k // per_byte), np.uint8)
    for place in range(per_byte):
        packed |= lifted[:, place::per_byte] << (bits * place)
    arrays = {"w": packed.reshape(n, blocks, -1), "s": scales}

    def build(names: dict[str, str], y: str) -> object:
        return helper.make_node(
            "MatMulNBits",
            ["x", names["w"], names["s"]],
            [y],
            domain="com.microsoft",
            K=k,
            N=n,
            bits=bits,
            block_size=k // blocks,
            accuracy_level=accuracy,
        )

    return Node(arrays, build)


class OnnxLinear(Plain):
    """
    All copies in one graph, of which each call computes one output.

    One session for each copy would be as many spinning thread pools.
    """

    def __init__(self, node: Node, shape: tuple[int, ...], copies: Copies) -> None:
        self.weight_bytes = sum(array.nbytes for array in node.arrays.values())
        self.copies = copies.of(self.weight_bytes)
        self._node, self._shape = node, shape
        self._session: tuple[int, onnxruntime.InferenceSession | None] = (0, None)

    def ready(self, threads: int, x: np.ndarray) -> Step:
        if self._session[0] != threads:
            self._session = (threads, self._open(threads))
        session = self._session[1]
        assert session is not None
        options = onnxruntime.RunOptions()
        options.only_execute_path_to_fetches = True
        names = [[f"y{index}"] for index in range(self.copies)]
        return lambda copy: session.run(names[copy % len(names)], {"x": x}, options)[0]

    def _open(self, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = _model(self._node, self._shape, self.copies)
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _model(node: Node, shape: tuple[int, ...], count: int) -> bytes:
    n, k = shape
    nodes, initializers, outputs = [], [], []
    for index in range(count):
        names = {role: f"{role}{index}" for role in node.arrays}
        initializers += [
            numpy_helper.from_array(array, names[role]) for role, array in node.arrays.items()
        ]
        nodes.append(node.build(names, f"y{index}"))
        outputs.append(helper.make_tensor_value_info(f"y{index}", TensorProto.FLOAT, ["m", n]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", k])]
    graph = helper.make_graph(nodes, "linear", inputs, outputs, initializers)
    versions = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=versions, ir_version=10)
    return model.SerializeToString()
