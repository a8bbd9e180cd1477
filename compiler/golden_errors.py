"""How far new code is from the reference interpreter: told in the report, and refused if wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..dialects.errors import AccuracyError
from .golden import Golden
from .manifest import Precision, Signature


def golden_errors(
    precisions: Sequence[Precision], goldens: Sequence[Golden], signature: Signature
) -> dict[str, Any]:
    """How far the code is from the interpreter, and what is not stored, for the report."""
    names = [value.name for value in signature.outputs]
    rows = [
        {"precision": precision.name, **error}
        for precision, golden in zip(precisions, goldens, strict=True)
        for error in golden.errors(names)
    ]
    unchecked = [
        {"precision": precision.name, "reason": golden.reason, "next_step": golden.next_step}
        for precision, golden in zip(precisions, goldens, strict=True)
        if not golden.comparable
    ]
    return {"outputs": rows, "unchecked": unchecked}


def require_agreement(
    precisions: Sequence[Precision], goldens: Sequence[Golden], signature: Signature
) -> None:
    """
    Raises AccuracyError where an output is further from the interpreter's than its tolerance.

    No input of a user's makes code wrong that was generated for it, so nothing is published.
    """
    names = [value.name for value in signature.outputs]
    for precision, golden in zip(precisions, goldens, strict=True):
        errors = golden.errors(names) if golden.comparable else []
        wrong = [each for each in errors if not each["max_rel_error"] <= golden.tolerance]
        if wrong:
            told = ", ".join(f"{each['name']} by {each['max_rel_error']:.2g}" for each in wrong)
            raise AccuracyError(
                "golden-mismatch",
                f"the code in precision {precision.name} does not compute what its IR says",
                why=f"it is off from the reference interpreter, relative to the largest value of "
                f"each output: {told}; {golden.tolerance:.2g} is allowed",
                next_step="this is a defect of qcc: report it with the model and the recipe; "
                "--no-golden writes the artifact unchecked",
            )
