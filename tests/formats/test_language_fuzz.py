"""Mutated definitions either still define a usable format or fail as a QccError."""

import os
import random
import re
from importlib.resources import files

import numpy as np
import pytest

from qcc.dialects.errors import QccError
from qcc.dialects.formats import available, format, from_definition, parse_spelling

MUTANTS = int(os.environ.get("QCC_FUZZ_MUTANTS", "600"))
TOKENS = '{ } ; = | $ < > [ ] , @ # " 0 -1 99999999999 1e400 nan none true tensor element scale'
WORDS = [
    *TOKENS.split(),
    "when",
    "option",
    "float",
    "int 1 to 0",
    "table",
    "\n",
    "\0",
    "\udc80",
    "é",
]


def definitions() -> list[str]:
    folder = files("qcc.dialects.formats").joinpath("builtin")
    paths = sorted(folder.iterdir(), key=lambda path: path.name)
    return [path.read_text("utf-8") for path in paths if path.name.endswith(".fmt")]


def mutated(text: str, chance: random.Random) -> str:
    """Half of the time swap words for others, else cut, repeat or insert anywhere."""
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.5:
            words = list(re.finditer(r"[\w.-]+", text)) or [re.compile("$").search(text)]
            old, new = chance.choice(words), chance.choice(words)
            assert old is not None
            assert new is not None
            number = str(chance.choice([0, 1, 2, 3, 7, 8, 16, 31, 0.5, -2, 1e30]))
            piece = number if chance.random() < 0.4 else new[0]
            text = text[: old.start()] + piece + text[old.end() :]
            continue
        at = chance.randrange(len(text) + 1)
        stop = min(len(text), at + chance.choice([0, 1, 3, 20, 200]))
        piece = chance.choice(WORDS) if chance.random() < 0.6 else text[stop : stop + 30]
        text = text[:at] + piece + text[stop:]
    return text


def a_member(text: str) -> str | None:
    """The first format of a family."""
    family = re.search(r"^family (\w+) \w+ = \[(\d+)", text, re.MULTILINE)
    return family and family[1] + family[2]


@pytest.mark.parametrize("seed", range(6))
def test_mutated_definitions(seed: int) -> None:
    chance, originals = random.Random(seed), definitions()
    x = np.random.default_rng(seed).standard_normal((2, 40)).astype(np.float32)
    outcomes = {"refused": 0, "usable": 0}
    for _ in range(MUTANTS // 6):
        text = mutated(chance.choice(originals), chance)
        try:
            fmt = from_definition(text, a_member(text))
            q = fmt.quantize(x)
            assert q.dequantize().shape == x.shape
            assert parse_spelling(fmt.spelling) == fmt
            outcomes["usable"] += 1
        except QccError:
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 0


def test_mutated_spellings() -> None:
    chance = random.Random(0)
    spellings = ["int4<group=32,symmetric=false>", "nvfp4<two_level=true,tensor_scale=0.5>"]
    spellings += list(available())
    refused = 0
    for _ in range(MUTANTS):
        text = mutated(chance.choice(spellings), chance)
        try:
            format(text)
        except QccError:
            refused += 1
    assert 0 < refused <= MUTANTS
