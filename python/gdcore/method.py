"""Which method a fit uses, and why."""

from __future__ import annotations

import numpy as np

from gdcore import _core
from gdcore.options import BLOCK_SECONDS, Options
from gdcore.problem import Problem

# Of one product of second moments, in units of one product of a pass over the rows.
PRODUCT_COST = {np.dtype(np.float32): 2.0, np.dtype(np.float64): 12.0}
RANGE = 2.0**-800, 2.0**800  # squares whose rounding errors float64 can hold


def choose(problem: Problem, options: Options) -> tuple[_core.Moments | None, str]:
    """Return the moments to descend on, or None to read the rows every epoch; and why."""
    if options.method == "stream":
        return None, "method='stream' was asked for."
    if options.batch_size is not None:
        return None, "mini-batches read their rows every epoch."
    asked = options.method == "gram"
    if not asked and not _worth_it(problem, options):
        return None, "so few epochs over so few rows gain nothing from second moments."
    moments = moments_of(problem.core, options.n_threads or 0)
    if in_range(problem, moments):
        reason = "method='gram' was asked for." if asked else "one pass costs less than the epochs."
        return moments, reason
    trouble = f"the squares of the data leave the range of {problem.dtype}"
    if asked:
        raise ValueError(f"{trouble}: scale the columns of X and y, or use method='stream'.")
    return None, f"{trouble}."


def moments_of(
    problem: _core.Problem, threads: int, start: _core.Moments | None = None
) -> _core.Moments:
    """Sum the second moments of [X 1 y] over the rows, on top of others, interruptibly."""
    rows = _core.MomentsPass(problem, start)
    while not rows.advance(BLOCK_SECONDS, threads):
        pass
    return rows.moments()


def _worth_it(problem: Problem, options: Options) -> bool:
    """Compare products: a pass for the moments and p^2 an epoch, or a pass over the rows each."""
    p = problem.d + 1
    first = problem.n * p * (p + problem.t) / 2 * PRODUCT_COST[problem.dtype]
    streamed = 2 * problem.n * p * problem.t
    return first + options.epochs * p * p * problem.t < options.epochs * streamed


def in_range(problem: Problem, moments: _core.Moments) -> bool:
    """Whether no square that is not zero lost its rounding errors; NaN is for others to find."""
    if problem.dtype == np.float32:
        return True
    p = problem.d + 1
    table = moments.hi[: p * (p + problem.t)].reshape(p, -1)
    squares = np.concatenate([table.diagonal(), moments.hi[table.size :]])
    low, high = RANGE
    return not np.any(((squares != 0) & (squares < low)) | (squares > high))
