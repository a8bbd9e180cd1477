"""The model families through a `.pt2` file and back, and by the name of their factory."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch.utils import _pytree as pytree

from qcc.compiler.frontend.sources import open_model, with_values
from qcc.models import FAMILIES


def equal(got, want):
    pairs = zip(pytree.tree_leaves(got), pytree.tree_leaves(want), strict=True)
    return all(torch.equal(ours, theirs) for ours, theirs in pairs)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_archive_computes_what_the_family_computes(family, tmp_path):
    module, inputs, shapes = FAMILIES[family]()
    program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "m.pt2")
    with open_model(str(tmp_path / "m.pt2")) as opened:
        assert opened.program.graph_module.code == program.graph_module.code
        module.requires_grad_(False)
        assert equal(with_values(opened)(*inputs), module(*inputs))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_factory_and_weights_compute_what_the_family_computes(family, tmp_path):
    module, inputs, _ = FAMILIES[family]()
    module.requires_grad_(False)
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    spec = f"qcc.models.{family}:tiny"
    with open_model(spec, tmp_path / "w.safetensors") as opened:
        assert equal(with_values(opened)(*inputs), module(*inputs))
