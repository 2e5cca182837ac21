"""What a fit records of its epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

import fits
import gdcore as gd
import problems
from fits import bits, draw, every_batch, every_sgd, every_target
from loops import each
from problems import canonical


@every_sgd
@every_batch
@every_target
def test_history(rng: Any, dtype: Any, sgd: gd.SGD, t: int | None, batch_size: int | None) -> None:
    """Epochs 1, 2, ...; losses before, weights after: each a fit of that many epochs."""
    problem = draw(rng, t=t, dtype=dtype, parts="bos")
    how = {"batch_size": batch_size, "tol": None}
    h = fits.fit(problem, sgd, epochs=4, **how).history
    assert h.epoch.dtype == np.int64
    assert h.epoch.tolist() == [1, 2, 3, 4]
    assert (h.loss.shape, h.loss.dtype) == ((4,), dtype)
    assert h.weights is not None
    assert h.intercept is not None
    assert (h.weights.shape, h.weights.dtype) == ((4, *problem.weights.shape), dtype)
    assert h.intercept.shape == ((4,) if t is None else (4, t))
    for epochs in range(5):
        result = fits.fit(problem, sgd, epochs=epochs, **how)
        if epochs > 0:
            after = h.weights[epochs - 1], h.intercept[epochs - 1]
            assert canonical(*after) == canonical(result.weights, result.intercept)
        if epochs < 4 and batch_size is None:
            assert canonical(h.loss[epochs]) == canonical(result.loss)


def test_loss_of_a_mini_batch_epoch(rng: Any) -> None:
    """Every row counts once, at the weights before the step of its batch."""
    problem = draw(rng, parts="b")
    for reduction in problems.REDUCTIONS:
        p = replace(problem, reduction=reduction)
        result = fits.fit(p, gd.SGD(lr=0.001), batch_size=7, epochs=1, tol=None)
        here, squares = p, 0.0
        for rows in fits.batches(40, 7, True, 0, 0):
            part = fits.rows_of(here, rows)
            squares += float(replace(part, reduction="sum").exact()[0])
            here = fits.at(here, fits.start_of(here) - 0.001 * fits.gradient(part))
        value, _ = problems.scales(reduction, 40)
        np.testing.assert_allclose(result.history.loss, [value * squares], rtol=1e-13)


@each("every", [1, 2, 3, 7, 20, 21, 10**9])
@every_batch
def test_one_epoch_in_several_is_recorded(rng: Any, every: int, batch_size: int | None) -> None:
    problem = draw(rng)
    how: dict[str, Any] = {"epochs": 20, "tol": None, "batch_size": batch_size}
    full, some = (fits.fit(problem, history=k, **how) for k in (1, every))
    pick = slice(every - 1, None, every)
    h = full.history
    assert h.weights is not None
    assert h.intercept is not None
    want = gd.History(h.epoch[pick], h.loss[pick], h.weights[pick], h.intercept[pick])
    assert bits(some) == bits(replace(full, history=want))


def test_no_history(rng: Any, dtype: Any) -> None:
    result = fits.fit(draw(rng, dtype=dtype), epochs=5, tol=None, history=0)
    assert result.history.epoch.tolist() == result.history.loss.tolist() == []
    assert result.history.loss.dtype == dtype
    assert result.epochs == 5


@each("epochs", [8, 9])
def test_weights_are_recorded_up_to_64_mib(epochs: int) -> None:
    """A million parameters of 8 bytes: 8 epochs are 64 MiB, 9 are too many."""
    X = np.zeros((1, 2**20 - 1))
    X[0, 0] = 1
    h = gd.fit(X, [1.0], gd.SGD(lr=0.01), epochs=epochs, tol=None).history
    assert len(h.epoch) == len(h.loss) == epochs
    if epochs == 8:
        assert h.weights is not None
        assert h.weights.shape == (8, 2**20 - 1)
    else:
        assert h.weights is None
        assert h.intercept is None


def test_no_intercept_is_zero(rng: Any, dtype: Any) -> None:
    for t in (None, 2):
        result = fits.fit(draw(rng, t=t, dtype=dtype, parts=""), epochs=3, tol=None)
        assert np.shape(result.intercept) == (() if t is None else (2,))
        assert np.all(result.intercept == 0)
        assert result.history.intercept is not None
        assert result.history.intercept.shape == ((3,) if t is None else (3, 2))
        assert not result.history.intercept.any()
