"""Every device runs the ordinary epochs of a descent with the bits of the reference loops.

The CPU runs small descents side by side in the lanes of vectors, others one after the other; the
reference knows neither lanes nor vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from conftest import ISAS

STEPS = {
    "plain": {"lr": 0.05},
    "momentum": {"lr": 0.02, "momentum": 0.9},
    "dampened": {"lr": 0.05, "momentum": 0.8, "dampening": 0.3},
    "nesterov": {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    "decay": {"lr": 0.05, "weight_decay": 0.1},
    "all": {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
    "maximize": {"lr": 1e-3, "maximize": True},
}
# Ends by arriving, by running out of epochs, by standing still, by equal losses.
ENDS: dict[str, dict[str, Any]] = {
    "tol": {"epochs": 300, "tol": 1e-3},
    "epochs": {"epochs": 37, "tol": None},
    "still": {"epochs": 600, "tol": 0.0},
    "equal": {"epochs": 600, "tol": None, "stop": "loss_equal"},
}
# Rows, features and targets: within what lanes hold, on its edge, and beyond.
SIZES = [(10, 2, None), (16, 4, None), (17, 4, None), (40, 15, None), (40, 20, None), (30, 3, 2)]


def bits(result: Any) -> list[bytes]:
    """Return all that a fit or several tell of where they went."""
    names = ("weights", "intercept", "loss", "epochs", "status", "lr", "r2_lost")
    found = [str(np.asarray(getattr(result, name)).tolist()).encode() for name in names]
    history = result.history
    recorded = (history.epoch, history.loss, getattr(history, "weights", None))
    return found + [np.asarray(x).tobytes() for x in recorded if x is not None]


def same_everywhere(fit: Callable[..., Any], *given: Any, **options: Any) -> None:
    """Compare the fit under each instruction set with the reference loops."""
    gd._core.set_isa("reference")
    expected = bits(fit(*given, **options))
    for isa in ISAS:
        gd._core.set_isa(isa)
        assert bits(fit(*given, **options)) == expected, (isa, options)


@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("method", ["gram", "stream"])
@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning", "ignore::gdcore.FitWarning")
def test_descents(rng: Any, dtype: Any, method: str, many: bool) -> None:
    count = (11,) if many else ()
    for n, d, t in SIZES:
        X = rng.normal(size=(*count, n, d)).astype(dtype)
        y = rng.normal(size=(*count, n, *(() if t is None else (t,)))).astype(dtype)
        offset = rng.normal(size=y.shape).astype(dtype)
        for i, (steps, end) in enumerate(product(STEPS.values(), ENDS.values())):
            how = {"method": method, "history": 2} | end | ({} if i % 3 else {"offset": offset})
            same_everywhere(gd.fit, X, y, gd.SGD(**steps), **how)


@pytest.mark.parametrize("method", ["gram", "stream"])
@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning", "ignore::gdcore.FitWarning")
def test_rows_in_an_order_and_standardised(rng: Any, dtype: Any, method: str) -> None:
    """The device gathers the rows; descents of different lengths leave their lanes to others."""
    for count in (23, 7):
        groups = rng.integers(0, count, 700)
        X, y = rng.normal(size=(700, 3)).astype(dtype), rng.normal(size=700).astype(dtype)
        sgd = gd.SGD(lr=0.05, momentum=0.5)
        for standardize in (False, True):
            how = {"method": method, "standardize": standardize, "history": 5, "epochs": 300}
            same_everywhere(gd.fit_groups, X, y, groups, sgd, tol=1e-2, **how)
