"""Rooflines: bounds from work and rates, waves, uncertainty, and what they need."""

import numpy as np
import pytest

from qcc.autotune.cost_model.roofline import BLIND, Roofline
from qcc.autotune.search.guided import GuidedSearch
from qcc.autotune.trials import Trial, Trials
from qcc.dialects.errors import UsageError
from qcc.dialects.knobs import Columns, Knob, Space


def numbers(columns: Columns) -> dict:
    return {
        "bytes": 1e6 / columns["tile"],
        "flops": 1e6 * columns["tile"] ** 0.0,
        "waste": 1.0 + 0.0 * columns["tile"],
        "blocks": 96 // columns["tile"],
    }


SPACE = Space("work", (Knob("tile", (1, 2, 4, 8)), Knob("other", (0, 1))), derive=numbers)


def everything() -> np.ndarray:
    return np.array([[tile, other] for tile in range(4) for other in range(2)])


def test_the_slowest_kind_of_work_bounds_the_time():
    memory_bound = Roofline(SPACE, {"bytes": 1e9, "flops": 1e15}).predict(everything())
    np.testing.assert_allclose(
        np.exp(memory_bound.mean[::2]), 1e-3 / np.array([1, 2, 4, 8]), rtol=1e-3
    )
    compute_bound = Roofline(SPACE, {"bytes": 1e15, "flops": 1e9}).predict(everything())
    np.testing.assert_allclose(np.exp(compute_bound.mean), 1e-3, rtol=1e-3)


def test_what_overlaps_in_part_is_uncertain():
    balanced = Roofline(SPACE, {"bytes": 1e9, "flops": 1e9}).predict(everything())
    assert np.argmax(balanced.deviation) in (0, 1), (
        "as long for both kinds: max and sum differ by 2"
    )
    assert balanced.deviation[0] == pytest.approx(np.hypot(BLIND, np.log(2) / 2))
    assert np.exp(balanced.mean[0]) == pytest.approx(1e-3 * np.sqrt(2))
    assert (balanced.deviation >= BLIND).all()


def test_the_last_wave_may_be_part_empty():
    plain = Roofline(SPACE, {"flops": 1e9}, factors=("waste",))
    waves = Roofline(SPACE, {"flops": 1e9}, factors=("waste",), units="blocks", lanes=80)
    added = np.exp(waves.predict(everything()).mean - plain.predict(everything()).mean)[::2]
    np.testing.assert_allclose(added, [2 / 1.2, 1 / 0.6, 1 / 0.3, 1 / 0.15])


@pytest.mark.parametrize("rates", [{}, {"bits": 1.0}])
def test_numbers_that_a_space_does_not_derive_are_named(rates):
    with pytest.raises(UsageError, match="does not derive") as raised:
        Roofline(SPACE, rates)
    assert "bytes, flops" in raised.value.next_step
    with pytest.raises(UsageError, match="does not derive"):
        Roofline(Space("bare", SPACE.knobs), {"bytes": 1.0})


def test_a_search_begins_where_the_roofline_is_low():
    search = GuidedSearch(
        SPACE, np.random.default_rng(0), known=Roofline(SPACE, {"bytes": 1e9, "flops": 1e12})
    )
    first = search.propose(Trials(), 1)
    assert SPACE.values(first[0].tolist())["tile"] == 8
    slow = Trials([Trial(tuple(first[0].tolist()), 1.0)])
    assert len(search.propose(slow, 2)) == 2
