"""A legal schedule for every shape: what is used until one has been measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..errors import UnsupportedError
from ..formats.packets import PACKET_COLUMNS, PACKET_ROWS
from .default_loops import raster_of, shared_evenly
from .dialect import BANK_ROW
from .fragments import INSTRUCTIONS
from .hardware import MULTIPROCESSORS, Machine, is_native, machine
from .problem import WARP_GROUP_INSTRUCTION_OF, LinearProblem, checked, chunk_of
from .schedule import STREAMING_BLOCKS, Schedule, illegal

FEW_TOKENS = 16
MOST_STREAMED = 8
NEARLY_FULL = 0.75
MOST_STRIPS, MOST_SPLITS = 4, 16
PACKET_REGISTERS = 32


def default_schedule(
    problem: LinearProblem, target: str = "sm_80", tensor_maps: bool = True
) -> Schedule:
    """
    A legal schedule for any shape.

    Few tokens: the memory must be kept busy, so warps share K and blocks are many. Many tokens:
    each warp has its own channels, so that nothing is decoded twice.
    """
    checked(problem)
    device = machine(target)
    name = problem.instruction
    grouped = _of_warp_groups(problem, device) if tensor_maps else ()
    tensor = _in_tensor_memory(problem, device) if tensor_maps else ()
    streams = _streams(problem, name, device)
    for candidate in (*tensor, *grouped, *streams, *_preferred(problem, name)):
        fitted = _fitted(problem, candidate)
        splits = fitted.splits if fitted.streams else _splits(problem, fitted, device)
        fitted = replace(fitted, splits=splits, raster=raster_of(problem, fitted, device))
        if not any(illegal(problem, fitted, device)):
            even = shared_evenly(problem, fitted, device)
            return next((each for each in even if not any(illegal(problem, each, device))), fitted)
    raise UnsupportedError(
        "schedule-none",
        f"no schedule for {problem}",
        why="; ".join(illegal(problem, _fitted(problem, _smallest(name)), device)),
        next_step="report this shape",
    )


def multiplies_any_tokens(problem: LinearProblem, target: str) -> bool:
    """
    Whether a machine multiplies the operands of a problem as they are, few tokens and many.

    Where single warps do not, tensor copies must be able to bring the activations.
    """
    if is_native(target, problem.instruction):
        return True
    device = machine(target)
    few = replace(problem, tokens=1)
    candidates = (*_of_warp_groups(few, device), *_in_tensor_memory(few, device))
    return any(not any(illegal(few, each, device)) for each in candidates)


def _of_warp_groups(problem: LinearProblem, device: Machine) -> Iterator[Schedule]:
    """
    Where the machine has them, and tokens are enough to keep them busy, or warps do not multiply.

    Two groups of 64 channels: while one decodes or rescales, the other one multiplies. Wide tiles
    read shared memory least, as long as there are as many of them as multiprocessors.
    """
    name = WARP_GROUP_INSTRUCTION_OF.get(problem.activation, "")
    if problem.blocks or not name or not is_native(device.name, name) or _is_few(problem, device):
        return
    row = 8 * BANK_ROW // INSTRUCTIONS[name].operand_bits  # columns of 128 bytes of activations
    rescaled_bytes = problem.group is not None and problem.operand.bits == 8
    depths = (row,) if rescaled_bytes else (2 * row, row)
    # Integer sums of short groups are converted and rescaled often: wide tiles of them spill.
    short = rescaled_bytes and chunk_of(problem) < PACKET_COLUMNS
    least = 32 if problem.tokens > FEW_TOKENS else 16
    for tokens in (64, 32, 16) if short else (256, 128, 64, 32, 16):
        tiles = -(-problem.n // 128) * -(-problem.tokens // tokens)
        if tokens == least or (
            problem.tokens > tokens // 2 and (tokens < 256 or tiles >= MULTIPROCESSORS[device.name])
        ):
            for depth in depths:
                for stages in (6, 5, 4, 3):
                    yield Schedule(name, 128, tokens, depth, 8, 1, 1, stages)


def _is_few(problem: LinearProblem, device: Machine) -> bool:
    """Whether the tokens are too few to keep more than single warps busy, which can multiply."""
    return problem.tokens <= FEW_TOKENS and is_native(device.name, problem.instruction)


def _in_tensor_memory(problem: LinearProblem, device: Machine) -> Iterator[Schedule]:
    """
    Where the machine has it, for more than few tokens, or for what warps do not multiply.

    As wide as there are tokens, or narrower where sums of groups need the columns and registers.
    """
    name = problem.tensor_instruction
    if not name or _is_few(problem, device) or not is_native(device.name, name):
        return
    row = 8 * BANK_ROW // INSTRUCTIONS[name].operand_bits  # columns of 128 bytes
    widest = min(256, max(16, 1 << (problem.tokens - 1).bit_length()))
    tiles = -(-problem.n // 128) * -(-problem.tokens // widest)
    if widest == 256 and tiles < MULTIPROCESSORS[device.name]:
        widest = 128
    for tokens in (each for each in (256, 128, 64, 32, 16) if each <= widest):
        for depth in (2 * row, row) if problem.operand.bits == 16 else (row,):
            for stages in (6, 5, 4, 3, 2):
                yield Schedule(name, 128, tokens, depth, 8, 1, 1, stages)


def _streams(problem: LinearProblem, name: str, device: Machine) -> Iterator[Schedule]:
    """
    Few tokens, whose time is that of reading packets: many bytes under way, few bytes besides.

    A block reads its activations from the L2 cache, at most half as many bytes as packets; so
    more tokens need more strips of channels. Its 8 warps share K and have about 32 registers of
    packets under way each: 32 KiB, twice on a multiprocessor. Blocks are as many as run at once,
    and share K only where channels are too few for that.
    """
    if problem.tokens > MOST_STREAMED:
        return
    tokens, bits = 1 << (problem.tokens - 1).bit_length(), problem.format.bits
    slots = STREAMING_BLOCKS * MULTIPROCESSORS[device.name]
    warps = 8
    while warps > 1 and PACKET_COLUMNS * warps > max(problem.stored_k, 2 * PACKET_COLUMNS):
        warps //= 2
    depth, steps = PACKET_COLUMNS * warps, -(-problem.stored_k // (PACKET_COLUMNS * warps))
    least = min(MOST_STRIPS, max(1, 2 * tokens * problem.operand.bits // 16 // bits))
    made = []
    for strips in range(least, MOST_STRIPS + 1):
        tiles = -(-problem.strips // strips)
        splits = max(1, min(slots // tiles, steps // 2, MOST_SPLITS))
        blocks = tiles * splits
        full = blocks / (-(-blocks // slots) * slots)
        ahead = max(1, PACKET_REGISTERS // (strips * bits))
        for stages in (min(ahead, max(1, steps - 1), 8), 1):  # no more than there are to come
            made.append((full < NEARLY_FULL, splits > 1, -round(full, 2), strips, Schedule(
                name, PACKET_ROWS * strips, tokens, depth, 1, 1, warps, stages, splits,
                streams=True,
            )))  # fmt: skip
    yield from (each for *_, each in sorted(made, key=lambda entry: entry[:-1]))


def _preferred(problem: LinearProblem, name: str) -> Iterator[Schedule]:
    if problem.tokens <= 16:
        tokens = 8 if problem.tokens <= 8 else 16
        yield Schedule(name, 64, tokens, 256, 1, 1, 4, 4)
    elif problem.tokens <= 64:
        yield Schedule(name, 64, 32 if problem.tokens <= 32 else 64, 128, 2, 1, 2, 4)
    else:
        yield Schedule(name, 128, 128, 64, 4, 1, 1, 4)
        yield Schedule(name, 128, 128, 64, 4, 2, 1, 4)
        yield Schedule(name, 128, 64, 64, 4, 1, 1, 4)
        yield Schedule(name, 128, 64, 64, 4, 1, 1, 3)
        yield Schedule(name, 128, 32, 64, 4, 1, 1, 4)
    yield Schedule(name, 64, 32, 128, 2, 1, 2, 3)
    yield Schedule(name, 64, 8, 128, 2, 1, 2, 2)
    yield _smallest(name)


def _smallest(name: str) -> Schedule:
    return Schedule(name, 16, 8, 128, 1, 1, 1, 2)


def _fitted(problem: LinearProblem, schedule: Schedule) -> Schedule:
    """No more channels than there are, and rows of at least 128 bytes."""
    if schedule.groups or schedule.streams:
        return schedule
    depth = max(schedule.depth, BANK_ROW * 8 // schedule.record.operand_bits)
    strips = schedule.channels // PACKET_ROWS
    while strips > problem.strips and strips > schedule.warps_n:
        strips //= 2
    return replace(schedule, depth=depth, channels=strips * PACKET_ROWS)


def _splits(problem: LinearProblem, schedule: Schedule, device: Machine) -> int:
    """
    Enough blocks for two on each multiprocessor, as long as each has four steps of K.

    Of warp groups there is one, which has most of the registers.
    """
    tiles = -(-problem.n // schedule.channels) * -(-problem.tokens // schedule.tokens)
    wanted = (1 if schedule.groups else 2) * MULTIPROCESSORS[device.name] // tiles
    return max(1, min(wanted, -(-problem.k // schedule.depth) // 4, 16))
