"""Every way in gives a program that computes exactly what the module computes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from qcc.compiler.frontend.sources import from_module, from_program, open_model, with_values
from qcc.dialects.errors import UsageError


def assert_same(module, original, case):
    for args, kwargs in case.others:
        got, want = module(*args, **kwargs), original(*args, **kwargs)
        assert pytree.tree_structure(got) == pytree.tree_structure(want)
        for ours, theirs in zip(pytree.tree_leaves(got), pytree.tree_leaves(want), strict=True):
            assert torch.equal(ours, theirs)


def test_archive_computes_what_the_module_computes(each_case, saved):
    with open_model(str(saved(each_case.name))) as opened:
        tensors = opened.program.state_dict.values()
        assert all(isinstance(t, FakeTensor) or isinstance(t.data, FakeTensor) for t in tensors)
        assert_same(with_values(opened), copy.deepcopy(each_case.module), each_case)


def test_module_computes_what_it_computed(each_case):
    if each_case.kwargs:
        opened = from_program(each_case.export())
    else:
        opened = from_module(each_case.module, each_case.args, each_case.dynamic_shapes)
    assert_same(with_values(opened), copy.deepcopy(each_case.module), each_case)


def test_read_graph_equals_the_exported_one(each_case, saved):
    exported = each_case.export()
    with open_model(str(saved(each_case.name))) as opened:
        assert opened.program.graph_module.code == exported.graph_module.code
        assert opened.program.graph_signature == exported.graph_signature
        assert opened.program.range_constraints.items() <= exported.range_constraints.items()


def test_derived_shapes_equal_the_exported_ones(each_case, saved):
    exported = {node.name: node.meta.get("val") for node in each_case.export().graph.nodes}
    with open_model(str(saved(each_case.name))) as opened:
        for node in opened.program.graph.nodes:
            value = node.meta["val"]
            if isinstance(value, torch.Tensor):
                assert str(value.shape) == str(exported[node.name].shape)
                assert value.dtype == exported[node.name].dtype


def test_read_program_decomposes(each_case, saved):
    with open_model(str(saved(each_case.name))) as opened:
        calls = opened.program.run_decompositions().graph.find_nodes(
            op="call_function", target=torch.ops.aten.linear.default
        )
        assert not calls


def test_nodes_name_the_users_line(saved):
    with open_model(str(saved("mlp"))) as opened:
        call = next(n for n in opened.program.graph.nodes if n.op == "call_function")
        assert "return self.layers(x)" in call.meta["stack_trace"]


def test_ties_survive(saved, make_case):
    with (
        open_model(str(saved("llama"))) as opened,
        from_module(make_case("llama").module, make_case("llama").args) as held,
    ):
        for weights in (opened.weights, held.weights):
            assert weights.info("head.weight") == weights.info("embed.weight")
            assert weights.info("head.weight") != weights.info("norm.weight")


def test_training_flags_and_global_state_are_left_alone(make_case):
    module = make_case("conv").module.train()
    state = torch.random.get_rng_state()
    from_module(module, make_case("conv").args)
    assert all(part.training for part in module.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_input_hash_follows_content(saved, make_case, tmp_path, rewrite_archive):
    path = saved("mlp")
    again = tmp_path / "again.pt2"
    again.write_bytes(path.read_bytes())
    with open_model(str(path)) as first, open_model(str(again)) as second:
        assert first.input_hash == second.input_hash
    module = make_case("mlp").module
    before = from_module(module, make_case("mlp").args).input_hash
    with torch.no_grad():
        module.layers[0].bias[0] += 1
    assert from_module(module, make_case("mlp").args).input_hash != before


def test_program_without_values_needs_weights():
    with torch.device("meta"):
        module, x = torch.nn.Linear(4, 4), torch.empty(2, 4)
    with pytest.raises(UsageError, match="no values") as caught:
        from_module(module, (x,))
    assert caught.value.code == "weights-needed"


def test_only_constants_of_the_code_are_real(saved):
    with open_model(str(saved("mixed"))) as opened:
        constants: dict[str, Any] = opened.program.constants
        assert torch.equal(constants["lifted_tensor_0"], torch.tensor([1.0, 2.0] * 4))
        assert torch.equal(constants["table"], torch.arange(8.0))
    with open_model(str(saved("llama"))) as opened:
        tables = opened.program.constants
        assert tables
        assert all(isinstance(tensor, FakeTensor) for tensor in tables.values())
