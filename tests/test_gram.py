"""Fits from second moments: the moments, their bits, and descent on the quadratic they define."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import product
from operator import mul
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bounds
import fits
import gdcore as gd
import problems
from fits import Cut, bits, cut_after, refused
from gdcore import Status
from gdcore.data.problem import make_problem
from gdcore.data.sums import moments_of
from loops import each
from problems import DTYPES, LAYOUTS, SEGMENT, Array, Linear, canonical

FULL = gd.SGD(momentum=0.9, nesterov=True, weight_decay=0.01)
GRAM: dict[str, Any] = {"method": "gram", "tol": None}


def moments(problem: Linear) -> tuple[Array, Array]:
    """Return the sums as the core keeps them, high and low parts."""
    fitted = problem.intercept is not None
    given = make_problem(
        problem.X, problem.y, problem.offset, problem.sample_weight, fitted, problem.reduction
    )
    sums = moments_of(given.core, 0)
    return sums.hi, sums.lo


def columns(problem: Linear) -> Array:
    """Return [X 1 y - offset] times the roots of the weights, in float64, rounded as documented."""
    p = problem.full(np.float64)
    n, t = len(p.X), p.w.shape[-1]
    z = np.hstack([p.X, np.ones((n, 1)), np.broadcast_to(p.y, (n, t)) - p.o])
    return z if problem.sample_weight is None else np.sqrt(p.s) * z


def as_integers(numbers: Array) -> tuple[list[list[int]], Fraction]:
    """Return the columns as integers, and the fraction that is their unit."""
    ratios = [[float(x).as_integer_ratio() for x in column] for column in numbers.T]
    most = max(below for column in ratios for _, below in column)
    return [[above * (most // below) for above, below in c] for c in ratios], Fraction(1, most)


def check_moments(problem: Linear) -> None:
    """Assert that each sum is the exact one within its bound, and that no entry is missing.

    Entries below the diagonal are not stored.
    """
    dtype, z, d = problem.X.dtype, columns(problem), problem.X.shape[1]
    t = z.shape[1] - d - 1
    hi, lo = moments(problem)
    pairs = [(a, b) for a in range(d + 1) for b in range(a, d + 1 + t)]
    places = [a * (d + 1 + t) + b for a, b in pairs]
    pairs += [(d + 1 + u, d + 1 + u) for u in range(t)]
    places += [(d + 1) * (d + 1 + t) + u for u in range(t)]
    limit = bounds.moments(z, z, dtype)
    exact, unit = as_integers(z)
    assert len(hi) == len(lo) == (d + 1) * (d + 1 + t) + t
    for (a, b), at in zip(pairs, places, strict=True):
        want = sum(map(mul, exact[a], exact[b])) * unit**2
        error = abs(Fraction(float(hi[at])) + Fraction(float(lo[at])) - want)
        assert not (error > Fraction(float(limit[a, b]))), (a, b, float(error), limit[a, b])


def cancelling(rng: Any, n: int, d: int, t: int | None, dtype: Any, parts: str) -> Linear:
    """Draw columns whose products cancel: rows come in pairs of opposite sign, nearly."""
    p = problems.linear(rng, n, d, t, dtype=dtype, parts=parts)
    scale = (10.0 ** rng.integers(-3, 4, (n, 1))).astype(dtype)
    p.X[...] *= scale
    p.X[1::2, ::2] = -p.X[: n // 2 * 2 : 2, ::2] * dtype.type(1 + 1e-6)
    p.X[1::2, 1::2] = p.X[: n // 2 * 2 : 2, 1::2]
    return p


@each("t", [None, 3])
@each("parts", ["b", "bo", "bs", "bos"])
@each("n", [1, 2, 511, 513, 1100])
def test_moments_are_the_exact_sums(
    rng: Any, dtype: Any, n: int, parts: str, t: int | None
) -> None:
    check_moments(cancelling(rng, n, 3, t, dtype, parts))


@each("scale", [1e-120, 1e120])
def test_moments_of_huge_and_tiny_numbers(rng: Any, scale: float) -> None:
    p = cancelling(rng, 600, 2, None, np.dtype(np.float64), "b")
    check_moments(replace(p, X=p.X * scale, y=p.y * scale))


def test_float64_sums_keep_what_rounding_loses() -> None:
    """A plain float64 sum would be 0."""
    X = np.array([[2.0**40], [2.0**-40], [2.0**40], [1.0]])
    y = np.array([2.0**40, 2.0**-40, -(2.0**40), 2.0**-100])
    hi, lo = moments(Linear(X, y, np.zeros(1)))
    assert hi[2] + lo[2] == 2.0**-80 + 2.0**-100


# Bits.

# Columns around the edges of vectors and tiles; targets around a block of squares.
SHAPES = [(d, 1) for d in (1, 2, 5, 6, 7, 8, 13, 14, 15, 21, 22, 23, 29, 30, 31, 40, 62, 70)]
SHAPES += [(3, 2), (6, 8), (7, 9), (20, 17)]
# Shapes where [1 y] follows whole vectors of X, and is stored as rows up to three targets.
SHAPES += [(d, t) for t, ds in ((2, (6, 15, 24)), (3, (5, 7, 14, 40)), (4, (8, 20))) for d in ds]
# Rows around the edges of a segment, and of its blocks of 288, 144, 96, 72 and 48.
ROWS = [1, 2, 47, 48, 49, 71, 73, 95, 97, 143, 145, 287, 289, 511, 512, 513, 1029]


@cache
def draw(dtype: Any, n: int, d: int, t: int | None, parts: str = "bos") -> Linear:
    problem = problems.linear(np.random.default_rng([n, d]), n, d, t, dtype=dtype, parts=parts)
    if problem.sample_weight is not None:
        problem.sample_weight[0] = 1
        problem.sample_weight[:] *= dtype.type(0.7)
    return problem


def summed(problem: Linear) -> Any:
    """Return the bytes of the moments."""
    return canonical(*moments(problem))


@cache
def expected_moments(dtype: Any, n: int, d: int, t: int, parts: str) -> Any:
    return by_reference(summed, draw(dtype, n, d, t, parts))


def by_reference(run: Any, *args: Any, **how: Any) -> Any:
    """Run by the loops of the contract: no vectors, no threads."""
    isa, threads = gd._core.get_isa(), gd.get_num_threads()
    gd._core.set_isa("reference")
    gd.set_num_threads(1)
    try:
        return run(*args, **how)
    finally:
        gd._core.set_isa(isa)
        gd.set_num_threads(threads)


@each("d, t", SHAPES)
def test_bits_of_moments_by_columns(isa: str, dtype: Any, d: int, t: int) -> None:
    for n, parts in ((3, "bos"), (600, "b"), (600, "bos")):
        want = expected_moments(dtype, n, d, t, parts)
        assert summed(draw(dtype, n, d, t, parts)) == want, (n, parts)


@each("d", [1, 14, 22, 30, 40])
def test_bits_of_moments_by_rows(isa: str, dtype: Any, d: int) -> None:
    for n in ROWS:
        assert summed(draw(dtype, n, d, 1, "bs")) == expected_moments(dtype, n, d, 1, "bs"), n


@each("d, t", [(5, 1), (40, 1), (30, 9), (150, 1)])
def test_bits_of_moments_by_threads(isa_and_threads: Any, dtype: Any, d: int, t: int) -> None:
    """Chunks for seven threads, which none of them divides; columns enough to add on several."""
    n = 22 * 512 + 11 if d < 30 else 11 * 512 + 3
    assert summed(draw(dtype, n, d, t)) == expected_moments(dtype, n, d, t, "bos")


@each("layout", LAYOUTS)
@each("d, t", [(3, 1), (19, 1), (5, 3)])
def test_bits_of_moments_by_layout(isa: str, dtype: Any, layout: str, d: int, t: int) -> None:
    place: Any = LAYOUTS[layout]
    problem, want = draw(dtype, 600, d, t), expected_moments(dtype, 600, d, t, "bos")
    assert summed(problem.map(place)) == want
    assert summed(replace(problem, X=place(problem.X))) == want


@cache
def expected_fit(dtype: Any, n: int, d: int, t: int | None, parts: str) -> list[Any]:
    return list(by_reference(fitted, draw(dtype, n, d, t, parts)))


def fitted(problem: Linear, **how: Any) -> list[Any]:
    """Return the bits of a fit of five epochs."""
    return bits(fits.fit(problem, FULL, epochs=5, **(GRAM | how)))


@each("t", [None, 3])
@each("d", [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 70])
def test_bits_of_fits(isa: str, dtype: Any, d: int, t: int | None) -> None:
    for n, parts in ((513, "bos"), (100, ""), (100, "bos")):
        want = expected_fit(dtype, n, d, t, parts)
        assert fitted(draw(dtype, n, d, t, parts)) == want, (n, parts)


def test_bits_of_fits_by_threads(isa_and_threads: Any, dtype: Any) -> None:
    n, d = 22 * 512 + 11, 9
    want = expected_fit(dtype, n, d, 2, "bos")
    assert fitted(draw(dtype, n, d, 2)) == want
    assert fitted(draw(dtype, n, d, 2), n_threads=3) == want


# Whole fits.


def parameters_after(run: gd.Fit, size: int) -> Array:
    """Return the parameters after each epoch."""
    h = run.history
    assert h.weights is not None
    assert h.intercept is not None
    return np.array([fits.flat(*at, size) for at in zip(h.weights, h.intercept, strict=True)])


def compare(problem: Linear, sgd: gd.SGD, epochs: int = 40, **how: Any) -> None:
    """Assert that gram and stream stay within the sum of their bounds, path and losses.

    Each stays within the path bound of the exact run (`fits.path_bound`). Its steps' bounds are
    evaluated along the run that reads the rows.
    """
    dtype = problem.X.dtype
    runs = {
        method: fits.fit(problem, sgd, epochs=epochs, tol=None, method=method, **how)
        for method in ("stream", "gram")
    }
    h = {method: run.history for method, run in runs.items()}
    size = len(fits.start_of(problem))
    params = {method: parameters_after(run, size) for method, run in runs.items()}
    velocity = np.zeros(size)
    matrix, local, allowed = bounds.sgd_matrix(sgd, fits.hessian(problem)), [], []
    here = fits.start_of(problem)
    for epoch in range(epochs):
        at = fits.at(problem, here)
        grad = fits.gradient(at)
        args = sgd, at, grad, velocity, epoch == 0, dtype
        local.append(fits.step_bound(*args) + fits.step_bound(*args, "gram"))
        allowed.append(fits.loss_bound(at, dtype) + fits.loss_bound(at, dtype, "gram"))
        g = grad + sgd.weight_decay * here
        velocity = g if epoch == 0 else sgd.momentum * velocity + (1 - sgd.dampening) * g
        here = params["stream"][epoch].astype(np.float64)
    path = fits.path_bound([matrix] * epochs, local)
    hessian, here = np.abs(fits.hessian(problem)), fits.start_of(problem)
    for epoch in range(epochs):
        e = path[epoch][:size]
        slope = np.abs(fits.gradient(fits.at(problem, here)))
        loss = allowed[epoch] + slope @ e + e @ hessian @ e / 2
        bounds.check(h["gram"].loss[epoch], h["stream"].loss[epoch], bounds.up(loss, size))
        bounds.check(params["gram"][epoch], params["stream"][epoch], path[epoch + 1][:size])
        here = params["stream"][epoch].astype(np.float64)
    assert h["gram"].loss.min() >= 0


def conditioned(rng: Any, n: int, d: int, condition: float, dtype: Any, parts: str) -> Linear:
    """Draw a problem whose X has that condition number."""
    left, _ = np.linalg.qr(rng.standard_normal((n, d)))
    right, _ = np.linalg.qr(rng.standard_normal((d, d)))
    X = left * np.geomspace(1, 1 / condition, d) @ right
    p = problems.linear(rng, n, d, dtype=dtype, parts=parts)
    return replace(p, X=(X * np.sqrt(n)).astype(dtype))


CONDITIONS = [(np.float32, 1e3), (np.float32, 1e6), (np.float64, 1e3), (np.float64, 1e8)]


@each("kind, condition", CONDITIONS)
@each("parts", ["", "b", "bos"])
@each("momentum", [0.0, 0.9])
def test_gram_agrees_with_stream(
    rng: Any, kind: Any, condition: float, parts: str, momentum: float
) -> None:
    problem = conditioned(rng, 700, 5, condition, np.dtype(kind), parts)
    compare(problem, gd.SGD(lr=0.5 / fits.steepest(problem), momentum=momentum))


@each("reduction", problems.REDUCTIONS)
def test_gram_agrees_with_stream_for_every_reduction(rng: Any, dtype: Any, reduction: Any) -> None:
    problem = problems.linear(rng, 600, 3, 2, dtype=dtype, parts="bos", reduction=reduction)
    compare(problem, gd.SGD(lr=0.5 / fits.steepest(problem)))


@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning", "ignore::gdcore.FitWarning")
def test_one_gradient_is_within_its_bound(rng: Any, dtype: Any) -> None:
    """A step of lr 1 from 0 shows the gradient itself; the textbook's, in longer arithmetic."""
    for parts, t in product(("", "b", "bo", "bs", "bos"), (None, 2)):
        p = problems.linear(rng, 1100, 4, t, dtype=dtype, parts=parts)
        p.weights[...] = 0
        if p.intercept is not None:
            p.intercept[...] = 0
        result = fits.fit(p, gd.SGD(lr=1.0), epochs=1, **GRAM)
        loss, weights, intercept = p.exact()
        limit = bounds.gram(p, dtype)
        assert result.history.weights is not None
        bounds.check(result.history.loss[0], loss, limit.loss)
        bounds.check(-result.history.weights[0], weights, limit.weights)
        if p.intercept is not None:
            assert result.history.intercept is not None
            bounds.check(-result.history.intercept[0], intercept, limit.intercept)


@each("parts", ["b", "bs"])
def test_a_loss_near_zero(rng: Any, dtype: Any, parts: str) -> None:
    """Targets on a plane, far from 0: the sums cancel, the last loss is that of the rows."""
    p = problems.linear(rng, 600, 3, dtype=dtype, parts=parts)
    y = (p.X @ np.array([1, -2, 3], dtype) + dtype.type(1000)).astype(dtype)
    p = replace(p, y=y)
    result = fits.fit(p, gd.SGD(), epochs=5000, tol=0.0, method="gram")
    assert (result.history.loss >= 0).all()
    at_end = replace(p, weights=result.weights, intercept=np.asarray(result.intercept))
    assert canonical(result.loss) == canonical(at_end()[0])
    assert result.loss <= 1e-6 if dtype == np.float32 else result.loss <= 1e-20


@each("d", [3, 9])  # in a lane, and not
def test_no_loss_is_negative(rng: Any, d: int) -> None:
    """Where the weights are exact, sums that are not leave a rounding error of either sign."""
    X = problems.integers(rng, (600, d), np.float32, 2**21)
    for weight in (3, 5, 7):
        y = np.float32(weight) * X[:, 0]
        result = gd.fit(X, y, gd.SGD(), epochs=500, tol=None, method="gram", fit_intercept=False)
        assert result.weights[0] == weight
        assert (result.history.loss >= 0).all()


def test_equal_losses_are_not_rounding_errors(rng: Any) -> None:
    """With weights that are not squares, losses fall as far as losses summed over the rows."""
    p = problems.linear(rng, 200, 2, parts="b")
    weight = rng.uniform(0.1, 2, 200)
    p = replace(p, y=p.X @ [3.0, -1.0] + 100, sample_weight=weight)
    how: dict[str, Any] = {"stop": "loss_equal", "tol": None, "epochs": 5000}
    runs = [fits.fit(p, gd.SGD(), method=method, **how) for method in ("stream", "gram")]
    at_end = [
        float(replace(p, weights=r.weights, intercept=np.asarray(r.intercept))()[0]) for r in runs
    ]
    limit = fits.loss_bound(fits.at(p, fits.parameters(runs[0])), np.float64, "gram")
    assert at_end[1] <= at_end[0] + limit


# What it refuses, and what it says.


@each("value", [np.nan, np.inf, -np.inf])
@each("name", ["X", "y", "offset"])
def test_bad_numbers_are_named_as_by_stream(dtype: Any, name: str, value: float) -> None:
    p = draw(dtype, 600, 3, None).map(np.copy)
    array = getattr(p, name)
    array[(517, 1) if name == "X" else 517] = value
    messages = {
        refused(lambda m=method: fits.fit(p, method=m), rf"{name} holds .* at row 517")
        for method in ("stream", "gram", "auto")
    }
    assert len(messages) == 1


@each("scale", [1e160, 1e-160])
@each("name", ["X", "y"])
def test_numbers_whose_squares_leave_the_range(scale: float, name: str) -> None:
    p = draw(np.dtype(np.float64), 600, 3, None, "b")
    p = replace(p, **{name: getattr(p, name) * scale})
    how: dict[str, Any] = {"epochs": 300, "tol": None, "init": None}
    refused(lambda: fits.fit(p, method="gram", **how), "underflow float64; scale .*'stream'")
    outcomes = [outcome(p, method=m, **how) for m in ("stream", "auto")]
    assert outcomes[0] == outcomes[1]
    if scale < 1:
        said = "not known: the squares .* underflow float64; scale"
        with pytest.warns(gd.FitWarning, match=said):
            fits.fit(p, **(how | {"tol": 1e-6}))


def outcome(problem: Linear, **how: Any) -> Any:
    """Return the bits of a fit, or what it raised; a stream says why it is one."""
    try:
        result = fits.fit(problem, **how)
    except ValueError as error:
        return str(error)
    if how["method"] == "auto":
        assert (result.method, "overflow or underflow" in result.method_reason) == ("stream", True)
    return bits(result)


def test_float32_numbers_whose_squares_leave_its_range() -> None:
    p = draw(np.dtype(np.float32), 600, 3, None, "b")
    p = replace(p, X=p.X * np.float32(1e25))
    refused(lambda: fits.fit(p, method="gram"), "overflow .*float32; scale")
    refused(lambda: fits.fit(p), "squares of X overflow float32")


def test_mini_batches() -> None:
    p = draw(np.dtype(np.float64), 600, 3, None)
    refused(lambda: fits.fit(p, method="gram", batch_size=7), "method='gram' takes no batch_size")
    result = fits.fit(p, batch_size=100, epochs=2, tol=None)
    assert (result.method, result.method_reason) == (
        "stream", "mini-batches read their rows every epoch.",
    )  # fmt: skip


REASONS = [
    (600, {"epochs": 100}, "gram", "one pass costs less than the epochs."),
    (600, {"method": "gram", "epochs": 1}, "gram", "method='gram' was asked for."),
    (600, {"method": "stream", "epochs": 100}, "stream", "method='stream' was asked for."),
    (4, {"epochs": 100}, "stream", "so few rows gain nothing"),
]


@each("n, how, method, reason", REASONS)
def test_reasons(dtype: Any, n: int, how: Any, method: str, reason: str) -> None:
    result = fits.fit(draw(dtype, n, 3, None), **({"tol": None} | how))
    assert result.method == method
    assert result.method_reason.startswith(reason)


@each("epochs", [1, 500])
def test_wide_problems_of_few_rows_are_streamed(epochs: int) -> None:
    for n, method in ((200, "stream"), (300, "gram")):
        problem = draw(np.dtype(np.float64), n, 70, None)
        assert fits.fit(problem, epochs=epochs, tol=None).method == method


# Going on.


@each("t", [None, 2])
def test_epochs_are_prefixes(dtype: Any, t: int | None) -> None:
    """Each record is what a fit of that many epochs returns; the next start is its end."""
    problem = draw(dtype, 600, 5, t)
    whole = fits.fit(problem, FULL, epochs=9, **GRAM)
    assert whole.history.weights is not None
    for epochs in (1, 4, 9):
        part = fits.fit(problem, FULL, epochs=epochs, **GRAM)
        assert canonical(part.weights) == canonical(whole.history.weights[epochs - 1])
        rest = fits.fit(problem, FULL, epochs=9 - epochs, init=part, **GRAM)
        assert bits(fits.joined([part, rest])) == bits(whole)


@each("sgd", [gd.SGD(), FULL])
def test_killed_and_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dtype: Any, sgd: gd.SGD
) -> None:
    """Two looks at a time: the bits of one fit."""
    monkeypatch.setattr("gdcore.data.slices.SECONDS", 0.0)
    monkeypatch.setattr("gdcore.results.checkpoint.Checkpoint.seconds", 0.0)
    problem, path, cuts = draw(dtype, 600, 70, None), tmp_path / "gram.checkpoint", 0
    how: dict[str, Any] = {"epochs": 1500, "history": 100, **GRAM}
    want = fits.fit(problem, sgd, **how)
    while True:
        try:
            done = fits.fit(problem, sgd, checkpoint=path, progress=cut_after(2), **how)
            break
        except Cut:
            cuts += 1
    assert cuts >= 2
    assert bits(done) == bits(want)
    refused(
        lambda: fits.fit(problem, sgd, checkpoint=path, **(how | {"method": "stream"})),
        "made with another method",
    )


@pytest.mark.filterwarnings("ignore::gdcore.LearningRateWarning")
@each("t", [None, 2])
def test_divergence(dtype: Any, t: int | None) -> None:
    """The weights are the last with a finite loss, which is computed from the rows."""
    problem = draw(dtype, 100, 3, t)
    sgd = gd.SGD(lr=50 / fits.steepest(problem))
    with pytest.warns(gd.FitWarning, match="Diverged in epoch"):
        result = fits.fit(problem, sgd, epochs=5000, method="gram")
    assert result.status is Status.DIVERGED
    assert result.epochs == len(result.history.epoch)
    assert np.isfinite(result.loss)
    assert np.isfinite(result.history.loss).all()
    at_end = replace(problem, weights=result.weights, intercept=np.asarray(result.intercept))
    bounds.check(result.loss, at_end.exact()[0], fits.loss_bound(at_end, dtype, "gram"))


def test_dtypes_have_the_same_chunk() -> None:
    """The rows above straddle it."""
    assert [SEGMENT[dtype.name] for dtype in DTYPES] == [512, 512]
