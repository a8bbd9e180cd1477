"""Where the schedule of a layer comes from, as the report of a compilation tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...dialects.knobs import Value

DEFAULT, NOT_TUNED = "default", "not tuned"


@dataclass(frozen=True, slots=True)
class Choice:
    """The schedule of a layer; `source` is the database's name, or "default" for a `reason`."""

    layer: str
    values: Mapping[str, Value]
    source: str = DEFAULT
    reason: str = ""

    @property
    def tuned(self) -> bool:
        return self.source != DEFAULT

    def as_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "schedule": dict(self.values),
            "source": self.source,
            "reason": self.reason,
        }
