"""Recipes as text, dict, name and format: what is read, and what is refused with which words."""

import json
from pathlib import Path

import pytest

import qcc.compiler.recipe as recipe_module
from qcc.compiler.plan import LayerInfo
from qcc.compiler.recipe import builtin_names, builtin_recipes, load_recipe, recipe_from_toml
from qcc.compiler.recipe_schema import Choice, Scaling
from qcc.compiler.resolve import resolve
from qcc.dialects.errors import QccError, UsageError
from qcc.dialects.formats import format

FULL = """
name = "full"
description = "every key"

[default]
weights = {format = "int4", group = 128, symmetric = false}
activations = "int8"
kv = {k = "int8", v = "none"}
fallback = ["int4<group=32>", "int8", "none"]
calibration = "static"
embeddings = "int8"
head = "none"

[[rule]]
match = "blocks.*.q"
weights = "none"

[[rule]]
match = 're:blocks\\.\\d+\\.v'
op = "linear"
optional = true
weights = "mxfp4"
kv = "fp8_e4m3"
"""


def chosen(choice: Choice | None) -> str:
    """What a setting that was made spells."""
    assert choice is not None
    return choice.format.spelling if choice.format else "none"


def refused(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        recipe_from_toml(text, source="mine.toml")
    assert "mine.toml" in caught.value.where
    assert caught.value.exit_code == 2
    return caught.value


def test_every_key_is_read():
    recipe = recipe_from_toml(FULL, source="mine.toml")
    default = recipe.default
    assert (recipe.name, recipe.description) == ("full", "every key")
    assert chosen(default.weights) == "int4<group=128,symmetric=false>"
    assert chosen(default.activations) == "int8"
    assert (chosen(default.keys), chosen(default.values)) == ("int8", "none")
    assert default.fallback == (format("int4", group=32), format("int8"))
    assert default.scaling == Scaling(100.0)
    assert (chosen(recipe.embeddings), chosen(recipe.head)) == ("int8", "none")
    first, second = recipe.rules
    assert first.label == 'rule 1: match="blocks.*.q"'
    assert chosen(first.settings.weights) == "none"
    assert first.settings.activations is None
    assert second.optional
    assert chosen(second.settings.keys) == chosen(second.settings.values) == "fp8_e4m3"


def test_dict_and_toml_are_one_schema(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text('[default]\nweights = "int8"\n[[rule]]\nop = "conv2d"\nweights = "int4"\n')
    from_dict = load_recipe(
        {"default": {"weights": "int8"}, "rule": [{"op": "conv2d", "weights": "int4"}]}
    )
    for spec in (path, str(path)):
        recipe = load_recipe(spec)
        assert (recipe.default, recipe.rules) == (from_dict.default, from_dict.rules)
        assert recipe.name == "mine"


@pytest.mark.parametrize("spec", [None, "none"])
def test_no_recipe_leaves_everything_alone(spec):
    layer = LayerInfo("q", "linear", "q.weight", (8, 8))
    (planned,) = resolve(load_recipe(spec), [layer], lambda _: (0.0, 0.0)).layers
    assert planned.formats() == (None, None, None, None)


@pytest.mark.parametrize("spec", ["fp8_e4m3", "int4<group=64,symmetric=false>"])
def test_a_bare_format_is_a_recipe(spec):
    recipe = load_recipe(spec)
    assert recipe.default == load_recipe({"default": {"weights": spec}}).default
    assert chosen(recipe.default.weights) == spec
    assert recipe.name == spec


def test_a_format_object_is_a_value():
    fmt = format("int4", group=64)
    assert load_recipe({"default": {"weights": fmt}}).default.weights == Choice(fmt)


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_recipes_load_and_say_what_they_are(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert chosen(recipe.default.weights) != "none"
    assert builtin_recipes()[name] == recipe.description != ""


GROUPED = (
    'format mine { title "t"; source "s"; option group: int 1 to 64 = 16; '
    "element integer bits=4 signed=true range=symmetric; "
    "block size=$group ragged=false; scale scale type=fp32 rule=absmax; }"
)


def test_options_after_the_path_of_a_format_file(tmp_path: Path, monkeypatch):
    (tmp_path / "my-own.fmt").write_text(GROUPED)
    (tmp_path / "mine.toml").write_text('default.weights = "my-own.fmt<group=32>"')
    recipe = load_recipe(tmp_path / "mine.toml")
    assert chosen(recipe.default.weights).endswith("<group=32>")
    monkeypatch.chdir(tmp_path)
    for spec in ("my-own.fmt<group=32>", "./my-own.fmt<group=32>"):
        assert chosen(load_recipe(spec).default.weights).endswith("<group=32>")
    for wrong, code in (("my-own.fmt<grop=32>", "format-option-unknown"), ("my-own.fmt<group", "")):
        with pytest.raises(UsageError) as caught:
            load_recipe(wrong)
        assert caught.value.code == (code or "format-syntax")


def test_a_format_file_beside_the_recipe(tmp_path: Path):
    definition = (
        'format mine { title "t"; source "s"; element integer bits=4 signed=true range=symmetric; '
        "block size=16 ragged=false; scale scale type=fp32 rule=absmax; }"
    )
    (tmp_path / "mine.fmt").write_text(definition)
    (tmp_path / "mine.toml").write_text('default.weights = "mine.fmt"')
    recipe = load_recipe(tmp_path / "mine.toml")
    spelling = chosen(recipe.default.weights)
    assert spelling.startswith("mine@")
    plan = resolve(recipe, [LayerInfo("q", "linear", "q.weight", (4, 32))], lambda _: (0.0, 1.0))
    stored = json.loads(json.dumps(plan.as_json()))
    assert stored["definitions"] == {spelling: definition}
    assert load_recipe(stored).plan == plan


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ('defualt.weights = "int8"', "defualt", "default"),
        ('[default]\nweight = "int8"', "weight", "weights"),
        ('[[rule]]\nmatch = "a"\nactivation = "int8"', "activation", "activations"),
        ('[[rules]]\nmatch = "a"', "rules", "rule"),
        ('[default]\nkv = {key = "int8"}', "key", "k"),
    ],
)
def test_an_unknown_key_names_the_nearest(text, key, near):
    error = refused(text)
    assert error.code == "recipe-key-unknown"
    assert f"'{key}'" in error.what
    assert near in error.next_step + error.why


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('[default]\nweights = "int9"', "format-unknown"),
        ('[default]\nweights = {format = "int4", gruop = 3}', "format-option-unknown"),
        ('[default]\nweights = {format = "int4", group = -3}', "format-option-value"),
        ('[default]\nweights = "int4<group"', "format-syntax"),
        ('[default]\nweights = "missing.fmt"', "format-file"),
        ("[default]\nweights = 4", "recipe-value"),
        ("[default]\nweights = {group = 4}", "recipe-value"),
        ('[default]\nweights = {format = "none"}', "recipe-value"),
        ('[default]\nkv = {k = "nestedfp16"}', "recipe-format-role"),
        ('[default]\nactivations = "nestedfp16"', "recipe-format-role"),
        ("[default]\nkv = {}", "recipe-value"),
        ('[default]\nfallback = ["none", "int8"]', "recipe-fallback-order"),
        ('[default]\ncalibration = "sometimes"', "recipe-value"),
        ("[default]\ncalibration = 99", "recipe-value"),
        ("[default]\ncalibration = {percent = 0}", "recipe-value"),
        ("[default]\ncalibration = {percent = 100.1}", "recipe-value"),
        ("[default]\ncalibration = {percent = true}", "recipe-value"),
        ("[default]\ncalibration = {percent = nan}", "recipe-value"),
        ("[default]\ncalibration = {}", "recipe-value"),
        ("[default]\ncalibration = {percentile = 99}", "recipe-key-unknown"),
        ("default = 3", "recipe-value"),
        ("rule = 3", "recipe-value"),
        ('rule = "abc"', "recipe-value"),
        ("rule = [1]", "recipe-value"),
        ("name = 3", "recipe-value"),
        ('[[rule]]\nweights = "int8"', "recipe-rule-selector"),
        ('[[rule]]\nmatch = "a"', "recipe-rule-empty"),
        ('[[rule]]\nmatch = "a"\nweights = "int8"\noptional = "yes"', "recipe-value"),
        ('[[rule]]\nop = "linaer"\nweights = "int8"', "recipe-op-unknown"),
        ('[[rule]]\nmatch = "re:(a"\nweights = "int8"', "recipe-pattern-syntax"),
        ("resolved = 3", "plan-invalid"),
        ('resolved = []\n[default]\nweights = "int8"', "plan-invalid"),
    ],
)
def test_wrong_values_are_refused(text, code):
    assert refused(text).code == code


def test_a_syntax_error_has_line_and_column():
    error = refused('[default]\nweights = "int8\n')
    assert error.code == "recipe-syntax"
    assert error.where == "mine.toml:2:16"
    assert refused("[default").where == "mine.toml, end of file"


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000, "a." * 500 + "a = 1", "a = " + "{b=" * 9_000]
)
def test_what_would_exhaust_the_parser_is_refused(text):
    assert refused(text).code == "recipe-too-complex"


def test_too_many_rules_are_refused():
    assert refused('[[rule]]\nop="linear"\nweights="int8"\n' * 4_097).code == (
        "recipe-too-many-rules"
    )


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"x" * ((1 << 20) + 1), "recipe-too-complex"),
        (b"\xff\xfe", "recipe-unreadable"),
        (b"\x00", "recipe-syntax"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, content, code):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert caught.value.code == code


@pytest.mark.parametrize("content", ["[" * 100_000, "3", "{", '{"resolved": 1' + "0" * 5_000 + "}"])
def test_json_that_is_no_plan(tmp_path: Path, content):
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(UsageError):
        load_recipe(path)


@pytest.mark.parametrize("path", ["missing.toml", "missing.json", "a\0b.toml"])
def test_a_file_that_cannot_be_opened(path):
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert caught.value.code == "recipe-unreadable"


def test_a_folder_is_not_a_recipe(tmp_path: Path):
    with pytest.raises(UsageError) as caught:
        load_recipe(tmp_path)
    assert caught.value.code == "recipe-unreadable"


def test_an_unknown_name_suggests_near_ones():
    with pytest.raises(UsageError) as caught:
        load_recipe("w4a16-g12")
    assert caught.value.code == "recipe-unknown"
    assert "w4a16-g128" in caught.value.next_step
    assert all(name in caught.value.why for name in builtin_names())


def test_a_file_without_its_suffix_is_told_apart(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipe").write_text('default.weights = "int8"')
    with pytest.raises(UsageError) as caught:
        load_recipe("recipe")
    assert caught.value.code == "recipe-unknown"
    assert "ends in .toml" in caught.value.next_step


@pytest.mark.parametrize("spec", [3, ["int8"], b"int8", ""])
def test_other_values_are_no_recipes(spec):
    with pytest.raises(QccError):
        load_recipe(spec)


def test_reading_a_recipe_runs_none_of_it(tmp_path: Path):
    text = "[default]\nweights = \"__import__('os').system('touch canary')\""
    refused(text)
    assert not any(tmp_path.iterdir())
    source = Path(recipe_module.__file__).read_text()
    assert "eval(" not in source
    assert "exec(" not in source
