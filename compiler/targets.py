"""The targets that `qcc compile --target` takes: a name and what it produces."""

from __future__ import annotations

TARGETS = {
    "cpu": "x86-64 object code through LLVM, multi-threaded, weights decoded inside the kernels",
}
