"""Safetensors files and exported programs: round trips, ties, random weights as a stream."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from qcc.models import FAMILIES, llama, random_llama
from qcc.models.export import export, save_program
from qcc.models.random_llama import LLAMA_SMALL, write_random_weights
from qcc.models.weights import read_safetensors, write_safetensors

TIED = llama.LlamaConfig(64, 32, 2, 4, 2, 48, tied=True)


@pytest.mark.parametrize("name", ["resnet", "llama", "gpt2"])
def test_weights_round_trip(name: str, tmp_path: Path) -> None:
    sample, path = FAMILIES[name](), tmp_path / "weights.safetensors"
    wanted = sample.module(*sample.inputs)
    write_safetensors(sample.module, path)
    for value in sample.module.state_dict().values():
        value.zero_()
    read_safetensors(sample.module, path)
    assert torch.equal(sample.module(*sample.inputs), wanted)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_tied_tensors_are_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "tied.safetensors"
    write_safetensors(llama.Llama(TIED), path)
    with safe_open(path, "pt") as file:
        assert "embed_tokens.weight" in file.keys()  # noqa: SIM118
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
        assert file.metadata()["lm_head.weight"] == "embed_tokens.weight"


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_safetensors(FAMILIES["mlp"]().module, tmp_path)  # a folder stands there
    assert list(tmp_path.parent.glob("*.partial")) == []


def test_program_round_trip(tmp_path: Path) -> None:
    sample, path = FAMILIES["llama"](), tmp_path / "llama.pt2"
    sample.module.train()
    save_program(export(sample.module, sample.inputs, sample.dynamic_shapes), path)
    assert sample.module.training
    loaded = torch.export.load(path).module()
    longer = torch.arange(40).reshape(2, 20)
    torch.testing.assert_close(loaded(longer), sample.module(longer))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_random_weights_load_and_run(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "random.safetensors"
    write_random_weights(TIED, path, dtype)
    state = safetensors.torch.load_file(path)
    assert {value.dtype for name, value in state.items() if name != "inv_freq"} == {dtype}
    model = llama.Llama(TIED)
    read_safetensors(model, path)
    torch.testing.assert_close(model.inv_freq, llama.inverse_frequencies(TIED), rtol=0, atol=0)
    query = model.layers[0].get_parameter("self_attn.q_proj.weight")
    assert abs(query.std() * 32**0.5 - 1) < 0.1
    assert model(torch.arange(8)[None]).isfinite().all()


def test_random_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first, same, other = (tmp_path / name for name in ("first", "same", "other"))
    write_random_weights(TIED, first)
    write_random_weights(llama.Llama(TIED), same)
    write_random_weights(TIED, other, seed=1)
    assert first.read_bytes() == same.read_bytes() != other.read_bytes()


def test_no_more_than_a_chunk_is_drawn_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random_llama, "CHUNK", 100)
    drawn: list[int] = []
    plain = random_llama.raw

    def counted(values: torch.Tensor) -> bytes:
        drawn.append(values.numel())
        return plain(values)

    monkeypatch.setattr(random_llama, "raw", counted)
    write_random_weights(TIED, tmp_path / "w")
    assert max(drawn) == 100
    read_safetensors(llama.Llama(TIED), tmp_path / "w")


def test_meta_model_exports_without_weights() -> None:
    sample = random_llama.llama_small()
    program = export(*sample)
    assert all(value.is_meta for value in program.state_dict.values())
    assert 24e6 < sum(p.numel() for p in sample.module.parameters()) < 26e6


def test_the_large_shape_has_6_7_billion_parameters() -> None:
    shapes = random_llama.parameter_shapes(random_llama.LLAMA_6_7B)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 6_738_415_616


def test_header_describes_the_whole_file() -> None:
    head = random_llama.header(LLAMA_SMALL, {"a": (3, 5), "b": (7,)}, torch.float16)
    size = int.from_bytes(head[:8], "little")
    assert len(head) == 8 + size
    assert size % 8 == 0
    entries = json.loads(head[8:])
    assert entries["a"]["data_offsets"] == [0, 30]
    assert entries["b"]["data_offsets"] == [30, 44]
    assert entries["inv_freq"] == {"dtype": "F32", "shape": [32], "data_offsets": [44, 172]}
