"""Products with paths of their own: a long k with a small result, many tiny squares, every other
element of an operand; and the memory of large results.

The bits are those of the reference loops, on every instruction set.
"""

from __future__ import annotations

import gc
from typing import Any

import numpy as np

import gdcore as gd
from loops import each
from operations import reference
from problems import Array, canonical, normal

# m, n, k: lanes without work and with one segment more than others, rests of a few segments,
# a partial segment, and more segments than one chain adds.
LONG = [
    (1, 2, 8192),
    (2, 3, 4096 + 100),
    (5, 2, 12_345),
    (3, 3, 16 * 512 + 512),
    (4, 4, 20 * 512 + 1),
    (16, 1, 9000),
    (2, 2, 513 * 512 + 7),
]


def every_other(x: Array) -> Array:
    """Return x where each element has a neighbour that is not of x, as each row has."""
    wide = np.full(tuple(2 * size for size in x.shape), np.nan, x.dtype)
    wide[..., ::2, ::2] = x if x.ndim == 2 else 0
    return wide[..., ::2, ::2]


def views(x: Array) -> dict[str, Array]:
    """Return x in layouts that reach its terms in different ways."""
    columns = np.full((x.shape[0], 2 * x.shape[1]), np.nan, x.dtype)
    columns[:, ::2] = x
    rows = np.full((2 * x.shape[0], x.shape[1]), np.nan, x.dtype)
    rows[::2] = x
    return {
        "C": x,
        "Fortran": np.asfortranarray(x),
        "every other column": columns[:, ::2],
        "every other row": rows[::2],
        "both": every_other(x),
        "backwards": np.ascontiguousarray(x[:, ::-1])[:, ::-1],
        "every other, Fortran": every_other(np.ascontiguousarray(x.T)).T,
    }


@each("m, n, k", LONG)
def test_long_products(rng: Any, dtype: Any, isa: str, m: int, n: int, k: int) -> None:
    a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
    with reference():
        want = canonical(gd.matmul(a, b))
    for name, left in views(a).items():
        assert canonical(gd.matmul(left, b)) == want, name
    for name, right in views(b).items():
        assert canonical(gd.matmul(a, right)) == want, name
    out = np.zeros((n, m), dtype).T
    assert canonical(gd.matmul(a, b, out=out)) == want


@each("threads", [1, 2, 3, 7])
def test_long_products_on_threads(rng: Any, dtype: Any, threads: int) -> None:
    a, b = normal(rng, (9, 5, 20_000), dtype), normal(rng, (9, 20_000, 2), dtype)
    with reference():
        want = canonical(gd.matmul(a, b))
        one = canonical(gd.matmul(a[0], b[0]))
    gd.set_num_threads(threads)
    assert canonical(gd.matmul(a, b)) == want
    assert canonical(gd.matmul(a[0], b[0])) == one


def test_special_values_stay_in_their_segments(isa: str, dtype: Any) -> None:
    """Idle lanes compute with numbers of other segments, and no sum may show it."""
    a, b = np.ones((3, 40 * 512), dtype), np.ones((40 * 512, 2), dtype)
    a[0, 0], a[1, 512 * 39] = np.inf, np.nan
    got = gd.matmul(a, b)
    assert np.isposinf(got[0]).all()
    assert np.isnan(got[1]).all()
    np.testing.assert_array_equal(got[2], 40 * 512)


@each("n", [2, 3, 4])
@each("batch", [1, 2, 7, 64, 1003])
def test_tiny_squares(rng: Any, dtype: Any, isa: str, n: int, batch: int) -> None:
    a, b = normal(rng, (batch, n, n), dtype), normal(rng, (batch, n, n), dtype)
    with reference():
        want = canonical(gd.matmul(a, b))
        transposed = canonical(gd.matmul(a, b.transpose(0, 2, 1)))
    around = np.full(batch * n * n + 2, np.nan, dtype)
    out = around[1:-1].reshape(batch, n, n)
    assert canonical(gd.matmul(a, b, out=out)) == want
    assert np.isnan(around[[0, -1]]).all()
    assert canonical(gd.matmul(a, b.transpose(0, 2, 1))) == transposed


@each("n", [2, 3, 5, 8, 15, 16, 17, 33])
def test_every_other_element(rng: Any, dtype: Any, isa: str, n: int) -> None:
    a, b = normal(rng, (40, n), dtype), normal(rng, (n, n), dtype)
    with reference():
        product, vector = canonical(gd.matmul(a, b)), canonical(gd.matmul(a, b[:, 0]))
    for name, left in views(a).items():
        assert canonical(gd.matmul(left, b)) == product, name
        assert canonical(gd.matmul(left, b[:, 0])) == vector, name
    for name, right in views(b).items():
        assert canonical(gd.matmul(a, right)) == product, name


def test_large_results_do_not_share_memory(rng: Any, dtype: Any) -> None:
    """The memory of a result serves another one, but never while the result is in use."""
    size = (16 << 20) // np.dtype(dtype).itemsize
    pred, target = normal(rng, (size,), dtype), np.zeros(size, dtype)
    want = gd.mse_value_and_grad(pred, target, out=np.empty(size, dtype))[1]
    held = [gd.mse_value_and_grad(pred * i, target)[1] for i in (1, 2)]
    part = held.pop()[-5:]
    kept = part.copy()
    for _ in range(12):
        gc.collect()
        again = gd.mse_value_and_grad(pred, target)[1]
        np.testing.assert_array_equal(again, want)
        assert again.flags.writeable
        assert again.flags.aligned
        again[:] = 0
    np.testing.assert_array_equal(held[0], want)
    np.testing.assert_array_equal(part, kept)
