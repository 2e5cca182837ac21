"""Fits of one and of two parameters to draw."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pictures import descend


@pytest.fixture
def one(rng: np.random.Generator) -> SimpleNamespace:
    """Points along a line of one feature, with an intercept; the last ten kept apart."""
    X = rng.uniform(-1, 1, (40, 1))
    y = 3 * X[:, 0] + 2 + rng.random(40)
    fit = descend(X[:30], y[:30])
    return SimpleNamespace(X=X[:30], y=y[:30], test=(X[30:], y[30:]), fit=fit)


@pytest.fixture
def two(rng: np.random.Generator) -> SimpleNamespace:
    """The same with a column of ones in place of the intercept, from a start of its own."""
    X = np.column_stack([rng.uniform(-1, 1, 50), np.ones(50)])
    y = X @ [3, 2] + rng.random(50)
    init = np.array([0.5, 0.75])
    return SimpleNamespace(X=X, y=y, init=init, fit=descend(X, y, fit_intercept=False, init=init))
