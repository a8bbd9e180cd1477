"""
The process that unpickles: `python -m … MODE PATH COPY MEMORY`, started by state_dict.py only.

Writes COPY as safetensors (nothing if COPY is empty) and ends with code 0, or prints one line of
JSON with `kind` and `reason` and ends with code 1. MODE `weights` unpickles tensors only; MODE
`any` is --allow-pickle, and is the only place in qcc where a pickle may run code.
"""

from __future__ import annotations

import ctypes
import json
import re
import resource
import sys
import zipfile
from typing import IO, Any

import torch

from .torch_weights import dtype_name, to_numpy

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # torch sets words of its messages bold
_CPU_SECONDS = 600
_OPEN_FILES = 64
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_NESTED = ("state_dict", "model_state_dict", "model", "module")
_ELEMENTS = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "bool": "BOOL"},
    **{"uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "complex64": "C64"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "float8_e8m0fnu": "F8_E8M0"},
}


def main(mode: str, path: str, copy: str, memory: str) -> int:
    """Limits first, then load, check and write."""
    _limit(int(memory))
    if mode == "any":
        _leave_network()
    try:
        damaged = first_damaged(path)
        if damaged is not None:
            return _report("damaged", damaged)
        tensors = state_dict(load(path, mode))
        if copy:
            with open(copy, "xb") as file:
                write(tensors, file)
    except MemoryError as error:
        return _report("memory", _described(error))
    except Exception as error:  # noqa: BLE001 - whatever a hostile file raises is the answer
        return _report("refused", _described(error))
    return 0


def first_damaged(path: str) -> str | None:
    """
    The first member of a zip file that does not match its CRC, read as a stream.

    torch checks none itself, and can be told to write none: all are zero then.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return None
        with zipfile.ZipFile(file) as archive:
            written = any(entry.CRC for entry in archive.infolist())
            return archive.testzip() if written else None


def load(path: str, mode: str) -> Any:
    if mode == "any":
        return torch.load(path, map_location="cpu", weights_only=False)
    return torch.load(path, map_location="cpu", weights_only=True)


def state_dict(loaded: Any) -> dict[str, torch.Tensor]:
    """The dict of tensors in what was loaded; ValueError if there is none."""
    if isinstance(loaded, torch.nn.Module):
        loaded = loaded.state_dict()
    if isinstance(loaded, dict):
        inner = [loaded[key] for key in _NESTED if isinstance(loaded.get(key), dict)]
        loaded = inner[0] if inner else loaded
    if not isinstance(loaded, dict) or not loaded:
        raise ValueError(f"it holds {type(loaded).__name__}, not a dict of tensors")
    tensors = {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    others = [name for name in loaded if name not in tensors and not _is_extra(name)]
    if others:
        raise ValueError(f"{len(others)} entries are not tensors, such as {others[0]!r}"[:200])
    for name, tensor in tensors.items():
        if not isinstance(name, str) or tensor.layout is not torch.strided or tensor.is_quantized:
            raise ValueError(f"the entry {name!r} is not a plain dense tensor"[:200])
        if dtype_name(tensor.dtype) not in _ELEMENTS:
            raise ValueError(f"the tensor {name!r} has the dtype {tensor.dtype}"[:200])
    return tensors


def write(tensors: dict[str, torch.Tensor], file: IO[bytes]) -> None:
    """safetensors, a tensor at a time; tied names become `aliases` in the metadata."""
    header: dict[str, Any] = {}
    kept: dict[tuple[Any, ...], str] = {}
    aliases: dict[str, str] = {}
    at = 0
    for name, tensor in sorted(tensors.items()):
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in kept:
            aliases[name] = kept[key]
            continue
        kept[key] = name
        end = at + tensor.numel() * tensor.element_size()
        element = _ELEMENTS[dtype_name(tensor.dtype)]
        header[name] = {"dtype": element, "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    names = list(header)
    header["__metadata__"] = {"aliases": json.dumps(aliases)}
    text = json.dumps(header).encode()
    file.write(len(text).to_bytes(8, "little") + text)
    for name in names:
        file.write(to_numpy(tensors[name]).tobytes())


def _is_extra(name: Any) -> bool:
    return isinstance(name, str) and name.endswith("_extra_state")


def _limit(memory: int) -> None:
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, ceiling = resource.getrlimit(kind)
        if ceiling != resource.RLIM_INFINITY:
            value = min(value, ceiling)
        resource.setrlimit(kind, (value, value))


def _leave_network() -> None:
    """Enter an empty network of one's own; where the system forbids it, nothing changes."""
    ctypes.CDLL(None).unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _described(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {_COLOURS.sub('', lines[0]) if lines else ''}"


def _report(kind: str, reason: str) -> int:
    sys.stdout.write("\n" + json.dumps({"kind": kind, "reason": reason}))
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
