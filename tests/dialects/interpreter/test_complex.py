"""Complex numbers, and affine maps on index values."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.parametrize(
    ("op", "wanted"),
    [
        ("mul", lambda a, b: a * b),
        ("add", lambda a, b: a + b),
        ("sub", lambda a, b: a - b),
        ("div", lambda a, b: a / b),
    ],
)
def test_parts_of_a_binary_op(run, op: str, wanted) -> None:
    text = f"""
    func.func @main(%a: f32, %b: f32) -> (f32, f32) {{
      %x = complex.create %a, %b : complex<f32>
      %y = complex.constant [2.0 : f32, -3.0 : f32] : complex<f32>
      %z = complex.{op} %x, %y : complex<f32>
      %r = complex.re %z : complex<f32>
      %i = complex.im %z : complex<f32>
      return %r, %i : f32, f32
    }}"""
    expected = wanted(np.complex64(1.5 + 0.25j), np.complex64(2 - 3j))
    real, imaginary = run(text, np.float32(1.5), np.float32(0.25))
    assert real.dtype == np.float32
    np.testing.assert_allclose([real, imaginary], [expected.real, expected.imag], rtol=1e-6)


def test_size_and_conjugate(run) -> None:
    text = """
    func.func @main(%a: tensor<2xcomplex<f32>>) -> (f32, tensor<2xcomplex<f32>>) {
      %c0 = arith.constant 0 : index
      %x = tensor.extract %a[%c0] : tensor<2xcomplex<f32>>
      %n = complex.abs %x : complex<f32>
      return %n, %a : f32, tensor<2xcomplex<f32>>
    }"""
    values = np.array([3 - 4j, 1], np.complex64)
    size, same = run(text, values)
    assert size == 5
    np.testing.assert_array_equal(same, values)


def test_affine_apply_with_dimensions_and_symbols(run) -> None:
    text = """
    func.func @main(%a: index, %b: index) -> index {
      %r = affine.apply affine_map<(d0)[s0] -> (d0 floordiv 4 + s0 * 10)>(%a)[%b]
      return %r : index
    }"""
    assert run(text, np.int64(-3), np.int64(2)) == [19]
