"""Whether a compiled model can continue text token by token, and where it cannot, why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..dialects.bindings import ir
from ..dialects.errors import QccError
from ..passes.materialize_kv_cache import obstacle_to_step
from .golden import Golden
from .layers import entry_function
from .manifest import Signature

WHOLE = "call it on whole inputs"
SPELL_CAUSAL = (
    "use torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True) without a mask"
)
DYNAMIC = """\
trace it with a dynamic length:
    from torch.export import Dim
    sizes = ({0: Dim("batch", max=8), 1: Dim("length", min=2, max=2048)},)
    qcc.compile(model, (tokens,), dynamic_shapes=sizes)  # or torch.export.export(…)"""
_NEXT_STEPS = {
    "inputs": "for generation, its only input has to be token ids, integers [batch, length]",
    "length": DYNAMIC,
    "attention": f"{SPELL_CAUSAL}, or {WHOLE}",
    "mask": SPELL_CAUSAL,
}


@dataclass(frozen=True, slots=True)
class Generation:
    """A model that cannot has a `reason`, and a `next_step`; it may be a `decoder` all the same."""

    available: bool
    decoder: bool = True
    reason: str = ""
    next_step: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def generation(
    module: ir.Module,
    signature: Signature,
    goldens: Sequence[Golden],
    without_step: QccError | None = None,
) -> Generation:
    """
    By the shape of the program, and by what its step was seen to compute.

    Unchecked where the code was not run. `without_step` is why the target has no code for a step.
    """
    kind = obstacle_to_step(entry_function(module).operation)
    if kind is not None:
        return Generation(False, kind == "length", _reason(kind, signature), _NEXT_STEPS[kind])
    if without_step is not None:
        reason = f"{without_step.what}: {without_step.why}"
        return Generation(False, reason=reason, next_step=without_step.next_step)
    for golden in goldens:
        if golden.whole is not None and not golden.comparable:
            reason = f"its steps cannot be checked: {golden.reason}"
            return Generation(False, reason=reason, next_step=golden.next_step)
        if golden.whole is not None and not golden.steps_agree:
            reason = (
                f"computed token by token, its outputs differ by {golden.step_error:.2g} of their "
                f"largest value, and roundings explain {golden.step_tolerance:.2g}: its tokens "
                "meet elsewhere than in causal attention, or its positions begin anew in each "
                "step, as those of a slice do (take those of torch.arange)"
            )
            return Generation(False, reason=reason, next_step=WHOLE)
    return Generation(True)


def _reason(kind: str, signature: Signature) -> str:
    if kind == "length":
        length = signature.inputs[0].shape[1]
        return f"it was traced with static shapes: a sequence has exactly {length} tokens"
    if kind == "mask":
        return "its attention is not causal, or has a mask of its own"
    if kind == "attention":
        return "it has no scaled_dot_product_attention, in which tokens would meet"
    given = ", ".join(
        f"{value.name}: {value.dtype}{list(value.shape)}" for value in signature.inputs
    )
    return f"its inputs are no token ids of one sequence a row ({given})"
