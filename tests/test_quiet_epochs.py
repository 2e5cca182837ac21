"""Epochs of many problems that nobody watches have the bits of those that are recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gdcore as gd
from conftest import THREADS
from loops import each

OPTIONS: list[dict[str, Any]] = [
    {},
    {"momentum": 0.9, "dampening": 0.3},
    {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1, "decay_intercept": False},
    {"weight_decay": 0.2},
]
NAMES = ("weights", "intercept", "loss", "epochs", "status", "lr")

pytestmark = [
    pytest.mark.filterwarnings("ignore::gdcore.FitWarning"),
    pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning"),
]


def draw(rng: np.random.Generator, dtype: Any, count: int, d: int) -> tuple[Any, Any, Any]:
    """Draw problems and rates: some diverge at once, some late, some have nothing to learn."""
    X = rng.normal(size=(count, 24, d))
    y = X @ rng.normal(size=(d, 1)) + rng.normal(size=(count, 24, 1))
    y[::7] = 0
    X[3::11] *= 1e9
    lr = rng.uniform(0.001, 0.05, count)
    lr[5::13] = 3.0
    lr[6::17] = 40.0
    return X.astype(dtype), y[..., 0].astype(dtype), lr


def same(watched: gd.Fits, quiet: gd.Fits) -> None:
    for name in NAMES:
        ours, theirs = getattr(quiet, name), getattr(watched, name)
        assert ours.tobytes() == theirs.tobytes(), (name, np.flatnonzero(ours != theirs)[:5])


@each("options", OPTIONS)
@each("d", [1, 2, 3, 4, 5, 6, 8, 9, 12])
def test_every_number_of_parameters(
    rng: Any, dtype: Any, isa: str, d: int, options: dict[str, Any]
) -> None:
    X, y, lr = draw(rng, dtype, 37, d)
    sgd = gd.SGD(lr=lr, **options)
    for intercept in (True, False):
        how: dict[str, Any] = {"method": "gram", "tol": None, "fit_intercept": intercept}
        watched, quiet = (gd.fit(X, y, sgd, epochs=40, history=h, **how) for h in (1, 0))
        same(watched, quiet)
        same(
            gd.fit(X, y, sgd, epochs=90, history=1, init=watched, **how),
            gd.fit(X, y, sgd, epochs=90, history=0, init=quiet, **how),
        )


@each("threads", THREADS)
@each("count", [1, 7, 8, 9, 15, 16, 17, 40])
@each("epochs", [1, 2, 7, 8, 9, 300])
def test_numbers_of_problems_and_epochs(
    rng: Any, dtype: Any, threads: int, count: int, epochs: int
) -> None:
    gd.set_num_threads(threads)
    X, y, lr = draw(rng, dtype, count, 4)
    sgd = gd.SGD(lr=lr, momentum=0.5)
    how: dict[str, Any] = {"method": "gram", "tol": None, "epochs": epochs}
    same(gd.fit(X, y, sgd, history=1, **how), gd.fit(X, y, sgd, history=0, **how))
