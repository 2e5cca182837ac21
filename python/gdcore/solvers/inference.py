"""What fits say about the uncertainty of their weights, from the core's results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data import slices
from gdcore.data.problem import Problem
from gdcore.data.shape import Shape
from gdcore.errors import FitInterrupted
from gdcore.results.fit import Fit
from gdcore.results.inference import Inference
from gdcore.sgd import SGD
from gdcore.solvers.options import Options
from gdcore.status import Status
from gdcore.typing import Floats, Ints

# The reasons by their code: first the flaws of the core, then what the caller of it knows.
REASONS = np.array(
    [
        "",
        "the columns of X are dependent.",
        "there are no degrees of freedom: no more rows count than there are parameters.",
        "a row has leverage 1, it determines a weight alone; use covariance='hc1'.",
        "weight decay keeps the weights from the least-squares solution.",
        "the fit is not at the minimum, where standard errors are known.",
        "no row counts.",
        "the data holds NaN or infinity, or its squares overflow.",
        "the residuals are no more than rounding errors of the moments; fit the rows.",
    ],
    object,
)
LEVERAGE, DECAY, NOT_AT_MINIMUM, EMPTY, INVALID, ROUNDING = range(3, 9)
_CODES = {
    Status.CONVERGED: 0,
    Status.SINGULAR: 0,
    Status.EMPTY: EMPTY,
    Status.INVALID: INVALID,
}


def with_inference(
    fit: Fit, problem: Problem, sgd: SGD, options: Options, infer: Callable[[], Inference]
) -> Fit:
    """Return the fit with `infer()`, if that is asked for and means something."""
    if options.covariance is None:
        return fit
    code = reason_of_end(fit.status, sgd)
    try:
        inference = not_inferred(problem, options, code) if code else infer()
    except KeyboardInterrupt:
        raise FitInterrupted(fit) from None
    return replace(fit, inference=inference)


def inferred(
    found: _core.Inference,
    shape: Shape,
    options: Options,
    read: Callable[[_core.Inference], None] | None,
) -> Inference:
    """Return the results of the core; `read` gives it the rows, if it needs them."""
    if found.needs_rows:
        assert read is not None
        read(found)
    covariance, sigma2, r2, df_resid, flaw = found.result()
    return shaped(shape, options, covariance, sigma2, r2, df_resid, flaw)


def reader(problem: Problem, options: Options) -> Callable[[_core.Inference], None]:
    """Return what reads the rows of a problem in memory."""

    def read(found: _core.Inference) -> None:
        found.begin_rows(problem.core)
        slices.run(lambda seconds: found.advance(seconds, options.threads))

    return read


def not_inferred(problem: Problem, options: Options, code: int) -> Inference:
    """Return the inference of a fit that has none."""
    p, t = problem.shape.columns, problem.shape.t
    nothing = np.full(t, np.nan)
    df_resid = problem.rows_that_count - p
    covariance = np.full(t * p * p, np.nan)
    return shaped(problem.shape, options, covariance, nothing, nothing.copy(), df_resid, code)


def shaped(
    shape: Shape,
    options: Options,
    covariance: Floats,
    sigma2: Floats,
    r2: Floats,
    df_resid: Any,
    code: Any,
) -> Inference:
    """Return results in the shapes that `Inference` has, of one problem or of many."""
    p, count = shape.columns, np.shape(df_resid)
    targets = (*count, shape.t) if shape.has_target_axis else count
    assert options.covariance is not None
    return Inference(
        kind=options.covariance,  # type: ignore[arg-type]
        covariance=covariance.reshape(*targets, p, p),
        sigma2=sigma2.reshape(targets)[()],
        r2=r2.reshape(targets)[()],
        df_resid=df_resid,
        reason=REASONS[code],
    )


def reason_of_end(status: Status, sgd: SGD) -> int:
    """Return the code of the reason why a fit has no inference, 0 if it may have one."""
    code = _CODES.get(status, NOT_AT_MINIMUM)
    return DECAY if code in (0, NOT_AT_MINIMUM) and np.any(sgd.weight_decay) else code


def reasons_of_ends(status: npt.NDArray[np.int8], weight_decay: Any) -> Ints:
    """Return `reason_of_end` for many problems, given the codes of their statuses."""
    codes = np.full(len(status), NOT_AT_MINIMUM)
    codes[np.isin(status, [Status.CONVERGED.code, Status.SINGULAR.code])] = 0
    codes[np.broadcast_to(weight_decay, codes.shape) != 0] = DECAY
    codes[status == Status.EMPTY.code] = EMPTY
    codes[status == Status.INVALID.code] = INVALID
    return codes
