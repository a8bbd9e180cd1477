"""Metrics against values worked out by hand or by another road."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from qcc.models import evaluate, llama
from qcc.models.assets import AssetError
from qcc.models.generate import greedy


def test_uniform_logits_give_the_vocabulary_size() -> None:
    def uniform(tokens: torch.Tensor) -> np.ndarray:
        return np.full((1, tokens.shape[1], 50), 3.0, dtype=np.float32)

    result = evaluate.perplexity(uniform, list(range(25)), length=10)
    assert result.scored == 2 * 9
    assert result.value == pytest.approx(50)


def test_perplexity_is_exp_of_the_mean_cross_entropy() -> None:
    model = llama.tiny()
    tokens = torch.randint(0, 128, (700,), generator=torch.Generator().manual_seed(1))
    windows = tokens[:600].reshape(3, 200)
    logits = model(windows)[:, :-1].double()
    loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
    result = evaluate.perplexity(model, tokens.numpy(), windows=3, length=200)
    assert result.value == pytest.approx(float(loss.exp()), rel=1e-6)


def test_negative_log_likelihood_survives_huge_logits() -> None:
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0]], dtype=np.float32)
    assert evaluate.negative_log_likelihood(logits, np.array([0, 0]), rows=1) == 1000.0


@pytest.mark.parametrize("windows", [0, 3])
def test_windows_must_exist(windows: int) -> None:
    with pytest.raises(ValueError, match="2 available"):
        evaluate.perplexity(lambda tokens: tokens, list(range(25)), windows, length=10)


def test_sts_lines(tmp_path: Path) -> None:
    path = tmp_path / "sts.tsv"
    path.write_bytes('3.5\tHe said "no.\tÀ\u2028 b\r\n\tunlabelled\tpair\n0\ta\tb\n'.encode())
    pairs = evaluate.read_sts(path)
    assert pairs == [(3.5, 'He said "no.', "À\u2028 b"), (0.0, "a", "b")]


@pytest.mark.parametrize("line", ["1\tone", "1\ta\tb\tc", "good\ta\tb"])
def test_a_bad_sts_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "sts.tsv"
    path.write_text(f"1\ta\tb\n{line}\n")
    with pytest.raises(AssetError, match=r"sts\.tsv:2: expected score"):
        evaluate.read_sts(path)


def test_spearman_with_ties() -> None:
    """Ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5 over sqrt(4.5 * 5)."""
    value = evaluate.spearman(np.array([1.0, 5.0, 5.0, 9.0]), np.array([0.1, 0.3, 0.2, 0.4]))
    assert value == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_similarity_uses_the_angle_only() -> None:
    vectors = {"a": (1.0, 0.0), "b": (0.0, 9.0), "c": (5.0, 5.0), "d": (2.0, 0.1)}
    pairs = [evaluate.Pair(*row) for row in ((0, "a", "b"), (3, "a", "c"), (5, "a", "d"))]
    calls: Counter[int] = Counter()

    def embed(sentences) -> np.ndarray:
        calls[len(sentences)] += 1
        return np.array([vectors[sentence] for sentence in sentences])

    assert evaluate.similarity_correlation(embed, pairs) == pytest.approx(1)
    assert calls == {3: 2}


def test_top1_counts_over_uneven_batches() -> None:
    images, labels = torch.eye(5), np.array([0, 1, 2, 0, 0])
    assert evaluate.top1(lambda part: part.numpy(), images, labels, batch=2) == 0.6


def test_greedy_follows_the_largest_logit() -> None:
    def next_number(tokens: torch.Tensor) -> np.ndarray:
        return np.eye(10, dtype=np.float32)[(tokens.numpy() + 1) % 10]

    assert greedy(next_number, [4, 7], 4) == [8, 9, 0, 1]
