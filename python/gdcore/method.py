"""Which method a fit uses, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gdcore import _core
from gdcore.options import BLOCK_SECONDS, Options
from gdcore.problem import Problem, diagnose

if TYPE_CHECKING:
    from gdcore.many import Problems


class Cost(NamedTuple):
    """Times in units of one product of a pass over the rows, as measured (docs/decisions.md)."""

    first: float  # of the pass for the moments: first + columns * column epochs of one target
    column: float
    step: float  # of a product of the quadratic


COSTS = {
    np.dtype(np.float32): Cost(first=4.0, column=1 / 16, step=2.0),
    np.dtype(np.float64): Cost(first=7.0, column=1 / 6, step=6.0),
}
LANCZOS_STEPS = 32  # about, of many features: each a pass over the rows, or one of p^2 products


def choose(problem: Problem, options: Options) -> tuple[_core.Moments | None, str]:
    """Return the moments to descend on, or None to read the rows every epoch; and why."""
    if options.method == "stream":
        return None, "method='stream' was asked for."
    if options.batch_size is not None:
        return None, "mini-batches read their rows every epoch."
    asked = options.method == "gram"
    if not asked and not worth_it(problem.n, problem, options.epochs):
        return None, "so few epochs, or rows, gain nothing from second moments."
    moments = moments_of(problem.core, options.n_threads or 0)
    if not moments.finite():
        diagnose(problem)
    if in_range(problem, moments):
        reason = "method='gram' was asked for." if asked else "one pass costs less than the epochs."
        return moments, reason
    trouble = f"the squares of the data overflow or underflow {problem.dtype}"
    if asked:
        raise ValueError(
            f"{trouble}; standardize the columns of X and scale y, or use method='stream'."
        )
    return None, f"{trouble}."


def moments_of(
    problem: _core.Problem, threads: int, start: _core.Moments | None = None
) -> _core.Moments:
    """Sum the second moments of [X 1 y] over the rows, on top of others, interruptibly."""
    rows = _core.MomentsPass(problem, start)
    while not rows.advance(BLOCK_SECONDS, threads):
        pass
    return rows.moments()


def worth_it(n: Any, problem: Problem | Problems, epochs: int) -> Any:
    """Compare a pass for the moments and p^2 products a step with 2 n p products a step.

    n, the rows, may be an array with one entry for each of many problems.
    """
    p, t, cost = problem.d + 1, problem.t, COSTS[problem.dtype]
    steps = min(p, LANCZOS_STEPS) + epochs * t
    first = 2 * n * p * (cost.first + (p + t) * cost.column)
    return first + steps * cost.step * p * p < steps * 2 * n * p


def in_range(problem: Problem, moments: _core.Moments) -> bool:
    """Whether the squares are sums that float32 holds, or whose rounding errors float64 does."""
    return moments.in_range(problem.dtype == np.float32)
