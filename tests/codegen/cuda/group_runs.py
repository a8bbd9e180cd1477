"""Running fused groups in the emulator, and in the interpreter, on random tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from qcc.codegen.cuda.emulator import EmulatedModule
from qcc.codegen.cuda.emulator.launch import ALL_MODES, Mode, device_array
from qcc.dialects.bindings import func, ir
from qcc.dialects.interpreter import interpret
from qcc.dialects.tile.control import walk
from qcc.dialects.tile.group import GroupSchedule
from qcc.dialects.tile.group_op import outputs_of

DTYPES: dict[str, Any] = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16,
    "i1": np.bool_, "i8": np.int8, "i32": np.int32, "i64": np.int64,
}  # fmt: skip


def groups_of(module: ir.Module) -> list[Any]:
    return [op for op in module.body.operations if op.operation.name == "tile.group"]


def name_of(group: Any) -> str:
    return ir.StringAttr(group.symbol).value


def inputs_for(group: Any, sizes: Sequence[int], seed: int, limit: int = 3) -> list[np.ndarray]:
    """Random tensors and then the sizes; integers from 0 to before `limit`."""
    random, found = np.random.default_rng(seed), []
    for value, extents in zip(group.body.blocks[0].arguments, group.extents, strict=True):
        if isinstance(value.type, ir.IndexType):
            continue
        shape = [n if n >= 0 else sizes[-1 - n] for n in ir.DenseI64ArrayAttr(extents)]
        kind = DTYPES[str(ir.RankedTensorType(value.type).element_type)]
        if np.issubdtype(kind, np.integer) or kind is np.bool_:
            found.append(random.integers(0, 2 if kind is np.bool_ else limit, shape).astype(kind))
        else:
            found.append(random.standard_normal(shape).astype(np.float32).astype(kind))
    return found


def size_count(group: Any) -> int:
    return sum(isinstance(v.type, ir.IndexType) for v in group.body.blocks[0].arguments)


def reference(group: Any, tensors: Sequence[np.ndarray], sizes: Sequence[int]) -> list[np.ndarray]:
    """What the interpreter makes of the ops of a group."""
    outputs = outputs_of(group)
    arguments = group.body.blocks[0].arguments
    with group.operation.context, ir.Location.unknown():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            kind = ir.FunctionType.get([v.type for v in arguments], [v.type for v in outputs])
            function = func.FuncOp("main", kind)
        block = function.add_entry_block()
        values = dict(zip(arguments, block.arguments, strict=True))
        with ir.InsertionPoint(block):
            for op in group.body.blocks[0].operations:
                if op.operation.name.startswith("tile."):
                    continue
                copy = op.operation.clone()
                inner = [each.operation for each in walk(copy)]
                for each in [copy, *inner]:
                    for number, operand in enumerate(list(each.operands)):
                        each.operands[number] = values.get(operand, operand)
                values |= dict(zip(op.operation.results, copy.results, strict=True))
            func.ReturnOp([values[output] for output in outputs])
        numbers = [np.array(size, np.int64) for size in sizes]
        return interpret(module, [*tensors, *numbers], params=lambda name: np.empty(0))


def emulated(
    module: EmulatedModule,
    group: Any,
    tensors: Sequence[np.ndarray],
    sizes: Sequence[int],
    like: Sequence[np.ndarray],
    mode: Mode,
    totals: int = 8,
) -> list[np.ndarray]:
    """What the kernel stores; `like` are arrays of the results' shapes."""
    schedule = GroupSchedule.of(group.schedule)
    shape = max((each.shape for each in like), key=lambda s: (prod(s), len(s)))
    count = prod(shape[: schedule.row_axes]) if schedule.by_rows else prod(shape)
    results = [device_array(np.zeros(each.shape, each.dtype)) for each in like]
    if count:
        given = [device_array(each) for each in tensors]
        grid = -(-count // schedule.per_block)
        shared = schedule.shared_bytes(totals)
        arguments = [*map(_bits, given), *map(_bits, results), *sizes]
        module.launch(name_of(group), grid, schedule.threads, shared, arguments, mode)
    return results


def differences(
    module: EmulatedModule,
    group: Any,
    sizes: Sequence[int],
    seed: int = 0,
    modes: Sequence[Mode] = ALL_MODES,
) -> Iterator[tuple[str, float]]:
    """For each mode and output, the largest error over the bound; at most 1 is right."""
    tensors = inputs_for(group, sizes, seed)
    wanted = reference(group, tensors, sizes)
    for mode in modes:
        found = emulated(module, group, tensors, sizes, wanted, mode)
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield f"{name_of(group)} output {number} {mode}", error(one, other)


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    """
    Over the bound: 0 for integers, 64 units in the last place of fp32 of the largest value for
    floats, and one of a type of 16 bits.
    """
    if not wanted.size:
        return 0.0
    if wanted.dtype.kind in "biu":
        return float(np.any(found != wanted)) * 2
    one, other = found.astype(np.float64), wanted.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    finite = np.abs(other[np.isfinite(other)])
    scale = float(finite.max()) if finite.size else 1.0
    bound = 64 * 2.0**-24 * np.maximum(scale, 1e-30)
    if wanted.dtype.itemsize == 2:
        digits = 11 if wanted.dtype == np.float16 else 8
        bound = bound + 2.0 ** (1 - digits) * np.abs(other)
    with np.errstate(invalid="ignore"):
        ratio = np.where(same, 0, np.abs(one - other) / bound)
    return float(np.nan_to_num(ratio, nan=np.inf, posinf=np.inf).max())


def _bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint8) if array.dtype == np.bool_ else array
