"""Convolutions to be checked and timed on a GPU: those of ResNet-50, in fp16 and in integers."""

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
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import ConvSchedule, default_convolution
from qcc.passes.conv_kernel import conv_kernel

X_SCALE = np.float32(0.02)
KINDS = (("fp16", "f16"), ("int8", "i8"), ("int4", "i8"))
"""Weights and images."""
LAYOUTS = {"NCHW": 1, "NHWC": 0}
CHECKED = (
    (Window(5, 20, (3, 3), (2, 1), (1, 2)), 2, (9, 7)),
    (Window(64, 64, (1, 1)), 1, (8, 8)),
    (Window(16, 32, (3, 3), padding=(1, 1)), 2, (7, 5)),
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
    kind = "conv2d"

    @property
    def name(self) -> str:
        w, (height, width) = self.window, self.size
        taps = f"{w.taps[0]}x{w.taps[1]}/{w.stride[0]}"
        return (f"{self.weight} x {self.activation} {self.layout} {w.channels}→{w.outputs} {taps} "
                f"{height}x{width} N={self.images}")  # fmt: skip

    @property
    def math(self) -> str:
        return "int_mm" if self.activation == "i8" else "fp16"

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

    @property
    def problem(self) -> ConvProblem:
        block = LAYOUTS[self.layout]
        return ConvProblem(self.window, self.weight, self.pixels, self.activation,
                           block=block, result_block=block)  # fmt: skip

    def grid(self, schedule: ConvSchedule) -> tuple[int, int, int]:
        outputs = -(-self.problem.strips * 16 // schedule.block_outputs)
        return -(-self.pixels // schedule.block_pixels), outputs, self.window.groups

    def trial(self, target: str, sampled: bool) -> Trial:
        """With `sampled` only the result of the last image is compared."""
        p, w, rng = self.problem, self.window, np.random.default_rng(3)
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
        height, width = self.extents
        given: dict[str, Any] = dict(to_layout(p.format, layout, parts, shape))
        given |= {
            "x": self._stored(images), "x_scale": np.array([X_SCALE]),
            "table": np.array(p.program.table, np.uint32), "images": self.images,
            "height": self.size[0], "width": self.size[1], "out_height": height,
            "out_width": width, "y": np.zeros(self.pixels * p.outputs, DTYPES[p.result]),
        }  # fmt: skip
        picked = images[-1:] if sampled else images
        wide = picked * np.float64(X_SCALE if p.activation == "i8" else 1)
        convolved = partial(conv2d, stride=w.stride, padding=w.padding, dilation=w.dilation)
        wanted, size = convolved(wide, decoded), convolved(abs(wide), abs(decoded))
        bound = ((w.k + 8) * UNIT["f32"] + p.program.error) * size + 2.0**-24
        bound = bound + UNIT[p.result] * abs(wanted)

        def error(result: np.ndarray) -> float:
            return worst(self._loaded(result)[-len(picked) :], wanted, bound)

        calls = (Call.warps(launch, self.grid(schedule)),)
        return Trial(source, calls, given, "y", error, array_bytes(given))

    def _images(self, rng: np.random.Generator) -> np.ndarray:
        """NCHW."""
        shape = (self.images, self.window.channels, *self.size)
        if self.activation == "i8":
            return rng.integers(-128, 128, shape).astype(np.int8)
        return rng.standard_normal(shape, np.float32).astype(DTYPES[self.activation])

    def _stored(self, images: np.ndarray) -> np.ndarray:
        last = self.layout == "NHWC"
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1)) if last else images

    def _loaded(self, result: np.ndarray) -> np.ndarray:
        """The result as NCHW."""
        if self.layout == "NCHW":
            return result.reshape(self.images, self.window.outputs, *self.extents)
        nhwc = result.reshape(self.images, *self.extents, self.window.outputs)
        return nhwc.transpose(0, 3, 1, 2)

    def peer(self, torch: Any, copies: int) -> list[Callable[[], Any]]:
        """cuDNN in fp16, the best of its algorithms, in the same order of axes."""
        torch.backends.cudnn.benchmark = True
        w = self.window
        order = torch.channels_last if self.layout == "NHWC" else torch.contiguous_format
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
    for weight, activation in KINDS:
        for layout in LAYOUTS:
            yield Convolution(window, images, size, weight, activation, layout)
