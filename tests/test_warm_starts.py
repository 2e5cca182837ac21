"""Fits that continue earlier ones, finished or interrupted, come to the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
import problems
from fits import bits, draw, every_batch, every_sgd, slow_blocks
from gdcore import Status
from loops import each
from problems import canonical


@every_sgd
@each("how", [
    {}, {"batch_size": 7}, {"batch_size": 7, "shuffle": False}, {"batch_size": 40, "seed": 9},
])  # fmt: skip
@each("saved", [False, True])
def test_twenty_and_thirty_epochs_are_fifty(
    rng: Any, dtype: Any, tmp_path: Any, sgd: gd.SGD, how: Any, saved: bool
) -> None:
    problem = draw(rng, dtype=dtype, parts="bos")
    options = {"tol": None, "history": 3, **how}
    first = fits.fit(problem, sgd, epochs=20, **options)
    if saved:
        first.save(tmp_path / "fit")
        first = gd.load(tmp_path / "fit")
    second = fits.fit(problem, sgd, epochs=30, init=first, **options)
    assert second.epochs == 50
    assert bits(fits.joined([first, second])) == bits(fits.fit(problem, sgd, epochs=50, **options))


@every_batch
def test_a_warm_start_converges_at_the_same_epoch(rng: Any, batch_size: int | None) -> None:
    """The end does not depend on where the fit was interrupted."""
    problem = draw(rng, parts="b")
    problem = replace(problem, y=problem.X @ np.ones(3))
    sgd = gd.SGD(momentum=0.5)
    whole = fits.fit(problem, sgd, batch_size=batch_size)
    assert whole.status is Status.CONVERGED
    with pytest.warns(gd.FitWarning):
        first = fits.fit(problem, sgd, batch_size=batch_size, epochs=whole.epochs - 5)
    assert first.status is Status.MAX_EPOCHS
    second = fits.fit(problem, sgd, batch_size=batch_size, init=first)
    assert bits(fits.joined([first, second])) == bits(whole)


def test_a_warm_start_of_a_converged_fit_stays(rng: Any) -> None:
    problem = draw(rng)
    done = fits.fit(problem)
    again = fits.fit(problem, init=done)
    assert (again.status, again.epochs) == (Status.CONVERGED, done.epochs)
    assert canonical(again.weights, again.loss) == canonical(done.weights, done.loss)


def test_warm_starts_leave_the_earlier_fit_alone(rng: Any) -> None:
    problem, sgd = draw(rng), gd.SGD(momentum=0.9)
    first = fits.fit(problem, sgd, epochs=5, tol=None)
    before = bits(first)
    one, two = (bits(fits.fit(problem, sgd, epochs=5, tol=None, init=first)) for _ in range(2))
    assert one == two
    assert bits(first) == before


def test_a_warm_start_may_change_data_and_options(rng: Any) -> None:
    """A fit may continue with other options and with new rows."""
    how: dict[str, Any] = {"epochs": 5, "tol": None}
    first = fits.fit(draw(rng), gd.SGD(momentum=0.9), **how)
    more = draw(rng, n=60)
    result = fits.fit(more, gd.SGD(lr=0.01), init=first, **how)
    assert result.epochs == 10
    plain = fits.fit(more, gd.SGD(lr=0.01), init=(first.weights, first.intercept), **how)
    assert canonical(result.weights) == canonical(plain.weights)


def test_a_warm_start_in_another_dtype_counts_its_epochs(rng: Any) -> None:
    narrow = draw(rng, dtype=np.float32)
    first = fits.fit(narrow, epochs=5, tol=None)
    second = fits.fit(narrow.map(np.float64), epochs=5, tol=None, init=first)
    assert second.weights.dtype == np.float64
    assert second.epochs == 10


@each("t", [None, 2])
@each("kind", ["lists", "integers", "fortran", "other", "fit"])
def test_starts(rng: Any, dtype: Any, t: int | None, kind: str) -> None:
    """Any real array of the right shape, copied; an intercept may be one number for all targets."""
    problem = draw(rng, t=t, dtype=dtype)
    weights = problems.integers(rng, problem.weights.shape, dtype, 5)
    intercept = np.full(problem.intercept.shape, 3, dtype)  # type: ignore[union-attr]
    want = bits(fits.fit(problem, epochs=4, tol=None, init=(weights, intercept)))
    start: Any = {
        "lists": (weights.tolist(), 3),
        "integers": (weights.astype(int), np.int8(3)),
        "fortran": (np.asfortranarray(weights)[::-1][::-1], intercept),
        "other": (weights.astype(np.float64), np.float64(3)),
        "fit": fits.fit(problem, epochs=0, init=(weights, intercept)),
    }[kind]
    result = fits.fit(problem, epochs=4, tol=None, init=start)
    assert bits(result) == want
    assert result.weights.dtype == dtype


def test_weights_alone_start_with_an_intercept_of_zero(rng: Any, dtype: Any) -> None:
    problem = draw(rng, dtype=dtype)
    start = np.ones(3, dtype)
    alone, pair = (fits.fit(problem, epochs=3, tol=None, init=x) for x in (start, (start, 0.0)))
    assert bits(alone) == bits(pair)
    assert (start == 1).all()
    with_zeros, none = (
        gd.fit(problem.X, problem.y, gd.SGD(), init=x) for x in ((np.zeros(3), 0.0), None)
    )
    assert bits(with_zeros) == bits(none)


def test_an_exact_fit_is_a_start(rng: Any) -> None:
    problem = draw(rng)
    exact = fits.fit(problem, method="exact")
    result = fits.fit(problem, init=exact, epochs=5, tol=None)
    np.testing.assert_allclose(result.weights, exact.weights, rtol=1e-12)
    assert result.epochs == 5


# Ctrl-C, as a callable may raise it; test_process.py sends the signal.


@every_batch
@each("after", [1, 4])
def test_interrupted(
    rng: Any, monkeypatch: pytest.MonkeyPatch, batch_size: int | None, after: int
) -> None:
    """The exception holds the weights after a whole step; a fit continues from it, bit for bit."""
    slow_blocks(monkeypatch)
    problem, sgd = draw(rng, n=8000, d=64), gd.SGD(momentum=0.9)
    problem.X[:] += 3  # one direction stands out, so that the limit of lr is soon found
    options: dict[str, Any] = {
        "batch_size": batch_size and 1000, "tol": None, "method": "stream",
    }  # fmt: skip
    looks = []

    def interrupt(epoch: int, *_: Any) -> None:
        looks.append(epoch)
        if len(looks) == after:
            raise KeyboardInterrupt

    with pytest.raises(gd.FitInterrupted, match=r"interrupted after \d+ epochs") as caught:
        fits.fit(problem, sgd, epochs=12, progress=interrupt, **options)
    kept = caught.value.fit
    assert kept.status is Status.MAX_EPOCHS
    assert kept.epochs == looks[-1] == len(kept.history.epoch) < 12
    if batch_size is None:
        same = fits.fit(problem, sgd, epochs=kept.epochs, **options)
        assert canonical(kept.weights, kept.intercept) == canonical(same.weights, same.intercept)
    rest = fits.fit(problem, sgd, epochs=12 - kept.epochs, init=kept, **options)
    assert bits(fits.joined([kept, rest])) == bits(fits.fit(problem, sgd, epochs=12, **options))
    fewer = fits.rows_of(problem, np.arange(7000))  # on other rows the epoch begins again
    begun = replace(kept, state=replace(kept.state, step=0, epoch_sums=None))
    other, same = (fits.fit(fewer, sgd, epochs=1, init=start, **options) for start in (kept, begun))
    assert bits(other) == bits(same)
