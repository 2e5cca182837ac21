"""Fits of many independent problems, each with the bits of a single fit."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data import slices
from gdcore.data.labels import problem_name
from gdcore.data.memmap import is_guarded
from gdcore.data.problems import Problems
from gdcore.errors import DataLostError, FitInterrupted, LearningRateWarning, stacklevel
from gdcore.results.fit import History
from gdcore.results.fits import Fits
from gdcore.results.inference import Inference
from gdcore.results.state import ManyState, constant
from gdcore.sgd import SGD, rate_at
from gdcore.solvers.exact import exact_options, reason_of
from gdcore.solvers.inference import reasons_of_ends, shaped
from gdcore.solvers.learning_rate import fast_rate, step_share
from gdcore.solvers.method import moments_suffice, prefers_moments
from gdcore.solvers.options import DEFAULT, Options
from gdcore.solvers.plan import MOST_SPECTRUM, NO_SPECTRUM, judges
from gdcore.solvers.progress import Progress
from gdcore.solvers.start import initial_states
from gdcore.solvers.targets import fit_targets_of_many
from gdcore.status import STATUSES, Status
from gdcore.typing import Floats, Ints, Show

RECORD_BYTES = 64 << 20  # the most that recorded losses may take
MOST_RATES = 1_000_000  # of a schedule
OUTCOMES = np.array(
    [
        Status.MAX_EPOCHS.code,
        Status.CONVERGED.code,
        Status.MAX_EPOCHS.code,
        Status.DIVERGED.code,
        Status.STALLED.code,
    ],
    np.int8,
)


def fit_many(
    problems: Problems,
    sgd: SGD,
    options: Options,
    init: Any,
    progress: Show,
    checkpoint: Any = None,
) -> Fits:
    """Fit every problem, a block of them at a time."""
    if checkpoint is not None:
        raise ValueError("checkpoint keeps one problem's state; leave it out for many problems.")
    options.check(int(problems.shape.n.max(initial=0)), problems.count)
    sgd.check_for_many(problems.count)
    if options.method == "exact":  # which reads nothing else
        sgd = SGD(weight_decay=sgd.weight_decay, decay_intercept=sgd.decay_intercept)
    start = initial_states(init, problems)
    if not problems.is_ragged:
        return _fit_all(problems, sgd, options, start, progress)
    return fit_targets_of_many(
        problems,
        options,
        start,
        lambda one, state: _fit_all(one, sgd, options, state, progress),
        lambda one, state: _Run(one, sgd, options, state).result(),
    )


def _fit_all(
    problems: Problems, sgd: SGD, options: Options, start: ManyState, progress: Show
) -> Fits:
    run = _Run(problems, sgd, options, start)
    try:
        with Progress.make(progress, 0, problems.count) as bar:
            work = run.solve if options.method == "exact" else run.descend
            run.sum_or_sort()
            for part in problems.blocks():
                work(part, bar)
            run.solve_rest()
            if options.covariance is not None and options.method != "exact":
                run.infer()
        run.warn_of_rates()
    except DataLostError as error:
        error.fit = run.result()
        raise
    except KeyboardInterrupt:
        raise FitInterrupted(run.result()) from None
    return run.result()


class _Run:
    """The results so far, and the work on one more block."""

    def __init__(self, problems: Problems, sgd: SGD, options: Options, start: ManyState) -> None:
        self.problems, self.sgd, self.options = problems, sgd, options
        self.start, self.state = start, start.copy()
        shape, count, dtype = problems.shape, problems.count, problems.shape.dtype
        self.gram = np.full(count, options.method == "gram")
        if options.method == "auto" and options.batch_size is None:
            self.gram[:] = prefers_moments(shape)
        elif options.method == "exact":
            self.gram[:] = moments_suffice(shape)
        self.recorded = self._epochs_to_record()
        self.losses = np.full((count, len(self.recorded)), np.nan, dtype)
        self.loss = np.full(count, np.nan, dtype)
        self.lr = np.full(count, np.nan)
        self.rates: Floats | None = None  # of a schedule
        self.given: Floats | None = None  # rates other than a schedule's
        if not callable(sgd.lr) and options.method != "exact":
            auto = isinstance(sgd.lr, str)
            self.given = np.full(count, np.nan) if auto else np.broadcast_to(sgd.lr, count)
        self.first_epoch = int(start.epoch.min()) if count else 0
        self.limit = constant(np.nan, count)  # until there is one
        self.status = np.full(count, Status.MAX_EPOCHS.code, np.int8)
        self.streamed = ~self.gram
        self.rank = np.zeros(count, np.int64) if options.method == "exact" else None
        self.auto = sgd.momentum == "auto"
        self.momentum = np.zeros(count) if self.auto else constant(float(sgd.given_momentum), count)
        self.r2_lost = constant(np.nan, count)  # until one is known
        if self.auto:
            self.state.lr, self.state.momentum = start.lr.copy(), start.momentum.copy()
        if self.auto and shape.columns > MOST_SPECTRUM:
            raise ValueError(NO_SPECTRUM)
        self.judged = options.method != "exact" and (
            self.auto or judges(shape.columns, options, sgd)
        )
        self.scaled = options.standardize and options.method != "exact"
        self.sums: _core.GroupSums | None = None
        self.unsolved = np.zeros(count, bool)  # their rows are needed, and not sorted yet
        self.inferences: list[Any] = []  # covariance, sigma2, r2, df_resid, flaw
        # As the caller gets them: without a scaling, those of the states.
        self.params = start.params.copy() if self.scaled else self.state.params
        width = 2 * shape.d + shape.t
        self.state.scaling = np.zeros((count, width) if self.scaled else (0, 0))

    def _epochs_to_record(self) -> Ints:
        """Return the epochs whose losses are kept: none if the problems start at different ones."""
        options, first = self.options, self.start.epoch
        nothing = np.empty(0, np.int64)
        if not options.history or options.method == "exact" or np.any(first != first[:1]):
            return nothing
        begin, every = int(first[0]) if len(first) else 0, int(options.history)
        bounds = begin // every + 1, (begin + int(options.epochs)) // every + 1
        if (bounds[1] - bounds[0]) * len(first) * self.problems.shape.dtype.itemsize > RECORD_BYTES:
            return nothing
        return np.arange(*bounds, dtype=np.int64) * every

    def sum_or_sort(self) -> None:
        """Sum the second moments of all groups, or else sort their rows; both, if both are due."""
        threads, solves = self.options.threads, self.options.method == "exact"
        if self.gram.any() and not (solves and self.options.covariance):
            self.sums = sums = self.problems.sums()
            if sums is not None:
                slices.run(lambda seconds: sums.advance(seconds, threads))
        if self.sums is None or not (solves or self.gram.all()):
            self.problems.sort()

    def solve(self, part: slice, bar: Progress) -> None:
        """Solve the problems of one block in closed form."""
        threads, how = self.options.threads, exact_options(self.sgd, self.options)
        many = self.problems.core(part, self.gram, sums=self.sums)
        slices.run(lambda seconds: many.prepare(False, False, seconds, threads))
        empty, finite, *_ = (flag.astype(bool) for flag in many.prepared()[3:])
        many.start(
            self.state.part(part).as_dict(),
            self._settings(part, empty | ~finite, np.ones(len(empty)), np.zeros(len(empty))),
        )
        reached = _reached(many)
        try:
            done = False
            while not done:
                done = many.solve(how, slices.SECONDS, threads)
                reached = _reached(many)
                bar.update(part.stop if done else part.start + many.done, math.nan)
        finally:
            states = reached or many.states()
            params = states["params"].reshape(-1, self.problems.shape.size)
            known = np.isfinite(params)
            if not known.all():  # row by row it takes twenty times as long
                finite = finite & known.all(axis=1)
            self._keep(part, states, empty, finite)
            size = self.problems.shape.columns
            status = self.status[part]
            status[(status == Status.CONVERGED.code) & (many.rank < size)] = Status.SINGULAR.code
            assert self.rank is not None
            self.rank[part] = many.rank
            self.unsolved[part] = many.unsolved()
            if self.options.covariance is not None:
                self._keep_inferences(part, many.inferences())

    def solve_rest(self) -> None:
        """Solve the groups that second moments could not, once their rows are sorted."""
        which = np.flatnonzero(self.unsolved)
        if not len(which):
            return
        problems = self.problems.some(which)
        options, start = replace(self.options, tol=None), self.start.part(which)
        rest = _Run(problems, self.sgd_of(which), options, start)
        bar = Progress.make(False, 0, len(which))
        for part in problems.blocks():
            rest.solve(part, bar)
        self.state.put(which, rest.state.as_dict())
        assert self.rank is not None
        assert rest.rank is not None
        self.params[which], self.rank[which] = rest.params, rest.rank
        self.loss[which], self.lr[which], self.status[which] = rest.loss, rest.lr, rest.status

    def _keep_inferences(self, part: slice, found: Sequence[Any]) -> None:
        count, size = self.problems.count, part.stop - part.start
        if not len(found[0]):  # nothing was solved
            return
        each = [one.reshape(size, -1) for one in found]
        if size == count:
            self.inferences = each
            return
        if not self.inferences:
            self.inferences = [
                np.full((count, one.shape[1]), np.nan if one.dtype.kind == "f" else 0, one.dtype)
                for one in each
            ]
        for kept, one in zip(self.inferences, each, strict=True):
            kept[part] = one

    def infer(self) -> None:
        """Infer from the least-squares solutions, which the descents may have found."""
        options = replace(self.options, method="exact")
        exact = _Run(self.problems, DEFAULT, options, initial_states(None, self.problems))
        bar = Progress.make(False, 0, self.problems.count)
        for part in self.problems.blocks():
            exact.solve(part, bar)
        self.inferences = exact.inferences

    def descend(self, part: slice, bar: Progress) -> None:
        """Descend on the problems of one block."""
        threads = self.options.threads
        how = {"judged": self.judged, "scaled": self.scaled}
        many = self.problems.core(part, self.gram, **how, sums=self.sums)
        curved = isinstance(self.sgd.lr, str) and not self.auto
        steep = curved and self.options.batch_size is not None
        slices.run(lambda seconds: many.prepare(curved, steep, seconds, threads))
        curvature, error, steepest, *flags = many.prepared()
        empty, finite, streamed, known = (flag.astype(bool) for flag in flags)
        self.streamed[part] = streamed
        if self.auto:
            finite &= known
            rate, momentum = self.start.lr[part].copy(), self.start.momentum[part].copy()
        else:
            rate = self._rates(part, curvature + error, steepest)
            momentum = np.full(part.stop - part.start, self.sgd.momentum, np.float64)
        if curved:
            assert self.given is not None
            self.given[part] = rate
            self.limit = _writable(self.limit)
            self.limit[part] = self.sgd_of(part).stability_limit(curvature * self._step_share(part))
            finite &= np.isfinite(rate)
        self._place(part, many.scalings())
        settings = self._settings(part, empty | ~finite, rate, momentum)
        many.start(self.state.part(part).as_dict(), settings)
        reached = _reached(many)
        try:
            done = False
            while not done:
                done = many.advance(slices.SECONDS, threads)
                reached = _reached(many)
                bar.update(part.stop if done else part.start + many.done, math.nan)
        finally:
            self._keep(part, reached or many.states(), empty, finite)

    def _place(self, part: slice, scalings: Floats) -> None:
        """Put the start into the coordinates of the descent, as `in_coordinates_of` does."""
        shape, before, state = self.problems.shape, self.start.scaling, self.state
        same = np.zeros(part.stop - part.start, bool)
        params = self.start.params[part]
        if before.size:
            params = shape.rescaled(params, before[part], to_scaled=False)
        if self.scaled:
            own = scalings.reshape(len(same), -1)
            state.scaling[part] = own
            if before.size:
                same = (before[part] == own).all(axis=1)
            own_params = shape.rescaled(params, own, to_scaled=True)
            params = np.where(same[:, None], self.start.params[part], own_params)
        elif not before.size:
            return
        state.params[part] = params
        state.moving[part] &= same.astype(np.uint8)

    def _settings(
        self, part: slice, skip: Any, rate: Floats, momentum: Floats
    ) -> _core.ManyOptions:
        options, sgd = self.options, self.sgd
        step = _core.SgdOptions(
            momentum=float(sgd.momentum != 0),  # whether there is one
            dampening=sgd.dampening,
            nesterov=sgd.nesterov,
            maximize=sgd.maximize,
            decay_intercept=sgd.decay_intercept,
        )
        return _core.ManyOptions(
            descent=_core.DescentOptions(
                sgd=step,
                stop_on_equal_loss=options.stop == "loss_equal",
                history=int(options.history) if len(self.recorded) else 0,
                record_params=False,
                batch_size=options.batch_size or 0,
                shuffle=options.shuffle,
                seed=int(options.seed),
            ),
            lr=rate,
            schedule=callable(sgd.lr),
            first_epoch=self.first_epoch,
            momentum=momentum,
            tol=self._each(-1.0 if options.tol is None else options.tol, part),
            weight_decay=self._each(sgd.weight_decay, part),
            skip=skip,
            epochs=int(options.epochs),
            records=len(self.recorded),
            auto_momentum=self.auto,
        )

    def sgd_of(self, part: slice | Ints) -> SGD:
        """Return the options of some of the problems."""
        decay = self.sgd.weight_decay
        if not isinstance(decay, np.ndarray):
            return self.sgd
        values = {f.name: getattr(self.sgd, f.name) for f in fields(SGD)}
        return SGD(**(values | {"lr": "auto", "weight_decay": decay[part]}))

    def _each(self, value: Any, part: slice) -> Floats:
        count = part.stop - part.start
        if isinstance(value, np.ndarray):
            return value[part]
        return np.full(count, value, np.float64)

    def _step_share(self, part: slice) -> Any:
        """Return `step_share` of each of some problems."""
        shape = self.problems.shape
        return np.broadcast_to(
            step_share(shape.n[part], shape.is_sum, self.options.batch_size),
            part.stop - part.start,
        )

    def _rates(self, part: slice, curvature: Floats, steepest: Floats) -> Floats:
        """Return one rate a problem (NaN: there is none), or one an epoch if lr is a schedule."""
        lr = self.sgd.lr
        if callable(lr):
            return self._schedule(lr)
        if not isinstance(lr, str):
            return self._each(lr, part)
        shape, batch, share = self.problems.shape, self.options.batch_size, self._step_share(part)
        n = shape.n[part]
        if shape.is_sum and batch is not None:
            steepest = steepest * np.minimum(batch, n)
        rate = np.array(fast_rate(self.sgd_of(part), curvature * share, steepest, n, batch))
        for i in np.flatnonzero(~(rate < float(np.finfo(shape.dtype).max))):
            X, _ = self.problems.arrays(part.start + int(i))
            rate[i] = math.nan if X.any() else 1.0
        return rate

    def _schedule(self, lr: Callable[[int], float]) -> Floats:
        """Return the rates from the first epoch of any problem to the last of all."""
        if self.rates is None:
            first, last = self.first_epoch, int(self.start.epoch.max(initial=0))
            count = last - first + int(self.options.epochs)
            if count > MOST_RATES:
                raise ValueError(
                    f"an lr schedule is asked for all {count} epochs of many problems before the "
                    f"first; run at most {MOST_RATES} epochs, and continue from there with init."
                )
            self.rates = np.array([rate_at(lr, first + e) for e in range(count)])
        return self.rates

    def _keep(self, part: slice, states: dict[str, Any], empty: Any, finite: Any) -> None:
        self.state.put(part, states)
        if self.scaled:
            self.params[part] = states["returned"].reshape(self.params[part].shape)
        if not np.isnan(states["r2_lost"]).all():
            self.r2_lost = _writable(self.r2_lost)
            self.r2_lost[part] = states["r2_lost"]
        if self.auto:
            self.momentum[part] = states["momentum"]
            assert self.given is not None
            self.given[part] = self.state.lr[part] = states["chosen_lr"]
            self.state.momentum[part] = states["momentum"]
        self.loss[part] = states["loss"]
        self.losses[part] = states["losses"].reshape(self.losses[part].shape)
        used, status = states["lr"], OUTCOMES[states["outcome"]]
        unknown, diverged = np.isnan(used), status == Status.DIVERGED.code
        at_start = unknown & diverged
        if self.given is not None and unknown.any():
            used[unknown] = self.given[part][unknown]
        for i in np.flatnonzero(diverged):
            at_start[i] |= not all(
                np.isfinite(a).all() for a in self.problems.arrays(part.start + int(i))
            )
        rising = (status == Status.MAX_EPOCHS.code) & ~(states["loss"] <= states["first_loss"])
        invalid = (at_start | ~finite) & ~empty
        if invalid.any() or empty.any():
            status[invalid], status[empty] = Status.INVALID.code, Status.EMPTY.code
            used[invalid | empty] = math.nan
            rising &= ~(invalid | empty)
        for i in np.flatnonzero(rising & ~np.isnan(states["loss"])):
            if used[i] > self._limit(part.start + int(i)):
                status[i] = Status.DIVERGED.code
        self.status[part], self.lr[part] = status, used
        invalid = status == Status.INVALID.code
        if invalid.any():
            self.state.params[part][invalid] = self.params[part][invalid] = np.nan
            if self.r2_lost.flags.writeable:
                self.r2_lost[part][invalid] = np.nan
            self.loss[part][invalid] = np.nan

    def _limit(self, i: int) -> float:
        """Return the stability limit of one problem, found when it is needed."""
        if np.isnan(self.limit[i]):
            one = self.problems.core(slice(i, i + 1), self.gram, scaled=self.scaled)
            slices.run(lambda seconds: one.prepare(True, False, seconds, self.options.threads))
            part = slice(i, i + 1)
            curvature = one.prepared()[0] * self._step_share(part)
            sgd = self.sgd_of(part)
            if self.auto:
                sgd = replace(sgd, momentum=float(self.momentum[i]))
            self.limit = _writable(self.limit)
            self.limit[i] = sgd.stability_limit(curvature)[0]
        return float(self.limit[i])

    def warn_of_rates(self) -> None:
        """Warn once of given rates that some problems cannot converge at.

        A limit costs as much as many epochs, so it is found only for problems that diverged.
        """
        if self.given is None or isinstance(self.sgd.lr, str) or self.sgd.maximize:
            return
        diverged = np.flatnonzero(self.status == Status.DIVERGED.code)
        for i in diverged.tolist():
            rate, limit = float(self.lr[i]), self._limit(i)
            if rate > limit:
                name = problem_name(self.problems.labels, i)
                others = f", one of {len(diverged)} that diverged" if len(diverged) > 1 else ""
                warnings.warn(
                    f"lr={rate:.6g} is above the stability limit {limit:.6g} of {name}"
                    f"{others}; use lr='auto', which finds one for each, or an array of rates.",
                    LearningRateWarning,
                    stacklevel=stacklevel(),
                )
                return

    def result(self) -> Fits:
        """Return the fits so far; problems not reached are at their start."""
        shape = self.problems.shape
        weights, intercept = shape.unpack(self.params)
        return Fits(
            weights=weights,
            intercept=intercept,
            loss=self.loss,
            epochs=self.state.epoch.copy(),
            status=STATUSES[self.status],
            lr=self.lr,
            history=History(self.recorded, self.losses),
            method=self._method(),
            method_reason=self._reason(),
            stability_limit=self.limit,
            fit_intercept=shape.fit_intercept,
            state=self.state,
            rows=shape.n,
            dropped=np.broadcast_to(shape.dropped, shape.n.shape),
            groups=self.problems.labels,
            group_names=self.problems.group_names,
            group_keys=self.problems.group_keys,
            feature_names=shape.feature_names,
            target_name=shape.target_name,
            rank=self.rank,
            momentum=self.momentum,
            r2_lost=self.r2_lost,
            inference=self._inference(),
            home=shape.home,
        )

    def _inference(self) -> Inference | None:
        if self.options.covariance is None:
            return None
        shape, count = self.problems.shape, self.problems.count
        if not self.inferences:  # nothing was solved
            nothing = np.full((count, shape.t), np.nan)
            covariance = np.full((count, shape.t * shape.columns**2), np.nan)
            zeros = np.zeros((2, count, 1), np.int64)
            self.inferences = [covariance, nothing, nothing.copy(), *zeros]
        covariance, sigma2, r2 = self.inferences[:3]
        df_resid, flaw = (one[:, 0] for one in self.inferences[3:])
        ends = reasons_of_ends(self.status, self.sgd.weight_decay)
        for results in (covariance, sigma2, r2):
            results[ends > 0] = np.nan
        code = np.where(ends > 0, ends, flaw)
        return shaped(shape, self.options, covariance, sigma2, r2, df_resid, code)

    def _method(self) -> str:
        if self.options.method == "exact":
            return "exact"
        return "stream" if self.streamed.all() else "gram"

    def _reason(self) -> str:
        if self.options.method == "exact":
            return reason_of(self.options)
        if self.options.method != "auto":
            asked = f"method={self.options.method!r} was asked for."
            fallen = int((self.streamed & self.gram).sum())
            if self.options.method != "gram" or not fallen:
                return asked
            return f"{asked} {fallen} problems leave the range of squares and were streamed."
        if self.options.batch_size is not None:
            return "mini-batches read their rows every epoch."
        streamed = int(self.streamed.sum())
        if streamed == len(self.streamed):
            return "so few rows gain nothing from second moments."
        rest = f"; {streamed} problems of few rows were streamed" if streamed else ""
        return f"one pass costs less than the epochs{rest}."


def _writable(array: Floats) -> Floats:
    """Return the array, or a copy of a constant one."""
    return array if array.flags.writeable else array.copy()


def _reached(many: _core.Many) -> dict[str, Any] | None:
    """Return the states of problems whose rows may get lost; DataLostError if some did."""
    slices.look()
    return many.states() if is_guarded() else None
