"""
qcc: a reduced-precision kernel compiler for PyTorch models.

The public API is re-exported here and loaded on first use, so that `qcc --help` costs nothing:
`compile`, `load`, `format`, and the error types.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .compiler.api import Module, compile, load
    from .dialects.errors import QccError
    from .dialects.formats import Format, QuantizedArray, format

__version__ = "0.1.0"

__all__ = ["Format", "Module", "QccError", "QuantizedArray", "compile", "format", "load"]

_HOMES = {
    "Format": ".dialects.formats",
    "Module": ".compiler.api",
    "QccError": ".dialects.errors",
    "QuantizedArray": ".dialects.formats",
    "compile": ".compiler.api",
    "format": ".dialects.formats",
    "load": ".compiler.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted({*__all__, "__all__", "__doc__", "__file__", "__version__"})
