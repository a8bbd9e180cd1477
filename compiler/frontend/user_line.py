"""The user's line in a recorded stack."""

from __future__ import annotations


def user_line(stack_trace: str) -> str:
    """
    The innermost line of a recorded stack that is not torch's own.

    >>> user_line('File "m.py", line 3, in forward\\n    y = f(x)\\n  File "/a/torch/f.py", line 9')
    'm.py:3: y = f(x)'
    """
    found = ""
    lines = [line.strip() for line in stack_trace.splitlines()]
    for number, line in enumerate(lines):
        parts = line.split('"')
        if not line.startswith('File "') or len(parts) < 3 or _is_not_the_users(parts[1]):
            continue
        place = f"{parts[1]}:{parts[2].split(',')[1].strip().removeprefix('line ')}"
        code = lines[number + 1] if number + 1 < len(lines) else ""
        found = f"{place}: {code}" if code and not code.startswith("File ") else place
    return found


def _is_not_the_users(file: str) -> bool:
    """torch's own files, and code that it made and that is in no file."""
    return "/torch/" in file or file.startswith("<")
