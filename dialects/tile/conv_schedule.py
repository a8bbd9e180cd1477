"""Schedules of convolutions: which block makes which pixels, in what pieces, and what is legal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from math import prod

from ..errors import UnsupportedError
from ..formats.packets import LANES, PACKET_COLUMNS, PACKET_ROWS
from .conv_problem import ConvProblem, Pair, refusal
from .decode_program import TABLE_STRIDE
from .dialect import BANK_ROW, BARRIER_BYTES
from .hardware import Machine, is_native, machine
from .operand_types import OPERAND_TYPES
from .problem import WARP_GROUP_INSTRUCTION_OF
from .warp_memory import PACKED_CHANNELS, ROW_PAD, SWIZZLE_ATOM

MOST_SUMS, MOST_SUMS_OF_GROUPS = 64, 128
"""
Accumulators of a lane, so that operands and addresses fit beside them; right operands of warp
groups take no registers.
"""
COPIED_AT_ONCE, COPIED_TOGETHER = 4, 16
"""Bytes of the shortest and of the longest asynchronous copy."""
OF_GROUP = 64
"""Rows of a product of a warp group: channels."""
MANY_PIXELS = 1024
"""That keep groups of warps busy."""


@dataclass(frozen=True)
class ConvSchedule:
    """
    One way to compute a convolution: a block makes `warps_m` * `pixels` output pixels of
    `warps_n` * `outputs` channels, in steps of `depth` values of k.

    With `width` 0, windows are gathered: a row of shared memory is a window, and an input pixel is
    copied as often as windows have it. Else the output pixels of a block are a rectangle `width`
    wide, each step brings the input pixels under it once, `depth` channels of them, and operands
    are read from where each window has its pixels.

    `taps_inner`: all taps of `depth` channels come before the next channels, and not all channels
    of a tap before the next tap. `packs`: results of at most a byte are exchanged between the
    lanes that have neighbouring channels, and stored as whole words.

    With `warp_groups`, four warps multiply together (wgmma): weights, decoded to registers, are the
    left operand, windows in shared memory the right one. A warp has `outputs` channels of its own
    then, and four of them the same pixels.

    With `image_blocks`, images come in the blocks that the problem offers (NHWCnc).
    """

    warps_m: int
    warps_n: int
    pixels: int
    outputs: int
    depth: int
    stages: int
    width: int = field(default=0, metadata={"values": (0, 4, 8, 16, 32)})
    taps_inner: bool = False
    packs: bool = False
    warp_groups: bool = False
    image_blocks: bool = False

    @property
    def warps(self) -> int:
        return self.warps_m * self.warps_n

    @property
    def block_pixels(self) -> int:
        return self.warps_m * self.pixels

    @property
    def block_outputs(self) -> int:
        return self.warps_n * self.outputs

    def instruction(self, problem: ConvProblem) -> str:
        if self.warp_groups:
            return WARP_GROUP_INSTRUCTION_OF[problem.activation]
        return problem.instruction

    def height(self, problem: ConvProblem) -> int:
        """Rows of the rectangle of output pixels, of the images that lie side by side."""
        return self.block_pixels // (self.width * problem.images)

    def held(self, problem: ConvProblem) -> Pair:
        """Rows and columns of the input pixels under the rectangle."""
        w = problem.window
        spans = [
            (taps - 1) * dilation + 1 for taps, dilation in zip(w.taps, w.dilation, strict=True)
        ]
        return ((self.height(problem) - 1) * w.stride[0] + spans[0],
                (self.width - 1) * w.stride[1] + spans[1])  # fmt: skip

    def tiles(self, problem: ConvProblem, images: int, extents: Pair) -> int:
        """Blocks that cover the pixels of an output with so many rows and columns."""
        blocks = -(-images // problem.images)
        if not self.width:
            return -(-blocks * problem.images * prod(extents) // self.block_pixels)
        sides = self.height(problem), self.width
        return blocks * prod(-(-size // by) for size, by in zip(extents, sides, strict=True))


def held_groups(problem: ConvProblem, depth: int) -> int:
    """Rows of scales that `depth` values of k can touch."""
    group = problem.stored_group
    if group is None or group % depth == 0:
        return 1
    return depth // group if depth % group == 0 else (depth - 2) // group + 2


def whole_weights(problem: ConvProblem, schedule: ConvSchedule) -> bool:
    """Whether hardware copies the codes (sm_90): no step and no block ends early."""
    s, p = schedule, problem
    rows = p.strips * PACKET_ROWS % s.block_outputs == 0
    return s.warp_groups and rows and p.units * PACKET_COLUMNS % s.depth == 0


def shared_bytes(problem: ConvProblem, schedule: ConvSchedule) -> int:
    s, bits = schedule, OPERAND_TYPES[problem.activation].bits
    rows, taps = s.block_pixels, 1
    if s.width:
        rows, taps = prod(s.held(problem)) * problem.images, prod(problem.window.taps)
    images = rows * (s.depth * bits // 8 + (0 if s.warp_groups else ROW_PAD))
    strips = s.block_outputs // PACKET_ROWS
    codes = taps * strips * s.depth // PACKET_COLUMNS * LANES * problem.format.bits * 4
    scales = held_groups(problem, s.depth) * s.block_outputs * 4
    tables = len(problem.program.table) << TABLE_STRIDE
    stage = images + codes + len(problem.row_parts()) * scales
    if s.warp_groups:
        stage = -(-stage // SWIZZLE_ATOM) * SWIZZLE_ATOM
    return s.stages * (stage + whole_weights(problem, s) * BARRIER_BYTES) + tables


def illegal(problem: ConvProblem, schedule: ConvSchedule, device: Machine) -> Iterator[str]:
    """The reasons why this schedule cannot be built, none if it can."""
    s = schedule
    if s.image_blocks:
        if problem.blocks is None:
            yield "images are no codes in whole blocks"
            return
        problem = problem.in_blocks()
    yield from _uneven(problem, s, device)
    if s.width:
        yield from _unheld(problem, s)
        if s.block_pixels % (s.width * problem.images):
            return
    if s.packs:
        yield from _unpacked(problem, s)
    if s.warp_groups:
        yield from _ungrouped(problem, s)
        yield from no_groups(problem, device.name)
    need = shared_bytes(problem, s)
    if need > device.shared_per_block:
        yield f"{need} bytes of shared memory are more than {device.shared_per_block}"


def _uneven(problem: ConvProblem, schedule: ConvSchedule, device: Machine) -> Iterator[str]:
    """What keeps tiles from being whole fragments, steps and blocks."""
    s = schedule
    if s.pixels % 16 or s.outputs % PACKET_ROWS or s.depth % PACKET_COLUMNS or s.stages < 2:
        yield f"{s} has tiles that are no multiples of 16 x 16 x {PACKET_COLUMNS}, or one stage"
    most = MOST_SUMS_OF_GROUPS if s.warp_groups else MOST_SUMS
    if s.pixels * s.outputs // 32 > most:
        yield f"tiles of {s.pixels} x {s.outputs} have more than {most} sums a lane"
    if s.warps * 32 > device.threads_per_block:
        yield f"{s.warps} warps are more than a block of {device.name} has"
    if s.taps_inner and (not problem.by_tap or problem.window.channels % s.depth):
        yield f"{problem.window.channels} channels are no steps of {s.depth} under one tap"


def _unheld(problem: ConvProblem, schedule: ConvSchedule) -> Iterator[str]:
    """What keeps windows from sharing the pixels of a rectangle."""
    s, p = schedule, problem
    if s.block_pixels % (s.width * p.images):
        yield f"{s.block_pixels} pixels are no rectangle of {s.width} x {p.images} images"
    if not s.taps_inner:
        yield "pixels that are brought once are read under all taps in turn"
    if prod(p.window.taps) == 1:
        yield "windows of one pixel share none"
    size = {"f32": 4, "i8": 1}.get(p.memory, 2)
    if p.vector(COPIED_AT_ONCE) * size < COPIED_AT_ONCE:
        yield "channels that lie apart are gathered pixel by pixel"


def _unpacked(problem: ConvProblem, schedule: ConvSchedule) -> Iterator[str]:
    """What keeps four lanes from packing the results of neighbouring channels."""
    block = problem.result_block or problem.outputs
    if problem.requantised is None:
        yield f"results of {problem.result} are wider than bytes"
    if schedule.outputs % PACKED_CHANNELS or problem.window.outputs % 8 or block % 8:
        yield f"{problem.window.outputs} channels in blocks of {block} are no words of 8"


def _ungrouped(problem: ConvProblem, schedule: ConvSchedule) -> Iterator[str]:
    """What keeps the tiles of a schedule from being those of four warps together."""
    s, bits = schedule, OPERAND_TYPES[problem.activation].bits
    if s.warps_n % 4:
        yield f"{s.warps_n} warps along the channels are no groups of four"
    if s.pixels & (s.pixels - 1):
        yield f"no wgmma has {s.pixels} columns"
    if s.depth * bits % (8 * BANK_ROW):
        yield f"{s.depth} values of {problem.activation} are no rows of {BANK_ROW} bytes"
    if s.width:
        yield "warp groups read windows as rows of shared memory, not where they share pixels"


def no_groups(problem: ConvProblem, target: str) -> Iterator[str]:
    """Why no schedule of this problem has warp groups, nothing if one may."""
    instruction = WARP_GROUP_INSTRUCTION_OF.get(problem.activation)
    if instruction is None or not is_native(target, instruction):
        yield f"{target} has no {instruction or f'wgmma of {problem.activation}'}"
    if not problem.by_tap:
        yield f"weights in groups of {problem.group} scale the sums of each"
    if problem.window.outputs < OF_GROUP:
        yield f"{problem.window.outputs} channels of a group leave most of {OF_GROUP} rows idle"


def default_convolution(problem: ConvProblem, target: str = "sm_80") -> ConvSchedule:
    """A legal schedule for every shape; raises UnsupportedError where nothing computes it."""
    if reason := refusal(problem, target):
        raise UnsupportedError(
            "conv2d-unsupported",
            f"no CUDA kernel for {problem.activation} convolved with {problem.weight}",
            why=reason,
            next_step="choose the format or the activations that the reason names",
        )
    device = machine(target)
    for candidate in (*_of_warp_groups(problem, target), *_preferred(problem)):
        for variant in _variants(candidate):
            if not any(illegal(problem, variant, device)):
                return _laid_out(problem, variant, device)
    raise UnsupportedError(
        "schedule-none", f"no schedule for {problem}", next_step="report this shape"
    )


def _laid_out(problem: ConvProblem, schedule: ConvSchedule, device: Machine) -> ConvSchedule:
    """In blocks of images where windows would else ask for parts of sectors."""
    blocked = replace(schedule, image_blocks=True)
    if problem.blocks is None or problem.in_blocks().sectors >= problem.sectors:
        return schedule
    return schedule if any(illegal(problem, blocked, device)) else blocked


def single_warps(problem: ConvProblem, target: str) -> str:
    """Why warps multiply by themselves on a machine that has groups of them, or ""."""
    return "; ".join((*no_groups(problem, target), *_unpaid_groups(problem)))


def _unpaid_groups(problem: ConvProblem) -> Iterator[str]:
    """Where products wait for copies, or for blocks, groups of warps gain nothing."""
    size = problem.vector(COPIED_TOGETHER) * OPERAND_TYPES[problem.activation].bits // 8
    if size < COPIED_TOGETHER:
        yield f"windows are copied {size} bytes at a time, not {COPIED_TOGETHER}"
    if problem.pixels < MANY_PIXELS:
        yield f"{problem.pixels} output pixels are too few blocks"


def _of_warp_groups(problem: ConvProblem, target: str) -> Iterator[ConvSchedule]:
    if single_warps(problem, target):
        return
    depth = 8 * BANK_ROW // OPERAND_TYPES[problem.activation].bits
    if problem.window.outputs > OF_GROUP:
        if problem.requantised is not None:  # 32 channels of a warp, which lanes pack
            yield ConvSchedule(2, 4, 64, 32, depth, 3, warp_groups=True)
        yield ConvSchedule(1, 8, 128, 16, depth, 3, warp_groups=True)
    yield ConvSchedule(2, 4, 128, 16, depth, 3, warp_groups=True)


def _preferred(problem: ConvProblem) -> Iterator[ConvSchedule]:
    shapes = [(2, 2, 32, 32, 64, 3), (2, 1, 32, 32, 64, 2), (1, 1, 16, 16, 64, 2)]
    if problem.pixels > 2048:
        shapes.insert(0, (4, 1, 32, 64, 64, 3))
    for shape in shapes:
        yield _fitted(problem, ConvSchedule(*shape))


def _variants(schedule: ConvSchedule) -> Iterator[ConvSchedule]:
    """Results in whole words and channels in steps where they can."""
    for packs in (True, False):
        for taps_inner in (True, False):
            yield replace(schedule, packs=packs, taps_inner=taps_inner)


def _fitted(problem: ConvProblem, schedule: ConvSchedule) -> ConvSchedule:
    """No more strips of outputs than there are."""
    s, strips = schedule, problem.strips
    while s.warps_n > 1 and (s.warps_n - 1) * s.outputs >= strips * PACKET_ROWS:
        s = replace(s, warps_n=s.warps_n // 2, warps_m=s.warps_m * 2)
    while s.outputs > PACKET_ROWS and s.warps_n == 1 and s.outputs // 2 >= strips * PACKET_ROWS:
        s = replace(s, outputs=s.outputs // 2)
    return s
