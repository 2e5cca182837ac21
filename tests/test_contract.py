"""Corners of the contract that random data never finds."""

from __future__ import annotations

import numpy as np

import gdcore as gd


def test_products_are_fused_and_rounded_once(isa: str) -> None:
    # fma(x, y, z) is 0x1.000002p+0; in float64, rounded again to float32, it is 0x1.000004p+0.
    x, y, z = (float.fromhex(h) for h in ("0x1.000002p+0", "0x1.fffffcp-25", "0x1.000002p+0"))
    a = np.array([[1.0, x]], np.float32)
    b = np.array([[z, z], [y, y]], np.float32)
    assert {float(c).hex() for c in gd.matmul(a, b).ravel()} == {"0x1.0000020000000p+0"}
    assert float(np.float32(x * y + z)).hex() == "0x1.0000040000000p+0"


def test_a_zero_times_infinity_is_not_skipped(isa: str) -> None:
    a = np.array([[0.0, 1.0], [1.0, 1.0]])
    b = np.array([[np.inf, 1.0], [1.0, 1.0]])
    with np.errstate(invalid="ignore"):
        expected = np.array([[np.nan, 1.0], [np.inf, 2.0]])
    np.testing.assert_array_equal(gd.matmul(a, b), expected)


def test_tails_meet_no_padding(isa: str) -> None:
    for k in (1, 3, 5, 7, 9, 17):
        row = np.full((1, k), np.inf)
        assert gd.matmul(row, np.ones(k)) == np.inf
        _, grad = gd.linear_mse_value_and_grad(row, [0.0], np.ones(k))
        assert (grad.weights == np.inf).all()


def test_negative_zero_survives_underflow_only(isa: str) -> None:
    tiny = 5e-324
    assert np.signbit(gd.matmul([[-tiny]], [[tiny, tiny]])).all()  # -0 from below, not 0 + (-0)
    assert not np.signbit(gd.matmul([[-0.0]], [[0.0, 0.0]])).any()  # fma(-0, 0, +0) is +0
