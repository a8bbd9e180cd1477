"""The line of the user's model that an operation came from."""

from __future__ import annotations

import re

_FRAME = re.compile(r'"(?P<file>[^"]+)":(?P<line>\d+):\d+')


def source_line(location: object) -> str:
    """
    The innermost frame of an MLIR location that is not torch's own, as `file:line`.

    A location without a file is given as MLIR writes it, an unknown one as "".

    >>> source_line('loc(callsite("/site-packages/torch/nn/f.py":9:0 at "/m.py":3:0))')
    '/m.py:3'
    >>> source_line("loc(unknown)")
    ''
    """
    text = str(location).removeprefix("loc(").removesuffix(")")
    frames = [(match["file"], match["line"]) for match in _FRAME.finditer(text)]
    own = [frame for frame in frames if "/site-packages/torch/" not in frame[0]]
    for file, line in own or frames:
        return f"{file}:{line}"
    return "" if text == "unknown" else text
