"""
Say what this machine has, what qcc would want, and how to get it.

Exit code 6 when something is missing that every use of qcc needs.
"""

from __future__ import annotations

import argparse

from ...dialects.errors import ResourceError
from ..console import Console, table

SUMMARY = "check versions, tools and the machine"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none of its own."""


def run(args: argparse.Namespace, console: Console) -> int:
    from ..doctor import examine

    findings = examine()
    rows = [
        {"check": finding.name, "status": finding.status, "found": finding.found}
        for finding in findings
    ]
    lines = [table(rows, ["check", "status", "found"])]
    lines += [f"{finding.name}: {finding.remedy}" for finding in findings if finding.remedy]
    console.result([finding.as_dict() for finding in findings], "\n".join(lines))
    missing = any(finding.status == "missing" for finding in findings)
    return ResourceError.exit_code if missing else 0
