"""matmul against exact integers, torch within the certified bound, and numpy's rules of shape."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import bounds
import gdcore as gd
import problems
from gdcore import oracle
from loops import each
from problems import EDGES, LAYOUTS, Shape, integers, normal

BASE = (13, 19, 21)
SHAPES: list[tuple[Shape, Shape]] = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((1, 3), (3, 1)),
    ((5, 2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((6, 5, 2, 3), (6, 1, 3, 1)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
    ((2, 3), (3, 0)),
    ((0,), (0,)),
    ((0, 2, 3), (3, 4)),
    ((0, 2, 3), (1, 3, 4)),
]
WRONG: list[tuple[Shape, Shape]] = [
    ((2, 3), (4, 5)),
    ((3,), (4,)),
    ((2, 3), (4,)),
    ((3,), (4, 5)),
    ((2, 2, 3), (3, 3, 4)),
    ((2, 2, 3), (0, 3, 4)),
    ((2, 1), (3, 2)),
    ((), (3,)),
    ((3, 3), ()),
]


def with_size(dim: str, size: int) -> tuple[Shape, Shape]:
    m, k, n = (size if name == dim else base for name, base in zip("mkn", BASE, strict=True))
    return {
        "matrix-vector": ((m, size), (size,)),
        "vector-matrix": ((size,), (size, n)),
        "vectors": ((size,), (size,)),
    }.get(dim, ((m, k), (k, n)))


every_dim = each("dim", ["m", "k", "n", "matrix-vector", "vector-matrix", "vectors"])


def exact_pair(rng: np.random.Generator, shapes: tuple[Shape, Shape], dtype: Any) -> list[Any]:
    a, b = (integers(rng, shape, dtype) for shape in shapes)
    if a.size:
        a.flat[rng.integers(a.size)] = problems.probe(dtype)
    return [a, b]


@every_dim
@each("size", EDGES)
def test_integers_are_exact(rng: Any, dtype: Any, size: int, dim: str) -> None:
    a, b = exact_pair(rng, with_size(dim, size), dtype)
    got = gd.matmul(a, b)
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, a.astype(int) @ b.astype(int), strict=False)


@each("m", [1, 3, 6, 16, 33])
@each("k", [1, 4, 17, 31])
@each("n", [1, 2, 15, 16, 33, 49])
def test_small_integers_are_exact(rng: Any, dtype: Any, isa: str, m: int, k: int, n: int) -> None:
    a, b = exact_pair(rng, ((m, k), (k, n)), dtype)
    np.testing.assert_array_equal(gd.matmul(a, b), a.astype(int) @ b.astype(int))


@pytest.mark.torch
@every_dim
@each("size", EDGES)
def test_torch(torch: Any, rng: Any, dtype: Any, size: int, dim: str) -> None:
    a, b = (normal(rng, shape, dtype) for shape in with_size(dim, size))
    expected = torch.matmul(torch.tensor(a.astype(float)), torch.tensor(b.astype(float)))
    bounds.check(
        gd.matmul(a, b), expected.numpy(), bounds.against(bounds.matmul, a, b, dtype=dtype)
    )


@every_dim
@each("size", EDGES)
def test_the_oracle(rng: Any, dtype: Any, size: int, dim: str) -> None:
    a, b = (normal(rng, shape, dtype) for shape in with_size(dim, size))
    assert oracle.matmul(a, b).check(gd.matmul(a, b)).worst_status is oracle.Status.OK


@each("shapes", SHAPES)
def test_shapes_follow_numpy(rng: Any, dtype: Any, shapes: tuple[Shape, Shape]) -> None:
    a, b = exact_pair(rng, shapes, dtype)
    expected = np.matmul(a.astype(float), b.astype(float))
    got = gd.matmul(a, b)
    assert np.shape(got) == expected.shape
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected)


@each("shapes", WRONG)
def test_wrong_shapes_follow_numpy(shapes: tuple[Shape, Shape]) -> None:
    a, b = (np.ones(shape) for shape in shapes)
    with pytest.raises(ValueError, match=r"matmul|broadcast"):
        np.matmul(a, b)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        gd.matmul(a, b)
    assert all(str(shape) in str(error.value) for shape in shapes)


@each("name_b", LAYOUTS)
@each("name_a", LAYOUTS)
def test_layouts(rng: Any, dtype: Any, name_a: str, name_b: str) -> None:
    a, b = exact_pair(rng, ((2, 1, 9, 35), (3, 35, 18)), dtype)
    got = gd.matmul(LAYOUTS[name_a](a), LAYOUTS[name_b](b))
    np.testing.assert_array_equal(got, a.astype(int) @ b.astype(int))


@each("zeroed", [(0,), (1,), (0, 1)])
def test_zero_strides(rng: Any, dtype: Any, zeroed: tuple[int, ...]) -> None:
    row = integers(rng, tuple(1 if i in zeroed else 40 for i in range(2)), dtype)
    a = np.broadcast_to(row, (40, 40))
    np.testing.assert_array_equal(gd.matmul(a, a.T), a.astype(int) @ a.T.astype(int))


@each("layout", LAYOUTS)
@each("shapes", [((5, 9, 35), (35, 18)), ((9, 35), (35,)), ((35,), (35, 18))])
def test_out_of_any_layout(rng: Any, dtype: Any, shapes: Any, layout: str) -> None:
    a, b = exact_pair(rng, shapes, dtype)
    expected = a.astype(int) @ b.astype(int)
    out = LAYOUTS[layout](np.full(expected.shape, np.nan, dtype))
    assert gd.matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_out_leaves_its_surroundings_alone(rng: Any, dtype: Any) -> None:
    a, b = exact_pair(rng, ((9, 35), (35, 18)), dtype)
    wide = np.full((11, 40), 7, dtype)
    gd.matmul(a, b, out=wide[1:10, 2:38:2])
    assert (wide == 7).sum() >= wide.size - 9 * 18
    wide[1:10, 2:38:2] = 7
    assert (wide == 7).all()


@each("which", ["a", "b", "both", "shifted", "transposed"])
def test_out_may_overlap_the_inputs(rng: Any, dtype: Any, which: str) -> None:
    memory = integers(rng, (41, 40), dtype)
    a, b = memory[:40], integers(rng, (40, 40), dtype)
    b = {"a": b, "b": a, "both": a, "shifted": b, "transposed": b}[which]
    left = integers(rng, (40, 40), dtype) if which == "b" else a
    out = {"shifted": memory[1:], "transposed": a.T}.get(which, a)
    expected = left.astype(int) @ b.astype(int)
    gd.matmul(left, b, out=out)
    np.testing.assert_array_equal(out, expected)


@each("a, b, result", [
    ("float32", "float32", "float32"),
    ("float32", "float64", "float64"),
    ("float16", "float16", "float32"),
    ("float16", "float32", "float32"),
    ("float16", "float64", "float64"),
    ("int8", "int64", "float64"),
    ("bool", "bool", "float64"),
    ("int32", "float32", "float64"),
    (">f8", "<f4", "float64"),
    (">f4", ">f4", "float32"),
])  # fmt: skip
def test_dtypes(rng: Any, a: str, b: str, result: str) -> None:
    x, y = (integers(rng, shape, int, 1).astype(t) for shape, t in (((4, 5), a), ((5, 3), b)))
    got = gd.matmul(x, y)
    assert got.dtype == result
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, x.astype(int) @ y.astype(int))


def test_a_broadcast_is_converted_once(rng: Any) -> None:
    column = rng.integers(-9, 9, (3, 1, 5))
    repeated = np.broadcast_to(column, (3, 4000, 5))
    tracemalloc.start()
    product = gd.matmul(repeated, np.ones(5))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(product, np.broadcast_to(column.sum(-1), (3, 4000)))
    assert peak < 1.5 * product.nbytes


def test_lists_and_read_only_inputs() -> None:
    a = np.eye(2)
    a.flags.writeable = False
    np.testing.assert_array_equal(gd.matmul(a, [[1, 2], [3, 4]]), [[1.0, 2.0], [3.0, 4.0]])


def test_nothing_is_skipped_or_padded(dtype: Any, isa: str) -> None:
    """A zero times an infinity is NaN, and a row of finite numbers beside it stays finite."""
    a, b = np.zeros((3, 19), dtype), np.ones((19, 17), dtype)
    a[1, 18], b[18, 3] = 1, np.inf
    got = gd.matmul(a, b)
    assert np.isnan(got[[0, 2], 3]).all()
    assert got[1, 3] == np.inf
    got[:, 3] = 0
    assert np.isfinite(got).all()


@each("n, d", [(7, 3), (129, 33), (600, 17)])
def test_adjoint(rng: Any, dtype: Any, n: int, d: int) -> None:
    """<X w, r> = <w, X^T r>: each side has d + n roundings in a row."""
    X, w, r = (normal(rng, shape, dtype) for shape in ((n, d), (d,), (n,)))
    left, right = gd.matmul(gd.matmul(X, w), r), gd.matmul(w, gd.matmul(X.T, r))
    size = np.abs(r, dtype=float) @ np.abs(X, dtype=float) @ np.abs(w, dtype=float)
    bounds.check(left, right, bounds.up(2 * bounds.gamma(n + d, dtype) * size, n + d))
