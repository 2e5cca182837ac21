"""lr="auto" of many problems: the largest eigenvalue of each has the bits of finding it alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gdcore as gd
from fits import alone
from loops import each

LANES = 8
N = 9  # fewer rows than some problems have features
ONCE: dict[str, Any] = {"epochs": 1, "tol": None, "history": 0, "method": "gram"}

pytestmark = pytest.mark.filterwarnings("ignore:[0-9]+ problems?:gdcore.FitWarning")


def matrices(rng: np.random.Generator, dtype: Any, d: int) -> Any:
    """Draw X of ordinary problems, and of some whose Lanczos ends early or leaves the usual range.

    Neighbours in the lanes end at different steps.
    """
    usual = rng.normal(size=(2 * LANES + 3, N, d))
    one = np.zeros((N, d))
    one[:, 0] = rng.normal(size=N)
    odd = [
        np.zeros((N, d)),
        one,  # only one column
        np.tile(rng.normal(size=(N, 1)), d),  # of rank 1
        rng.normal(size=(N, 2)) @ rng.normal(size=(2, d)),
        np.eye(N, d),  # all eigenvalues the same
        rng.normal(size=(N, d)) * 1e15,
        rng.normal(size=(N, d)) * 1e-15,
        rng.normal(size=(N, d)) * 10.0 ** -np.arange(d),
        rng.integers(-2, 3, (N, d)),
    ]
    X = np.concatenate([usual, np.stack([np.asarray(x, float) for x in odd])])
    return X[rng.permutation(len(X))].astype(dtype)


def rates(X: Any, y: Any, sgd: gd.SGD, **options: Any) -> Any:
    """Return rate and stability limit of one fit of all problems."""
    many: Any = gd.fit(X, y, sgd, **ONCE, **options)
    return np.stack([many.lr, many.stability_limit])


@each("t", [None, 2])
@each("fit_intercept", [False, True])
@each("d", [1, 2, 3, 4, 8, 15, 16, 65])
def test_each_has_the_bits_of_its_own(
    rng: Any, dtype: Any, isa: str, d: int, fit_intercept: bool, t: int | None
) -> None:
    X = matrices(rng, dtype, d)
    y = rng.normal(size=(*X.shape[:2], *((t,) if t else ()))).astype(dtype)
    found = rates(X, y, gd.SGD(), fit_intercept=fit_intercept)
    gd._core.set_isa("reference")
    assert rates(X, y, gd.SGD(), fit_intercept=fit_intercept).tobytes() == found.tobytes()
    for i in range(len(X)):
        one = alone(X[i], y[i], gd.SGD(), **ONCE, fit_intercept=fit_intercept)
        assert (one.lr, one.stability_limit) == tuple(found[:, i]), i


@each("count", [1, LANES - 1, LANES, LANES + 1, 300])
def test_numbers_of_problems(rng: Any, dtype: Any, count: int) -> None:
    """Lanes that are left over change nothing, and threads share the lanes."""
    X, y = rng.normal(size=(count, N, 3)).astype(dtype), rng.normal(size=(count, N)).astype(dtype)
    ones = [rates(X[i : i + 1], y[i : i + 1], gd.SGD()) for i in range(count)]
    each_alone = np.concatenate(ones, axis=1)
    for threads in (1, 2, 3, 7):
        gd.set_num_threads(threads)
        assert rates(X, y, gd.SGD()).tobytes() == each_alone.tobytes()


@each("reduction", ["mean", "sum", "half_mean", "half_sum"])
@each("standardize", [False, True])
def test_reductions_and_ragged_groups(
    rng: Any, dtype: Any, reduction: Any, standardize: bool
) -> None:
    """Each group has a scale of its own."""
    sizes = rng.integers(5, 30, 21)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    X = rng.normal(size=(len(labels), 4)).astype(dtype)
    y = rng.normal(size=len(labels)).astype(dtype)
    how = ONCE | {"reduction": reduction, "standardize": standardize}
    many = gd.fit_groups(X, y, labels, gd.SGD(weight_decay=0.1), **how)
    for i in range(len(sizes)):
        one = alone(X[labels == i], y[labels == i], gd.SGD(weight_decay=0.1), **how)
        assert (many.lr[i], many.stability_limit[i]) == (one.lr, one.stability_limit)


def test_bad_neighbours_change_nothing(rng: Any, dtype: Any, isa: str) -> None:
    X, y = rng.normal(size=(LANES, N, 4)).astype(dtype), rng.normal(size=(LANES, N)).astype(dtype)
    bad = X.copy()
    bad[1, 2, 3], bad[4, 0, 0], bad[5] = np.nan, np.inf, 1e30
    good, found = rates(X, y, gd.SGD()), rates(bad, y, gd.SGD())
    assert np.isnan(found[0, [1, 4]]).all()
    rest = [0, 2, 3, 6, 7]
    assert found[:, rest].tobytes() == good[:, rest].tobytes()


def test_eigenvalues(rng: Any, dtype: Any, isa: str) -> None:
    X, y = rng.normal(size=(30, 50, 6)).astype(dtype), rng.normal(size=(30, 50)).astype(dtype)
    many: Any = gd.fit(X, y, gd.SGD(), fit_intercept=False, **ONCE)
    wide = X.astype(float)
    largest = np.linalg.eigvalsh(2 / 50 * wide.transpose(0, 2, 1) @ wide)[:, -1]
    np.testing.assert_allclose(1 / many.lr, largest, rtol=1e-5)
