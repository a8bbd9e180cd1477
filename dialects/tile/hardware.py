"""
CUDA machines: what a multiprocessor holds, and which instructions its silicon has.

ptxas accepts matrix instructions that a machine lacks and replaces them by dozens of others
without a word, so what assembles proves nothing: the table below was read from SASS (spec cuda.md
§1, ptxas 13.0 and 13.5), and tests/codegen/cuda/test_sass.py derives it again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from ..errors import UnsupportedError

KIB = 1024


@dataclass(frozen=True)
class Machine:
    """
    A target as nvcc names it, and the limits of one of its multiprocessors.

    `shared_per_block` is what a block may ask for; the system keeps `shared_reserved` bytes more
    for each, all out of `shared_per_processor`.
    """

    name: str
    shared_per_block: int
    shared_per_processor: int
    threads_per_processor: int
    blocks_per_processor: int
    shared_reserved: int = 1 * KIB
    registers_per_processor: int = 64 * KIB
    registers_per_thread: int = 255
    threads_per_block: int = 1024

    @property
    def number(self) -> int:
        """
        The compute capability: 90 of sm_90a.

        >>> machine("sm_90a").number, machine("sm_90a").suffix
        (90, 'a')
        """
        return _parsed(self.name)[0]

    @property
    def suffix(self) -> str:
        """`a` where the instructions of exactly this machine are wanted, or nothing."""
        return _parsed(self.name)[1]


_MACHINES: dict[str, Machine] = {
    each.name: each
    for each in (
        Machine("sm_80", 163 * KIB, 164 * KIB, 2048, 32),
        Machine("sm_86", 99 * KIB, 100 * KIB, 1536, 16),
        Machine("sm_89", 99 * KIB, 100 * KIB, 1536, 24),
        Machine("sm_90a", 227 * KIB, 228 * KIB, 2048, 32),
        Machine("sm_100a", 227 * KIB, 228 * KIB, 2048, 32),
        Machine("sm_120a", 99 * KIB, 100 * KIB, 1536, 24),
    )
}
MACHINES = tuple(_MACHINES)
MULTIPROCESSORS = {
    "sm_80": 108, "sm_86": 84, "sm_89": 128, "sm_90a": 132, "sm_100a": 148, "sm_120a": 170,
}  # fmt: skip
"""Of the usual product with each machine; how many blocks it takes to fill it."""
BANDWIDTH = {
    "sm_80": 2.0e12, "sm_86": 0.7e12, "sm_89": 1.0e12, "sm_90a": 3.35e12, "sm_100a": 8.0e12,
    "sm_120a": 1.8e12,
}  # fmt: skip
"""Bytes a second of DRAM."""
HALVES = {
    "sm_80": 312e12, "sm_86": 150e12, "sm_89": 165e12, "sm_90a": 990e12, "sm_100a": 2250e12,
    "sm_120a": 210e12,
}  # fmt: skip
"""Operations a second on halves with fp32 sums, likewise; on bytes it is twice as many."""
CACHE = {
    "sm_80": 40e6, "sm_86": 6e6, "sm_89": 72e6, "sm_90a": 50e6, "sm_100a": 126e6, "sm_120a": 96e6,
}  # fmt: skip
"""Bytes of the L2 cache."""


class Support(Enum):
    """How a machine executes an instruction; the values are those of spec cuda.md §1."""

    NATIVE = "N"
    EMULATED = "E"
    REJECTED = "-"


@dataclass(frozen=True)
class Capability:
    """
    One instruction on all machines.

    `opcodes` are how its SASS begins where it is native, one of them. `instead` names what does
    the same work where it is not, after decoding the operands.
    """

    instruction: str
    support: dict[str, Support]
    opcodes: tuple[str, ...]
    instead: str = ""


#                                80 86 89 90a 100a 120a
_TABLE = """
mma.m8n8k4.f16                   E  E  E  E  E  E  HMMA.884            mma.m16n8k16.f16
mma.m16n8k8.f16                  N  N  N  N  N  N  HMMA.1688.F32
mma.m16n8k8.bf16                 N  N  N  N  N  N  HMMA.1688.F32.BF16
mma.m16n8k16.f16                 N  N  N  N  N  N  HMMA.16816.F32
mma.m16n8k16.f16.f16             N  N  N  N  N  N  HMMA.16816.F16
mma.m16n8k16.bf16                N  N  N  N  N  N  HMMA.16816.F32.BF16
mma.m16n8k8.tf32                 N  N  N  N  N  N  HMMA.1688.F32.TF32
mma.m8n8k4.f64                   N  N  N  N  N  N  DMMA.884
mma.m16n8k16.s8                  N  N  N  N  N  N  IMMA.16816.S8.S8
mma.m16n8k32.s8                  N  N  N  N  N  N  IMMA.16832.S8.S8
mma.m16n8k32.u8                  N  N  N  N  N  N  IMMA.16832.U8.U8
mma.m16n8k32.u8s8                N  N  N  N  N  N  IMMA.16832.U8.S8
mma.m16n8k32.s8u8                N  N  N  N  N  N  IMMA.16832.S8.U8
mma.m16n8k32.s4                  N  N  N  E  E  E  IMMA.16832.S4.S4    mma.m16n8k32.s8
mma.m16n8k64.s4                  N  N  N  E  E  E  IMMA.16864.S4.S4    mma.m16n8k32.s8
mma.m16n8k64.u4                  N  N  N  E  E  E  IMMA.16864.U4.U4    mma.m16n8k32.u8
mma.m16n8k64.u4s4                N  N  N  E  E  E  IMMA.16864.U4.S4    mma.m16n8k32.u8s8
mma.m16n8k64.s4u4                N  N  N  E  E  E  IMMA.16864.S4.U4    mma.m16n8k32.s8u8
mma.m16n8k256.b1.and             N  N  N  N  E  E  BMMA.168256.AND     mma.m16n8k32.u8
mma.m16n8k256.b1.xor             N  N  N  E  E  E  BMMA.168256.XOR     mma.m16n8k256.b1.and
mma.m16n8k16.e4m3                -  -  N  E  E  N  QMMA.16816          mma.m16n8k16.f16
mma.m16n8k32.e4m3                -  -  N  E  E  N  QMMA.16832.F32      mma.m16n8k16.f16
mma.m16n8k32.e5m2                -  -  N  E  E  N  QMMA.16832.F32      mma.m16n8k16.f16
mma.m16n8k32.e4m3e5m2            -  -  N  E  E  N  QMMA.16832.F32      mma.m16n8k16.f16
mma.m16n8k32.e5m2e4m3            -  -  N  E  E  N  QMMA.16832.F32      mma.m16n8k16.f16
mma.m16n8k32.f8f6f4              -  -  -  -  -  N  QMMA.16832.F32      mma.m16n8k32.e4m3
mma.m16n8k32.mxf8                -  -  -  -  -  N  QMMA.SF.16832       mma.m16n8k32.e4m3
mma.m16n8k64.mxf4                -  -  -  -  -  N  OMMA.SF.16864       mma.m16n8k32.e4m3
mma.m16n8k64.nvf4                -  -  -  -  -  N  OMMA.SF.16864       mma.m16n8k32.e4m3
mma.sparse.m16n8k32.f16          N  N  N  N  N  N  HMMA.SP
mma.sparse.m16n8k64.s8           N  N  N  N  N  N  IMMA.SP
wgmma.f16                        -  -  -  N  -  -  HGMMA               mma.m16n8k16.f16
wgmma.bf16                       -  -  -  N  -  -  HGMMA               mma.m16n8k16.bf16
wgmma.tf32                       -  -  -  N  -  -  HGMMA               mma.m16n8k8.tf32
wgmma.e4m3                       -  -  -  N  -  -  QGMMA               mma.m16n8k32.e4m3
wgmma.e5m2                       -  -  -  N  -  -  QGMMA               mma.m16n8k32.e5m2
wgmma.s8                         -  -  -  N  -  -  IGMMA               mma.m16n8k32.s8
wgmma.u8s8                       -  -  -  N  -  -  IGMMA               mma.m16n8k32.u8s8
wgmma.b1.and                     -  -  -  N  -  -  BGMMA               mma.m16n8k256.b1.and
tcgen05.f16                      -  -  -  -  N  -  UTCHMMA             mma.m16n8k16.f16
tcgen05.bf16                     -  -  -  -  N  -  UTCHMMA             mma.m16n8k16.bf16
tcgen05.f8f6f4                   -  -  -  -  N  -  UTCQMMA             mma.m16n8k32.f8f6f4
tcgen05.i8                       -  -  -  -  N  -  UTCIMMA             mma.m16n8k32.s8
tcgen05.mxf8f6f4                 -  -  -  -  N  -  UTCQMMA             mma.m16n8k32.mxf8
tcgen05.mxf4                     -  -  -  -  N  -  UTCOMMA             mma.m16n8k64.mxf4
tcgen05.mxf4nvf4                 -  -  -  -  N  -  UTCOMMA.4X          mma.m16n8k64.nvf4
ldmatrix.b16                     N  N  N  N  N  N  LDSM.16
ldmatrix.b4x16                   -  -  -  -  N  N  LDSM                ldmatrix.b16
stmatrix.b16                     -  -  -  N  N  N  STSM.16             st.shared
st.shared                        N  N  N  N  N  N  STS
cp.async                         N  N  N  N  N  N  LDGSTS.E
cp.async.bulk                    -  -  -  N  N  N  UBLKCP              cp.async
cp.async.bulk.tensor             -  -  -  N  N  N  UTMALDG             cp.async
mbarrier.try_wait                -  -  -  N  N  N  SYNCS               bar.sync
bar.sync                         N  N  N  N  N  N  BAR.SYNC
setmaxnreg                       -  -  -  N  N  N  USETMAXREG
ld.global.v8                     -  -  -  -  N  N  LDG.E.256           ld.global.v4
ld.global.v4                     N  N  N  N  N  N  LDG.E.128
red.global.v4.f16x2              -  -  -  N  N  N  REDG.E.ADD|RED.E.ADD red.global.f16x2
red.global.f16x2                 N  N  N  N  N  N  REDG.E.ADD|RED.E.ADD
redux.s32                        N  N  N  N  N  N  REDUX
dp4a                             N  N  N  N  N  N  IDP.4A
fma.f16x2                        N  N  N  N  N  N  HFMA2
fma.bf16x2                       N  N  N  N  N  N  HFMA2
lop3                             N  N  N  N  N  N  LOP3.LUT
prmt                             N  N  N  N  N  N  PRMT
cvt.e4m3x2                       -  -  N  N  N  N  F2FP                lop3
cvt.e2m1x2                       -  -  -  -  N  N  F2FP                prmt
"""


def _read_table(text: str) -> dict[str, Capability]:
    """One line an instruction: name, support on each machine, opcode, what to use instead."""
    table: dict[str, Capability] = {}
    for line in text.strip().splitlines():
        name, *rest = line.split()
        letters, words = rest[: len(MACHINES)], [*rest[len(MACHINES) :], ""]
        support = {key: Support(letter) for key, letter in zip(MACHINES, letters, strict=True)}
        table[name] = Capability(name, support, tuple(words[0].split("|")), words[1])
    return table


CAPABILITIES: dict[str, Capability] = _read_table(_TABLE)
"""By instruction: for `mma` the name of the device header's function with dots for underscores."""


def machine(name: str) -> Machine:
    """The machine `name`; raises UnsupportedError with those there are."""
    if found := _MACHINES.get(name):
        return found
    raise UnsupportedError(
        "cuda-target-unknown",
        f"no CUDA target '{name}'",
        where="--target",
        why=_why_unknown(name),
        next_step=f"choose one of {', '.join(MACHINES)}",
    )


def support(target: str, instruction: str) -> Support:
    """How `target` executes `instruction`; raises UnsupportedError where it is not in the table."""
    return _capability(instruction).support[machine(target).name]


def is_native(target: str, instruction: str) -> bool:
    """
    Whether the silicon of `target` has `instruction`.

    >>> is_native("sm_80", "mma.m16n8k64.s4"), is_native("sm_90a", "mma.m16n8k64.s4")
    (True, False)
    """
    return support(target, instruction) is Support.NATIVE


def nearest_native(target: str, instruction: str) -> str:
    """
    `instruction`, or what `target` has for the same work after decoding the operands.

    Empty where nothing comes near.

    >>> nearest_native("sm_90a", "mma.m16n8k64.s4"), nearest_native("sm_80", "mma.m16n8k64.mxf4")
    ('mma.m16n8k32.s8', 'mma.m16n8k16.f16')
    """
    while instruction and not is_native(target, instruction):
        instruction = _capability(instruction).instead
    return instruction


def require_native(target: str, instruction: str, where: str = "") -> None:
    """Raises UnsupportedError unless `target` has `instruction`, and names what it has instead."""
    found = support(target, instruction)
    if found is Support.NATIVE:
        return
    nearest = nearest_native(target, instruction)
    has_it = [name for name in MACHINES if is_native(name, instruction)]
    raise UnsupportedError(
        "cuda-instruction-missing",
        f"{target} has no {instruction}",
        where=where,
        why="ptxas would replace it by many slower instructions"
        if found is Support.EMULATED
        else "ptxas rejects it",
        next_step=(f"use {nearest}" if nearest else "use another schedule")
        + (f", or one of {', '.join(has_it)}" if has_it else ""),
    )


def _capability(instruction: str) -> Capability:
    if found := CAPABILITIES.get(instruction):
        return found
    raise UnsupportedError(
        "cuda-instruction-unknown",
        f"'{instruction}' is not in the table of instructions",
        where="dialects/tile/hardware.py",
        next_step="add a line to the table, with its SASS",
    )


def _parsed(name: str) -> tuple[int, str]:
    """(90, "a") of sm_90a; (0, "") of what is no name of a machine."""
    found = re.fullmatch(r"sm_(\d+)([af]?)", name)
    return (int(found[1]), found[2]) if found else (0, "")


def _why_unknown(name: str) -> str:
    number, suffix = _parsed(name)
    if not number:
        return "targets are spelled sm_<number>, with a suffix for features of one machine"
    same = [known for known in MACHINES if _parsed(known)[0] == number]
    if same:
        return f"sm_{number}{suffix} lacks the instructions that {same[0]} names"
    return f"no kernels are made for compute capability {number / 10}"
