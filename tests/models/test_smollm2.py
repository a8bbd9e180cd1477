"""GGUF files: small made ones, and SmolLM2 where its package is installed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qcc.models import evaluate, llama, smollm2
from qcc.models.assets import Asset, AssetError
from qcc.models.export import export
from qcc.models.generate import greedy
from qcc.models.seeding import seeded

gguf = pytest.importorskip("gguf", reason="needs the package gguf (pip install 'qcc[models]')")
pytest.importorskip("tokenizers", reason="needs tokenizers (pip install 'qcc[models]')")

Shared = Callable[[str], Path]
TOKENS = ["<end>", "1", "2", "a", "b", "ab", "Ġ", "Ġab"]
TINY = llama.LlamaConfig(len(TOKENS), 64, 2, 4, 2, 96, rope_base=5e4, norm_eps=2.0**-17)


def interleaved(weight: torch.Tensor, heads: int) -> np.ndarray:
    """The row order of GGUF files: row j * half + i of a head goes to 2i + j."""
    rows, half = weight.shape[0], weight.shape[0] // heads // 2
    order = [
        head * 2 * half + j * half + i for head in range(heads) for i in range(half) for j in (0, 1)
    ]
    assert len(order) == rows
    return weight[order].numpy()


def gguf_names(config: llama.LlamaConfig) -> dict[str, str]:
    names = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
    for index in range(config.layers):
        for theirs, ours in smollm2.LAYER_NAMES.items():
            names[f"blk.{index}.{theirs}"] = f"layers.{index}.{ours}"
    return names


def write_gguf(
    path: Path, model: llama.Llama, quantization: Any = None, architecture: str = "llama"
) -> None:
    config, state = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_feed_forward_length(config.hidden)
    writer.add_rope_freq_base(config.rope_base)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] + [1] * (len(TOKENS) - 1))
    writer.add_token_merges(["a b", "Ġ ab"])
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    for theirs, ours in gguf_names(config).items():
        if config.tied and theirs == "output":
            continue
        kind, weight = theirs.rsplit(".", 1)[-1], state[f"{ours}.weight"]
        values = interleaved(weight, heads[kind]) if kind in heads else weight.numpy()
        if quantization is not None and values.ndim == 2:
            packed = gguf.quantize(values, quantization)
            writer.add_tensor(f"{theirs}.weight", packed, raw_dtype=quantization)
        else:
            writer.add_tensor(f"{theirs}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny(tied: bool) -> llama.Llama:
    return seeded(lambda: llama.Llama(replace(TINY, tied=tied)))


@pytest.mark.parametrize("tied", [True, False])
def test_gguf_round_trip(tied: bool, tmp_path: Path) -> None:
    model = tiny(tied)
    write_gguf(tmp_path / "tiny.gguf", model)
    loaded = smollm2.load(tmp_path / "tiny.gguf")
    assert loaded.config == model.config
    assert (loaded.lm_head.weight is loaded.embed_tokens.weight) == tied
    tokens = torch.arange(16).reshape(2, 8) % len(TOKENS)
    torch.testing.assert_close(loaded(tokens), model(tokens), rtol=0, atol=0)
    assert not loaded.training


def test_quantized_gguf_is_decoded(tmp_path: Path) -> None:
    model = tiny(tied=True)
    write_gguf(tmp_path / "tiny.gguf", model, gguf.GGMLQuantizationType.Q4_1)
    loaded = smollm2.load(tmp_path / "tiny.gguf").state_dict()
    for name, value in model.state_dict().items():
        error = (loaded[name] - value).abs().max()
        step = value.max() - value.min()
        assert error <= step / 15 * 0.55, name
        assert (error > 0) == (value.ndim == 2), name


def test_half_split_and_interleaved_rotary_attend_alike() -> None:
    """Scores q·k do not change when rows are reordered and pairs with them."""
    source = torch.Generator().manual_seed(5)
    stored, x = (torch.randn(shape, generator=source) for shape in ((16, 12), (7, 12)))
    angles = torch.arange(7.0)[:, None] * 10000.0 ** (-torch.arange(0.0, 8.0, 2.0) / 8)
    cos, sin = angles.cos(), angles.sin()
    pairs = (x @ stored.T).reshape(7, 2, 8).transpose(0, 1)
    even, odd = pairs[..., 0::2], pairs[..., 1::2]
    one = torch.cat((even * cos - odd * sin, odd * cos + even * sin), dim=-1)
    split = (x @ smollm2.half_split(stored, 2).T).reshape(7, 2, 8).transpose(0, 1)
    other = llama.rotate(split, torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1))
    torch.testing.assert_close(one @ one.mT, other @ other.mT, rtol=1e-4, atol=1e-4)


def test_gguf_tokenizer(tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf", tiny(tied=True))
    tokenizer = smollm2.load_tokenizer(tmp_path / "tiny.gguf")
    ids = tokenizer.encode("ab ab12<end>").ids
    assert [TOKENS[index] for index in ids] == ["ab", "Ġab", "1", "2", "<end>"]
    assert tokenizer.decode(ids) == "ab ab12"


def test_gguf_that_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    with pytest.raises(AssetError, match="does not exist"):
        smollm2.load(path)
    path.write_bytes(b"GGUF" + bytes(2))
    with pytest.raises(AssetError, match="not a readable GGUF"):
        smollm2.load(path)
    write_gguf(path, tiny(tied=True))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AssetError, match="not a readable GGUF"):
        smollm2.load(path)
    write_gguf(path, tiny(tied=True), architecture="gemma")
    with pytest.raises(AssetError, match=r"'gemma'.*use a `llama`"):
        smollm2.load(path)


def test_unknown_tensor_name() -> None:
    with pytest.raises(AssetError, match=r"unexpected tensor 'blk\.0\.attn_qkv\.weight'"):
        smollm2.module_name("blk.0.attn_qkv.weight")


@pytest.fixture(scope="module")
def real_smollm2(installed: Callable[[Asset], None]) -> llama.Llama:
    installed(smollm2.SMOLLM2)
    return smollm2.load()


@pytest.mark.slow
def test_smollm2_continues_a_sentence(real_smollm2: llama.Llama) -> None:
    tokenizer = smollm2.load_tokenizer()
    ids = tokenizer.encode("The capital of France is").ids
    assert ids == smollm2.example_inputs()[0][0].tolist()
    assert tokenizer.decode(greedy(real_smollm2, ids, 7)) == " Paris.\n\nThe answer is"


@pytest.mark.slow
def test_smollm2_exports_small_tied_and_dynamic(real_smollm2: llama.Llama) -> None:
    program = export(real_smollm2, smollm2.example_inputs(), smollm2.dynamic_shapes())
    assert sum(node.op == "call_function" for node in program.graph.nodes) < 1000
    state = program.state_dict
    assert state["lm_head.weight"].data_ptr() == state["embed_tokens.weight"].data_ptr()
    assert sum(p.numel() for p in real_smollm2.parameters()) == 134_515_008
    tokens = torch.arange(100, 131)[None]
    torch.testing.assert_close(program.module()(tokens), real_smollm2(tokens))


@pytest.mark.slow
def test_smollm2_perplexity(real_smollm2: llama.Llama, shared: Shared) -> None:
    text = shared("wikitext2_valid.txt").read_text(encoding="utf-8")
    ids = smollm2.load_tokenizer().encode(text[:20_000]).ids
    result = evaluate.perplexity(real_smollm2, ids, windows=2)
    assert result.scored == 2046
    assert result.value == pytest.approx(14.816, abs=0.01)
