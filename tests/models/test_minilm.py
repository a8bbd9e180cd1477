"""MiniLM: a made checkpoint of its names, and the real one where its package is installed."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from qcc.models import evaluate, minilm
from qcc.models.assets import Asset
from qcc.models.bert import Bert
from qcc.models.seeding import seeded

Shared = Callable[[str], Path]
Installed = Callable[[Asset], None]


def test_minilm_loads_bert_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(minilm.CONFIG, vocabulary=50, width=24, layers=2, heads=3, hidden=32)
    monkeypatch.setattr(minilm, "CONFIG", config)
    model = seeded(lambda: Bert(config))
    extra = {"embeddings.position_ids": torch.arange(512)[None], "pooler.dense.bias": torch.ones(3)}
    save_file(model.state_dict() | extra, tmp_path / "bert.safetensors")
    loaded = minilm.load(tmp_path / "bert.safetensors")
    tokens = torch.arange(20).reshape(2, 10)
    mask = torch.ones_like(tokens)
    assert torch.equal(loaded(tokens, mask), model(tokens, mask))


def test_mean_pool_skips_padding() -> None:
    hidden = np.array([[[3.0, 0.0], [3.0, 8.0], [100.0, 100.0]]], dtype=np.float32)
    pooled = minilm.mean_pool(hidden, np.array([[1, 1, 0]]))
    np.testing.assert_allclose(pooled, [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.slow
def test_minilm_finds_the_alike_sentence(installed: Installed) -> None:
    installed(minilm.MINILM)
    embed = minilm.embedder(minilm.load(), minilm.load_tokenizer(), batch=2)
    cat, kitten, stocks = embed(
        ["A cat sleeps on the sofa.", "The kitten is napping on a couch.", "Stocks fell sharply."]
    )
    assert cat @ kitten > 0.5 > 0.2 > cat @ stocks


@pytest.mark.slow
def test_minilm_correlates_as_published(installed: Installed, shared: Shared) -> None:
    installed(minilm.MINILM)
    pairs = evaluate.read_sts(shared("sts/2012.MSRpar.tsv"))
    embed = minilm.embedder(minilm.load(), minilm.load_tokenizer())
    assert 100 * evaluate.similarity_correlation(embed, pairs) == pytest.approx(57.84, abs=0.01)
