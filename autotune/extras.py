"""Packages of the extra `tune`, loaded on first use."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from ..dialects.errors import UnsupportedError


@cache
def xgboost() -> Any:
    """The package xgboost; raises UnsupportedError where it is not installed."""
    try:
        return import_module("xgboost")
    except ImportError as error:
        raise UnsupportedError(
            "tune-extra",
            "the cost model of boosted trees needs the package xgboost",
            why=str(error),
            next_step="pip install 'qcc[tune]'",
        ) from error
