"""What a file is, told from its first bytes: for the message to who gave one of another kind."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

ARTIFACT = "an artifact of qcc"
PROGRAM = "an exported program (.pt2)"
ARRAYS = "a file of NumPy arrays (.npz)"
PICKLE = "a pickle of torch.save (.pt)"
OLD_PICKLE = "a pickle"
TORCHSCRIPT = "a TorchScript archive"
SAFETENSORS = "a safetensors file"
JSON = "JSON"
EMPTY = "an empty file"
ZIP = "a zip archive"
BROKEN_ZIP = "a zip archive that is damaged or cut short"

_HEAD = 64
_ZIP = b"PK\x03\x04"
_BY_MAGIC = {
    b"\x93NUMPY": "a single NumPy array (.npy)",
    **{bytes([0x80, protocol]): OLD_PICKLE for protocol in range(2, 6)},
    b"GGUF": "a GGUF model",
    b"\x89HDF": "an HDF5 file",
    b"ML\xefR": "MLIR bytecode",
}


def kind_of(path: Path) -> str:
    """
    A few words such as "an exported program (.pt2)"; empty for what qcc does not know.

    Nothing is trusted and nothing unpacked: at most the directory of a zip file is read.
    """
    if path.is_dir():
        return "a folder"
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    if head.startswith(_ZIP):
        return _kind_of_zip(path)
    if head and _ZIP.startswith(head):
        return ""
    found = [kind for magic, kind in _BY_MAGIC.items() if head.startswith(magic)]
    return found[0] if found else _kind_of_text(head)


def sound_kind(path: Path) -> str:
    """The kind of a file that seems whole, so that it was given by mistake; else empty."""
    kind = kind_of(path)
    return "" if kind in (EMPTY, BROKEN_ZIP, ZIP) else kind


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return _kind_of_members(archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return BROKEN_ZIP


def _kind_of_members(names: Sequence[str]) -> str:
    inner = {name.partition("/")[2] for name in names}
    if {"manifest.json", "plan.json"} <= set(names):
        return ARTIFACT
    if "archive_format" in inner:
        return PROGRAM
    if "constants.pkl" in inner:
        return TORCHSCRIPT
    if "data.pkl" in inner:
        return PICKLE
    if names and all(name.endswith(".npy") for name in names):
        return ARRAYS
    return ZIP


def _kind_of_text(head: bytes) -> str:
    if not head:
        return EMPTY
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return SAFETENSORS
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < _HEAD - 4:  # else the head ends inside a letter
            return ""
        text = head[: error.start].decode("utf-8")
    if not all(letter.isprintable() or letter.isspace() for letter in text):
        return ""
    return JSON if text.lstrip()[:1] in ("{", "[") else "a text file"
