"""
How the command line speaks: results on stdout, everything else on stderr.

With `--json` stdout carries exactly one JSON document, a result or an error, and stderr carries
one JSON event a line; otherwise both are text. Nothing heavier than the standard library is
imported until it is needed, as `qcc --help` must be quick.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TextIO, cast

from ..dialects.errors import QccError, ResourceError
from .streams import Log, silence


class Progress(Protocol):
    """What a long computation tells about itself."""

    def stage(self, name: str) -> None:
        """A new stage begins; it ends the one before."""
        ...

    def advance(self, done: int, total: int, what: str) -> None:
        """`done` of `total` steps of the stage are complete, the latest being `what`."""
        ...

    def close(self) -> None:
        """The work is over, well or badly."""
        ...


class Silent:
    """Progress for callers who want none; the Python API's default."""

    def stage(self, name: str) -> None:
        pass

    def advance(self, done: int, total: int, what: str) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """A line a stage, and within a long stage one every few seconds: for logs."""

    _INTERVAL = 5.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._name = ""
        self._told = time.monotonic()

    def stage(self, name: str) -> None:
        self._name, self._told = name, time.monotonic()
        self._tell(name)

    def advance(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if now - self._told >= self._INTERVAL:
            self._told = now
            self._tell(f"{self._name} {done}/{total} {what}")

    def close(self) -> None:
        pass

    def _tell(self, text: str) -> None:
        self._stream.write(f"qcc: {text}\n")
        self._stream.flush()


class Events:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._name = ""

    def stage(self, name: str) -> None:
        self._name = name
        self._tell({"event": "stage", "stage": name})

    def advance(self, done: int, total: int, what: str) -> None:
        self._tell(
            {"event": "advance", "stage": self._name, "done": done, "total": total, "what": what}
        )

    def close(self) -> None:
        pass

    def _tell(self, event: dict[str, Any]) -> None:
        self._stream.write(json.dumps(event) + "\n")
        self._stream.flush()


class Bars:
    """Live bars on a terminal, through rich."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description:<14}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[what]}", style="dim", markup=False),
            console=RichConsole(file=stream),
        )
        self._task: Any = None
        self._bars.start()

    def stage(self, name: str) -> None:
        self._end_stage()
        self._task = self._bars.add_task(name, total=None, what="")

    def advance(self, done: int, total: int, what: str) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, what=what)

    def close(self) -> None:
        self._end_stage()
        self._bars.stop()

    def _end_stage(self) -> None:
        if self._task is None:
            return
        total = next(task.total for task in self._bars.tasks if task.id == self._task)
        total = 1 if total is None else total
        self._bars.update(self._task, completed=total, total=total, what="")
        self._bars.stop_task(self._task)
        self._task = None


class Console:
    """The two output streams and whether they carry JSON."""

    def __init__(self, out: TextIO, err: TextIO, json: bool = False) -> None:
        self._out = out
        self._err: TextIO = cast(TextIO, Log(err))
        self.json = json
        self._lost = False

    def result(self, data: Any, text: str) -> None:
        """The one result of a command: `data` for programs, `text` for people."""
        self._write(encode(data) if self.json else text)

    def text(self, text: str) -> None:
        """Part of a result that only people read."""
        if not self.json:
            self._write(text)

    def note(self, text: str) -> None:
        """A remark beside the result."""
        if self.json:
            self._err.write(json.dumps({"event": "note", "text": text}) + "\n")
        else:
            self._err.write(f"qcc: {text}\n")

    def failure(self, error: QccError) -> int:
        """Tell the error and return its exit code."""
        if self.json and not self._lost:
            try:
                self._write(encode({"error": error.as_dict(), "exit_code": error.exit_code}))
                self.flush()
                return error.exit_code
            except ResourceError:
                pass  # stderr is what is left
        self._err.write(f"qcc: error {error}\n")
        return error.exit_code

    def stopped(self, how: str, exit_code: int) -> int:
        """Say that somebody ended the command; returns `exit_code`."""
        error = QccError(how, f"{how}; nothing was left half-written", next_step="run it again")
        error.exit_code = exit_code
        if self.json:
            return self.failure(error)
        self.note(error.what)
        return exit_code

    def progress(self) -> Progress:
        if self.json:
            return Events(self._err)
        return Bars(self._err) if self._err.isatty() else Lines(self._err)

    def flush(self) -> None:
        with self.delivering():
            self._out.flush()

    def _write(self, text: str) -> None:
        with self.delivering():
            self._out.write(text if text.endswith("\n") or not text else text + "\n")

    @contextmanager
    def delivering(self) -> Iterator[None]:
        """Raises ResourceError where the result cannot be written, as on a full disk."""
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            self._lost = True
            silence(self._out)
            raise ResourceError(
                "result-lost", "cannot write the result to standard output", why=str(error)
            ) from error


def encode(data: Any) -> str:
    """Indented JSON; infinities and NaN become null, which JSON can say."""
    import msgspec

    try:
        encoded = msgspec.json.encode(data)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_as_text(msgspec.to_builtins(data)))
    return msgspec.json.format(encoded, indent=2).decode()


def _as_text(data: Any) -> Any:
    """A file name need not be text: bytes that are none are lone surrogates, and shown escaped."""
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode()
    if isinstance(data, dict):
        return {_as_text(key): _as_text(value) for key, value in data.items()}
    return [_as_text(value) for value in data] if isinstance(data, list | tuple) else data


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """
    Rows as aligned text under their column names.

    >>> table([{"name": "fc", "bits": 4}], ["name", "bits"])
    'name  bits\\nfc    4'
    """
    lines = [list(columns)]
    lines += [[_shown(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def size_change(before: int, after: int) -> tuple[float, str]:
    """
    By what factor a size changed, and which way; `after` is not 0.

    >>> size_change(8, 2), size_change(2, 3)
    ((4.0, 'smaller'), (1.5, 'larger'))
    """
    return (before / after, "smaller") if before >= after else (after / max(before, 1), "larger")


def bytes_text(count: int) -> str:
    """
    A size for people.

    >>> bytes_text(999), bytes_text(1536), bytes_text(5 << 30)
    ('999 B', '1.5 KiB', '5.0 GiB')
    """
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{count} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def kv_text(keys: str | None, values: str | None) -> str | None:
    """
    The formats of keys and values, for people; None where both are the model's own.

    >>> kv_text("int4", "int4"), kv_text("int4", None), kv_text(None, None)
    ('int4', 'k int4, v -', None)
    """
    return keys if keys == values else f"k {keys or '-'}, v {values or '-'}"


def cache_text(token_bytes: int, token_bytes_fp32: int) -> str:
    """
    What a KV cache takes, for people.

    >>> cache_text(768, 3072)
    'KV cache 768 B a token, 3.0 KiB in fp32'
    """
    plain = f", {bytes_text(token_bytes_fp32)} in fp32" if token_bytes != token_bytes_fp32 else ""
    return f"KV cache {bytes_text(token_bytes)} a token{plain}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if text.isprintable() else ascii(text)
