"""
What this processor can do at this moment: bytes read from DRAM and multiply-adds, a second.

The kernels are a few lines of LLVM IR, compiled at the first use. Reading walks eight streams with
software read-ahead, since one plain loop does not reach what the memory gives to one thread;
multiply-adds are ten independent chains in registers.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np

from qcc.codegen.cpu.features import host_features

READ_BYTES = 256 << 20
STREAMS, LINE, AHEAD = 8, 64, 1024
# Read in less time than the system lends the processor to others: most pieces are undisturbed.
PIECES = 16
CHAINS, TURNS = 10, 500_000
LARGEST_CACHE = 32 << 20  # where the system does not tell


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and operations a second; a multiply-add is two operations."""

    bandwidth: float
    float_rate: float
    bf16_rate: float
    int8_rate: float

    def seconds(self, compute: str, weight_bytes: int, operations: int) -> float:
        """The least time for one pass over the weights and that many operations."""
        rates = {"int8": self.int8_rate, "bf16": self.bf16_rate, "fp32": self.float_rate}
        return max(weight_bytes / self.bandwidth, operations / rates[compute])


class Probe:
    """Measures `Limits` with a number of threads; each measurement also empties the caches."""

    def __init__(self, threads: int, read_bytes: int = READ_BYTES) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._engine = _compiled(_text())
        self._read = self._function("read", ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
        self._fma = self._function("fma", ctypes.c_float, ctypes.c_int64)
        self._dot = self._function("dot", ctypes.c_int32, ctypes.c_int64)
        pairs = self._function("pairs", ctypes.c_float, ctypes.c_int64) if _has_bf16() else None
        self._pairs = pairs
        self._memory = np.ones(read_bytes // 8, np.int64)

    def __call__(self) -> Limits:
        step = STREAMS * LINE
        piece = self._memory.nbytes // (self._threads * PIECES) // step * step
        start = self._memory.ctypes.data
        multiplied = 2 * _float_lanes() * CHAINS * TURNS
        pairs = self._pairs
        float_rate = self._rate(multiplied, lambda index: self._fma(TURNS))
        return Limits(
            self._rate(piece, lambda index: self._read(start + index * piece, piece), PIECES),
            float_rate,
            self._rate(2 * multiplied, lambda index: pairs(TURNS)) if pairs else float_rate,
            self._rate(4 * multiplied, lambda index: self._dot(TURNS)),
        )

    def close(self) -> None:
        self._pool.shutdown()

    def _rate(self, amount: float, action: Callable[[int], object], pieces: int = 1) -> float:
        """
        The sum over the threads of `amount` by the median time of its pieces, which are numbered
        through: starting threads does not count, nor what disturbs a few pieces.
        """

        def seconds(thread: int) -> float:
            taken = []
            for piece in range(thread * pieces, (thread + 1) * pieces):
                start = time.perf_counter()
                action(piece)
                taken.append(time.perf_counter() - start)
            return float(np.median(taken))

        return sum(amount / taken for taken in self._pool.map(seconds, range(self._threads)))

    def _function(self, name: str, result: type, *arguments: type):
        address = self._engine.get_function_address(name)
        return ctypes.CFUNCTYPE(result, *arguments)(address)


def last_level_cache() -> int:
    """Bytes of the largest cache of processor 0."""
    sizes = [LARGEST_CACHE >> 10]
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = index.read_text().strip()
        sizes.append(int(text.rstrip("K")) if text.endswith("K") else 0)
    return max(sizes) << 10


def description() -> dict[str, object]:
    """Processor, its relevant features, caches and the load at this moment."""
    wanted = ("avx2", "fma", "avx512f", "avx512vnni", "avxvnni", "avx512bf16", "amx-int8")
    return {
        "processor": llvm.get_host_cpu_name(),
        "processors": len(os.sched_getaffinity(0)),
        "features": [name for name in wanted if name in host_features()],
        "last level cache": last_level_cache(),
        "load": list(os.getloadavg()),
    }


def _float_lanes() -> int:
    return 16 if "avx512f" in host_features() else 8


def _compiled(text: str) -> llvm.ExecutionEngine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = ",".join(f"+{name}" for name in host_features())
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2, codemodel="jitdefault", jit=True
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    return engine


def _text() -> str:
    kernels = [_read_text(), _fma_text(), _dot_text()]
    return "\n".join([*kernels, _pairs_text()] if _has_bf16() else kernels)


def _loop(header: str, initial: list[tuple[str, str]], body: str, step: int) -> str:
    """A function that counts %i up to %n in `step`s, carrying %s0, %s1, … to %t0, %t1, …"""
    phis = "\n".join(
        f"  %s{index} = phi {type_} [{value}, %entry], [%t{index}, %loop]"
        for index, (type_, value) in enumerate(initial)
    )
    return f"""
define {header} {{
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
{phis}
{body}
  %next = add i64 %i, {step}
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
"""


def _read_text() -> str:
    """Adds up `bytes` from `p` in STREAMS equal parts, a cache line of each a turn."""
    words = LINE // 8
    lines = []
    for s in range(STREAMS):
        lines += [
            f"  %o{s} = add i64 %i, %b{s}",
            f"  %p{s} = getelementptr i8, ptr %p, i64 %o{s}",
            f"  %q{s} = getelementptr i8, ptr %p{s}, i64 {AHEAD}",
            f"  call void @llvm.prefetch.p0(ptr %q{s}, i32 0, i32 3, i32 1)",
            f"  %v{s} = load <{words} x i64>, ptr %p{s}, align 8",
            f"  %t{s} = add <{words} x i64> %s{s}, %v{s}",
        ]
    starts = "\n".join(
        [f"  %n = sdiv i64 %bytes, {STREAMS}"]
        + [f"  %b{s} = mul i64 %n, {s}" for s in range(STREAMS)]
    )
    vector = f"<{words} x i64>"
    head = "i64 @read(ptr %p, i64 %bytes)"
    loop = _loop(head, [(vector, "zeroinitializer")] * STREAMS, "\n".join(lines), LINE)
    loop = loop.replace("entry:\n", f"entry:\n{starts}\n")
    declared = (
        "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)\n"
        f"declare i64 @llvm.vector.reduce.add.v{words}i64({vector})"
    )
    return declared + loop + _total(vector, "add", STREAMS) + (
        f"  %r = call i64 @llvm.vector.reduce.add.v{words}i64({vector} %all)\n  ret i64 %r\n}}"
    )  # fmt: skip


def _fma_text() -> str:
    lanes = _float_lanes()
    vector = f"<{lanes} x float>"
    half = "splat (float 5.000000e-01)"
    body = "\n".join(
        f"  %t{c} = call {vector} @llvm.fma.v{lanes}f32({vector} %s{c}, {vector} {half}, "
        f"{vector} {half})"
        for c in range(CHAINS)
    )
    declared = f"declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})"
    loop = _loop("float @fma(i64 %n)", [(vector, "zeroinitializer")] * CHAINS, body, 1)
    return declared + loop + _total(vector, "fadd", CHAINS) + (
        f"  %r = extractelement {vector} %all, i64 0\n  ret float %r\n}}"
    )  # fmt: skip


def _has_bf16() -> bool:
    return "avx512bf16" in host_features()


def _pairs_text() -> str:
    """Products of bf16 pairs summed into fp32."""
    name = "@llvm.x86.avx512bf16.dpbf16ps.512"
    vector, halves = "<16 x float>", "<32 x bfloat>"
    one = f"{halves} splat (bfloat 1.0)"
    body = "\n".join(
        f"  %t{c} = call {vector} {name}({vector} %s{c}, {one}, {one})" for c in range(CHAINS)
    )
    loop = _loop("float @pairs(i64 %n)", [(vector, "zeroinitializer")] * CHAINS, body, 1)
    declared = f"declare {vector} {name}({vector}, {halves}, {halves})"
    result = f"  %r = extractelement {vector} %all, i64 0\n  ret float %r\n}}"
    return declared + loop + _total(vector, "fadd", CHAINS) + result


def _dot_text() -> str:
    """u8·s8 products summed by fours into int32, as the processor does it best."""
    lanes = _float_lanes()
    vector = f"<{lanes} x i32>"
    result = f"  %r = extractelement {vector} %all, i64 0\n  ret i32 %r\n}}"
    declared, body = _vnni(vector, lanes) if _has_vnni(lanes) else _madd(vector, lanes)
    loop = _loop("i32 @dot(i64 %n)", [(vector, "zeroinitializer")] * CHAINS, body, 1)
    return declared + loop + _total(vector, "add", CHAINS) + result


def _has_vnni(lanes: int) -> bool:
    return ("avx512vnni" if lanes == 16 else "avxvnni") in host_features()


def _vnni(vector: str, lanes: int) -> tuple[str, str]:
    codes = f"<{4 * lanes} x i8>"
    name = f"@llvm.x86.avx512.vpdpbusd.{32 * lanes}"
    one = f"{codes} splat (i8 1)"
    body = "\n".join(
        f"  %t{c} = call {vector} {name}({vector} %s{c}, {one}, {one})" for c in range(CHAINS)
    )
    return f"declare {vector} {name}({vector}, {codes}, {codes})", body


def _madd(vector: str, lanes: int) -> tuple[str, str]:
    """vpmaddubsw, vpmaddwd, vpaddd; the chain runs through the codes so that none is dropped."""
    codes, pairs = f"<{4 * lanes} x i8>", f"<{2 * lanes} x i16>"
    wide = "512" if lanes == 16 else ""
    first = f"@llvm.x86.avx512.pmaddubs.w.{wide}" if wide else "@llvm.x86.avx2.pmadd.ub.sw"
    second = f"@llvm.x86.avx512.pmaddw.d.{wide}" if wide else "@llvm.x86.avx2.pmadd.wd"
    lines = []
    for c in range(CHAINS):
        lines += [
            f"  %c{c} = bitcast {vector} %s{c} to {codes}",
            f"  %d{c} = call {pairs} {first}({codes} %c{c}, {codes} splat (i8 1))",
            f"  %e{c} = call {vector} {second}({pairs} %d{c}, {pairs} splat (i16 1))",
            f"  %t{c} = add {vector} %s{c}, %e{c}",
        ]
    declared = (
        f"declare {pairs} {first}({codes}, {codes})\ndeclare {vector} {second}({pairs}, {pairs})"
    )
    return declared, "\n".join(lines)


def _total(vector: str, operation: str, count: int) -> str:
    """%all, the sum of %t0 … of the last turn."""
    lines, total = [], "%t0"
    for index in range(1, count):
        name = "%all" if index == count - 1 else f"%u{index}"
        lines.append(f"  {name} = {operation} {vector} {total}, %t{index}")
        total = name
    return "\n".join(lines) + "\n"
