"""
A model's tasks for the tuners of others, which propose while qcc measures.

    with driven("model.pt2", Path("tuning.db"), CompileOptions(recipe="int4")) as tasks:
        for task in tasks:
            minimize(lambda values: task.measure(values).seconds, task.space)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...autotune.database import Database
from ...autotune.interchange.drive import Driven
from ..options import CompileOptions
from .opening import open_tunable
from .session import SessionOptions, make_executor


@contextmanager
def driven(
    model: Any, database: Path, options: CompileOptions, strategy: str = "driven", **opening: Any
) -> Iterator[list[Driven]]:
    """
    The tasks of `model`, the most work first; measurements go to `database`, as of `strategy`.
    `opening` is what else `open_tunable` takes.
    """
    tunable = open_tunable(model, options, **opening)
    records = Database(database, create=True)
    executor = make_executor(tunable, SessionOptions())
    try:
        yield [Driven(each.job, executor, records, strategy) for each in tunable.jobs]
    finally:
        executor.close()
