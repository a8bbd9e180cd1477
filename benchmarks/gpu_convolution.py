"""
Convolutions to be checked and timed on a GPU: those of ResNet-50, in fp16 and in integers.

Integers of four bits are multiplied as such where the machine can, as bytes elsewhere. Layers whose
results are rounded to integers again store nothing else, as in a model with calibrated ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu_cases import DTYPES, UNIT
from benchmarks.gpu_launches import Call, Trial, array_bytes, worst
from qcc.codegen.cuda.emit_warps import emit_warps
from qcc.dialects.bindings import ir
from qcc.dialects.context import make_context
from qcc.dialects.formats.stored import to_layout
from qcc.dialects.formats.window_packets import spelled_layout
from qcc.dialects.qcc.reference import conv2d
from qcc.dialects.tile.conv_problem import ConvProblem, Window, per_element
from qcc.dialects.tile.conv_schedule import default_convolution
from qcc.dialects.tile.hardware import is_native
from qcc.dialects.tile.operand_types import OPERAND_TYPES
from qcc.dialects.tile.problem import INSTRUCTION_OF
from qcc.passes.conv_kernel import conv_kernel

X_SCALE, CODE_SPREAD = np.float32(0.02), 2.5
"""The scale of images, and how many deviations of results lie within their codes."""
KINDS = (
    ("fp16", "f16", None), ("int8", "i8", None), ("int4", "i8", None),
    ("int8", "i8", "int8<group=tensor>"), ("int4", "i4", "int4<group=tensor>"),
)  # fmt: skip
"""Weights, images, and what results are rounded to."""
LAYOUTS = {"NCHW": (1, 1), "NHWC": (0, 1), "NHWC 8n 32c": (32, 8)}
"""Channels of a block (0: all), and images side by side."""
CHECKED = (
    (Window(5, 20, (3, 3), (2, 1), (1, 2)), 2, (9, 7)),
    (Window(64, 64, (1, 1)), 1, (8, 8)),
    (Window(16, 32, (3, 3), padding=(1, 1)), 2, (7, 5)),
    (Window(32, 64, (3, 3), (2, 2), (1, 1)), 8, (5, 4)),
)
LAYERS = (
    (Window(3, 64, (7, 7), (2, 2), (3, 3)), 224),
    (Window(64, 64, (1, 1)), 56),
    (Window(64, 64, (3, 3), padding=(1, 1)), 56),
    (Window(64, 256, (1, 1)), 56),
    (Window(128, 128, (3, 3), (2, 2), (1, 1)), 56),
    (Window(128, 128, (3, 3), padding=(1, 1)), 28),
    (Window(128, 512, (1, 1)), 28),
    (Window(256, 256, (3, 3), padding=(1, 1)), 14),
    (Window(1024, 256, (1, 1)), 14),
    (Window(512, 512, (3, 3), padding=(1, 1)), 7),
    (Window(512, 2048, (1, 1)), 7),
)
"""Of ResNet-50, with the height of their images."""
BATCHES = (1, 32)


@dataclass(frozen=True)
class Convolution:
    window: Window
    images: int
    size: tuple[int, int]
    weight: str
    activation: str
    layout: str
    requantised: str | None = None
    kind = "conv2d"

    @property
    def name(self) -> str:
        w, (height, width) = self.window, self.size
        taps = f"{w.taps[0]}x{w.taps[1]}/{w.stride[0]}"
        to = f" to {self.requantised}" if self.requantised else ""
        return (f"{self.weight} x {self.activation}{to} {self.layout} {w.channels}→{w.outputs} "
                f"{taps} {height}x{width} N={self.images}")  # fmt: skip

    @property
    def math(self) -> str:
        return "fp16" if self.activation == "f16" else "int_mm"

    @property
    def extents(self) -> tuple[int, int]:
        """Rows and columns of the result."""
        return self.window.output(self.size[0], 0), self.window.output(self.size[1], 1)

    @property
    def pixels(self) -> int:
        return self.images * self.extents[0] * self.extents[1]

    @property
    def operations(self) -> int:
        return 2 * self.pixels * self.window.k * self.window.outputs

    def problem(self, target: str) -> ConvProblem:
        block, images = LAYOUTS[self.layout]
        operand = self.activation
        if operand == "i4" and not is_native(target, INSTRUCTION_OF[operand]):
            operand = "i8"
        return ConvProblem(
            self.window, self.weight, self.pixels, operand, block=block, result_block=block,
            images=images, result_images=images, requantised=self.requantised,
            result=operand if self.requantised else "f16",
        )  # fmt: skip

    def trial(self, target: str, sampled: bool) -> Trial:
        """With `sampled` only the result of the last image is compared."""
        p, w, rng = self.problem(target), self.window, np.random.default_rng(3)
        schedule = default_convolution(p, target)
        with make_context(), ir.Location.unknown():
            module = ir.Module.create()
            with ir.InsertionPoint(module.body):
                launch = conv_kernel(p, schedule, "convolution", target)
            source = emit_warps(list(module.body.operations))
        shape = (p.outputs, w.channels, *w.taps)
        parts = p.format.encode_rows(rng.normal(size=(p.outputs, w.k)).astype(np.float32))
        decoded = p.format.decode_rows(parts, w.k).astype(np.float64).reshape(shape)
        layout = spelled_layout(p.program.order.name, p.by_tap, w.groups)
        images = self._images(rng)
        picked = images[-1:] if sampled else images
        wide = picked * np.float64(X_SCALE if p.integer else 1)
        convolved = partial(conv2d, stride=w.stride, padding=w.padding, dilation=w.dilation)
        wanted, size = convolved(wide, decoded), convolved(abs(wide), abs(decoded))
        bound = ((w.k + 8) * UNIT["f32"] + p.program.error) * size + 2.0**-24
        y_scale = np.float32(1)
        if p.rounding is not None:
            y_scale = np.float32(CODE_SPREAD * wanted.std() / p.rounding.high + 2.0**-24)
            wanted = np.clip(wanted / y_scale, p.rounding.low, p.rounding.high)
            bound = bound / y_scale + 0.5
        else:
            bound = bound + UNIT[p.result] * abs(wanted)
        height, width = self.extents
        blocks = -(-self.images // p.images) * p.images
        count = blocks * height * width * p.outputs
        given: dict[str, Any] = dict(to_layout(p.format, layout, parts, shape))
        given |= {
            "x": stored(p, images), "x_scale": np.array([X_SCALE]), "y_scale": np.array([y_scale]),
            "table": np.array(p.program.table, np.uint32), "images": self.images,
            "height": self.size[0], "width": self.size[1], "out_height": height,
            "out_width": width,
            "y": np.zeros(count // (per_element(p.result) if p.requantised else 1),
                          np.int8 if p.requantised else DTYPES[p.result]),
        }  # fmt: skip

        def error(result: np.ndarray) -> float:
            shape_ = self.images, p.outputs, height, width
            return worst(loaded(p, result, shape_)[-len(picked) :], wanted, bound)

        grid = (schedule.tiles(p, self.images, self.extents),
                -(-p.strips * 16 // schedule.block_outputs), w.groups)  # fmt: skip
        calls = (Call.warps(launch, grid),)
        return Trial(source, calls, given, "y", error, array_bytes(given))

    def _images(self, rng: np.random.Generator) -> np.ndarray:
        """NCHW."""
        shape = (self.images, self.window.channels, *self.size)
        if self.activation == "f16":
            return rng.standard_normal(shape, np.float32).astype(np.float16)
        least, most = OPERAND_TYPES[self.activation].extremes
        return rng.integers(least, most + 1, shape).astype(np.int8)

    def packs(self, block: int) -> bool:
        """Whether channels divide into blocks and pairs, and images lie side by side."""
        sides = self.window.channels, self.window.outputs
        whole = all(size % (block or 2) == 0 for size in sides)
        return whole and self.images % LAYOUTS[self.layout][1] == 0

    def peer(self, torch: Any, copies: int) -> list[Callable[[], Any]]:
        """cuDNN in fp16, the best of its algorithms, in the same order of axes."""
        torch.backends.cudnn.benchmark = True
        w = self.window
        order = torch.contiguous_format if self.layout == "NCHW" else torch.channels_last
        options = {"stride": w.stride, "padding": w.padding, "dilation": w.dilation}
        calls = []
        for _ in range(copies):
            x, weight = (
                torch.randn(shape, dtype=torch.float16, device="cuda").to(memory_format=order)
                for shape in ((self.images, w.channels, *self.size),
                              (w.outputs, w.channels, *w.taps))
            )  # fmt: skip
            calls.append(partial(torch.nn.functional.conv2d, x, weight, **options))
        return calls


def checked() -> Iterator[Convolution]:
    for window, images, size in CHECKED:
        yield from _variants(window, images, size)


def timed() -> Iterator[Convolution]:
    for images in BATCHES:
        for window, height in LAYERS:
            yield from _variants(window, images, (height, height))


def _variants(window: Window, images: int, size: tuple[int, int]) -> Iterator[Convolution]:
    for weight, activation, requantised in KINDS:
        for layout, (block, side_by_side) in LAYOUTS.items():
            subject = Convolution(window, images, size, weight, activation, layout, requantised)
            plain = requantised is None and side_by_side == 1
            if plain or (requantised and layout != "NCHW" and subject.packs(block)):
                yield subject


def stored(problem: ConvProblem, images: np.ndarray) -> np.ndarray:
    """[N, C, H, W] as kernels read it; integers of four bits two in a byte."""
    p = problem
    padded = np.pad(images, [(0, -len(images) % p.images), (0, 0), (0, 0), (0, 0)])
    count, channels, height, width = padded.shape
    size = p.block or channels
    shape = count // p.images, p.images, channels // size, size, height, width
    blocks = padded.reshape(shape).transpose(0, 2, 4, 5, 1, 3)
    if p.per_element == 1:
        return np.ascontiguousarray(blocks)
    nibbles = blocks.astype(np.uint8) & 15
    return np.ascontiguousarray(nibbles[..., ::2] | nibbles[..., 1::2] << 4)


def loaded(problem: ConvProblem, result: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A result as [N, C, H, W]."""
    p, (count, channels, height, width) = problem, shape
    if p.requantised and per_element(p.result) == 2:
        nibbles = np.stack([result & 15, result >> 4 & 15], -1).ravel()
        result = np.where(nibbles > 7, nibbles - 16, nibbles)
    size = p.result_block or channels
    blocks = result.reshape(-1, channels // size, height, width, p.result_images, size)
    return blocks.transpose(0, 4, 1, 5, 2, 3).reshape(-1, *shape[1:])[:count]
