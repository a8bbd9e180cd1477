"""
Other kernels for the same layers, and the limits of the machine, through torch.

A peer makes calls over rotating arguments; what is not there, or refuses a shape, says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

Calls = list[Callable[[], Any]]
COPY_BYTES = 1 << 30
CUBE = 8192


class Torch:
    """Peers of one torch with CUDA; `timed` is that of the device."""

    def __init__(self, torch: Any, timed: Callable[[Sequence[Callable[[], Any]]], float]) -> None:
        self.torch, self.timed = torch, timed

    def ceilings(self) -> dict[str, float]:
        """Bytes per second of a copy (read and written), and products per second by type."""
        torch, found = self.torch, {}
        source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
        target = torch.empty_like(source)
        found["copy"] = 2 * COPY_BYTES / self.timed([partial(target.copy_, source)])
        for name, kind in PEERS.items():
            if kind in (fp16, scaled_mm, int_mm):
                seconds = self.seconds(name, CUBE, CUBE, CUBE)
                if isinstance(seconds, float):
                    found[name] = 2 * CUBE**3 / seconds
        return found

    def seconds(self, peer: str, n: int, k: int, tokens: int) -> float | str:
        """Of one call on [n, k] and so many tokens, from memory; or why there is none."""
        made = partial(PEERS[peer], self.torch, n, k, tokens)
        return self.seconds_of(made, int(n * k * BYTES[peer]))

    def seconds_of(self, made: Callable[[int], Calls], size: int) -> float | str:
        """Of one of the calls that `made` returns for a number of copies of `size` bytes."""
        try:
            return self.timed(made(max(1, min(64, -(-COPY_BYTES // 4 // max(1, size))))))
        except (RuntimeError, ImportError, AttributeError, NotImplementedError) as error:
            return str(error).splitlines()[0][:120]


def fp16(torch: Any, n: int, k: int, tokens: int, copies: int) -> Calls:
    """cuBLAS."""
    x = torch.randn(tokens, k, dtype=torch.float16, device="cuda")
    weights = [torch.randn(n, k, dtype=torch.float16, device="cuda") for _ in range(copies)]
    return [lambda w=w: torch.nn.functional.linear(x, w) for w in weights]


def scaled_mm(torch: Any, n: int, k: int, tokens: int, copies: int) -> Calls:
    """torch._scaled_mm, one scale for a tensor; tokens in whole 16."""
    padded = -(-tokens // 16) * 16
    one = torch.ones((), device="cuda")
    x = torch.randn(padded, k, device="cuda").to(torch.float8_e4m3fn)
    weights = [torch.randn(n, k, device="cuda").to(torch.float8_e4m3fn) for _ in range(copies)]
    return [
        lambda w=w: torch._scaled_mm(x, w.t(), scale_a=one, scale_b=one, out_dtype=torch.float16)
        for w in weights
    ]


def int_mm(torch: Any, n: int, k: int, tokens: int, copies: int) -> Calls:
    """torch._int_mm, which wants more than 16 tokens."""
    padded = max(32, -(-tokens // 8) * 8)
    x = torch.randint(-128, 128, (padded, k), dtype=torch.int8, device="cuda")
    weights = [torch.randint(-128, 128, (n, k), dtype=torch.int8, device="cuda")
               for _ in range(copies)]  # fmt: skip
    return [lambda w=w: torch._int_mm(x, w.t()) for w in weights]


def int4(torch: Any, n: int, k: int, tokens: int, copies: int) -> Calls:
    """torch's own kernel of int4 weights in groups of 128, activations bf16."""
    x = torch.randn(tokens, k, dtype=torch.bfloat16, device="cuda")
    packed = []
    for _ in range(copies):
        codes = torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda")
        weight = torch._convert_weight_to_int4pack(codes, 8)
        scales = torch.ones(k // 128, n, 2, dtype=torch.bfloat16, device="cuda")
        packed.append((weight, scales))
    return [lambda w=w, s=s: torch._weight_int4pack_mm(x, w, 128, s) for w, s in packed]


def triton(torch: Any, n: int, k: int, tokens: int, copies: int) -> Calls:
    """The best of Inductor's Triton templates, fp16."""
    x = torch.randn(tokens, k, dtype=torch.float16, device="cuda")
    weights = [torch.randn(n, k, dtype=torch.float16, device="cuda") for _ in range(copies)]
    options = {"max_autotune": True, "max_autotune_gemm_backends": "TRITON"}
    product = torch.compile(lambda a, b: a @ b.t(), options=options)
    return [lambda w=w: product(x, w) for w in weights]


PEERS: dict[str, Callable[[Any, int, int, int, int], Calls]] = {
    "fp16": fp16, "scaled_mm": scaled_mm, "int_mm": int_mm, "int4": int4, "triton": triton,
}  # fmt: skip
BYTES = {"fp16": 2, "scaled_mm": 1, "int_mm": 1, "int4": 0.5, "triton": 2}
"""Of a weight, by peer."""
CEILING_OF = {"f16": "fp16", "bf16": "fp16", "i8": "int_mm", "f8E4M3FN": "scaled_mm"}
"""Whose products per second are the limit of kernels with these activations."""
