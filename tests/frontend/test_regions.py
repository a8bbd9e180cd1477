"""`.pt2` programs with no_grad and autocast in them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from qcc.compiler.frontend.sources import open_model, with_values
from qcc.dialects.errors import IntegrityError, UnsupportedError


class Angles(nn.Module):
    """Rotary angles as Hugging Face computes them; the region takes a size, too."""

    def __init__(self, enabled: bool) -> None:
        super().__init__()
        self.enabled = enabled
        self.scale = nn.Linear(8, 8)

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.scale(x)
        with torch.autocast("cpu", enabled=self.enabled):
            angles = y.float() @ torch.ones(8, x.shape[0]).cumsum(0)
            return angles.cos(), angles.sin() + y[:, :1]


def save(path: Path, enabled: bool = False) -> nn.Module:
    module = Angles(enabled)
    free = ({0: Dim("rows", min=2, max=9)},)
    torch.export.save(torch.export.export(module, (torch.randn(3, 8),), dynamic_shapes=free), path)
    return module


def test_regions_are_read_in_place(tmp_path: Path) -> None:
    module = save(tmp_path / "m.pt2")
    with open_model(str(tmp_path / "m.pt2")) as opened:
        x = torch.randn(5, 8)
        for got, wanted in zip(with_values(opened)(x), module(x), strict=True):
            assert torch.equal(got, wanted)


def test_enabled_autocast_is_refused_with_the_way_out(tmp_path: Path) -> None:
    save(tmp_path / "m.pt2", enabled=True)
    with pytest.raises(UnsupportedError) as refused:
        open_model(str(tmp_path / "m.pt2"))
    assert refused.value.code == "pt2-autocast"
    assert "test_regions.py:" in refused.value.where
    assert "run_decompositions" in refused.value.next_step


def graph(node: dict[str, Any]) -> dict[str, Any]:
    """A region's graph of no inputs that calls `node`."""
    return {
        "inputs": [],
        "outputs": node["outputs"],
        "nodes": [node],
        "tensor_values": {},
        "sym_int_values": {},
        "sym_bool_values": {},
    }


def holding(node: dict[str, Any]) -> list[dict[str, Any]]:
    no = {"name": "", "arg": {"as_bool": False}, "kind": 1}
    return [no, {"name": "", "arg": {"as_graph": {"name": "g", "graph": graph(node)}}, "kind": 1}]


EDITS: dict[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = {
    "nothing": lambda node: [],
    "no graph": lambda node: [{"name": "", "arg": {"as_bool": False}, "kind": 1}] * 2,
    "a value too many": lambda node: [*holding(node), node["inputs"][0]],
    "an operator that is not listed": lambda node: holding(
        {**node, "target": "torch.ops.aten.from_file.default"}
    ),
    "a value from outside": holding,
    "an empty graph": lambda node: [
        *holding(node)[:1],
        {"name": "", "arg": {"as_graph": {"name": "g", "graph": {}}}, "kind": 1},
    ],
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_damaged_regions_are_refused(
    edit: Callable[[dict[str, Any]], list[dict[str, Any]]], saved, rewrite_archive, tmp_path: Path
) -> None:
    good = saved("mixed")
    with zipfile.ZipFile(good) as archive:
        member = next(name for name in archive.namelist() if name.endswith("models/model.json"))
        record = json.loads(archive.read(member))
    nodes = record["graph_module"]["graph"]["nodes"]
    node = next(node for node in nodes if "linear" in node["target"])
    inputs = edit(dict(node))
    node |= {"target": "torch.ops.higher_order.wrap_with_set_grad_enabled", "inputs": inputs}
    changes = {"models/model.json": json.dumps(record).encode()}
    with pytest.raises((IntegrityError, UnsupportedError)):
        open_model(str(rewrite_archive(good, tmp_path / "bad.pt2", changes)))
