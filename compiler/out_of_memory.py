"""What libraries raise where the system refuses them memory."""

from __future__ import annotations

import errno

from ..dialects.errors import ResourceError

_WORDS = ("can't allocate memory", "failed to map segment from shared object", "std::bad_alloc")
"""Of torch's allocator, of the loader of libraries, and of C++."""


def ran_out(error: BaseException) -> bool:
    """
    Whether memory is what `error`, or what it was raised from or while handling, lacked.

    >>> ran_out(OSError(errno.ENOMEM, "Cannot allocate memory")), ran_out(OSError("no file"))
    (True, False)
    """
    met, seen = [error], set[int]()
    while met:
        each = met.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        refused = isinstance(each, OSError) and each.errno == errno.ENOMEM
        if refused or isinstance(each, MemoryError) or any(word in str(each) for word in _WORDS):
            return True
        met += [other for other in (each.__cause__, each.__context__) if other is not None]
    return False


def out_of_memory() -> ResourceError:
    return ResourceError(
        "out-of-memory",
        "the machine ran out of memory",
        next_step="close other programs, or use a machine with more memory",
    )
