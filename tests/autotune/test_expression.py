"""Expressions of other tuners are read as data; rules of spaces become such expressions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcc.autotune.interchange.expression import parse
from qcc.autotune.interchange.trace import expression_of
from qcc.dialects.errors import IntegrityError
from qcc.dialects.knobs import Constraint, Knob

KNOBS = {name: Knob(name, (1, 2, 3, 4, 8, 16)) for name in "abc"} | {
    "order": Knob("order", ("row", "column"))
}
TABLE = np.array([1, 0, 1, 0])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[16, 32, 64]", [16, 32, 64]),
        ("[1, 2] + list(range(32, 97, 32))", [1, 2, 32, 64, 96]),
        ("[2**i for i in range(0, 4) if i != 2]", [1, 2, 8]),
        ("range(3)", [0, 1, 2]),
        ("['row', 'column']", ["row", "column"]),
        ("(1.5, -2)", [1.5, -2]),
        ("[True, False]", [True, False]),
        ("7", 7),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert parse(text).value() == value


@pytest.mark.parametrize(
    ("text", "true_of"),
    [
        ("a % (b + 1) == 0 and a * b <= 6", lambda a, b: a % (b + 1) == 0 and a * b <= 6),
        ("b == 0 or a % b == 0", lambda a, b: b == 0 or a % b == 0),
        ("1 < a <= b", lambda a, b: 1 < a <= b),
        ("not (a == 2 or b in [1, 3])", lambda a, b: not (a == 2 or b in [1, 3])),
        ("(a, b) not in {(1, 2), (2, 0)}", lambda a, b: (a, b) not in {(1, 2), (2, 0)}),
        ("max(a, b, 2) / 2 < min([a + 1, 4])", lambda a, b: max(a, b, 2) / 2 < min([a + 1, 4])),
        ("(a if b > 1 else -b) + (a << 1) >= 5", lambda a, b: (a if b > 1 else -b) + 2 * a >= 5),
        ("abs(a - b) // 2 ^ 1", lambda a, b: abs(a - b) // 2 ^ 1),
        ("int(a / 2) == a / 2", lambda a, b: int(a / 2) == a / 2),
        ("a ** 2 < 10", lambda a, b: a**2 < 10),
    ],
)
def test_truth(text: str, true_of: Callable[[int, int], bool]) -> None:
    a, b = np.arange(5).repeat(5), np.tile(np.arange(5), 5)
    expected = [bool(true_of(*pair)) for pair in zip(a.tolist(), b.tolist(), strict=True)]
    assert parse(text).holds({"a": a, "b": b}).tolist() == expected
    assert bool(parse(text).holds({"a": 4, "b": 2})) == bool(true_of(4, 2))


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "open('x')",
        "a.__class__",
        "(lambda: 1)()",
        "a := 3",
        "f'{a}'",
        "a[0]",
        "[i for i in range(3) for j in range(3)]",
        "min(a, key=1)",
        "b'bytes'",
        "1j",
        "a +",
        "",
        "(" * 1000 + ")" * 1000,
        "-" * 5000 + "1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="cannot read the expression"):
        parse(text).value()


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9",
        "[0] * 1000000000",
        "'a' * 1000000000",
        "range(10**12)",
        "[range(10**6) for i in range(10**6)]",
        "[range(10**6), range(10**6)]",
        " + ".join(["range(10**6)"] * 3),
        "1 << 10**9",
        "1 / 0",
        "unknown + 1",
        "[i for i in 5]",
    ],
)
def test_what_cannot_be_computed_or_would_fill_memory_is_refused(text: str) -> None:
    with pytest.raises(IntegrityError, match="cannot read the expression"):
        parse(text).value()


@pytest.mark.parametrize(
    ("knobs", "holds", "text"),
    [
        ("ab", lambda a, b: (a % b == 0) & (a * b <= 64), "a % b == 0 and a * b <= 64"),
        ("ab", lambda a, b: ~((a == b) | (a < 3)), "not (a == b or a < 3)"),
        ("ab", lambda a, b: np.minimum(a, b) * np.int64(3) <= 9, "min(a, b) * 3 <= 9"),
        ("ab", lambda a, b: -(-np.asarray(a) // b) <= 2, "-(-a // b) <= 2"),
        ("ab", lambda a, b: np.where(a > 2, a, 2**b) <= 32, "(a if a > 2 else 2 ** b) <= 32"),
        ("a", lambda a: np.isin(a, [2, 4]) | (a & 8 > 0), "a in [2, 4] or a & 8 > 0"),
        ("a", lambda a: np.logical_not(a - 1), "not a - 1"),
        ("a", lambda a: TABLE[a % 4] == 1, "a not in [1, 3]"),
        (
            "ab",
            lambda a, b: TABLE[a % 4] * b > 8,
            "(a, b) in {(2, 16), (4, 16), (8, 16), (16, 16)}",
        ),
        ("a", lambda a: np.ones_like(a, bool), "True"),
    ],
)
def test_rules_become_text(knobs: str, holds: Callable[..., Any], text: str) -> None:
    assert expression_of(Constraint(tuple(knobs), holds, "reason"), KNOBS) == text


def test_rule_on_texts_becomes_text() -> None:
    rule = Constraint(("order", "a"), lambda order, a: (order == "row") | (a > 2), "reason")
    assert expression_of(rule, KNOBS) == "order == 'row' or a > 2"


def test_large_rule_that_cannot_be_written_has_no_text() -> None:
    knobs = {name: Knob(name, tuple(range(50))) for name in "abc"}
    rule = Constraint(tuple("abc"), lambda a, b, c: TABLE[(a + b + c) % 4] == 1, "odd sums")
    assert expression_of(rule, knobs) is None


OPERATIONS = st.sampled_from(
    [
        lambda a, b: a + b,
        lambda a, b: a - 2 * b,
        lambda a, b: a * b,
        lambda a, b: a // b,
        lambda a, b: a % b,
        lambda a, b: np.maximum(a, b),
        lambda a, b: np.where(a > b, a, -b),
        lambda a, b: abs(a - b) + (a & b),
    ]
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(OPERATIONS, min_size=1, max_size=4), st.integers(-5, 40), st.booleans())
def test_any_arithmetic_keeps_its_meaning(operations: list[Any], limit: int, negate: bool) -> None:
    def holds(a: Any, b: Any) -> Any:
        value = a
        for operation in operations:
            value = operation(value, b)
        truth = (value <= limit) & (b != 3)
        return ~truth if negate else truth

    text = expression_of(Constraint(("a", "b"), holds, "reason"), KNOBS) or ""
    a, b = (grid.ravel() for grid in np.meshgrid(KNOBS["a"].array, KNOBS["b"].array))
    assert (parse(text).holds({"a": a, "b": b}) == holds(a, b)).all()
