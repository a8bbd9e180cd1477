"""
Damaged and hostile artifacts: every one is refused with an IntegrityError.

`QCC_FUZZ_MUTANTS=10000 pytest tests/fuzz` is the nightly size.
"""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from qcc.compiler.artifact import Artifact, ArtifactWriter, TensorSpec
from qcc.dialects.errors import IntegrityError

MUTANTS = int(os.environ.get("QCC_FUZZ_MUTANTS", "2000"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("artifact") / "model.qcc"
    noise = np.random.default_rng(3)
    arrays = {
        "w/codes": noise.integers(0, 256, (16, 33), np.uint8),
        "w/scales": noise.random(16, np.float32),
        "bias": noise.random((3, 7), np.float32).astype(np.float16),
    }
    with ArtifactWriter(path) as writer:
        writer.add("plan.json", b'{"resolved": []}')
        specs = [TensorSpec(name, array.shape, array.dtype) for name, array in arrays.items()]
        with writer.add_weights(specs, {"w": "int8"}) as weights:
            for name, array in arrays.items():
                weights.write(name, array)
        writer.add("kernels/cpu.o", noise.bytes(300))
        writer.finish(
            {
                "target": "cpu",
                "input_hash": "0" * 64,
                "entry": {
                    "inputs": [{"name": "x", "dtype": "float32", "shape": ["n", 33]}],
                    "outputs": [{"name": "y", "dtype": "float32", "shape": ["n", 16]}],
                },
            }
        )
    return path.read_bytes()


def flip_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def set_byte(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, 0x20])


def set_number(data: bytearray, chance: random.Random) -> None:
    """A length or an offset that does not fit, wherever it lands."""
    packed = struct.pack(*chance.choice([("<Q", 1 << 62), ("<I", 0xFFFFFFFF), ("<H", 0xFFFF)]))
    at = chance.randrange(len(data) - len(packed))
    data[at : at + len(packed)] = packed


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def cut(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    del data[start : start + chance.randrange(1, 200)]


def insert(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    data[at:at] = chance.randbytes(chance.randrange(1, 100))


def zero_range(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    end = min(start + chance.randrange(1, 200), len(data))
    data[start:end] = bytes(end - start)


def repeat_range(data: bytearray, chance: random.Random) -> None:
    start, at = chance.randrange(len(data)), chance.randrange(len(data))
    data[at:at] = data[start : start + chance.randrange(1, 300)]


def move_range(data: bytearray, chance: random.Random) -> None:
    size = chance.randrange(1, 200)
    start, at = chance.randrange(len(data)), chance.randrange(len(data))
    chunk = data[start : start + size]
    data[at : at + len(chunk)] = chunk


def damage_digit(data: bytearray, chance: random.Random) -> None:
    """A number or a hash in one of the JSON texts."""
    places = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
    data[chance.choice(places)] = ord(chance.choice("0123456789-.e"))


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [
    *(flip_bit, set_byte, set_number, truncate, cut, insert),
    *(zero_range, repeat_range, move_range, damage_digit),
]


def mutants(original: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(20)
    made = 0
    while made < count:
        mutation = MUTATIONS[made % len(MUTATIONS)]
        data = bytearray(original)
        mutation(data, chance)
        if data != original:
            made += 1
            yield f"{made} {mutation.__name__}", bytes(data)


def test_every_mutant_is_detected(original: bytes, tmp_path: Path) -> None:
    path = tmp_path / "mutant.qcc"
    accepted = []
    for label, data in mutants(original, MUTANTS):
        path.write_bytes(data)
        if not refused(path):
            accepted.append(label)
    assert accepted == []


def refused(path: Path) -> bool:
    """Whether an IntegrityError with a code and a cause stops it; another exception passes on."""
    try:
        Artifact.open(path).close()
    except IntegrityError as error:
        return bool(error.code and error.what and error.next_step)
    return False


def test_every_bit_matters(original: bytes, tmp_path: Path) -> None:
    """One bit of each byte of the file, padding and headers included."""
    path = tmp_path / "mutant.qcc"
    path.write_bytes(original)
    accepted = []
    with path.open("r+b", buffering=0) as file:
        for at, byte in enumerate(original):
            os.pwrite(file.fileno(), bytes([byte ^ (1 << at % 8)]), at)
            if not refused(path):
                accepted.append(at)
            os.pwrite(file.fileno(), bytes([byte]), at)
    assert accepted == []
    Artifact.open(path).close()


def test_skipped_hashes_still_read_within_bounds(original: bytes, tmp_path: Path) -> None:
    """Without verification a mutant may load, but then its structure is sound."""
    path = tmp_path / "mutant.qcc"
    for _, data in mutants(original, MUTANTS // 4):
        path.write_bytes(data)
        try:
            with Artifact.open(path, verify=False) as artifact:
                for name in artifact.tensor_names():
                    assert artifact.tensor(name).nbytes == artifact.spec(name).nbytes
        except IntegrityError:
            pass


def rezipped(original: bytes, change: Callable[[zipfile.ZipFile], None]) -> bytes:
    """The same members written by another tool, and what `change` adds."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(original)) as source,
        zipfile.ZipFile(buffer, "w") as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
        change(target)
    return buffer.getvalue()


def link(archive: zipfile.ZipFile) -> None:
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    archive.writestr(entry, "/etc/hostname")


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "another tool's headers": lambda data: rezipped(data, lambda _: None),
    "a member more": lambda data: rezipped(data, lambda zip: zip.writestr("more", b"x")),
    "climbing name": lambda data: rezipped(data, lambda zip: zip.writestr("../x", b"x")),
    "absolute name": lambda data: rezipped(data, lambda zip: zip.writestr("/etc/x", b"x")),
    "link": lambda data: rezipped(data, link),
    "bomb": lambda data: rezipped(
        data, lambda zip: zip.writestr("zeros", bytes(1 << 24), zipfile.ZIP_DEFLATED)
    ),
    "a name twice": lambda data: rezipped(data, lambda zip: zip.writestr("plan.json", b"x")),
    "empty file": lambda _: b"",
    "only a zip": lambda _: rezipped(rezipped_nothing(), lambda zip: zip.writestr("a", b"")),
    "not a zip": lambda _: b"\x7fELF" + bytes(100),
    "two in one": lambda data: data + data,
    "something in front": lambda data: b"#!/bin/sh\n" + data,
    "deep manifest": lambda _: rezipped(
        rezipped_nothing(), lambda zip: zip.writestr("manifest.json", b"[" * 100_000)
    ),
    "manifest of no schema": lambda _: rezipped(
        rezipped_nothing(), lambda zip: zip.writestr("manifest.json", b"{}")
    ),
    "manifest not text": lambda _: rezipped(
        rezipped_nothing(), lambda zip: zip.writestr("manifest.json", b'{"schema": "\xff"}')
    ),
}


def rezipped_nothing() -> bytes:
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused(name: str, original: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.qcc"
    path.write_bytes(HOSTILE[name](original))
    for verify in (True, False):
        with pytest.raises(IntegrityError) as caught:
            Artifact.open(path, verify=verify)
        assert caught.value.next_step
    assert os.listdir(tmp_path) == ["model.qcc"]


def test_a_changed_member_with_right_checksums_is_detected(original: bytes, tmp_path: Path) -> None:
    """Someone edits a member and repairs the zip around it, but not the manifest's hash."""
    path = tmp_path / "model.qcc"
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        entry = archive.getinfo("kernels/cpu.o")
        kernel = archive.read(entry)
    changed = bytes([kernel[0] ^ 1]) + kernel[1:]
    data = original.replace(kernel, changed)
    data = data.replace(struct.pack("<I", entry.CRC), struct.pack("<I", zlib.crc32(changed)))
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    with pytest.raises(IntegrityError):
        Artifact.open(path)
