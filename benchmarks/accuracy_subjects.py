"""The models of docs/accuracy.md, each with its data and its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.accuracy_rows import Kind
from qcc.models import cifar, evaluate, minilm, resnet, smollm2
from qcc.models.family import Sample

HERE = Path(__file__).parent
WINDOW = 1024
STS = ("2012.MSRpar", "2012.OnWN", "2014.images")
DEPTHS = (20, 56)

Model = Callable[..., Any]
Metrics = dict[str, float]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of each data set is used."""

    windows: int
    pairs: int
    images: int


@dataclass(frozen=True, slots=True)
class Subject:
    """
    A model on its data: `measure(model)` gives the metrics, under the names of `columns`.

    `columns` maps each to its decimals. `settings` is what the figures depend on besides the model.
    """

    name: str
    title: str
    kind: Kind
    sample: Sample
    columns: Mapping[str, int]
    settings: str
    measure: Callable[[Model], Metrics]


def language_model(data: Path, limits: Limits) -> Subject:
    """SmolLM2 on WikiText-2 validation, or on the text of the demo where that file is missing."""
    sample = smollm2.smollm2()
    text, tokens, length, windows = read_text(data, limits.windows)

    def measure(model: Model) -> Metrics:
        return {"perplexity": evaluate.perplexity(model, tokens, windows, length).value}

    settings = f"{text}, {windows} windows of {length} tokens"
    columns = {"perplexity": 3}
    return Subject("smollm2", "SmolLM2-135M", "language", sample, columns, settings, measure)


def read_text(data: Path, windows: int) -> tuple[str, list[int], int, int]:
    """What the text is, its tokens, the length and the number of the windows to score."""
    path = data / "wikitext2_valid.txt"
    present = path.is_file()
    source = path if present else HERE / "demo.txt"
    tokens = smollm2.load_tokenizer().encode(source.read_text(encoding="utf-8")).ids
    if present:
        return "WikiText-2 validation", tokens, WINDOW, min(windows, len(tokens) // WINDOW)
    return "benchmarks/demo.txt (a sign of life, no benchmark)", tokens, len(tokens), 1


def sentence_encoder(data: Path, limits: Limits) -> Subject:
    """MiniLM on the three STS sets; the cosine is that of its outputs to those of torch in fp32."""
    sample = minilm.minilm()
    tokenizer = minilm.load_tokenizer()
    sets = {name: read_pairs(data / "sts" / f"{name}.tsv", limits.pairs) for name in STS}
    sentences = sorted({s for pairs in sets.values() for p in pairs for s in p[1:]}, key=len)
    reference = minilm.embedder(sample.module, tokenizer)(sentences)

    def measure(model: Model) -> Metrics:
        vectors = minilm.embedder(model, tokenizer)(sentences)
        by_text = dict(zip(sentences, vectors, strict=True))
        found = {
            name: 100
            * evaluate.similarity_correlation(lambda s: np.stack([by_text[t] for t in s]), pairs)
            for name, pairs in sets.items()
        }
        return {**found, "cosine": float((vectors * reference).sum(axis=1).mean())}

    counts = ", ".join(str(len(pairs)) for pairs in sets.values())
    settings = f"{counts} pairs of the three STS sets, evenly spaced"
    columns = {**dict.fromkeys(STS, 2), "cosine": 5}
    return Subject("minilm", "all-MiniLM-L6-v2", "sentence", sample, columns, settings, measure)


def image_classifier(depth: int, data: Path, limits: Limits) -> Subject:
    """A CIFAR-10 ResNet: top-1 and the share of images classed as torch classes them in fp32."""
    folder = data / "cifar10"
    model = cifar.load(folder / f"resnet{depth}.safetensors", depth)
    images, labels = cifar.read_images(folder / "test_2000.npz")
    kept = spread(len(images), limits.images)  # the file is sorted by class
    images, labels = images[kept], labels[kept]
    sample = Sample(model, resnet.example_inputs(), resnet.dynamic_shapes())
    reference = classes(model, images)

    def measure(model: Model) -> Metrics:
        found = classes(model, images)
        top1, agreement = (float((found == of).mean()) for of in (labels, reference))
        return {"top-1 %": 100 * top1, "agreement %": 100 * agreement}

    settings = f"{len(images)} images of the CIFAR-10 test set, from JPEG"
    columns = {"top-1 %": 2, "agreement %": 2}
    name = f"resnet{depth}"
    return Subject(name, f"ResNet-{depth}", "image", sample, columns, settings, measure)


def read_pairs(path: Path, count: int) -> list[evaluate.Pair]:
    pairs = evaluate.read_sts(path)
    return [pairs[index] for index in spread(len(pairs), count)]


def spread(available: int, count: int) -> list[int]:
    """
    At most `count` indices, evenly spaced.

    >>> spread(10, 3), spread(2, 3)
    ([0, 3, 6], [0, 1])
    """
    kept = min(available, count)
    return [index * available // kept for index in range(kept)]


def classes(model: Model, images: torch.Tensor, batch: int = 100) -> np.ndarray:
    """The index of the largest logit of each image."""
    with torch.no_grad():
        return np.concatenate([np.asarray(model(part)).argmax(1) for part in images.split(batch)])


SUBJECTS: dict[str, Callable[[Path, Limits], Subject]] = {
    "smollm2": language_model,
    "minilm": sentence_encoder,
    **{
        f"resnet{depth}": lambda data, limits, depth=depth: image_classifier(depth, data, limits)
        for depth in DEPTHS
    },
}


def missing(name: str, data: Path) -> list[Path]:
    """The data files a subject wants and does not find."""
    wanted = {
        "smollm2": [data / "wikitext2_valid.txt"],
        "minilm": [data / "sts" / f"{part}.tsv" for part in STS],
    }
    cifar10 = data / "cifar10"
    default = [cifar10 / f"{name}.safetensors", cifar10 / "test_2000.npz"]
    return [path for path in wanted.get(name, default) if not path.is_file()]
