"""Plans of decoders on PIM nodes: sizes, memory, balance, pipelines, continuous batching."""

from dataclasses import replace

import pytest

from qcc.dialects.errors import ResourceError, UsageError
from qcc.dialects.pim.cluster import AIM, GIB, SHAPES, Cluster, Gpu, Node, gpu_step_ms
from qcc.dialects.pim.device import device
from qcc.dialects.pim.serving import System, serve


def cluster(**changed: object) -> Cluster:
    base = Cluster(SHAPES["72B"], AIM, 2, 4, 4, 8, linear=lambda rows, k, tokens, dpus: 1.0)
    return replace(base, **changed)


@pytest.mark.parametrize(("name", "billions"), [("7B", 6.74), ("13B", 13.0), ("32B", 32.8),
                                                ("72B", 72.7)])  # fmt: skip
def test_shapes_have_their_parameters(name: str, billions: float) -> None:
    assert SHAPES[name].parameters == pytest.approx(billions * 1e9, rel=0.02)


def test_memory_of_a_request() -> None:
    """72B: 2 · 8 heads · 128 bytes a token and layer, 40 layers a stage, blocks of 256 tokens."""
    dynamic, static = cluster(), cluster(allocation="static")
    assert dynamic.reserved(1000, 1 << 20) == 4 * 256 * 40 * 2048 + 4 * 4 * 40
    assert static.reserved(1000, 1 << 20) == (1 << 20) * 40 * 2048
    assert dynamic.cache_room == 4 * 32 * GIB - dynamic.weight_bytes
    with pytest.raises(ResourceError, match="no room"):
        _ = cluster(ways=1, stages=1, weight_bits=8).cache_room
    with pytest.raises(UsageError, match="no split"):
        cluster(split="layers")


def test_tokens_are_balanced_and_heads_are_not() -> None:
    contexts = [100_000, 1000, 1000, 1000]
    units = 4 * 256
    assert cluster().busiest_tokens(contexts) == sum(contexts) * 8 / units
    assert cluster(split="heads").busiest_tokens(contexts) == 100_000
    assert cluster().attention_ms(contexts) < cluster(split="heads").attention_ms(contexts) / 50


def test_dpus_and_fixed_units_read_what_they_hold() -> None:
    fixed = cluster()
    assert fixed.linear_ms(1) == pytest.approx(SHAPES["72B"].block_weights / 2 / (8192e9 * 4) * 1e3)
    dpus = cluster(node=Node.of(device("v1A")))
    assert dpus.linear_ms(3) == 4.0
    short, long = dpus.attention_ms([1000]), dpus.attention_ms([1_000_000])
    assert short < long < 1000 * short


def test_a_pipeline_serves_parts_in_turn() -> None:
    one, two = cluster(stages=1, ways=4), cluster(stages=2, ways=4)
    assert two.step_ms([1000]) == pytest.approx(one.step_ms([1000]), rel=0.05)
    alone, both = two.stage_ms([1000]), two.step_ms([1000, 1000])
    assert both == pytest.approx(2 * alone)


def test_more_memory_in_use_delivers_more() -> None:
    def served(room: int, reserve: int) -> float:
        system = System(room, lambda t: max(t, reserve), lambda t: t, lambda c: 5.0 + len(c))
        return serve(system, 6400, requests=32).tokens_per_second

    assert served(25600, 0) > 1.2 * served(25600, 6400)
    with pytest.raises(ResourceError, match="a context of 6400 tokens"):
        served(6000, 0)


def test_served_numbers_are_what_they_say() -> None:
    system = System(10**9, lambda tokens: tokens, lambda tokens: tokens, lambda contexts: 2.0)
    found = serve(system, 6400, requests=8)
    assert found.batch == 8
    assert found.token_ms == 2.0
    assert found.tokens_per_second == pytest.approx(8 / 2e-3)


def test_gpus_are_bound_by_memory() -> None:
    shape, gpu = SHAPES["7B"], Gpu(efficiency=1.0)
    size = shape.parameters / 2 + 1000 * 32 * 8192
    assert gpu_step_ms(shape, gpu, 1, 4, 8, [1000]) == pytest.approx(size / 3350e9 * 1e3)
    assert gpu_step_ms(shape, gpu, 2, 4, 8, [1000]) > size / 6700e9 * 1e3
