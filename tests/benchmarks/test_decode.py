"""The eager peer must compute what the model computes, or its speed means nothing."""

import numpy as np
import torch

from benchmarks.decode import interleaved
from benchmarks.eager_decode import EagerDecoder
from qcc.models import llama


def test_cached_steps_equal_the_whole_sequence() -> None:
    model = llama.tiny()
    tokens = torch.randint(0, 128, (2, 12), generator=torch.Generator().manual_seed(3))
    decoder = EagerDecoder(model, capacity=16, batch=2)
    parts = [decoder.step(part) for part in tokens.split([5, 1, 1, 4, 1], dim=1)]
    with torch.no_grad():
        expected = model(tokens)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=1e-4, atol=1e-5)


def test_both_sides_decode_the_same_number_of_tokens_in_turns() -> None:
    calls: list[tuple[str, int]] = []

    def side(name: str, answer: int):
        def step(tokens: np.ndarray) -> np.ndarray:
            calls.append((name, int(tokens[0, -1])))
            return np.eye(10, dtype=np.float32)[[[answer] * tokens.shape[1]]]

        return step

    steps = {"qcc": side("qcc", 3), "torch": side("torch", 7)}
    times = interleaved(steps, np.array([[1, 2]]), rounds=2, tokens=2)
    assert {name: len(seconds) for name, seconds in times.items()} == {"qcc": 4, "torch": 4}
    assert calls[:2] == [("qcc", 2), ("torch", 2)]
    assert calls[2:] == 3 * [("qcc", 3), ("qcc", 3), ("torch", 7), ("torch", 7)]
