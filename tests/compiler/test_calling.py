"""Calling a compiled model as the original: names, nesting, dtypes, copies, threads, lost files."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

import qcc
from qcc.compiler.nesting import Record
from qcc.dialects.errors import UsageError

Pair = namedtuple("Pair", ["one", "two"])


@dataclasses.dataclass
class Found:
    logits: Tensor
    rest: Any = None


torch.export.register_dataclass(Found)


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(
        self, tokens: Tensor, extra: list[Tensor], *, scale: dict[str, Tensor], flag: bool
    ) -> dict[str, Any]:
        y = self.layer(tokens) * scale["k"] + extra[0]
        rest = {"none": None, "three": 3, "found": Found(y * 3)}
        return {"y": y, "list": [y + 1, (y,)], "pair": Pair(y, y * 2), **rest}


X, EXTRA, SCALE = torch.randn(2, 4), [torch.ones(3)], {"k": torch.tensor(2.0)}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return Nested().eval()


@pytest.fixture(scope="module")
def module(model: nn.Module) -> qcc.Module:
    shapes = {"tokens": {0: Dim("batch", min=1, max=8)}, "extra": [None], "scale": {"k": None}}
    keywords = {"scale": SCALE, "flag": True}
    program = torch.export.export(
        model, (X, EXTRA), keywords, dynamic_shapes={**shapes, "flag": None}
    )
    return qcc.compile(program)


def test_results_nest_as_in_eager_torch(module: qcc.Module, model: nn.Module) -> None:
    wanted = model(X, EXTRA, scale=SCALE, flag=True)
    flatten, structure = pytree.tree_leaves, pytree.tree_structure
    for got in (
        module(X, EXTRA, scale=SCALE, flag=True),
        module(extra=EXTRA, tokens=X, scale=SCALE),
        module(X, EXTRA[0], SCALE["k"]),
        module(X.to_sparse(), EXTRA, scale=SCALE),
    ):
        assert structure(got) == structure(wanted)
        torch.testing.assert_close(flatten(got), flatten(wanted))


def test_a_loaded_module_needs_none_of_the_classes(module: qcc.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.qcc"
    module.save(path)
    loaded = qcc.load(path)
    path.unlink()
    got = loaded(X.numpy(), [[1, 1, 1]], scale={"k": 2})
    assert got["pair"].two.dtype == np.float32
    assert isinstance(got["found"], Record)
    np.testing.assert_allclose(got["found"].logits, got["y"] * 3)
    loaded.save(path)
    assert qcc.load(path).signature == module.signature


@pytest.mark.parametrize(
    ("args", "keywords", "code"),
    [
        ((X,), {}, "input-count"),
        ((X,), {"scale": SCALE}, "input-count"),
        ((X, EXTRA, SCALE, True, X), {}, "input-count"),
        ((X, EXTRA), {"scale": {"j": X}}, "input-nesting"),
        ((X, 3), {"scale": SCALE}, "input-nesting"),
        ((X, EXTRA), {"scale": SCALE, "flag": False}, "input-constant"),
        ((X, EXTRA), {"scale": SCALE, "flag": None}, "input-constant"),
        ((X, EXTRA), {"scale": SCALE, "flag": "True"}, "input-constant"),
        ((X, EXTRA), {"scale": SCALE, "flag": torch.tensor([True, True])}, "input-constant"),
        ((X, EXTRA), {"scale": SCALE, "flag": np.ones(3)}, "input-constant"),
        ((X, EXTRA), {"scale": SCALE, "other": 1}, "input-name"),
        ((X, EXTRA), {"scale": SCALE, "tokens": X}, "input-name"),
        (("text", EXTRA), {"scale": SCALE}, "input-type"),
        (([[1.0], [2.0, 3.0]], EXTRA), {"scale": SCALE}, "input-type"),
        ((X.double(), EXTRA), {"scale": SCALE}, "input-dtype"),
        ((X.to("meta"), EXTRA), {"scale": SCALE}, "input-type"),
        ((X[:, :3], EXTRA), {"scale": SCALE}, "input-size"),
    ],
)
def test_calls_that_do_not_fit(module, args: Any, keywords: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as refused:
        module(*args, **keywords)
    assert refused.value.code == code


class Fixed(nn.Module):
    def forward(
        self, x: Tensor, sizes: tuple[int, int], fill: float, most: float, name: str
    ) -> dict[str, Any]:
        return {"x": x.reshape(sizes) + len(name), "most": most}


def test_constants_may_be_given_again() -> None:
    given = ((3, 4), float("nan"), float("inf"), "ab")
    module = qcc.compile(Fixed(), (torch.randn(12), *given))
    x = torch.randn(12)
    for sizes in ((3, 4), [np.int64(3), 4.0]):
        got = module(x, sizes, np.float32("nan"), float("inf"), "ab")
        assert torch.equal(got["x"], x.reshape(3, 4) + 2)
    with pytest.raises(UsageError, match=r"most.* is -inf, the model was compiled for inf"):
        module(x, (3, 4), float("nan"), float("-inf"), "ab")
    for fill in (0.0, None, "nan", np.zeros(2)):
        with pytest.raises(UsageError, match="compiled for nan"):
            module(x, (3, 4), fill, float("inf"), "ab")
    with pytest.raises(UsageError, match=r"sizes'?\[0\]. is a Tensor"):
        module(x, torch.ones(2, 2), float("nan"), float("inf"), "ab")


def test_constants_are_kept_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "fixed.qcc"
    qcc.compile(Fixed(), (torch.ones(12), (3, 4), float("nan"), float("-inf"), "ab")).save(path)
    module, x = qcc.load(path), np.ones(12, np.float32)
    assert module(x, (3, 4), np.nan, float("-inf"), "ab")["most"] == float("-inf")
    with pytest.raises(UsageError, match="compiled for nan"):
        module(x, (3, 4), 1.0, float("-inf"), "ab")


@pytest.mark.parametrize(
    ("dtype", "fits", "others"),
    [
        (torch.int32, [2**31 - 1, -(2**31)], ([2**32 + 1, 5], [2**63, 2**63])),
        (torch.uint8, [255, True], ([-1, 30], [300, 1])),
    ],
)
def test_integers_that_the_dtype_cannot_hold(dtype: torch.dtype, fits: Any, others: Any) -> None:
    class Same(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(0)

    module = qcc.compile(Same(), (torch.ones(2, dtype=dtype),))
    assert module(fits).tolist() == [int(each) for each in reversed(fits)]
    for values in others:
        with pytest.raises(UsageError, match="the model takes") as refused:
            module(values)
        assert refused.value.code == "input-range"


def test_sizes_have_the_names_of_their_dimensions(module: qcc.Module) -> None:
    assert module.signature.dims.keys() == {"batch"}
    with pytest.raises(UsageError, match="batch in 1…8"):
        module(torch.ones(9, 4), EXTRA, scale=SCALE)
    assert "tokens: float32[batch, 4]" in repr(module)


def test_copies_are_the_module_and_pickles_are_refused(module: qcc.Module) -> None:
    assert copy.deepcopy(module) is module
    assert copy.copy(module) is module
    with pytest.raises(UsageError, match="pickle"):
        pickle.dumps(module)


def test_threads_take_turns(module: qcc.Module) -> None:
    wanted = module(X, EXTRA, scale=SCALE)["y"]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(module, X, EXTRA, scale=SCALE) for _ in range(8)]
    assert all(torch.equal(call.result()["y"], wanted) for call in calls)


def test_complex_results_are_refused() -> None:
    class Spiral(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.complex(x, x)

    with pytest.raises(qcc.QccError, match="complex"):
        qcc.compile(Spiral(), (X,))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.words(x).relu())


def test_tied_layers_have_the_names_of_their_modules() -> None:
    module = qcc.compile(Tied().eval(), (torch.zeros(2, 3, dtype=torch.int64),), recipe="w8a16")
    assert [layer["name"] for layer in module.report["layers"]] == ["words", "head"]
    assert "qcc.readers" not in module._artifact.read("model.mlir").decode()


def test_the_package_lists_its_names() -> None:
    assert {"compile", "load", "format", "Format", "Module"} <= set(dir(qcc))
    assert repr(qcc.format("mxfp4")) == "Format('mxfp4', 4.25 bits per value)"
