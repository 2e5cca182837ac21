"""Which method a fit uses, and why."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.memmap import check
from gdcore.data.problem import Problem, diagnose
from gdcore.sgd import SGD
from gdcore.solvers.options import BLOCK_SECONDS, Options
from gdcore.status import FitWarning

if TYPE_CHECKING:
    from gdcore.solvers.many import Problems


# An epoch on second moments takes p^2 products, one on the rows 2 n p, which are so many times as
# fast (docs/experiments.md).
STEP_COST = {np.dtype(np.float32): 2, np.dtype(np.float64): 6}
FEWEST_ROWS = 8
DESCENT_ONLY = {"epochs": 1000, "tol": 1e-6, "stop": "gradient"}  # and what they are by default


def settled(sgd: SGD | None, options: Options, init: Any, checkpoint: Any = None) -> Options:
    """Return the options, with the closed form as method if nothing asks for descent."""
    if getattr(sgd, "momentum", 0) == "auto" and options.batch_size is not None:
        raise ValueError(
            "momentum='auto' is for steps over all rows; leave out batch_size, or pass a momentum."
        )
    descent = options.batch_size is not None or checkpoint is not None
    if sgd is not None or options.method != "auto" or descent:
        return options
    ignored = [] if init is None else ["init"]
    for name, default in DESCENT_ONLY.items():
        value = getattr(options, name)
        if isinstance(value, np.ndarray) or value != default:
            ignored.append(name)
    return replace(options, method="exact", exact_by_default=True, ignored=tuple(ignored))


def warn_of_ignored(options: Options) -> None:
    """Warn the caller's caller of options that only descent reads."""
    if options.ignored:
        warnings.warn(
            f"{', '.join(options.ignored)} had no effect: without sgd, the answer is the "
            "least-squares solution. Pass sgd=gdcore.SGD() to descend, or leave them out.",
            FitWarning,
            stacklevel=3,
        )


def choose(problem: Problem, options: Options) -> tuple[_core.Moments | None, str]:
    """Return the moments to descend on, or None to read the rows every epoch; and why."""
    if options.method == "stream":
        return None, "method='stream' was asked for."
    if options.batch_size is not None:
        return None, "mini-batches read their rows every epoch."
    asked = options.method == "gram"
    if not asked and not worth_it(problem.n, problem):
        return None, "so few rows gain nothing from second moments."
    moments = moments_of(problem.core, options.n_threads or 0)
    if not moments.finite():
        diagnose(problem)
    if in_range(problem, moments) or (options.standardize and problem.dtype == np.float32):
        reason = "method='gram' was asked for." if asked else "one pass costs less than the epochs."
        return moments, reason
    if asked:
        raise ValueError(f"{out_of_range(problem.dtype)}, or use method='stream'.")
    return None, f"the squares of the data overflow or underflow {problem.dtype}."


def out_of_range(dtype: npt.DTypeLike) -> str:
    """Return what to say of data whose squares leave the range, without a full stop."""
    wider = ", or compute in float64" if np.dtype(dtype) == np.float32 else ""
    return (
        f"the squares of the data overflow or underflow {np.dtype(dtype)}; standardize the columns "
        f"of X and scale y{wider}"
    )


def moments_of(
    problem: _core.Problem, threads: int, start: _core.Moments | None = None
) -> _core.Moments:
    """Sum the second moments of [X 1 y] over the rows, on top of others, interruptibly."""
    rows = _core.MomentsPass(problem, start)
    while not rows.advance(BLOCK_SECONDS, threads):
        check()
    return rows.moments()


def worth_it(n: Any, problem: Problem | Problems) -> Any:
    """Whether an epoch on the moments takes less time than one on n rows.

    The number of epochs is no matter: what the moments cost is about what the largest eigenvalue
    costs from the rows, and 20 + 30 epochs have the bits of 50. n may be an array with one entry
    for each of many problems.
    """
    p = problem.d + 1
    return (n >= FEWEST_ROWS) & (2 * n > STEP_COST[problem.dtype] * p)


def in_range(problem: Problem, moments: _core.Moments) -> bool:
    """Whether the squares are sums that float32 holds, or whose rounding errors float64 does."""
    return moments.in_range(problem.dtype == np.float32)


def solvable(n: Any, problem: Problem | Problems) -> Any:
    """Whether moments of n rows may tell the closed form to all of the dtype's digits.

    Those of float64 rows would have to be known to more than pairs of numbers hold.
    """
    return (n >= problem.d + problem.fit_intercept) & (problem.dtype == np.float32)
