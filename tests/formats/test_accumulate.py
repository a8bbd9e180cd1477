import numpy as np
import pytest

from qcc.dialects.formats import accumulate_chunked


def test_plain_sum_stagnates_and_chunks_do_not() -> None:
    """Ten significant bits: 1024 + 1 is halfway to 1026 and goes to the even 1024."""
    ones = np.ones((2, 4096), np.float32)
    assert accumulate_chunked(ones, chunk=4096).tolist() == [1024.0, 1024.0]
    assert accumulate_chunked(ones, chunk=64).tolist() == [4096.0, 4096.0]


def test_overflow_is_infinite_and_signs_are_kept() -> None:
    assert accumulate_chunked([3e9, 3e9]) == np.inf
    assert accumulate_chunked([-1.5, -0.5]) == -2


def test_a_chunk_holds_something() -> None:
    with pytest.raises(ValueError, match="at least one"):
        accumulate_chunked([1.0], chunk=0)
