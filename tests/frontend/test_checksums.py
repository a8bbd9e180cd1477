"""A bit that flipped inside a stored weight is found before anything is published."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from qcc.compiler.cli import main
from qcc.compiler.frontend.pt2_reader import read_pt2
from qcc.compiler.frontend.state_dict import open_state_dict
from qcc.compiler.frontend.state_dict_child import first_damaged
from qcc.compiler.frontend.weights import WeightSource
from qcc.dialects.errors import IntegrityError


def flip_a_bit(path: Path, member: str) -> str:
    """Change the member whose name ends so; returns its whole name."""
    with zipfile.ZipFile(path) as archive:
        entry = next(entry for entry in archive.infolist() if entry.filename.endswith(member))
    data = bytearray(path.read_bytes())
    sizes = struct.unpack_from("<HH", data, entry.header_offset + 26)
    data[entry.header_offset + 30 + sum(sizes) + entry.file_size // 2] ^= 4
    path.write_bytes(data)
    return entry.filename


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Two layers, and a buffer that is a part of its storage."""
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 2))
    model.register_buffer("part", torch.arange(40.0).reshape(10, 4)[3:5])
    path = tmp_path / "m.pt2"
    torch.export.save(torch.export.export(model, (torch.ones(1, 8),)), path)
    return path


@pytest.mark.parametrize("flags", [[], ["--format", "int8"], ["--stop-after", "assign"]])
def test_compiling_damaged_weights(
    flags: list[str], program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = flip_a_bit(program, "weight_2")
    out = tmp_path / "m.qcc"
    code = main(["compile", str(program), "-o", str(out), *flags])
    if "--stop-after" in flags:  # the IR has no weights in it
        assert code == 0
        return
    assert code == 7
    told = capsys.readouterr().err
    assert f"the bytes of '{member}' do not match their checksum" in told
    assert str(program) in told
    assert list(tmp_path.iterdir()) == [program]


def test_a_weight_is_checked_when_it_is_read(program: Path) -> None:
    member = flip_a_bit(program, "weight_0")
    weights = read_pt2(program).weights
    damaged = [name for name in weights.names() if not readable(weights, name, member)]
    assert damaged == ["0.weight"]


def readable(weights: WeightSource, name: str, damaged: str) -> bool:
    """Whether all of it can be read, and its first row: a part needs the whole member checked."""
    try:
        weights.read_rows(name, 0, 1)
    except IntegrityError:
        with pytest.raises(IntegrityError, match=damaged):
            weights.read(name)
        return False
    weights.read(name)
    return True


def test_state_dicts(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.ones(4), "b": torch.arange(6.0)}, path)
    assert first_damaged(str(path)) is None
    member = flip_a_bit(path, "data/1")
    assert first_damaged(str(path)) == member
    with pytest.raises(IntegrityError) as caught:
        open_state_dict(path, allow_pickle=True)
    assert member in caught.value.what
    assert caught.value.where == str(path)


def test_a_state_dict_written_without_checksums(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(4)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert first_damaged(str(path)) is None
