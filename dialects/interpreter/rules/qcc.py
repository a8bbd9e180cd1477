"""`qcc`: what dialects/qcc/reference.py says; a packed value is held decoded, as float32."""

from ...qcc import reference
from ..element_types import Array
from ..frame import Frame, Rule
from ..program import Step


def by_reference(meaning: reference.Meaning) -> Rule:
    def rule(step: Step, operands: list[Array], frame: Frame) -> Array:
        return meaning(step.op, operands, frame.session.model)

    return rule


RULES: dict[str, Rule] = {
    name: by_reference(meaning) for name, meaning in reference.MEANINGS.items()
}
