"""The space of tensor-core schedules has the verifier's rule; numbers say what a config costs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace

import numpy as np
import pytest

from qcc.autotune.draw import draw
from qcc.dialects.tile import attention_problem, conv_schedule, matmul_problem
from qcc.dialects.tile.attention_problem import AttentionProblem, Rows, default_attention
from qcc.dialects.tile.attention_space import attention_schedule_of, attention_space
from qcc.dialects.tile.attention_space import estimate as attention_estimate
from qcc.dialects.tile.conv_problem import ConvProblem, Window
from qcc.dialects.tile.conv_schedule import ConvSchedule, default_convolution
from qcc.dialects.tile.conv_space import conv_schedule_of, conv_space
from qcc.dialects.tile.conv_space import estimate as conv_estimate
from qcc.dialects.tile.default_schedule import default_schedule
from qcc.dialects.tile.hardware import MACHINES, machine
from qcc.dialects.tile.matmul_problem import MatmulProblem, default_matmul
from qcc.dialects.tile.matmul_space import matmul_schedule_of, matmul_space
from qcc.dialects.tile.problem import LinearProblem
from qcc.dialects.tile.register_model import Resources
from qcc.dialects.tile.schedule import Schedule, illegal
from qcc.dialects.tile.schedule_space import ScheduleSpace, schedule_from
from qcc.dialects.tile.space import ESTIMATE, estimate, linear_space, schedule_of, values_of

PROBLEM = LinearProblem(512, 1024, 64, "int4<group=128>")


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
def test_a_config_is_legal_where_its_schedule_can_be_built(target):
    space, device = linear_space(PROBLEM, target), machine(target)
    rng = np.random.default_rng(0)
    configs = np.stack([rng.integers(len(k.values), size=300) for k in space.knobs], axis=1)
    drawn = draw(space, rng, 20)
    for config in np.concatenate([configs, drawn]):
        reasons = list(illegal(PROBLEM, schedule_of(space.values(config)), device))
        assert space.legal(config[None])[0] == (not reasons)
    assert space.legal(drawn).all()


@pytest.mark.parametrize("target", MACHINES)
@pytest.mark.parametrize("tokens", [1, 16, 512])
def test_defaults_are_in_it_and_numbers_are_positive(target, tokens):
    problem = replace(PROBLEM, tokens=tokens)
    schedule = default_schedule(problem, target)
    space = linear_space(problem, target, include=[schedule])
    config = np.array([space.config(values_of(schedule))])
    assert space.legal(config).all()
    assert schedule_of(space.values(config[0])) == schedule
    assert space.derive is not None
    numbers = space.derive(space.columns(config))
    assert all((column >= 0).all() for column in numbers.values())
    assert numbers[ESTIMATE][0] == estimate(problem, schedule, machine(target)).estimated_s


def test_estimates_follow_what_they_count():
    device = machine("sm_80")
    schedule = replace(default_schedule(PROBLEM, "sm_80"), stages=2, tokens=16)
    plain = asdict(estimate(PROBLEM, schedule, device))
    twice = asdict(estimate(replace(PROBLEM, n=1024), schedule, device))
    assert twice["blocks"] == 2 * plain["blocks"]
    assert twice["products"] == 2 * plain["products"]
    assert twice["dram"] > plain["dram"]
    assert twice["waves"] == 2 * plain["waves"]
    assert plain["intensity"] == plain["products"] / plain["l2"]
    assert plain["matrix"] + plain["arithmetic"] + plain["copies"] == pytest.approx(1)
    told = estimate(PROBLEM, schedule, device, Resources(255, 48))
    assert (told.registers, told.spills) == (255, 48)
    assert told.occupancy < plain["occupancy"] <= 1
    assert told.estimated_s > plain["estimated_s"]


def test_a_larger_tile_of_a_warp_takes_more_registers_until_it_spills():
    device, found = machine("sm_90a"), []
    for channels, tokens in ((64, 16), (64, 64), (128, 64), (128, 128), (256, 256)):
        schedule = Schedule("mma.m16n8k16.f16", channels, tokens, 64, 2, 1, 1, stages=2)
        found.append(estimate(PROBLEM, schedule, device))
    registers = [each.registers for each in found]
    assert registers == sorted(registers)
    assert registers[0] < registers[1] < registers[2] <= 255
    assert found[0].spills == 0
    assert found[-1].spills > found[-2].spills
    # Formats that are decoded by more steps take more arithmetic, not more products.
    halves = replace(PROBLEM, weight="fp16")
    plain = default_schedule(PROBLEM, "sm_80")
    decoded = estimate(PROBLEM, plain, machine("sm_80"))
    stored = estimate(halves, plain, machine("sm_80"))
    assert decoded.arithmetic > stored.arithmetic
    assert decoded.products == stored.products


def test_warp_groups_take_the_registers_that_they_ask_for():
    problem = LinearProblem(4096, 4096, 128, "int4<group=128>")
    one = Schedule("wgmma.f16", 64, 64, 64, 4, 1, 1, 4)
    two = replace(one, channels=128, warps_n=8)
    device = machine("sm_90a")
    assert [estimate(problem, each, device).registers for each in (one, two)] == [240, 168]


def test_pixels_that_windows_share_a_stride_apart_are_in_the_same_banks():
    device, gathered = machine("sm_80"), ConvSchedule(2, 2, 32, 32, 64, 3, taps_inner=True)
    shared = replace(gathered, width=8)
    for stride, turns in ((1, 1), (2, 2)):
        window = Window(64, 96, (3, 3), (stride, stride), (1, 1))
        problem = replace(CONV, window=window, block=0)
        assert conv_estimate(problem, gathered, device).conflicts == 1
        assert conv_estimate(problem, shared, device).conflicts == turns


CONV = ConvProblem(Window(64, 96, (3, 3), padding=(1, 1)), "int4", 3136)
DECODE = AttentionProblem(Rows.of("key", 128, "int4"), Rows.of("value", 128, "int8"), 0.1, 4, 4, 8)
OTHERS = {
    "conv2d": (CONV, default_convolution, conv_schedule.illegal, conv_space, conv_schedule_of),
    "attention": (
        DECODE,
        default_attention,
        attention_problem.illegal,
        lambda problem, target, include: attention_space(problem, 4096, target, include),
        attention_schedule_of,
    ),
    "matmul": (
        MatmulProblem(40, 50, rows=70),
        default_matmul,
        matmul_problem.illegal,
        matmul_space,
        matmul_schedule_of,
    ),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("target", ["sm_80", "sm_120a"])
def test_other_kernels_have_the_fields_of_their_schedules_and_their_verifiers(kind, target):
    problem, default_of, illegal_, space_of, made_of = OTHERS[kind]
    default = default_of(problem, target)
    space = space_of(problem, target, [default])
    assert set(space.names) == {each.name for each in fields(default)}
    assert made_of(values_of(default)) == default
    rng = np.random.default_rng(0)
    configs = np.stack([rng.integers(len(k.values), size=200) for k in space.knobs], axis=1)
    configs = np.concatenate([configs, [space.config(values_of(default))], draw(space, rng, 20)])
    legal = [not any(illegal_(problem, made_of(space.values(c)), machine(target))) for c in configs]
    np.testing.assert_array_equal(space.legal(configs), legal)
    assert all(legal[200:])
    assert not all(legal)
    assert space.derive is not None
    numbers = space.derive(space.columns(configs[200:]))
    assert all((column >= 0).all() for column in numbers.values())
    assert np.ptp(numbers[ESTIMATE]) > 0


def test_attention_costs_more_with_more_keys_and_less_in_packets():
    schedule, device = default_attention(DECODE, "sm_80"), machine("sm_80")
    few, many = (attention_estimate(DECODE, keys, schedule, device) for keys in (1024, 65536))
    assert many.products > 8 * few.products  # blocks take whole steps, however few the keys
    assert many.estimated_s > few.estimated_s
    plain = replace(DECODE, keys=Rows("key", 128), values=Rows("value", 128))
    schedule = default_attention(plain, "sm_80")
    assert attention_estimate(plain, 65536, schedule, device).dram > 2 * many.dram


@dataclass(frozen=True)
class Gaining:
    """A schedule that gained fields since its space was written."""

    rows: int
    fast: bool = False
    order: str = field(default="kc", metadata={"values": ("kc", "ck")})
    kept: int = 3


def test_a_field_that_a_schedule_gains_becomes_a_knob():
    def estimated(schedule: Gaining):
        return attention_estimate(DECODE, 64, default_attention(DECODE), machine("sm_80"))

    made = ScheduleSpace(Gaining, {"rows": (1, 2)}, lambda _: (), estimated, [Gaining(8)])
    knobs = {knob.name: knob.values for knob in made.space("gaining").knobs}
    assert knobs == {"rows": (1, 2, 8), "fast": (0, 1), "order": ("kc", "ck"), "kept": (3,)}
    assert schedule_from(Gaining, {"rows": 2, "fast": 1}) == Gaining(2, fast=True)
