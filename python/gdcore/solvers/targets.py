"""Fits of several targets that count in different rows: one by one, then put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gdcore.data.device import local
from gdcore.data.problem import RowProblem
from gdcore.data.problems import Problems
from gdcore.data.shape import Shape
from gdcore.errors import ChunkError, DataLostError, FitInterrupted
from gdcore.results.fit import Fit, History, Start, fit_at, history_of
from gdcore.results.fits import Fits
from gdcore.results.inference import Inference
from gdcore.results.state import FitState, ManyState
from gdcore.solvers.options import Options
from gdcore.status import STATUSES, Status, ends_in_words
from gdcore.typing import Floats

WORST_FIRST = (
    Status.INVALID,
    Status.DIVERGED,
    Status.EMPTY,
    Status.SINGULAR,
    Status.STALLED,
    Status.MAX_EPOCHS,
    Status.CONVERGED,
)
_RANKS = np.array([WORST_FIRST.index(status) for status in Status])  # by code
_BY_RANK = np.array([status.code for status in WORST_FIRST])
ONE_BY_ONE = "Each target was fitted by itself, in the rows that count for it."


def fit_targets(
    problem: RowProblem,
    options: Options,
    start: FitState,
    checkpoint: Any,
    fit_one: Callable[[RowProblem, FitState], Fit],
) -> Fit:
    """Fit each target of a ragged problem as if it were alone."""
    shape, weight, known = problem.shape, problem.rows.sample_weight, problem.known
    assert known is not None
    for rows in known.sum(axis=0).tolist():
        options.check_batch(rows)
    weight_sums = (np.ones(shape.n) if weight is None else local(weight).astype(float)) @ known

    def fit_target(j: int, state: FitState) -> Fit:
        return fit_one(problem.of_target(j), state)

    return fit_one_by_one(shape, start, checkpoint, fit_target, weight_sums)


def fit_one_by_one(
    shape: Shape,
    start: FitState,
    checkpoint: Any,
    fit_target: Callable[[int, FitState], Fit],
    weight_sums: Floats,
) -> Fit:
    """Fit each target from its part of the start, and put the fits together.

    `weight_sums` are those of the rows that count for each target; they are read last.
    """
    if checkpoint is not None:
        raise ValueError(
            "checkpoint takes the same rows for all targets, and values are missing in other rows "
            "of some: leave it out, or fit the targets one by one, each with a checkpoint."
        )
    params = _as_given(shape, start.params, start.scaling)
    parts = (_of_target(shape, params, j) for j in range(shape.t))
    states = [FitState.before_steps(part, start.epoch) for part in parts]
    one = replace(shape, t=1, has_target_axis=False, home=None)
    fits = [fit_at(one, state, state) for state in states]
    try:
        for j, state in enumerate(states):
            fits[j] = fit_target(j, state)
    except (FitInterrupted, DataLostError, ChunkError) as error:
        fits[j] = fits[j] if error.fit is None else error.fit
        error.fit = _joined(shape, fits, weight_sums, params, start.epoch)
        raise
    return _joined(shape, fits, weight_sums, params, start.epoch)


def fit_targets_of_many(
    problems: Problems,
    options: Options,
    start: ManyState,
    fit_one: Callable[[Problems, ManyState], Fits],
    unfitted: Callable[[Problems, ManyState], Fits],
) -> Fits:
    """Fit each target of many ragged problems as if it were alone.

    `unfitted` makes the fits of problems that are still at their start.
    """
    shape, params = problems.shape, _as_given(problems.shape, start.params, start.scaling)
    fits: list[Fits] = []
    weight_sums: list[Floats] = []

    def begun(j: int) -> tuple[Problems, ManyState]:
        """Return the problems of a target and their start: those of all would be many numbers."""
        one, state = problems.of_target(j), ManyState.before_steps(_of_target(shape, params, j))
        options.check_batch(int(one.shape.n.max(initial=0)))
        state.epoch[:] = start.epoch
        weight_sums.append(one.weight_sums())
        return one, state

    try:
        for j in range(shape.t):
            fits.append(fit_one(*begun(j)))
    except (FitInterrupted, DataLostError) as error:
        fits.append(error.fit)
        fits += [unfitted(*begun(j)) for j in range(len(fits), shape.t)]
        error.fit = _joined_fits(problems, fits, np.stack(weight_sums, axis=-1))
        raise
    return _joined_fits(problems, fits, np.stack(weight_sums, axis=-1))


def _as_given(shape: Shape, params: Floats, scaling: Floats) -> Floats:
    """Return parameters as those of the columns as given."""
    return shape.rescaled(params, scaling, to_scaled=False) if scaling.size else params


def _of_target(shape: Shape, params: Floats, j: int) -> Floats:
    """Return the parameters (..., columns) of one target."""
    weights, intercept = shape.split(params)
    parts = [weights[..., j]]
    if shape.fit_intercept:
        parts.append(intercept[..., j : j + 1])
    return np.concatenate(parts, axis=-1)


def _joined(shape: Shape, fits: list[Fit], weight_sums: Floats, params: Floats, epoch: int) -> Fit:
    """Return one fit of all targets."""
    statuses = np.array([fit.status for fit in fits], object)
    lost = np.array([fit.r2_lost for fit in fits])
    fields = _summary(shape, fits, weight_sums)
    for name in ("epochs", "lr", "momentum", "stability_limit", "r2_lost", "rank"):
        fields[name] = None if fields[name] is None else fields[name].item()
    return Fit(
        **fields,
        weights=np.stack([fit.weights for fit in fits], axis=-1),
        history=history_of(shape),
        start=Start(*shape.unpack(params), epoch),
        detail=ends_in_words(statuses, lost, "target", "target {}".format),
    )


def _joined_fits(problems: Problems, fits: list[Fits], weight_sums: Floats) -> Fits:
    """Return the fits of all targets of each problem."""
    shape = problems.shape
    nothing = np.empty(0, np.int64), np.empty((problems.count, 0), shape.dtype)
    return Fits(
        **_summary(shape, fits, weight_sums),
        weights=np.stack([fit.weights for fit in fits], axis=-1),
        history=History(*nothing),
        groups=problems.labels,
        group_names=problems.group_names,
        group_keys=problems.group_keys,
    )


def _summary(shape: Shape, fits: Sequence[Fit], weight_sums: Floats) -> dict[str, Any]:
    """Return the fields that one value for each target makes; `weight_sums` are (..., t)."""

    def each(name: str) -> Any:
        return np.stack([np.asarray(getattr(fit, name)) for fit in fits], axis=-1)

    counts = weight_sums > 0
    ranks = np.stack([_rank_of_status(fit.status) for fit in fits], axis=-1)
    typical = next(
        (fit for fit, any_row in zip(fits, counts.T, strict=True) if np.any(any_row)), fits[0]
    )
    rank = None
    if typical.rank is not None:
        known = [np.zeros_like(fit.epochs) if fit.rank is None else fit.rank for fit in fits]
        rank = np.where(counts, np.stack(known, axis=-1), shape.columns).min(axis=-1)
    return {
        "intercept": each("intercept"),
        "loss": _loss(each("loss"), weight_sums, shape),
        "epochs": each("epochs").max(axis=-1),
        "status": STATUSES[_BY_RANK[ranks.min(axis=-1)]],
        "lr": _common(each("lr")),
        "momentum": _common(each("momentum")),
        "stability_limit": np.fmin.reduce(each("stability_limit"), axis=-1),
        "r2_lost": np.fmax.reduce(each("r2_lost"), axis=-1),
        "rank": rank,
        "inference": _joined_inference([fit.inference for fit in fits]),
        "rows": each("rows"),
        "dropped": each("dropped"),
        "method": typical.method,
        "method_reason": f"{typical.method_reason} {ONE_BY_ONE}",
        "fit_intercept": shape.fit_intercept,
        "feature_names": shape.feature_names,
        "target_name": shape.target_name,
        "home": shape.home,
    }


def _joined_inference(parts: Sequence[Inference | None]) -> Inference | None:
    """Return that of all targets; None unless each has one."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None

    def each(name: str) -> Any:
        return np.stack([getattr(part, name) for part in known], axis=-1)

    return Inference(
        known[0].kind,
        np.stack([part.covariance for part in known], axis=-3),
        each("sigma2"),
        each("r2"),
        each("df_resid"),
        each("reason"),
    )


def _rank_of_status(status: Any) -> Any:
    codes = [s.code for s in status.tolist()] if isinstance(status, np.ndarray) else status.code
    return _RANKS[codes]


def _common(values: Floats) -> Any:
    """Return the value that all targets share which have one; NaN if they differ."""
    least, most = np.fmin.reduce(values, axis=-1), np.fmax.reduce(values, axis=-1)
    return np.where(least == most, least, np.nan)


def _loss(losses: Floats, weight_sums: Floats, shape: Shape) -> Any:
    """Return the loss over all entries of y that count; NaN if none does."""
    counts = weight_sums > 0
    factors = counts if shape.is_sum else weight_sums
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.where(counts, losses * factors, 0).sum(axis=-1)
        share = counts.any(axis=-1) if shape.is_sum else weight_sums.sum(axis=-1)
        return (total / share).astype(shape.dtype)
