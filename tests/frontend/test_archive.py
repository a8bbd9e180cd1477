"""Archives: what is refused when one is opened."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from qcc.compiler.frontend.archive import open_archive
from qcc.dialects.errors import IntegrityError, UsageError


def write(path: Path, members: list[tuple[zipfile.ZipInfo | str, bytes]], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def test_reads_stored_members_at_their_offset(tmp_path):
    path = write(tmp_path / "a.zip", [("m/one", b"first"), ("m/two", b"second")])
    with open_archive(path) as archive:
        assert archive.names() == ("m/one", "m/two")
        assert archive.read("m/two", 6) == b"second"
        assert path.read_bytes()[archive.offset("m/two") :][: archive.size("m/two")] == b"second"
        assert "m/three" not in archive
        with pytest.raises(IntegrityError, match="no member"):
            archive.read("m/three", 1)
        with pytest.raises(IntegrityError, match="refused"):
            archive.read("m/two", 5)


@pytest.mark.parametrize(
    "name", ["../up", "/root", "m/../../up", "m//x", "./x", "m/", "c:/x", "m\\x", "a\x01b"]
)
def test_names_must_be_inner_paths(tmp_path, name):
    with pytest.raises(IntegrityError):
        open_archive(write(tmp_path / "a.zip", [(name, b"x")]))


def test_duplicate_names(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = write(tmp_path / "a.zip", [("m/x", b"1"), ("m/x", b"2")])
    with pytest.raises(IntegrityError, match="refused") as caught:
        open_archive(path)
    assert "twice" in caught.value.why


def test_links_and_special_files(tmp_path):
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR):
        entry = zipfile.ZipInfo("m/x")
        entry.external_attr = (kind | 0o777) << 16
        with pytest.raises(IntegrityError) as caught:
            open_archive(write(tmp_path / "a.zip", [(entry, b"/etc/passwd")]))
        assert "link" in caught.value.why


def test_compression_bomb(tmp_path):
    path = write(tmp_path / "a.zip", [("m/x", bytes(10_000_000))], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(IntegrityError) as caught:
        open_archive(path)
    assert "compressed" in caught.value.why


def test_encryption_flag(tmp_path):
    path = write(tmp_path / "a.zip", [("m/x", b"secret")])
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError) as caught:
        open_archive(path)
    assert "encrypted" in caught.value.why


def test_members_that_share_bytes(tmp_path):
    """A second directory entry that points at the first member: a bomb without compression."""
    path = write(tmp_path / "a.zip", [("m/aa", b"x" * 50), ("m/bb", b"y" * 50)])
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    struct.pack_into("<I", data, second + 42, 0)
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        open_archive(path)


def test_headers_that_disagree(tmp_path):
    path = write(tmp_path / "a.zip", [("m/aa", b"x" * 50)])
    data = path.read_bytes()
    for place, value in ((30, b"z"), (8, b"\x08"), (22, b"\x01")):
        damaged = bytearray(data)
        damaged[place : place + 1] = value
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError):
            open_archive(path)


def test_payload_flip_fails_the_checksum(tmp_path):
    path = write(tmp_path / "a.zip", [("m/aa", b"x" * 50)])
    data = bytearray(path.read_bytes())
    data[data.index(b"xxx")] ^= 1
    path.write_bytes(data)
    with open_archive(path) as archive, pytest.raises(IntegrityError, match="damaged"):
        archive.read("m/aa", 50)


def test_every_truncation(tmp_path):
    path = write(tmp_path / "a.zip", [("m/aa", b"x" * 50), ("m/bb", b"y")])
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(IntegrityError):
            open_archive(path)


def test_bytes_before_the_first_member(tmp_path):
    path = write(tmp_path / "a.zip", [("m/aa", b"x")])
    path.write_bytes(b"#!/bin/sh\n" + path.read_bytes())
    with pytest.raises(IntegrityError):
        open_archive(path)


def test_missing_file(tmp_path):
    with pytest.raises(UsageError):
        open_archive(tmp_path / "none.zip")
