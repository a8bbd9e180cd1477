"""Weight sources: exact bytes, rows, ties, and strict safetensors headers."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qcc.compiler.frontend.safetensors_source import SafetensorsSource
from qcc.compiler.frontend.torch_weights import TORCH_DTYPES, TorchSource, to_numpy, to_torch
from qcc.compiler.frontend.weights import DTYPES, FileSource, TensorInfo
from qcc.dialects.errors import IntegrityError, UsageError


def every_dtype() -> dict[str, torch.Tensor]:
    bits = torch.arange(96, dtype=torch.uint8)
    tensors = {name: bits.view(dtype) for name, dtype in TORCH_DTYPES.items() if name != "bool"}
    return tensors | {"bool": bits % 2 == 1}


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_numpy_and_back_is_exact(name):
    tensor = every_dtype()[name]
    array = to_numpy(tensor)
    assert array.dtype == DTYPES[name]
    assert array.tobytes() == raw(tensor) == raw(to_torch(array))


def test_safetensors_file(tmp_path):
    tensors = {name: tensor.clone() for name, tensor in every_dtype().items()}
    for name in ("complex128", "float8_e4m3fnuz", "float8_e5m2fnuz"):
        del tensors[name]  # safetensors has no name for these
    tensors |= {"scalar": torch.tensor(3.0), "empty": torch.zeros(0, 4)}
    tensors["matrix"] = torch.arange(24.0).view(4, 6)
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "pt"})
    with SafetensorsSource(tmp_path / "w.safetensors") as source:
        assert set(source.names()) == set(tensors)
        for name, tensor in tensors.items():
            array = source.read(name)
            assert array.tobytes() == raw(tensor.reshape(-1))
            assert array.shape == tuple(tensor.shape) == source.info(name).shape
            assert array.flags.writeable
            assert array.flags.c_contiguous
        rows = source.read_rows("matrix", 1, 3)
        assert np.array_equal(rows, np.arange(6.0, 18.0).reshape(2, 6))
        rows[:] = 0
        assert source.read("matrix")[1, 0] == 6
        with pytest.raises(ValueError, match="rows"):
            source.read_rows("matrix", 3, 5)
        with pytest.raises(UsageError, match="no tensor") as caught:
            source.read("matrices")
        assert "matrix" in caught.value.next_step


def test_shards_and_index(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "1.safetensors")
    save_file({"b": torch.zeros(3)}, tmp_path / "2.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    both = SafetensorsSource([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert SafetensorsSource(index).names() == both.names() == ("a", "b")
    assert SafetensorsSource(index).content_hash() == both.content_hash()
    index.write_text(json.dumps({"weight_map": {"a": "../1.safetensors"}}))
    with pytest.raises(IntegrityError, match="damaged"):
        SafetensorsSource(index)
    with pytest.raises(IntegrityError, match="damaged"):
        SafetensorsSource([tmp_path / "1.safetensors"] * 2)


def file_with(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01",
        file_with({}, size=100_000_001),
        file_with({}, size=50),
        file_with(b"[]"),
        file_with(b"{"),
        file_with(b"\xff{}"),
        file_with({"a": {**ENTRY, "extra": 1}}, bytes(8)),
        file_with({"a": {**ENTRY, "dtype": "F31"}}, bytes(8)),
        file_with({"a": {**ENTRY, "shape": [-2]}}, bytes(8)),
        file_with({"a": {**ENTRY, "shape": [3]}}, bytes(8)),
        file_with({"a": {**ENTRY, "shape": [2.0]}}, bytes(8)),
        file_with({"a": {**ENTRY, "shape": [2**60, 2**60]}}, bytes(8)),
        file_with({"a": {**ENTRY, "data_offsets": [8, 0]}}, bytes(8)),
        file_with({"a": {**ENTRY, "data_offsets": [-8, 0]}}, bytes(8)),
        file_with({"a": ENTRY}, bytes(7)),
        file_with({"a": ENTRY}, bytes(9)),
        file_with({"a": ENTRY, "b": ENTRY}, bytes(8)),
        file_with({"a": ENTRY, "b": {**ENTRY, "data_offsets": [12, 20]}}, bytes(20)),
        file_with({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 12]}}, bytes(12)),
    ],
)
def test_malformed_safetensors(tmp_path, content):
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        SafetensorsSource(path)
    assert caught.value.code == "safetensors-malformed"


def test_file_that_shrinks_after_opening(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(100)}, path)
    source: FileSource = SafetensorsSource(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(IntegrityError, match="ends inside"):
        source.read("a")


def test_torch_source_tells_ties_from_equal_values():
    shared = torch.randn(3, 4)
    source = TorchSource(
        {"a": shared, "b": shared, "row": shared[0], "turned": shared.t(), "copy": shared.clone()}
    )
    assert source.info("a") == source.info("b")
    assert len({source.info(n).storage for n in ("a", "row", "turned", "copy")}) == 4
    assert np.array_equal(source.read("turned"), shared.numpy().T)
    assert np.array_equal(source.read_rows("turned", 1, 3), shared.numpy().T[1:3])
    source.read("a")[:] = 0
    assert shared.abs().sum() > 0


def test_tensor_info_counts_bytes():
    assert TensorInfo((3, 5), "bfloat16", "x").nbytes == 30
    assert TensorInfo((), "float64", "x").nbytes == 8


def test_weights_import_without_torch():
    program = (
        "import sys; import qcc.compiler.frontend.safetensors_source, "
        "qcc.compiler.frontend.archive; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
