"""
Hostile `.pt2` archives: every way into torch's own loader, and those of a graph compiled to Python.

Each archive carries a payload that would make a folder; it must never appear.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qcc.compiler.frontend.sources import open_model, with_values
from qcc.dialects.errors import IntegrityError, QccError, UnsupportedError

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Canary:
    """Unpickling this makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class Hostile:
    """Archives made from a good one, and the folder that must not come into being."""

    def __init__(self, folder: Path, good: Path, rewrite: Callable[..., Path]) -> None:
        self.folder, self.good, self.rewrite = folder, good, rewrite
        self.canary = folder / "fired"
        self.code = f"__import__('os').mkdir({str(self.canary)!r})"

    def member(self, name: str) -> dict[str, Any]:
        with zipfile.ZipFile(self.good) as archive:
            root = archive.namelist()[0].partition("/")[0]
            return json.loads(archive.read(f"{root}/{name}"))

    def edited(self, name: str, edit: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
        record = self.member(name)
        edit(record)
        return {name: json.dumps(record).encode()}

    def pickled(self) -> bytes:
        buffer = io.BytesIO()
        torch.save(Canary(self.canary), buffer)
        return buffer.getvalue()

    def open(self, changes: dict[str, bytes | None]) -> None:
        """Open and run; the canary must be silent whatever else happens."""
        path = self.rewrite(self.good, self.folder / "hostile.pt2", changes)
        try:
            with open_model(str(path)) as opened:
                module = with_values(opened)
                module(torch.ones(4, 8), scale=torch.ones(1))
        finally:
            assert not self.canary.exists()

    def refused(
        self, changes: dict[str, bytes | None], kind: type[QccError] | tuple = IntegrityError
    ) -> str:
        with pytest.raises(kind) as caught:
            self.open(changes)
        return str(caught.value)


@pytest.fixture
def hostile(tmp_path, saved, rewrite_archive) -> Hostile:
    return Hostile(tmp_path, saved("mixed"), rewrite_archive)


def graph_of(record: dict[str, Any]) -> dict[str, Any]:
    return record["graph_module"]["graph"]


def first_call(record: dict[str, Any], target: str) -> dict[str, Any]:
    return next(node for node in graph_of(record)["nodes"] if target in node["target"])


def test_the_rewritten_copy_itself_is_good(hostile):
    hostile.open({})


def test_pickled_sample_inputs_are_not_read(hostile):
    hostile.open({"data/sample_inputs/model.pt": hostile.pickled()})
    hostile.open({"data/sample_inputs/model.pt": pickle.dumps(Canary(hostile.canary))})
    hostile.open({"data/sample_inputs/model.pt": None})


@pytest.mark.parametrize("config", [WEIGHTS, CONSTANTS])
def test_pickled_tensor(hostile, config):
    name, payload = next(iter(hostile.member(config)["config"].items()))
    folder = config.rpartition("/")[0]

    def edit(record):
        record["config"][name]["use_pickle"] = True

    changes = hostile.edited(config, edit)
    changes[f"{folder}/{payload['path_name']}"] = hostile.pickled()
    assert "is pickled" in hostile.refused(changes)


@pytest.mark.parametrize("prefix", ["opaque_obj_0", "custom_obj_0", "../weights/weight_0"])
def test_constant_with_the_name_of_an_object(hostile, prefix):
    name = next(iter(hostile.member(CONSTANTS)["config"]))

    def edit(record):
        record["config"][name]["path_name"] = prefix

    changes = hostile.edited(CONSTANTS, edit)
    assert "lies in" in hostile.refused(changes)
    if "/" not in prefix:
        hostile.refused({**changes, f"data/constants/{prefix}": hostile.pickled()})


@pytest.mark.parametrize(
    "member",
    [
        "data/weights/model.pt",
        "data/constants/model.pt",
        "data/aotinductor/model/x.so",
        "data/executorch/model.pte",
        "xl_model_weights/model_param_config",
        "data/mtia/x",
        "models/other.json",
        "code/__torch__.py",
        "data.pkl",
    ],
)
def test_member_that_may_carry_code(hostile, member):
    assert "refused" in hostile.refused({member: hostile.pickled()})


def everywhere_a_size_is_written(record: dict[str, Any]) -> list[dict[str, Any]]:
    graph = graph_of(record)
    metas = [graph["tensor_values"][name] for name in ("x", "linear")]
    places = [meta[key] for meta in metas for key in ("sizes", "strides")]
    return [*(place[0] for place in places), *(meta["storage_offset"] for meta in metas)]


@pytest.mark.parametrize("place", range(6))
def test_size_text(hostile, place):
    def edit(record):
        size = everywhere_a_size_is_written(record)[place]
        size.clear()
        size["as_expr"] = {"expr_str": hostile.code, "hint": {"as_int": 4}}

    assert "pt2-size-expression" in hostile.refused(hostile.edited(GRAPH, edit))


def test_named_size_text(hostile):
    def edit(record):
        graph_of(record)["sym_int_values"]["evil"] = {"as_expr": {"expr_str": hostile.code}}

    assert "pt2-size-expression" in hostile.refused(hostile.edited(GRAPH, edit))


def test_guard_code_is_dropped(hostile):
    hostile.open(hostile.edited(GRAPH, lambda record: record["guards_code"].append(hostile.code)))


@pytest.mark.parametrize(
    "target",
    [
        "builtins.eval",
        "os.mkdir",
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "_operator.attrgetter",
        "_operator.methodcaller",
        "math.__loader__.load_module",
        "torch.ops.aten.__class__.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.set_.source_Tensor",
        "torch.ops.aten.add.out",
        "torch.ops.aten.add",
        "torch.ops.aten.linear.default\n",
        "torch.ops.higher_order.cond",
        "torch.ops.mylib.op.default",
        "#ext:op",
        "",
    ],
)
def test_graph_targets(hostile, target):
    def edit(record):
        first_call(record, "linear")["target"] = target

    hostile.refused(hostile.edited(GRAPH, edit), (IntegrityError, UnsupportedError))


INJECTION = "x\n    {code}\n    y"


def test_value_names_never_become_code(hostile):
    """torch.fx writes names of inputs into Python source and compiles it."""
    evil = INJECTION.format(code=hostile.code)
    text = json.dumps(hostile.member(GRAPH))
    for name in ("x", "p_linear_weight", "scale"):
        changed = text.replace(f'"name": "{name}"', f'"name": {json.dumps(evil)}')
        changed = changed.replace(f'"{name}": {{"dtype"', f'{json.dumps(evil)}: {{"dtype"')
        assert changed != text
        assert "pt2-malformed" in hostile.refused({GRAPH: changed.encode()})


@pytest.mark.parametrize("evil", ['a") or {code} or ("', "a.__class__", "__dict__", "a.", "a b"])
def test_parameter_names_never_become_code(hostile, evil):
    """torch.fx quotes odd attribute names into getattr(…) without escaping."""
    evil = evil.format(code=hostile.code)
    changes: dict[str, bytes | None] = {}
    for member in (GRAPH, WEIGHTS):
        text = json.dumps(hostile.member(member))
        changed = text.replace('"linear.weight"', json.dumps(evil))
        assert changed != text
        changes[member] = changed.encode()
    assert "pt2-malformed" in hostile.refused(changes)


def test_argument_names_never_become_code(hostile):
    evil = f"scale={hostile.code}"

    def keyword(record):
        signature = record["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = signature["in_spec"].replace("scale", evil)
        signature["forward_arg_names"] = None

    def positional(record):
        signature = record["graph_module"]["module_call_graph"][0]["signature"]
        signature["forward_arg_names"] = [evil, "scale"]

    for edit in (keyword, positional):
        hostile.refused(hostile.edited(GRAPH, edit))


def test_classes_in_the_nesting_are_not_looked_up(hostile):
    def edit(record):
        signature = record["graph_module"]["module_call_graph"][0]["signature"]
        signature["out_spec"] = signature["out_spec"].replace("builtins.tuple", "os.mkdir")

    hostile.open(hostile.edited(GRAPH, edit))


def test_text_in_metadata_stays_text(hostile):
    def edit(record):
        for node in graph_of(record)["nodes"]:
            node["metadata"] = {
                "stack_trace": hostile.code,
                "nn_module_stack": f"{hostile.code},{hostile.code},{hostile.code}",
                "source_fn_stack": f"a,{hostile.code}",
                "custom": hostile.code,
                "from_node": hostile.code,
            }

    hostile.open(hostile.edited(GRAPH, edit))


def test_text_arguments_stay_text(hostile):
    def edit(record):
        node = first_call(record, "linear")
        node["inputs"][0]["arg"] = {"as_string": f"') or {hostile.code} or ('"}

    hostile.refused(hostile.edited(GRAPH, edit))


@pytest.mark.parametrize(
    "argument",
    [
        {"as_graph": {"name": "g", "graph": {}}},
        {"as_custom_obj": {"name": "o", "class_fqn": "c"}},
        {"as_operator": "os.mkdir"},
        {"as_string_to_argument": {"a": {"as_int": 1}}},
        {"as_tensor": {"name": "nowhere"}},
        {"as_tensor": {"name": "x"}, "as_int": 1},
        {"as_int": 2**70},
        {},
        {"as_scalar_type": 99},
        {"as_device": {"type": "evil", "index": None}},
    ],
)
def test_arguments(hostile, argument):
    def edit(record):
        first_call(record, "linear")["inputs"][1]["arg"] = argument

    hostile.refused(hostile.edited(GRAPH, edit), (IntegrityError, UnsupportedError))


def weights_edit(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def edit(record: dict[str, Any]) -> None:
        change(record["config"]["linear.weight"]["tensor_meta"])

    return edit


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.update(storage_offset={"as_int": 1}),
        lambda meta: meta.update(storage_offset={"as_int": -1}),
        lambda meta: meta.update(sizes=[{"as_int": 8}, {"as_int": 9}]),
        lambda meta: meta.update(sizes=[{"as_int": 8}]),
        lambda meta: meta.update(sizes=[{"as_int": 2**40}, {"as_int": 8}]),
        lambda meta: meta.update(
            sizes=[{"as_int": 2**40}, {"as_int": 8}], strides=[{"as_int": 0}, {"as_int": 1}]
        ),
        lambda meta: meta.update(strides=[{"as_int": -8}, {"as_int": 1}]),
        lambda meta: meta.update(strides=[{"as_int": 9}, {"as_int": 1}]),
        lambda meta: meta.update(dtype=8),
        lambda meta: meta.update(dtype=0),
        lambda meta: meta.update(layout=1),
    ],
)
def test_stored_tensors_stay_in_their_bytes(hostile, change):
    hostile.refused(
        hostile.edited(WEIGHTS, weights_edit(change)), (IntegrityError, UnsupportedError)
    )


@pytest.mark.parametrize("version", [{"major": 7, "minor": 0}, {"major": 9, "minor": 0}, None])
def test_schema_version(hostile, version):
    hostile.refused(hostile.edited(GRAPH, lambda record: record.update(schema_version=version)))


@pytest.mark.parametrize("key", ["graph_module", "range_constraints", "opset_version"])
def test_missing_and_unknown_fields(hostile, key):
    hostile.refused(hostile.edited(GRAPH, lambda record: record.pop(key)))
    hostile.refused(hostile.edited(GRAPH, lambda record: record.update(surprise=1)))


def test_missing_members(hostile):
    for member in (GRAPH, WEIGHTS, CONSTANTS, "data/weights/weight_0"):
        hostile.refused({member: None})


def test_big_endian_archive(hostile):
    assert "byteorder" in hostile.refused({"byteorder": b"big"})


def test_unbounded_work(hostile):
    def pieces(record):
        node = first_call(record, "split")
        node["target"] = "torch.ops.aten.split.Tensor"
        node["inputs"][1] = {"name": "split_size", "arg": {"as_int": 1}, "kind": 1}
        size = 2**40
        first = graph_of(record)["tensor_values"]["scale"]
        first.update(sizes=[{"as_int": size}], strides=[{"as_int": 1}])
        node["inputs"][0]["arg"] = {"as_tensor": {"name": "scale"}}
        node["inputs"][2]["arg"] = {"as_int": 0}

    def power(record):
        number = {"as_int": 10**9}
        graph_of(record)["nodes"].insert(
            0,
            {
                "target": "_operator.pow",
                "inputs": [{"name": n, "arg": number, "kind": 1} for n in "ab"],
                "outputs": [{"as_sym_int": {"as_name": "huge"}}],
                "metadata": {},
                "is_hop_single_tensor_return": None,
                "name": "huge",
            },
        )

    for edit in (pieces, power):
        hostile.refused(hostile.edited(GRAPH, edit))


def test_errors_name_the_users_line(hostile):
    def edit(record):
        first_call(record, "linear")["target"] = "torch.ops.aten.bernoulli.p"

    message = hostile.refused(hostile.edited(GRAPH, edit), UnsupportedError)
    assert "bernoulli" in message
    assert "self.linear(x @ self.turned)" in message
