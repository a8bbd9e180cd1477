"""docs/recipes.md: its examples compile, its tables are true."""

import re
from pathlib import Path

from qcc.compiler.plan import LayerInfo
from qcc.compiler.recipe import builtin_names, load_recipe, recipe_from_toml
from qcc.compiler.recipe_reader import DEFAULT_KEYS, RULE_KEYS
from qcc.compiler.recipe_schema import Choice
from qcc.compiler.resolve import resolve
from qcc.dialects.formats import format

GUIDE = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()


def row(name: str) -> list[str]:
    line = next(line for line in GUIDE.splitlines() if line.startswith(f"| `{name}` |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def named(choice: Choice | None) -> str:
    return choice.format.name if choice and choice.format else ""


def test_the_examples_resolve():
    layers = [
        LayerInfo("blocks.0.down", "linear", "down", (64, 96)),
        LayerInfo("blocks.2.down", "linear", "down2", (64, 96)),
        LayerInfo("blocks.2.up", "linear", "up2", (64, 128)),
        LayerInfo("blocks.2.attention", "attention", None, ()),
    ]
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    plan = resolve(recipe_from_toml(example, source="docs"), layers, lambda _: (-1.0, 1.0))
    first, second, third, attention = plan.layers
    assert (first.weights, first.activations) == (None, None)
    assert second.weights == format("int8")
    assert third.weights == format("int4", group=128, symmetric=False)
    assert (attention.keys, attention.values) == (format("int8"), format("int8"))


def test_the_table_of_built_in_recipes_is_complete_and_true():
    listed = re.findall(r"^\| `([^`]+)` \|", GUIDE.partition("## Built-in")[2], re.MULTILINE)
    assert sorted(listed) == sorted(builtin_names())
    for name in listed:
        _, weights, activations, head, _ = row(name)
        recipe = load_recipe(name)
        assert weights.startswith(named(recipe.default.weights))
        assert (activations != "\N{EN DASH}") == bool(named(recipe.default.activations))
        assert activations.startswith(named(recipe.default.activations))
        assert head == (named(recipe.head) or "own")


def test_every_key_is_documented():
    for key in {*DEFAULT_KEYS, *RULE_KEYS}:
        assert f"`{key}`" in GUIDE
