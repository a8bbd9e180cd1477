"""
Calls functions of a compiled object whose parameters and inputs each end at a page that
may not be touched: a read past an array ends this process by a signal.

    python run_guarded.py FOLDER

FOLDER holds `code.o`, `calls.json` ({parts, short, calls: [[name, function, rank], …]}),
`parts.npz`, `inputs.npz` (one a call), and gets `outputs.npz`. `short` names a part that is laid
a byte too far, into the guard. Each call is named on standard output before it is made.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
import weakref
from pathlib import Path

import numpy as np

from qcc.codegen.cpu.runtime import BufferType, CompiledObject

PROT_NONE = 0
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded(array: np.ndarray, beyond: int = 0) -> np.ndarray:
    """A copy whose last byte, or that `beyond` it, is the last before the guard page."""
    page = mmap.PAGESIZE
    body = -(-array.nbytes // page) * page
    region = mmap.mmap(-1, body + page)
    held = np.frombuffer(region, np.uint8)
    held[body - array.nbytes : body] = array.reshape(-1).view(np.uint8)
    if _LIBC.mprotect(held.ctypes.data + body, page, PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
    start = held.ctypes.data + body - array.nbytes + beyond
    memory = (ctypes.c_char * array.nbytes).from_address(start)
    weakref.finalize(memory, region.close)
    return np.frombuffer(memoryview(memory), array.dtype).reshape(array.shape)


def main(folder: Path) -> None:
    plan = json.loads((folder / "calls.json").read_text())
    parts, inputs = np.load(folder / "parts.npz"), np.load(folder / "inputs.npz")
    parameters = [
        guarded(parts[f"p{i}"], beyond=int(name == plan["short"]))
        for i, name in enumerate(plan["parts"])
    ]
    object_ = CompiledObject((folder / "code.o").read_bytes(), parameters, threads=1)
    outputs = {}
    for name, function, rank in plan["calls"]:
        sys.stdout.write(name + "\n")
        sys.stdout.flush()
        x = guarded(inputs[name])
        outputs[name] = object_.call(function, [x], [BufferType(np.dtype(np.float32), rank)])[0]
    np.savez(folder / "outputs.npz", **outputs)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
