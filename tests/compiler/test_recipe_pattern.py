"""Layer-name patterns: agreement with Python's engine where both exist, and bounded time."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.compiler.name_pattern import name_pattern
from qcc.dialects.errors import UsageError

ATOMS = st.sampled_from(["a", "b", "0", ".", r"\.", "[ab]", "[^a]", "[a-c0-9]", r"\d", r"[\w.]"])
REPEATS = st.sampled_from(["", "*", "+", "?", "{2}", "{1,3}", "{0,2}", "{1,}", "*?"])


def expressions() -> st.SearchStrategy[str]:
    leaf = st.builds("{}{}".format, ATOMS, REPEATS)
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.builds("{}{}".format, inner, inner),
            st.builds("({}|{})".format, inner, inner),
            st.builds("(?:{})*".format, inner),
            st.builds("({}){}".format, inner, st.sampled_from(["?", "+", "{2}"])),
        ),
        max_leaves=5,
    )


@settings(deadline=None, max_examples=300)
@given(expressions(), st.text(alphabet="abc0.", max_size=8))
def test_agrees_with_python_on_whole_names(expression, name):
    expected = re.fullmatch(expression, name, re.DOTALL | re.ASCII) is not None
    assert name_pattern(f"re:{expression}").matches(name) == expected


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("blocks.*.q", "blocks.0.attention.q", True),
        ("blocks.?.q", "blocks.10.q", False),
        ("head", "head", True),
        ("head", "Head", False),
        ("experts[0]", "experts[0]", True),
        ("blocks.[01].q", "blocks.1.q", True),
        (r"re:blocks\.(0|1[0-1])\.q", "blocks.11.q", True),
        ("re:blocks", "blocks.0", False),
        ("re:^blocks.*$", "blocks.0", True),
        ("re:a^b", "ab", False),
        ("re:", "", True),
        ("re:", "a", False),
        (r"re:[]a]+", "]a", True),
        (r"re:[a-]+", "a-", True),
        (r"re:[\D]", "7", False),
        (r"re:é+", "éé", True),
    ],
)
def test_what_matches(pattern, name, matches):
    assert name_pattern(pattern).matches(name) is matches


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("(?=a)", "plain and"),
        ("(?P<x>a)", "plain and"),
        ("(?i)a", "plain and"),
        (r"(a)\1", r"escape '\1'"),
        (r"\bq", r"escape '\b'"),
        ("a**", "repeat of a repeat"),
        ("*a", "nothing before"),
        ("(a", "without its ')'"),
        ("a)", "without its '('"),
        ("[a", "']' was expected"),
        ("a\\", "rest of an escape"),
        ("a{3,1}", "runs backwards"),
        ("a{x}", "must open a count"),
        ("a{2", "must open a count"),
        ("[z-a]", "runs backwards"),
        (r"[\d-z]", "touches a class"),
        ("^*", "cannot be repeated"),
        ("(" * 30, "nest deeper"),
    ],
)
def test_what_is_refused(expression, problem):
    with pytest.raises(UsageError) as caught:
        name_pattern(f"re:{expression}")
    assert problem in caught.value.what
    assert caught.value.code == "recipe-pattern-syntax"
    assert caught.value.where.startswith("column ")


@pytest.mark.parametrize(
    "expression",
    ["(a*)*b", "(a|a)*b", "(.*)(.*)(.*)(.*)(.*)(.*)(.*)(.*)x", "((a?){30}){30}b", "(a|aa)+$"],
)
def test_expressions_that_ruin_backtracking_still_answer(expression):
    pattern = name_pattern(f"re:{expression}")
    states = len(pattern.states)
    assert states < 4_100
    assert pattern.matches("a" * 200 + "c") is False


@pytest.mark.parametrize("expression", ["a{9999}", "((a{99}){99}){99}", "((){9999}){9999}"])
def test_counts_that_explode_are_refused(expression):
    with pytest.raises(UsageError) as caught:
        name_pattern(f"re:{expression}")
    assert caught.value.code == "recipe-pattern-large"


def test_a_glob_that_ruins_backtracking_still_answers():
    assert name_pattern("*a" * 200 + "b").matches("a" * 2_000) is False


def test_a_long_pattern_is_refused():
    with pytest.raises(UsageError) as caught:
        name_pattern("a" * 1_001)
    assert caught.value.code == "recipe-pattern-long"
