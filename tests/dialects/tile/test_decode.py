"""Decode programs: every format of at most eight bits, all codes, held against its own table."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcc.dialects.errors import UnsupportedError
from qcc.dialects.formats import available, format
from qcc.dialects.tile.decode_program import MEANINGS, decode
from qcc.dialects.tile.decode_rules import decode_program
from qcc.dialects.tile.operand_types import OPERAND_TYPES

USER_TABLE = "lut4<table=[0,1,2,3.25,4,5,6,7.5,-1,-2,-3,-4,-5,-6,-7.5,-9]>"
SPELLINGS = [
    USER_TABLE,
    *(name for name in available() if name != "lut4" and format(name).bits <= 8),
    "int4<symmetric=false>",
    "int8<symmetric=false>",
    "uint4<symmetric=true>",
    "uint8<symmetric=true>",
    "dint3<symmetric=true>",
    "dint4<symmetric=true>",
    "sawb4<zero_level=true>",
]
RULES_16 = {"mxfp4": "minifloat", "int4": "affine", "nf4": "table", "sawb5": "affine"}
WITHOUT_BYTES = {
    "fp8_152", "fp8_e4m3", "fp8_e5m2", "mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2",
    "nf4", "int8<symmetric=false>", "uint8", "pact8", "sawb8",
}  # fmt: skip


def every_place(program):
    """Codes [registers, e, places, codes]: each code at each place, its neighbours at random."""
    shape = program.registers, program.order.per_register
    places, count = shape[0] * shape[1], 1 << program.bits
    codes = np.random.default_rng(3).integers(0, count, (*shape, places, count))
    for place in range(places):
        codes[(*divmod(place, shape[1]), place)] = np.arange(count)
    return codes


@pytest.mark.parametrize("operand", ["f16", "bf16"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_values_in_16_bits(spelling, operand):
    fmt = format(spelling)
    check_against_table(fmt, decode_program(fmt, operand))


def check_against_table(fmt, program):
    codes = every_place(program)
    unsigned = fmt.zero_point == "uint8"
    zero = (1 << fmt.bits) - 2 if unsigned else -3
    zeros = np.array([zero, 1]) if fmt.zero_point else np.zeros(2)
    found = decode(program, codes, zeros.reshape(2, 1, 1))
    values = fmt.element_values().astype(np.float64)[codes]
    half = (np.arange(program.registers) >> 1 & 1).reshape(-1, 1, 1, 1)
    wanted = values - zeros[half] * fmt.zero_point_codes()[codes]
    finite = np.isfinite(wanted)
    scaled = found[finite] * program.factor
    if program.rule == "table" and program.operand.bits == 16:
        rounded = program.operand.rounded(wanted[finite] / program.factor)
        np.testing.assert_array_equal(scaled, rounded * program.factor)
    else:
        np.testing.assert_allclose(
            scaled, wanted[finite], rtol=0, atol=2.0**-22 * abs(wanted[finite]).max()
        )
    if program.error == 0:
        np.testing.assert_array_equal(scaled, wanted[finite])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_integers_in_8_bits(spelling):
    fmt = format(spelling)
    if spelling in WITHOUT_BYTES:
        with pytest.raises(UnsupportedError, match="no exact form in i8"):
            decode_program(fmt, "i8")
    else:
        check_against_table(fmt, decode_program(fmt, "i8"))


@pytest.mark.parametrize(
    "spelling", ["fp8_e4m3", "mxfp4", "nvfp4", "mxfp6_e2m3", "mxfp6_e3m2", "dint4<symmetric=true>"]
)
def test_small_floats_in_e4m3(spelling):
    fmt = format(spelling)
    program = decode_program(fmt, "f8E4M3FN")
    assert program.error == 0
    check_against_table(fmt, program)


@pytest.mark.parametrize(("spelling", "rule"), RULES_16.items())
def test_which_rule(spelling, rule):
    assert decode_program(format(spelling), "f16").rule == rule


def test_int4_takes_as_few_operations_as_the_known_form():
    """Spec §4.4: 4 lop3, 2 subtractions, 2 multiply-adds and 1 shift for eight codes."""
    program = decode_program(format("int4"), "f16")
    names = sorted(step.operation for step in program.steps)
    assert names == ["add", "add", "fma", "fma", "lop3", "lop3", "lop3", "lop3", "shift_right"]


def test_stored_operands_need_no_operation():
    for spelling, operand in (
        ("fp16", "f16"),
        ("bf16", "bf16"),
        ("int8", "i8"),
        ("fp8_e4m3", "f8E4M3FN"),
    ):
        program = decode_program(format(spelling), operand)
        assert (program.steps, program.factor) == ((), 1.0)


SPANNED = st.floats(-60000, 60000, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(SPANNED, min_size=16, max_size=16, unique=True),
    st.sampled_from(["f16", "bf16"]),
)
def test_any_table_of_sixteen(values, operand):
    fmt = format("lut4", table=tuple(values), group=32)
    check_against_table(fmt, decode_program(fmt, operand))


@pytest.mark.parametrize("largest", [1e-28, 1e-6, 98304.0, 1e30])
def test_tables_beyond_halves_are_brought_into_their_range(largest):
    fmt = format("lut4", table=tuple(largest * each / 16 for each in range(-7, 9)), group=32)
    program = decode_program(fmt, "f16")
    assert program.error <= 2.0**-11
    check_against_table(fmt, program)


def test_a_table_too_wide_for_halves_is_refused():
    """Weights of about 1 must not become 0 because the table also holds 2^40."""
    fmt = format("lut4", table=tuple(2.0 ** (5 * each) for each in range(-8, 8)), group=32)
    with pytest.raises(UnsupportedError, match="no exact form in f16") as refused:
        decode_program(fmt, "f16")
    assert "bf16" in refused.value.next_step
    check_against_table(fmt, decode_program(fmt, "bf16"))


def test_a_wrong_program_is_not_proven(monkeypatch):
    """Were the machine's subtraction wrong, the rule would give way to the table."""
    monkeypatch.setitem(MEANINGS, "add", lambda machine, a, b: a)
    table = tuple(float(value) for value in range(-3, 13))
    program = decode_program(format("lut4", table=table), "f16")
    assert program.rule == "table"


@pytest.mark.parametrize("name", OPERAND_TYPES)
def test_operand_types_round_trip(name):
    kind = OPERAND_TYPES[name]
    codes = np.arange(1 << min(kind.bits, 16), dtype=np.uint32)
    values = kind.split(codes)[..., 0]
    whole = np.zeros((len(codes), kind.per_register))
    whole[:, 0] = values
    finite = np.isfinite(values)
    np.testing.assert_array_equal(kind.joined(whole)[finite], codes[finite])
