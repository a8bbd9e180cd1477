"""
State dicts in pickled `.pt` files, turned into safetensors by a child process.

Even torch's restricted unpickler is not trusted in qcc's own process: a child with limits on
memory, time and open files loads the file with weights_only=True and writes the tensors as
safetensors into a private folder. What the child rejects (pickled modules, TorchScript) is
refused. `allow_pickle` lets the child unpickle anything; it then has no network where the system
allows that to be taken away.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ...dialects.errors import IntegrityError, QccError, ResourceError, UsageError
from ..private_folder import PrivateFolder
from .archive import changed
from .safetensors_source import SafetensorsSource, read_metadata
from .weights import Binding, BoundSource, WeightSource

_TIME_LIMIT = 600
_MEMORY_BASE = 8 << 30
_CONVERT = (
    "convert it once where you trust it: safetensors.torch.save_file(model.state_dict(), "
    "'model.safetensors'), or torch.export.save(torch.export.export(model, inputs), 'model.pt2')"
)


class StateDictSource(BoundSource):
    """The tensors of a pickled state dict, through a temporary safetensors file."""

    def __init__(self, path: Path, *, allow_pickle: bool = False) -> None:
        self._folder = PrivateFolder()
        copy = self._folder.path / "state_dict.safetensors"
        try:
            _run_child(path, copy, "any" if allow_pickle else "weights")
            source = SafetensorsSource(copy)
            aliases: dict[str, str] = json.loads(read_metadata(copy).get("aliases", "{}"))
        except BaseException:
            self._folder.remove()
            raise
        names = {name: name for name in source.names()} | aliases
        super().__init__({n: Binding(source, o, source.info(o).dtype) for n, o in names.items()})

    def close(self) -> None:
        super().close()
        self._folder.remove()


def open_state_dict(path: str | Path, *, allow_pickle: bool = False) -> WeightSource:
    """
    The tensors of a `.pt` or `.pth` state dict (a plain dict, or one under "state_dict").

    Raises IntegrityError if anything but tensors would be unpickled, ResourceError if the child
    runs out of its limits, UsageError if the file cannot be read.
    """
    return StateDictSource(Path(path), allow_pickle=allow_pickle)


def probe_state_dict(path: Path) -> None:
    """Load the file in the child and drop it; raises what `open_state_dict` would."""
    _run_child(path, None, "weights")


def _run_child(path: Path, copy: Path | None, mode: str) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(
            "file-unreadable",
            f"cannot open '{path}'",
            why=error.strerror or str(error),
            next_step="give a file that exists and that you may read",
        ) from error
    command = [
        *(sys.executable, "-m", f"{__package__}.state_dict_child"),
        *(mode, str(path.resolve()), str(copy or ""), str(_MEMORY_BASE + 3 * size)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired as error:
        raise _exhausted(path, f"it took longer than {_TIME_LIMIT} s") from error
    if done.returncode != 0:
        raise _child_error(path, done)


def _child_error(path: Path, done: subprocess.CompletedProcess[bytes]) -> QccError:
    """The error for a failed child: its own last line of JSON, or its signal."""
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    try:
        report = json.loads(lines[-1]) if lines else {}
    except ValueError:
        report = {}
    reason = str(report.get("reason", ""))[:500] if isinstance(report, dict) else ""
    if not reason:
        return _exhausted(path, f"the process that read it ended with code {done.returncode}")
    if report.get("kind") == "memory":
        return _exhausted(path, reason)
    if report.get("kind") == "damaged":
        return changed(path, reason)
    return IntegrityError(
        "pickle-refused",
        "the file is not a state dict of plain tensors",
        where=str(path),
        why=reason,
        next_step=f"{_CONVERT}; --allow-pickle overrides for weights that you trust",
    )


def _exhausted(path: Path, why: str) -> ResourceError:
    return ResourceError(
        "state-dict-limits",
        "the state dict could not be read within its limits",
        where=str(path),
        why=why,
        next_step=_CONVERT,
    )
