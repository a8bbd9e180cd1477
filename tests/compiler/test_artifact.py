"""Artifacts: what is written is read back, laid out as promised, and the same every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from qcc.codegen.cpu.program import Code
from qcc.compiler.artifact import Artifact, ArtifactWriter, TensorSpec
from qcc.compiler.tensor_layout import pack_tensors, unpack_tensors
from qcc.compiler.zip_layout import directory, local_header, place
from qcc.dialects.errors import IntegrityError, UnsupportedError, UsageError

FIELDS = {"target": "cpu", "input_hash": "00", "entry": {"inputs": [], "outputs": []}}


def test_tensors_come_back(sample: Path, tensors: dict[str, np.ndarray]) -> None:
    with Artifact.open(sample) as artifact:
        assert set(artifact.tensor_names()) == set(tensors)
        for name, array in tensors.items():
            assert artifact.tensor(name).dtype == array.dtype
            np.testing.assert_array_equal(artifact.tensor(name), array)
        assert artifact.weights_metadata == {"blocks.0.fc.weight": "int8<group=channel>"}


def test_members_come_back(sample: Path) -> None:
    with Artifact.open(sample) as artifact:
        assert artifact.names()[-1] == "manifest.json"
        assert artifact.read("kernels/cpu.o") == b""
        assert artifact.json("plan.json") == {"resolved": []}
        assert artifact.manifest.entry.inputs[0].shape == ("batch", 5)
        assert artifact.manifest.entry.dims["batch"].max == 8
        assert artifact.manifest.options["recipe"] == "w8a16"
        assert artifact.manifest.versions["numpy"] == np.__version__


def test_tensors_outlive_the_artifact_and_are_read_only(sample: Path) -> None:
    with Artifact.open(sample) as artifact:
        bias = artifact.tensor("bias")
    assert bias.tolist() == [1.0, -2.5, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        bias[0] = 0


def test_data_is_aligned_in_the_file(sample: Path, tensors: dict[str, np.ndarray]) -> None:
    with Artifact.open(sample) as artifact:
        for name, array in tensors.items():
            assert artifact.tensor(name).ctypes.data % array.dtype.itemsize == 0
    with zipfile.ZipFile(sample) as archive:
        for entry in archive.infolist():
            header = sample.read_bytes()[entry.header_offset :][:30]
            name_size, extra_size = np.frombuffer(header[26:30], "<u2").astype(int)
            assert (entry.header_offset + 30 + name_size + extra_size) % 64 == 0


def test_other_tools_read_it(sample: Path, tensors: dict[str, np.ndarray]) -> None:
    with zipfile.ZipFile(sample) as archive:
        assert archive.testzip() is None
        loaded = safetensors.torch.load(archive.read("weights.safetensors"))
    assert torch.equal(loaded["bias"], torch.from_numpy(tensors["bias"]))
    assert loaded["scalar"].dtype == torch.bfloat16
    assert loaded["blocks.0.fc.weight/codes"].tolist() == np.arange(15).reshape(3, 5).tolist()


def test_same_input_same_bytes(tmp_path: Path, write_sample: Callable[..., Path]) -> None:
    first = write_sample(tmp_path / "a.qcc").read_bytes()
    (tmp_path / "folder").mkdir()
    program = (
        "import runpy, sys, pathlib\n"
        "made = runpy.run_path(sys.argv[1])['write_artifact']\n"
        "made(pathlib.Path('b.qcc'))\n"
    )
    conftest = Path(__file__).with_name("conftest.py")
    subprocess.run(
        [sys.executable, "-c", program, str(conftest)],
        cwd=tmp_path / "folder",
        env={**os.environ, "PYTHONHASHSEED": "123", "TZ": "Asia/Tokyo", "TMPDIR": str(tmp_path)},
        check=True,
    )
    assert (tmp_path / "folder" / "b.qcc").read_bytes() == first


def test_order_of_specs_and_writes_does_not_matter(
    tmp_path: Path, tensors: dict[str, np.ndarray], write_sample: Callable[..., Path]
) -> None:
    turned = dict(reversed(tensors.items()))
    first, second = write_sample(tmp_path / "a"), write_sample(tmp_path / "b", tensors=turned)
    assert first.read_bytes() == second.read_bytes()


def test_weights_left_open_by_an_error_are_no_second_error(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "model.qcc") as writer:
        weights = writer.add_weights([TensorSpec("a", (2,), "float32")], {})
        with pytest.raises(KeyError), weights:
            raise KeyError
        with pytest.raises(ValueError, match="not written"), weights:
            pass


def test_manifest_matches_its_json_keys(sample: Path) -> None:
    with Artifact.open(sample) as artifact:
        manifest = json.loads(artifact.read("manifest.json"))
    assert set(manifest) == {
        *("schema", "versions", "target", "cpu_features", "options", "seed", "input_hash"),
        *("entry", "precisions", "generation", "calibration", "members", "tensors"),
    }
    assert {member["name"] for member in manifest["members"]} == {
        *("plan.json", "weights.safetensors", "golden/inputs.safetensors"),
        *("kernels/cpu.o", "kernels/cpu.json", "report.json"),
    }


@pytest.mark.parametrize("data", [[], {}, {"parts": 3, "results": [], "caches": []}, {"parts": []}])
def test_code_of_another_description_is_refused(data: Any) -> None:
    with pytest.raises(IntegrityError, match="artifact-code"):
        Code.from_json(data, b"")


@pytest.mark.parametrize(
    ("specs", "writes", "problem"),
    [
        ([("a", (2,), "float32")], [], "not written, first 'a'"),
        ([("a", (2,), "float32")], [("b", np.zeros(2, np.float32))], "unknown"),
        ([("a", (2,), "float32")], [("a", np.zeros(2))], "announced as float32"),
        ([("a", (2,), "float32")], [("a", np.zeros((1, 2), np.float32))], "announced as"),
        ([("a", (1,), "uint8")], [("a", np.zeros(1, np.uint8))] * 2, "written twice"),
        ([("a", (1,), "complex64")], [], "no dtype complex64"),
        ([("a", (1,), "uint8"), ("a", (1,), "uint8")], [], "distinct"),
    ],
)
def test_misuse_is_an_error_and_leaves_nothing(
    tmp_path: Path, specs: list, writes: list, problem: str
) -> None:
    path = tmp_path / "model.qcc"
    path.write_bytes(b"old")

    def misuse() -> None:
        with ArtifactWriter(path) as writer:
            weights = writer.add_weights([TensorSpec(*spec) for spec in specs], {})
            for name, array in writes:
                weights.write(name, array)
            writer.finish(FIELDS)

    with pytest.raises(ValueError, match=problem):
        misuse()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.qcc"]


def test_a_member_is_added_once(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "model.qcc") as writer:
        writer.add("plan.json", b"{}")
        for name in ("plan.json", "manifest.json"):
            with pytest.raises(ValueError, match="already there"):
                writer.add(name, b"{}")


def test_unknown_manifest_fields_are_refused(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "model.qcc") as writer, pytest.raises(ValueError, match="host"):
        writer.finish({**FIELDS, "host": "here"})


def test_there_is_an_artifact_without_weights(tmp_path: Path) -> None:
    with ArtifactWriter(tmp_path / "model.qcc") as writer:
        writer.finish(FIELDS)
    with Artifact.open(tmp_path / "model.qcc") as artifact:
        assert artifact.names() == ("manifest.json",)
        assert artifact.tensor_names() == ()
        with pytest.raises(IntegrityError, match="no tensor 'x'"):
            artifact.tensor("x")
        with pytest.raises(IntegrityError, match=r"no member 'plan\.json'"):
            artifact.read("plan.json")


def test_an_old_mapping_survives_a_new_file(sample: Path, write_sample: Callable) -> None:
    with Artifact.open(sample) as artifact:
        bias = artifact.tensor("bias")
        changed = {"bias": np.array([9.0, 9.0, 9.0], np.float32)}
        write_sample(sample, tensors=changed)
        assert bias.tolist() == [1.0, -2.5, 3.0]
    with Artifact.open(sample) as artifact:
        assert artifact.tensor("bias").tolist() == [9.0, 9.0, 9.0]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot open"):
        Artifact.open(tmp_path / "none.qcc")


def test_another_schema_is_named(tmp_path: Path) -> None:
    with (
        ArtifactWriter(tmp_path / "model.qcc") as writer,
        pytest.raises(UnsupportedError, match="schema 99"),
    ):
        writer.finish({**FIELDS, "schema": 99})
    assert not (tmp_path / "model.qcc").exists()


def test_members_beyond_four_gigabytes_lay_out_as_zip64(tmp_path: Path) -> None:
    large = 5 << 30
    members = list(place([("a.bin", large, 1), ("b.bin", 3, 0x352441C2)]))
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        for member in members:
            file.seek(member.header)
            file.write(local_header(member))
        file.seek(members[1].data)
        file.write(b"abc")
        file.write(directory(members))
    with zipfile.ZipFile(path) as archive:
        assert [entry.file_size for entry in archive.infolist()] == [large, 3]
        assert [entry.header_offset for entry in archive.infolist()] == [0, members[1].header]
        assert members[1].header > large
        assert archive.read("b.bin") == b"abc"
    path.unlink()


def test_small_tensor_files_round_trip(tensors: dict[str, np.ndarray]) -> None:
    data = pack_tensors(tensors)
    assert set(safetensors.torch.load(data)) == set(tensors)
    unpacked = unpack_tensors(data)
    for name, array in tensors.items():
        np.testing.assert_array_equal(unpacked[name], array)
    with pytest.raises(IntegrityError):
        unpack_tensors(data[:-1])
