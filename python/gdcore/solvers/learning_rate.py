"""Learning rates that converge. The loss is a quadratic, so they are known before a step."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data import slices
from gdcore.data.problem import Problem
from gdcore.data.shape import Shape
from gdcore.errors import LearningRateWarning, stacklevel
from gdcore.sgd import SGD, rate_at
from gdcore.typing import LearningRate


def curvature_of(
    problem: Problem, n_threads: int, moments: _core.Moments | None
) -> tuple[float, float]:
    """Return the largest eigenvalue of the loss's Hessian, from below, and its error's width."""
    spectrum = _core.Spectrum(problem.core, moments)
    slices.run(lambda seconds: spectrum.advance(seconds, n_threads))
    dtype = problem.shape.dtype
    if not spectrum.largest <= float(np.finfo(dtype).max):
        problem.check_finite()
        wider = ", or pass float64" if dtype == np.float32 else ""
        raise ValueError(f"the squares of X overflow {dtype}; standardize the columns of X{wider}.")
    return spectrum.largest, spectrum.residual


def stability_limit(sgd: SGD, shape: Shape, batch_size: int | None, curvature: float) -> float:
    """Return the lr above which the fit must diverge.

    For mini-batches it bounds the descent of their mean; noise may ask for less (see `auto_lr`).
    """
    return float(sgd.stability_limit(curvature * step_share(shape.n, shape.is_sum, batch_size)))


def auto_lr(sgd: SGD, problem: Problem, batch_size: int | None, curvature: float) -> float:
    """Return the rate of `fast_rate`; ValueError if the data is too small for any."""
    shape, steepest = problem.shape, None
    if batch_size is not None:
        steepest = problem.largest_row() * (batch_size if shape.is_sum else 1)
    share = step_share(shape.n, shape.is_sum, batch_size)
    rate = float(fast_rate(sgd, curvature * share, steepest, shape.n, batch_size))
    if math.isfinite(rate) and rate < float(np.finfo(shape.dtype).max):
        return rate
    if problem.is_featureless:
        return 1.0
    raise ValueError(underflow(shape.dtype))


def underflow(dtype: Any) -> str:
    """Return what to say of features whose squares are 0 though they are not."""
    return f"the squares of X underflow {dtype}; standardize the columns of X."


def step_share(n: Any, is_sum: bool, batch_size: int | None) -> Any:
    """Return how much of the whole sum one step sees; a mean is the same in every mini-batch.

    n may be an array with one entry for each of many problems.
    """
    if batch_size is None or not is_sum:
        return 1.0
    return np.minimum(batch_size, n) / np.maximum(n, 1)


def fast_rate(sgd: SGD, curvature: Any, steepest: Any, n: Any, batch: int | None) -> Any:
    """Return 1 / lambda_max, or half the stability limit where momentum lowers that.

    For mini-batches their expected smoothness takes the eigenvalue's place, and the rate is
    divided by the factor by which momentum lengthens the sum of a gradient's steps.
    Gower, Loizou, Qian, Sailanbayev, Shulgin, Richtarik 2019, "SGD: general analysis and improved
    rates", proposition 3.8 (sampling without replacement).

    `curvature`, `steepest` (the curvature of the steepest row) and n may be arrays. The rate is
    infinite where the loss is flat.
    """
    gain: Any = 1.0
    if batch is not None:
        size = np.minimum(batch, n)
        mixed = n * (size - 1) * curvature + (n - size) * steepest
        curvature = np.where(n > 1, mixed / np.maximum(size * (n - 1), 1), curvature)
        momentum = sgd.given_momentum
        if 0 < momentum < 1:
            gain = np.where(n > 1, max(1.0, (1 - sgd.dampening) / (1 - momentum)), 1.0)
    with np.errstate(divide="ignore", over="ignore"):
        rate = 1.0 / np.asarray((curvature + sgd.weight_decay) * gain, np.float64)
        limit = sgd.stability_limit(curvature)
    return np.minimum(rate, np.where(limit > 0, limit / 2, math.inf))


def warn_of_divergence(rate: LearningRate, epoch: int, limit: float, sgd: SGD) -> None:
    """Warn, before the first step, of an lr that cannot converge."""
    if isinstance(rate, str):
        return
    first = rate_at(rate, epoch)
    if not first > limit:
        return
    if sgd.maximize:
        text = (
            "maximize=True climbs a loss that has no top, so the fit must diverge; "
            "use maximize=False."
        )
    elif limit == 0:
        text = "a momentum of 1 or more never settles; use one below 1, for example 0.9."
    else:
        text = (
            f"lr={first:.6g} is above the stability limit {limit:.6g} of this data, so descent "
            f"must diverge; use lr='auto' or lr={limit / 2:.3g}."
        )
    warnings.warn(text, LearningRateWarning, stacklevel=stacklevel())
