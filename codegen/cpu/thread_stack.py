"""
Whether a thread's stack has room for what kernels keep there, which no kernel looks at itself.

Programs start threads with small ones: `threading.stack_size(256 << 10)`, `ulimit -s 256`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

from ...dialects.errors import ResourceError

LEAST_BYTES = 768 << 10
"""What a kernel may keep (SCRATCH_BYTES of dialects/cpu/schedule.py), and as much again by half."""
_ATTRIBUTES = 128  # bytes, more than pthread_attr_t has on any processor
_checked = threading.local()


def require_stack() -> None:
    """Raises ResourceError in a thread with too small a stack; told once a thread."""
    if not hasattr(_checked, "bytes"):
        size = _stack_bytes(lambda attributes: _pthread.pthread_getattr_np(_self(), attributes))
        if size < LEAST_BYTES:
            raise _too_small(
                "this thread has", size, "threading.stack_size(1 << 20) before it starts"
            )
        _checked.bytes = size


def require_worker_stacks() -> None:
    """Raises ResourceError where threads that start get too small a stack."""
    size = _stack_bytes(lambda attributes: _pthread.pthread_getattr_default_np(attributes))
    if size < LEAST_BYTES:
        raise _too_small("new threads get", size, "ulimit -s 1024 before the program starts")


def _stack_bytes(read: Callable[[ctypes.Array[ctypes.c_char]], int]) -> int:
    attributes, size = ctypes.create_string_buffer(_ATTRIBUTES), ctypes.c_size_t()
    if read(attributes) != 0:
        return LEAST_BYTES
    _pthread.pthread_attr_getstacksize(attributes, ctypes.byref(size))
    _pthread.pthread_attr_destroy(attributes)
    return size.value


def _too_small(who: str, size: int, remedy: str) -> ResourceError:
    return ResourceError(
        "cpu-stack",
        f"{who} a stack of {size >> 10} KiB, kernels need {LEAST_BYTES >> 10}",
        next_step=f"allow for more: {remedy}",
    )


_pthread = ctypes.PyDLL(None)
_self = _pthread.pthread_self
_self.restype = ctypes.c_void_p
_pthread.pthread_getattr_np.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_pthread.pthread_getattr_default_np.argtypes = [ctypes.c_void_p]
_pthread.pthread_attr_getstacksize.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_pthread.pthread_attr_destroy.argtypes = [ctypes.c_void_p]
