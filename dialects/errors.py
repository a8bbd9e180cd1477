"""
The one error family of qcc.

Every failure a user can cause is a `QccError`: a stable code, what went wrong, where, why, and
what to do next. Subclasses fix the exit code of the command line (docs/cli.md lists them).
"""

from __future__ import annotations


class QccWarning(UserWarning):
    """What a user can act on though it is no failure; the command line shows these alone."""


class QccError(Exception):
    """A failure with a stable `code`, a place and a next step; `exit_code` is the CLI's."""

    exit_code = 1

    def __init__(
        self, code: str, what: str, *, where: str = "", why: str = "", next_step: str = ""
    ) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.where = where
        self.why = why
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what}"]
        for label, text in (("where", self.where), ("why", self.why), ("next", self.next_step)):
            if text:
                lines.append(f"  {label}: {text}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, str]:
        """The same fields for `--json`."""
        return {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "next": self.next_step,
        }


class UsageError(QccError):
    """A flag, recipe or argument that cannot be obeyed."""

    exit_code = 2


class UnsupportedError(QccError):
    """An op, format, target or shape that qcc does not handle."""

    exit_code = 3


class AccuracyError(QccError):
    """An accuracy gate failed."""

    exit_code = 4


class ResourceError(QccError):
    """Memory, time, disk or a device ran out or is missing."""

    exit_code = 6


class IntegrityError(QccError):
    """A file is damaged, hostile or refused on trust grounds."""

    exit_code = 7
