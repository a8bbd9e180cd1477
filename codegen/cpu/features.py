"""What the processor that compiles or runs can do, as LLVM names it."""

from __future__ import annotations

from functools import cache

import llvmlite.binding as llvm

NEVER_EMITTED = frozenset({
    "aes", "amx-avx512", "amx-bf16", "amx-complex", "amx-fp16", "amx-fp8", "amx-int8",
    "amx-movrs", "amx-tf32", "amx-tile", "amx-transpose", "cldemote", "clflushopt", "clwb",
    "clzero", "crc32", "enqcmd", "fsgsbase", "fxsr", "hreset", "invpcid", "kl", "lwp",
    "movdir64b", "movdiri", "mwaitx", "pclmul", "pconfig", "pku", "prefetchi", "ptwrite",
    "raoint", "rdpid", "rdpru", "rdrnd", "rdseed", "rtm", "serialize", "sgx", "sha", "sha512",
    "shstk", "sm3", "sm4", "tsxldtrk", "uintr", "usermsr", "vaes", "vpclmulqdq", "waitpkg",
    "wbnoinvd", "widekl", "xsave", "xsavec", "xsaveopt", "xsaves",
})  # fmt: skip
"""
Instructions of systems, ciphers and matrix registers: LLVM emits them only for intrinsics that name
them, and qcc uses none of these. An object runs on processors that lack them.
"""


@cache
def host_features() -> tuple[str, ...]:
    """The features that this processor has and an object may use, sorted."""
    present = (name for name, has in llvm.get_host_cpu_features().items() if has)
    return tuple(sorted(set(present) - NEVER_EMITTED))


def missing_features(needed: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `needed` that this processor lacks, and that an object can use."""
    have = NEVER_EMITTED.union(host_features())
    return tuple(name for name in needed if name not in have)
