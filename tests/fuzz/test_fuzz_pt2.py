"""
Mutated models and weights: each is read, or refused with a QccError.

QCC_FUZZ_MUTANTS sets the number per file kind (400 by default, 10,000 in the nightly run).
"""

from __future__ import annotations

import json
import os
import random
import zipfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from qcc.compiler.frontend.archive import open_archive
from qcc.compiler.frontend.pt2_reader import read_pt2
from qcc.compiler.frontend.safetensors_source import SafetensorsSource
from qcc.compiler.frontend.weights import WeightSource
from qcc.dialects.errors import QccError

MUTANTS = int(os.environ.get("QCC_FUZZ_MUTANTS", "400"))
ODD_VALUES: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**63 - 1, 2**64, -(2**63), 1.5, "", "x", "s27", [], {}),
    *([[]], [{}], {"as_int": 3}, {"as_none": True}, {"as_tensor": {"name": "x"}}, "NaN"),
    *("Integer(3)", "Mul(Integer(2), Symbol('s27'))", "torch.ops.aten.relu.default", "\x00", "é"),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("table", torch.ones(4), persistent=False)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.linear(x).relu() * self.table
        left, right = y.view(x.shape[0] * 4).view(-1, 4).split([1, 3], -1)
        return left, right.sum(1, keepdim=True)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "net.pt2"
    batch = torch.export.Dim("batch", min=2, max=9)
    exported = torch.export.export(Net().eval(), (torch.ones(3, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(exported, path)
    return path


def flip_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, drop, double or insert a few bytes, most of them in the first or last part."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        if not changed:
            break
        at = rng.choice((rng.randrange(len(changed)), max(0, len(changed) - rng.randint(1, 400))))
        kind = rng.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice((0, 255, 0x22, 0x7B, rng.randrange(256)))
        elif kind == 2:
            del changed[at : at + rng.choice((1, 4, 100))]
        elif kind == 3:
            changed[at:at] = changed[at : at + rng.choice((1, 8, 64))]
        else:
            del changed[at:]
    return bytes(changed)


def places(record: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    found = []
    items = record.items() if isinstance(record, dict) else enumerate(record)
    for key, value in list(items):
        found.append((record, key))
        if isinstance(value, dict | list):
            found += places(value)
    return found


def change_json(record: Any, rng: random.Random) -> bytes:
    """Replace, remove, rename, double or swap a few values anywhere in a JSON value."""
    record = deepcopy(record)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        sites = places(record)
        if not sites:
            break
        container, key = rng.choice(sites)
        other, other_key = rng.choice(sites)
        kind = rng.randrange(5)
        if kind <= 1:
            container[key] = deepcopy(rng.choice(ODD_VALUES))
        elif kind == 2:
            container[key] = deepcopy(other[other_key])
        elif kind == 3:
            del container[key]
        elif isinstance(container, list):
            container.insert(key, deepcopy(container[key]))
        else:
            container[rng.choice(("x", "as_int", "linear.weight", ""))] = container.pop(key)
    return json.dumps(record).encode()


def survey(
    mutate: Callable[[random.Random], bytes], target: Path, read: Callable[[Path], WeightSource]
) -> Counter[int]:
    """What became of the mutants by exit code, 0 for success; any other exception propagates."""
    counts: Counter[int] = Counter()
    for seed in range(MUTANTS):
        target.write_bytes(mutate(random.Random(seed)))
        try:
            with read(target) as source:
                for name in source.names():
                    assert source.read(name).shape == source.info(name).shape
            counts[0] += 1
        except QccError as error:
            counts[error.exit_code] += 1
    assert counts.keys() <= {0, 2, 3, 6, 7}
    return counts


def weights_of(path: Path) -> WeightSource:
    read = read_pt2(path)
    assert read.program.graph_signature.user_inputs
    return read.weights


def test_bytes_of_a_program(program, tmp_path):
    data = program.read_bytes()
    counts = survey(lambda rng: flip_bytes(data, rng), tmp_path / "m.pt2", weights_of)
    assert counts[7] > MUTANTS // 4


def test_json_of_a_program(program, tmp_path):
    """The zip stays sound and its checksums right, so that mutants reach the reader."""
    with open_archive(program) as archive:
        members = {name: archive.read(name, 1 << 20) for name in archive.names()}
    documents = [name for name in members if name.endswith(".json")]
    graph = next(name for name in documents if "/models/" in name)

    def mutate(rng: random.Random) -> bytes:
        name = rng.choice((graph, graph, graph, *documents))
        path = tmp_path / "plain.pt2"
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members.items():
                changed = change_json(json.loads(data), rng) if member == name else data
                archive.writestr(member, changed)
        return path.read_bytes()

    counts = survey(mutate, tmp_path / "m.pt2", weights_of)
    assert counts[7] > MUTANTS // 4
    assert counts[0] > 0


def test_bytes_of_safetensors(tmp_path):
    tensors = {"a": torch.randn(5, 3), "b": torch.ones(7).bfloat16(), "c": torch.tensor(1)}
    save_file(tensors, tmp_path / "w.safetensors", metadata={"format": "pt"})
    data = (tmp_path / "w.safetensors").read_bytes()
    counts = survey(
        lambda rng: flip_bytes(data, rng), tmp_path / "m.safetensors", SafetensorsSource
    )
    assert counts[7] > MUTANTS // 4


def test_header_of_safetensors(tmp_path):
    header = {
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]},
        "__metadata__": {"format": "pt"},
    }

    def mutate(rng: random.Random) -> bytes:
        text = change_json(header, rng)
        return len(text).to_bytes(8, "little") + text + bytes(24)

    counts = survey(mutate, tmp_path / "m.safetensors", SafetensorsSource)
    assert counts[7] > MUTANTS // 4
    assert counts[0] > 0
