import numpy as np
import pytest

from qcc.dialects.formats.packing import pack_codes, row_bytes, unpack_codes


def packed_bit_by_bit(codes: np.ndarray, bits: int) -> list[int]:
    stream = sum(int(code) << (index * bits) for index, code in enumerate(codes))
    return list(stream.to_bytes(row_bytes(len(codes), bits), "little"))


@pytest.mark.parametrize("bits", range(1, 9))
def test_rows_are_little_endian_bit_streams(bits: int, rng: np.random.Generator) -> None:
    codes = rng.integers(0, 1 << bits, (5, 48), dtype=np.uint8)
    packed = pack_codes(codes, bits)
    assert packed.tolist() == [packed_bit_by_bit(row, bits) for row in codes]
    assert np.array_equal(unpack_codes(packed, bits), codes)
