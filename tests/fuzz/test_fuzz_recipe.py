"""
Mutated recipes and plans: each becomes a `Recipe` or a `QccError`, and each recipe that is read
also resolves or is refused. A mutant that hangs runs into pytest's timeout.

`QCC_FUZZ_MUTANTS=10000 pytest tests/fuzz` is the nightly size.
"""

import json
import os
import random
from importlib.resources import files
from pathlib import Path

import pytest

from qcc.compiler.plan import LayerInfo
from qcc.compiler.recipe import builtin_names, load_recipe, recipe_from_toml
from qcc.compiler.recipe_schema import Recipe
from qcc.compiler.resolve import resolve
from qcc.dialects.errors import QccError

MUTANTS = int(os.environ.get("QCC_FUZZ_MUTANTS", "600"))

LAYERS = [
    LayerInfo("embed", "embedding", "embed.weight", (100, 576)),
    *(LayerInfo(f"blocks.{i}.q", "linear", f"q{i}", (64, 96)) for i in range(20)),
    LayerInfo("blocks.0.attention", "attention", None, ()),
    LayerInfo("stem", "conv2d", "stem.weight", (8, 3, 3, 3)),
    LayerInfo("head", "linear", "embed.weight", (100, 576), is_head=True),
]

HAND_WRITTEN = r"""
name = "seed"
[default]
weights = {format = "int4", group = 32, symmetric = false}
activations = "int8"
kv = {k = "int8", v = "none"}
fallback = ["int4<group=16>", {format = "amxfp4", scale = "e4m3"}, "none"]
calibration = "static"
head = "int8"
[[rule]]
match = 're:blocks\.(1|[3-7]|\d{2,4})\.(?:q|k)+$'
weights = "mxfp4"
[[rule]]
match = "blocks.*.[qk]"
op = "linear"
optional = true
activations = "none"
[[rule]]
op = "attention"
kv = "fp8_e4m3"
"""

TOKENS = [
    *('"', "'", '"""', "[", "]", "[[", "]]", "{", "}", "=", ",", ".", "\n", "\\", "#", "\0", "é"),
    *("none", "true", "1e999", "-0", "nan", "inf", "0x", "1979-05-27", "re:", "(", ")*", "{9999}"),
    *("[^", "(?=", "*", "int4", "nvfp4", "<", "group=7", "../x.fmt", "/", "rule", "resolved", "kv"),
    *("default", "null", "\U0001d7dc", "\u202e", "(a*)*" * 9, "a." * 120, "[" * 2_000, "9" * 5_000),
]


def seeds() -> list[str]:
    folder = files("qcc.compiler") / "recipes"
    built_in = [(folder / f"{name}.toml").read_text() for name in builtin_names()]
    return [HAND_WRITTEN, HAND_WRITTEN, *built_in]


def plan_seed() -> str:
    recipe = recipe_from_toml(HAND_WRITTEN, source="seed")
    return json.dumps(resolve(recipe, LAYERS, statistics).as_json(), indent=1)


def statistics(symbol: str) -> tuple[float, float]:
    return (-1.0, 1.0)


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        text = chance.choice(MUTATIONS)(text, chance)
    return text


def _cut(text: str, chance: random.Random) -> str:
    start = chance.randrange(len(text) + 1)
    return text[:start] + text[start + chance.randrange(12) :]


def _truncate(text: str, chance: random.Random) -> str:
    return text[: chance.randrange(len(text) + 1)]


def _insert(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice(TOKENS) + text[at:]


def _flip(text: str, chance: random.Random) -> str:
    if not text:
        return text
    at = chance.randrange(len(text))
    return text[:at] + chr(ord(text[at]) ^ (1 << chance.randrange(8))) + text[at + 1 :]


def _swap_lines(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    chance.shuffle(lines)
    return "\n".join(lines)


def _repeat_line(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    at = chance.randrange(len(lines))
    return "\n".join([*lines[:at], *[lines[at]] * chance.choice([2, 50]), *lines[at + 1 :]])


def _replace_word(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    words[chance.randrange(len(words))] = chance.choice(TOKENS)
    return " ".join(words)


MUTATIONS = [_cut, _truncate, _insert, _flip, _swap_lines, _repeat_line, _replace_word]


def outcome(read) -> str:
    """What became of one mutant; anything but a Recipe or a QccError escapes and fails."""
    try:
        recipe = read()
        assert isinstance(recipe, Recipe)
        resolve(recipe, LAYERS, statistics)
    except QccError as error:
        refusal = error
    else:
        return "resolved"
    assert str(refusal).startswith(f"[{refusal.code}] ")
    return refusal.code


def test_mutated_toml():
    chance, texts = random.Random(20_242), seeds()
    seen = set()
    for number in range(MUTANTS):
        text = mutated(texts[number % len(texts)], chance)
        seen.add(outcome(lambda text=text: recipe_from_toml(text, source="mutant")))
    # The sample reaches past the TOML parser, into the schema and the resolver.
    assert {"resolved", "recipe-syntax", "recipe-key-unknown", "recipe-value"} <= seen
    assert len(seen) >= 8


def test_mutated_bytes_in_a_file(tmp_path: Path):
    chance, path = random.Random(20_241), tmp_path / "mutant.toml"
    for _ in range(MUTANTS // 10):
        content = bytearray(HAND_WRITTEN.encode())
        for _ in range(chance.choice([1, 3, 9])):
            content[chance.randrange(len(content))] = chance.randrange(256)
        path.write_bytes(content)
        outcome(lambda: load_recipe(path))


def test_mutated_plans(tmp_path: Path):
    chance, path = random.Random(20_242), tmp_path / "plan.json"
    seed = plan_seed()
    seen = set()
    for _ in range(MUTANTS // 2):
        path.write_text(mutated(seed, chance), encoding="utf-8", errors="surrogatepass")
        seen.add(outcome(lambda: load_recipe(path)))
    assert {"recipe-syntax", "plan-invalid"} <= seen


VALUES = [None, True, 0, -1, 1e308, "", "int4", "none", "x", [], ["int4"], [None], {}, {1: 2}, b"a"]


@pytest.mark.parametrize("key", ["weights", "activations", "kv", "fallback", "calibration", "head"])
def test_any_python_value_in_a_dict(key):
    for value in [*VALUES, *({"format": value} for value in VALUES)]:
        outcome(lambda value=value: load_recipe({"default": {key: value}}))


@pytest.mark.parametrize("key", ["name", "description", "default", "rule", "resolved", "version"])
def test_any_python_value_at_the_top(key):
    for value in VALUES:
        outcome(lambda value=value: load_recipe({key: value}))


@pytest.mark.parametrize("key", ["match", "op", "optional", "weights"])
def test_any_python_value_in_a_rule(key):
    for value in VALUES:
        rule = {"match": "*", "weights": "int8", key: value}
        outcome(lambda rule=rule: load_recipe({"rule": [rule]}))
