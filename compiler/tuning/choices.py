"""Where the schedule of a layer comes from, as the report of a compilation tells it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ...dialects.errors import QccError
from ...dialects.knobs import Value

Schedule = TypeVar("Schedule")
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


def reasons_against(
    values: Mapping[str, Value],
    read: Callable[[Mapping[str, Value]], Schedule],
    illegal: Callable[[Schedule], Iterable[str]],
) -> list[str]:
    """Why values of a database are no schedule that can be built; none if they are one."""
    try:
        return list(illegal(read(values)))
    except (KeyError, TypeError, ValueError):
        return ["the database has values of another version"]
    except QccError as error:
        return [error.what]
