"""Machines and the table of their instructions."""

from __future__ import annotations

import doctest
import re

import pytest

from qcc.dialects.errors import UnsupportedError
from qcc.dialects.tile import hardware
from qcc.dialects.tile.fragments import INSTRUCTIONS
from qcc.dialects.tile.hardware import (
    CAPABILITIES,
    MACHINES,
    Support,
    is_native,
    machine,
    nearest_native,
    require_native,
    support,
)


def test_examples():
    assert doctest.testmod(hardware).failed == 0


def test_every_fragment_instruction_is_in_the_table():
    assert set(INSTRUCTIONS) <= set(CAPABILITIES)


def test_every_substitute_is_in_the_table_and_native_somewhere():
    for capability in CAPABILITIES.values():
        assert not capability.instead or capability.instead in CAPABILITIES
        for target in MACHINES:
            nearest = nearest_native(target, capability.instruction)
            assert not nearest or is_native(target, nearest)


def test_the_portable_backbone_is_native_everywhere():
    for name in ("mma.m16n8k16.f16", "mma.m16n8k16.bf16", "mma.m16n8k32.s8", "ldmatrix.b16"):
        assert all(is_native(target, name) for target in MACHINES)


@pytest.mark.parametrize(
    ("target", "instruction", "expected", "nearest"),
    [
        ("sm_89", "mma.m16n8k32.e4m3", Support.NATIVE, "mma.m16n8k32.e4m3"),
        ("sm_90a", "mma.m16n8k32.e4m3", Support.EMULATED, "mma.m16n8k16.f16"),
        ("sm_80", "mma.m16n8k32.e4m3", Support.REJECTED, "mma.m16n8k16.f16"),
        ("sm_120a", "mma.m16n8k64.mxf4", Support.NATIVE, "mma.m16n8k64.mxf4"),
        ("sm_100a", "mma.m16n8k64.mxf4", Support.REJECTED, "mma.m16n8k16.f16"),
        ("sm_100a", "mma.m16n8k256.b1.xor", Support.EMULATED, "mma.m16n8k32.u8"),
        ("sm_90a", "mma.m16n8k256.b1.xor", Support.EMULATED, "mma.m16n8k256.b1.and"),
        ("sm_80", "setmaxnreg", Support.REJECTED, ""),
    ],
)
def test_support_and_substitutes(target, instruction, expected, nearest):
    assert support(target, instruction) is expected
    assert nearest_native(target, instruction) == nearest


def test_refusals_name_what_can_be_used():
    require_native("sm_80", "mma.m16n8k64.s4")
    with pytest.raises(UnsupportedError) as caught:
        require_native("sm_90a", "mma.m16n8k64.s4", where="layer 3")
    error = caught.value
    assert error.where == "layer 3"
    assert error.next_step == "use mma.m16n8k32.s8, or one of sm_80, sm_86, sm_89"
    with pytest.raises(UnsupportedError, match="not in the table"):
        is_native("sm_80", "mma.m16n8k32.e9m9")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("sm_90", "sm_90 lacks the instructions that sm_90a names"),
        ("sm_75", "no kernels are made for compute capability 7.5"),
        ("hopper", "targets are spelled"),
    ],
)
def test_unknown_machines_are_refused_with_those_there_are(name, why):
    with pytest.raises(UnsupportedError) as caught:
        machine(name)
    assert why in caught.value.why
    assert re.search(r"sm_80, .*sm_120a", caught.value.next_step)


def test_limits_are_consistent():
    """A block fits with its reserve, and a processor is full of whole warps."""
    for name in MACHINES:
        each = machine(name)
        assert each.shared_per_block + each.shared_reserved == each.shared_per_processor
        assert each.threads_per_processor % 32 == 0
        assert each.registers_per_processor // each.threads_per_processor >= 32
