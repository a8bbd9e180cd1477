"""Each family: deterministic, small, exportable with its free sizes, right at other sizes."""

import subprocess
import sys

import pytest
import torch
from torch.export import Dim
from torch.utils._pytree import tree_map

from qcc.models import FAMILIES, Sample, gpt2, llama, moe, resnet
from qcc.models.export import export


def grown(sample: Sample) -> tuple[torch.Tensor, ...]:
    """The example inputs with each dynamic axis three longer."""
    assert sample.dynamic_shapes is not None
    inputs = list(sample.inputs)
    for place, axes in enumerate(sample.dynamic_shapes):
        for axis in axes:
            start = inputs[place].narrow(axis, 0, 1)
            inputs[place] = torch.cat((inputs[place], start, start, start), dim=axis)
    return tuple(inputs)


@pytest.mark.parametrize("name", FAMILIES)
def test_exports_and_runs_at_other_sizes(name: str) -> None:
    sample = FAMILIES[name]()
    program = export(sample.module, sample.inputs, sample.dynamic_shapes).module()
    for inputs in (sample.inputs, grown(sample)):
        torch.testing.assert_close(program(*inputs), sample.module(*inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_is_small_frozen_and_the_same_twice(name: str) -> None:
    state = torch.random.get_rng_state()
    first, second = FAMILIES[name](), FAMILIES[name]()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert sum(p.numel() for p in first.module.parameters()) < 1_000_000
    assert not first.module.training
    assert not any(p.requires_grad for p in first.module.parameters())
    tree_map(torch.testing.assert_close, first.module.state_dict(), second.module.state_dict())
    output = first.module(*first.inputs)
    assert torch.equal(output, second.module(*second.inputs))
    assert output.isfinite().all()
    assert output.std() > 1e-3


@pytest.mark.parametrize("name", FAMILIES)
def test_each_example_of_the_batch_counts(name: str) -> None:
    """Examples neither collapse to one answer nor depend on their neighbours."""
    sample = FAMILIES[name]()
    whole = sample.module(*sample.inputs)
    assert not torch.allclose(whole[0], whole[1], atol=1e-4)
    alone = sample.module(*(value[1:2] for value in sample.inputs))
    torch.testing.assert_close(alone, whole[1:2], rtol=1e-4, atol=1e-5)


def test_listing_the_families_imports_no_torch() -> None:
    code = "import sys, qcc.models as m; assert m.FAMILIES; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_llama_costs_32_nodes_a_layer() -> None:
    def nodes(layers: int) -> int:
        config = llama.LlamaConfig(32, 16, layers, 4, 2, 32)
        program = export(llama.Llama(config), (torch.zeros((1, 4), dtype=torch.int64),))
        return sum(node.op == "call_function" for node in program.graph.nodes)

    assert nodes(3) - nodes(2) == 32


def test_rotation_by_rolling_is_the_usual_half_split_one() -> None:
    model = llama.tiny()
    cos, sin = model.rotary(torch.zeros((1, 9), dtype=torch.int64))
    x = torch.randn(2, 4, 9, 16, generator=torch.Generator().manual_seed(3))
    angles = torch.arange(9.0)[:, None] * 10000.0 ** (-torch.arange(0.0, 16.0, 2.0) / 16)
    low, high = x[..., :8], x[..., 8:]
    turned_low = low * angles.cos() - high * angles.sin()
    turned_high = high * angles.cos() + low * angles.sin()
    wanted = torch.cat((turned_low, turned_high), dim=-1)
    torch.testing.assert_close(llama.rotate(x, cos, sin), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("build", [llama.tiny, gpt2.tiny])
def test_decoders_see_no_future(build) -> None:
    tokens = torch.arange(12)[None]
    changed = tokens.clone()
    changed[0, 8:] += 3
    before, after = build()(tokens), build()(changed)
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:], atol=1e-4)


def test_padding_does_not_change_bert() -> None:
    sample = FAMILIES["bert"]()
    tokens, mask = sample.inputs
    padded = sample.module(tokens, mask)
    cut = sample.module(tokens[1:, :7], mask[1:, :7])
    torch.testing.assert_close(padded[1:, :7], cut, rtol=1e-4, atol=1e-5)


def test_moe_gates_are_the_softmax_of_the_best_two() -> None:
    block = moe.tiny()
    x = moe.example_inputs()[0]
    gates, scores = block.gates(x), block.router(x)
    assert ((gates > 0).sum(-1) == 2).all()
    kept = torch.where(gates > 0, scores, -torch.inf).softmax(-1)
    torch.testing.assert_close(gates, kept)
    best = scores.argmax(-1, keepdim=True)
    assert (gates.gather(-1, best) > 0).all()


@pytest.mark.parametrize(
    ("build", "count"), [(resnet.resnet20, 269_722), (resnet.resnet56, 853_018)]
)
def test_cifar_resnets_have_the_published_size(build, count: int) -> None:
    assert sum(p.numel() for p in build().parameters()) == count


def test_tied_head_stays_tied_through_export() -> None:
    config = llama.LlamaConfig(32, 16, 1, 2, 1, 32, tied=True)
    tokens = torch.zeros((1, 4), dtype=torch.int64)
    program = export(llama.Llama(config), (tokens,), ({1: Dim("time", min=2, max=64)},))
    state = program.state_dict
    assert state["lm_head.weight"].data_ptr() == state["embed_tokens.weight"].data_ptr()
