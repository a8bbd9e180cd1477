"""All that the suite has beside linear layers: attention, convolutions, fused groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Protocol

from benchmarks import gpu_attention, gpu_convolution, gpu_groups
from benchmarks.gpu_launches import Trial

KINDS = ("linear", "attention", "conv2d", "groups")


class Subject(Protocol):
    """
    A kernel, or several in turn, on one size.

    `math` is the product of torch whose rate limits it, None where memory does alone.
    """

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def operations(self) -> int: ...
    @property
    def math(self) -> str | None: ...

    def trial(self, target: str, sampled: bool) -> Trial:
        """What is launched; `sampled` compares a part, where the whole would take minutes."""
        ...

    def peer(self, torch: Any, copies: int) -> list[Callable[[], Any]]:
        """The same by torch, over so many rotating arguments."""
        ...


def checked(kinds: tuple[str, ...]) -> Iterator[Subject]:
    return _picked(kinds, gpu_attention.checked(), gpu_convolution.checked(),
                   gpu_groups.groups(gpu_groups.CHECKED))  # fmt: skip


def timed(kinds: tuple[str, ...]) -> Iterator[Subject]:
    return _picked(kinds, gpu_attention.timed(), gpu_convolution.timed(),
                   gpu_groups.groups(gpu_groups.TIMED))  # fmt: skip


def _picked(kinds: tuple[str, ...], *found: Any) -> Iterator[Subject]:
    pairs = zip(KINDS[1:], found, strict=True)
    return chain.from_iterable(subjects for kind, subjects in pairs if kind in kinds)
