"""Names of values in emitted kernels."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qcc.codegen.cuda.scalar_rules import RULES
from qcc.codegen.cuda.value_names import name_hint

NAMED = {name for name in RULES if name.startswith("arith.")} - {"arith.constant"}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_no_value_is_called_by_its_mnemonic(name: str) -> None:
    for kind in ("i1", "i32"):
        result = SimpleNamespace(type=kind)
        hint = name_hint(SimpleNamespace(operation=SimpleNamespace(name=name), results=[result]))
        assert name.removeprefix("arith.") not in hint


def test_logic_of_truth_and_of_bits_has_other_names() -> None:
    operation = SimpleNamespace(name="arith.andi")
    hints = [
        name_hint(SimpleNamespace(operation=operation, results=[SimpleNamespace(type=kind)]))
        for kind in ("i1", "i32")
    ]
    assert hints == ["both", "masked"]
