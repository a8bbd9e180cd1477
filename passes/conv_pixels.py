"""The pixels of a convolution's block: which they are, how they are brought, where results go."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..dialects import tile
from ..dialects.bindings import ir
from ..dialects.tile.conv_problem import ConvProblem
from ..dialects.tile.conv_schedule import ConvSchedule
from ..dialects.tile.problem import chunk_columns
from ..dialects.tile.warp_memory import BOXES
from .tile_builder import Number, block_along, fragment, index, label, shared, text, whole

NUMBERS = ("images", "height", "width", "out_height", "out_width")
Lists = dict[str, tuple[int, ...]]


@dataclass
class Pixels:
    """`number` are those of NUMBERS; of a group of channels and a warp, where they begin."""

    problem: ConvProblem
    schedule: ConvSchedule
    number: dict[str, Number]
    group: Number
    warp_pixel: Number
    of_image: Number = field(init=False)
    images: Number = field(init=False)

    def __post_init__(self) -> None:
        self.of_image = (self.number["out_height"] * self.number["out_width"]).named("pixels")
        self.images = rounded_up(self.number["images"], self.problem.images)

    @property
    def element(self) -> str:
        """The elements of pixels in shared memory."""
        return "i8" if self.problem.integer else self.problem.activation

    def first_channel(self) -> ir.Value:
        p = self.problem
        return (self.group * (p.window.channels // p.per_element)).value

    def operand_type(self) -> ir.Type:
        p, s = self.problem, self.schedule
        role = "b" if s.warp_groups else "a"
        return fragment([s.warps, s.pixels, chunk_columns(p.stored_group)], p.activation, role)

    def window(self, lists: Lists, k: int) -> ir.DictAttr:
        """The attribute of `tile.patches`; channels are counted in elements of memory."""
        p, by = self.problem, self.problem.per_element
        numbers = {
            "channels": p.window.channels // by, "all_channels": p.channels // by,
            "block": (p.block or p.channels) // by, "images": p.images,
            "row_multiple": p.row_multiple, "by_tap": int(p.by_tap), "vector": p.vector(16),
            "k": k // by,
        }  # fmt: skip
        made: dict[str, ir.Attribute] = {
            name: ir.DenseI64ArrayAttr.get(list(values)) for name, values in lists.items()
        }
        return ir.DictAttr.get(made | {name: whole(value) for name, value in numbers.items()})


@dataclass
class GatheredPixels(Pixels):
    """Windows that are gathered as they are copied: a row of shared memory each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.all = (self.images * self.of_image).named("all_pixels")
        first = Number(index("x", "pixel_tile")) * self.schedule.block_pixels
        self.first = first.named("first_pixel")
        self.count = (self.all - self.first).named("pixels_left")

    def brought(self, view: ir.Value, k: Number) -> ir.Value:
        p, s, w = self.problem, self.schedule, self.problem.window
        padded = p.group is not None and p.group != p.stored_group
        lists = {"taps": w.taps, "stride": w.stride, "padding": w.padding, "dilation": w.dilation,
                 "groups": (p.group or 0, p.stored_group or 0) if padded else ()}  # fmt: skip
        return tile.PatchesOp(
            view, self.first.value, self.count.value, (k // p.per_element).value,
            self.first_channel(), *(self.number[name].value for name in NUMBERS[1:]),
            self.window(lists, p.stored_k),
            shared([s.block_pixels, s.depth // p.per_element], self.element,
                   BOXES if s.warp_groups else "rows"),
        ).tile  # fmt: skip

    def operand(self, tile_: ir.Value, at: Number) -> ir.Value:
        """The operand of this warp, from column `at` on."""
        column = at // self.problem.per_element
        op = tile.OperandOp(
            tile_, self.warp_pixel.value, column.value, text("straight"), self.operand_type()
        )
        return label(op.fragment, "pixels")

    def place(self) -> tuple[Number, Number, dict[str, ir.Value]]:
        """The first result of this warp, where they end, and further operands of its store."""
        return self.first + self.warp_pixel, self.all, {}


@dataclass
class HeldPixels(Pixels):
    """The pixels under a rectangle of results, each once; windows share them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        p, s, number = self.problem, self.schedule, self.number
        across = number["out_width"].pieces(s.width).named("tiles_across")
        down = number["out_height"].pieces(s.height(p)).named("tiles_down")
        at_x, at_y, self.image = block_along(
            [("tile_across", across), ("tile_down", down)], "image_block"
        )
        self.top = (at_y * s.height(p)).named("top_row")
        self.left_column = (at_x * s.width).named("left_column")
        rows, columns = s.held(p)
        stride, padding = p.window.stride, p.window.padding
        self.held = {
            "first": Number(0), "count": Number(rows * columns * p.images), "rows": Number(rows),
            "columns": Number(columns),
            "top": (self.top * stride[0] - padding[0]).named("first_row"),
            "left": (self.left_column * stride[1] - padding[1]).named("first_column"),
        }  # fmt: skip

    def brought(self, view: ir.Value, channel: Number) -> ir.Value:
        """`depth` channels of all pixels: windows of one pixel."""
        p, s = self.problem, self.schedule
        rows, columns = s.held(p)
        lists: Lists = {"taps": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1),
                        "groups": ()}  # fmt: skip
        at = {name: each.value for name, each in {**self.number, **self.held}.items()}
        return tile.PatchesOp(
            view, at["first"], at["count"], (channel // p.per_element).value,
            self.first_channel(), at["height"], at["width"], at["rows"], at["columns"],
            self.window(lists, p.window.channels),
            shared([rows * columns * p.images, s.depth // p.per_element], self.element),
            image=self.image.value, top=at["top"], left=at["left"],
        ).tile  # fmt: skip

    def operand(self, tile_: ir.Value, tap: Number, at: Number) -> ir.Value:
        """The operand of this warp under a tap, from channel `at` of the tile on."""
        p, s, w = self.problem, self.schedule, self.problem.window
        columns = s.held(p)[1]
        down, right = tap // w.taps[1], tap % w.taps[1]
        shift = (down * (w.dilation[0] * columns) + right * w.dilation[1]) * p.images
        op = tile.WindowsOp(
            tile_, self.warp_pixel.value, shift.value, (at // p.per_element).value,
            whole(s.width), whole(columns), whole(p.images),
            ir.DenseI64ArrayAttr.get(list(w.stride)), self.operand_type(),
        )  # fmt: skip
        return label(op.fragment, "pixels")

    def place(self) -> tuple[Number, Number, dict[str, ir.Value]]:
        """As of gathered ones; results are counted in the rectangle."""
        rectangle = {
            "image": self.image.value, "top": self.top.value, "left": self.left_column.value,
            "out_width": self.number["out_width"].value,
        }  # fmt: skip
        return self.warp_pixel, self.number["out_height"], rectangle


def rounded_up(number: Number, multiple: int) -> Number:
    return number if multiple == 1 else number.pieces(multiple) * multiple
