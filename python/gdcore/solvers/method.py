"""Which method a fit uses, and why."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.problem import Problem
from gdcore.data.shape import Shape
from gdcore.data.sums import in_range, moments_of, out_of_range
from gdcore.errors import FitWarning, stacklevel
from gdcore.sgd import SGD
from gdcore.solvers.options import Options

# An epoch on second moments takes p^2 products, one on the rows 2 n p. A product on moments takes
# this many times as long (docs/experiments.md).
STEP_COST = {np.dtype(np.float32): 2, np.dtype(np.float64): 6}
MIN_ROWS = 8
DESCENT_ONLY = {"epochs": 1000, "tol": 1e-6, "stop": "gradient"}  # with their defaults


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
    return options.solved_exactly(tuple(ignored))


def warn_of_ignored(options: Options) -> None:
    """Warn the user of options that only descent reads."""
    if options.ignored:
        warnings.warn(
            f"{', '.join(options.ignored)} had no effect: without sgd, the answer is the "
            "least-squares solution. Pass sgd=gdcore.SGD() to descend, or leave them out.",
            FitWarning,
            stacklevel=stacklevel(),
        )


def choose(problem: Problem, options: Options) -> tuple[_core.Moments | None, str]:
    """Return the moments to descend on, or None to read the rows every epoch; and why."""
    shape = problem.shape
    if options.method == "stream":
        return None, "method='stream' was asked for."
    if options.batch_size is not None:
        return None, "mini-batches read their rows every epoch."
    is_given = options.method == "gram"
    if not is_given and not prefers_moments(shape):
        return None, "so few rows gain nothing from second moments."
    moments = moments_of(problem.core, options.threads)
    if not moments.finite():
        problem.check_finite()
    if in_range(moments, shape.dtype) or (options.standardize and shape.dtype == np.float32):
        if is_given:
            return moments, "method='gram' was asked for."
        return moments, "one pass costs less than the epochs."
    if is_given:
        raise ValueError(f"{out_of_range(shape.dtype)}, or use method='stream'.")
    return None, f"{out_of_range(shape.dtype)}."


def prefers_moments(shape: Shape) -> Any:
    """Whether an epoch on the moments takes less time than one on the rows.

    The number of epochs does not matter: the moments cost about as much as the largest eigenvalue
    from the rows, and 20 + 30 epochs must have the bits of 50. n may be an array with one entry for
    each of many problems.
    """
    p = shape.d + 1
    return (shape.n >= MIN_ROWS) & (2 * shape.n > STEP_COST[shape.dtype] * p)


def moments_suffice(shape: Shape) -> Any:
    """Whether moments may tell the closed form to all of the dtype's digits.

    Those of float64 rows would need more digits than pairs of numbers hold.
    """
    return (shape.n >= shape.columns) & (shape.dtype == np.float32)
