"""Activations that are rounded as they are copied, and every type of result."""

from __future__ import annotations

import pytest

from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.problem import INSTRUCTION_OF, LinearProblem
from qcc.dialects.tile.schedule import Schedule
from tests.codegen.cuda.linear_cases import Built, built, check

SCHEDULE = (64, 16, 128, 1, 1, 2, 2, 2)
PROBLEMS = {
    # rows that begin on multiples of 16, 8 and 4 bytes; padded groups
    "int4": LinearProblem(40, 388, 16, "int4", "f16", "f32", "f32", source="f32"),
    "int8": LinearProblem(17, 386, 16, "int8", "bf16", "f32", "bf16", source="f32"),
    "mxfp4": LinearProblem(1, 391, 16, "mxfp4", "bf16", "bf16", source="f32"),
    "int5<group=24>": LinearProblem(33, 391, 16, "int5<group=24>", "f16", "f16", source="f32"),
    "int4<group=20>": LinearProblem(33, 388, 16, "int4<group=20>", "f16", "f32", source="f32"),
    "nf4": LinearProblem(33, 64, 16, "nf4", "f16", "bf16"),
    "uint4": LinearProblem(33, 64, 16, "uint4", "i8", "f32"),
}


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Built:
    cases = [(each, Schedule(INSTRUCTION_OF[each.activation], *SCHEDULE))
             for each in PROBLEMS.values()]  # fmt: skip
    return built(cases, tmp_path_factory.mktemp("types"))


@pytest.mark.parametrize("spelling", PROBLEMS)
def test_types(kernels: Built, spelling: str) -> None:
    check(kernels, spelling, (1, 17))


def test_other_conversions_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="f16 is not converted to i8"):
        default_schedule(LinearProblem(64, 64, 1, "int8", "i8", source="f16"))
