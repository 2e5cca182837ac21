"""Ordinary data in the units that people have: what the default answer has to get right."""

from __future__ import annotations

import numpy as np

from bounds import Array


def data_sets(seed: int = 0) -> dict[str, tuple[Array, Array]]:
    """Return X (90, d) and y (90,) of each set, by name."""
    rng = np.random.default_rng(seed)
    n = 90
    noise = rng.normal(size=n)
    years = np.arange(1950.0, 1950 + n)
    price_income = np.c_[rng.uniform(1, 9, n), rng.normal(52000, 9000, n)]
    returns = rng.normal(0, 0.012, (n, 1))
    weather = np.c_[rng.normal(293, 4, n), rng.normal(101325, 300, n)]
    x = np.linspace(0, 12, n)
    cubic = np.c_[x, x**2, x**3]
    return {
        "years": (years[:, None], 0.7 * years - 1200 + noise),
        "price and income": (price_income, price_income @ [-3.1, 0.002] + 40 + noise),
        "daily returns": (returns, 1.2 * returns[:, 0] + 0.001 * noise),
        "kelvin and pascal": (weather, weather @ [0.8, 0.01] + noise),
        "cubic": (cubic, cubic @ [1.0, -0.4, 0.03] + 0.1 * noise),
    }


def r2_lost(X: Array, y: Array, weights: Array, intercept: Array) -> float:
    """Return how far R^2 of a prediction is below that of least squares, in long double."""
    wide = np.longdouble
    A = X.astype(wide) - X.mean(axis=0).astype(wide)
    A = np.c_[A / A.std(axis=0), np.ones(len(A), wide)]
    target = y.astype(wide) - y.mean().astype(wide)
    inverse = np.linalg.pinv(A.astype(np.float64))
    best = np.zeros(A.shape[1], wide)
    for _ in range(4):  # refinement
        best += inverse @ (target - A @ best).astype(np.float64)
    prediction = X.astype(wide) @ weights.astype(wide) + wide(intercept) - y.mean().astype(wide)
    squares = np.sum((prediction - A @ best) ** 2)
    return float(squares / np.sum(target**2))
