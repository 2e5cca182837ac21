"""Many independent problems, each fitted as if it were alone."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import gdcore._core as _core
from gdcore.data.labels import named
from gdcore.data.memmap import check, watching
from gdcore.data.problem import laid_out
from gdcore.kernels import Floats
from gdcore.results.fit import Fit, Fits, History
from gdcore.results.state import ManyState
from gdcore.sgd import SGD, rate_at
from gdcore.solvers.exact import exact_options, reason_of
from gdcore.solvers.learning_rate import fast_rate
from gdcore.solvers.method import solvable, worth_it
from gdcore.solvers.options import BLOCK_SECONDS, Options
from gdcore.solvers.plan import MOST_SPECTRUM, NO_SPECTRUM, judges
from gdcore.solvers.progress import Progress
from gdcore.status import (
    STATUSES,
    DataLostError,
    FitInterrupted,
    LearningRateWarning,
    Status,
    stacklevel,
)

Ints = npt.NDArray[np.int64]

BLOCK_BYTES = 16 << 20  # of second moments at a time
RECORD_BYTES = 64 << 20  # the most that recorded losses may take
MOST_RATES = 1_000_000  # of a schedule


@dataclass(frozen=True)
class Problems:
    """Problems of one dtype and one number of features and targets.

    Either stacked, with the problems as first dimension: X (count, n, d), y (count, n, t),
    offset (count, n, t), sample_weight (count, n). Or one table of all rows, X (rows, d) and so on:
    problem i has the rows ``order[starts[i]:starts[i + 1]]``, in that order.
    """

    X: Floats
    y: Floats
    offset: Floats | None
    sample_weight: Floats | None
    fit_intercept: bool
    reduction: str
    several: bool  # y came with a dimension of targets
    starts: Ints | None = None
    order: Ints | None = None
    labels: Any = None  # of groups, for messages

    @property
    def count(self) -> int:
        """Problems."""
        return len(self.X) if self.starts is None else len(self.starts) - 1

    @property
    def n(self) -> Ints:
        """Rows of each."""
        if self.starts is None:
            return np.full(self.count, self.X.shape[1])
        return np.diff(self.starts)

    @property
    def d(self) -> int:
        """Features."""
        return int(self.X.shape[-1])

    @property
    def t(self) -> int:
        """Targets."""
        return int(self.y.shape[-1])

    @property
    def size(self) -> int:
        """Parameters of each, intercepts included."""
        return (self.d + self.fit_intercept) * self.t

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""
        return self.X.dtype

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """(d,) or (d, t), of each."""
        return (self.d, self.t) if self.several else (self.d,)

    def blocks(self) -> Iterator[slice]:
        """Ranges of problems whose second moments fit into memory together."""
        p, pairs = self.d + 1, self.dtype == np.float64
        bytes_each = 8 * ((1 + pairs) * (p * (p + 1) // 2 + self.t * (p + 1)) + 1)
        step = max(16, BLOCK_BYTES // bytes_each)
        for begin in range(0, self.count, step):
            yield slice(begin, min(begin + step, self.count))

    def core(
        self,
        part: slice,
        gram: npt.NDArray[np.bool_],
        *,
        judged: bool = False,
        scaled: bool = False,
    ) -> _core.Many:
        """Hand some of the problems to the core; see `_core.Many`."""
        starts = None if self.starts is None else self.starts[part.start : part.stop + 1]

        def some(array: Any) -> Any:
            return array if array is None or starts is not None else array[part]

        problems = _core.Problems(
            some(self.X),
            some(self.y),
            some(self.offset),
            some(self.sample_weight),
            self.fit_intercept,
            self.reduction,
            starts,
            self.order,
        )
        return _core.Many(problems, gram[part], judged, scaled)

    def rows(self, i: int) -> tuple[Floats, Floats]:
        """Return X and y - offset of one problem."""
        if self.starts is None:
            rows: Any = i
        else:
            rows = slice(self.starts[i], self.starts[i + 1])
            rows = rows if self.order is None else self.order[rows]
        y = self.y[rows]
        return self.X[rows], y if self.offset is None else y - self.offset[rows]

    def unpack(self, params: Floats) -> tuple[Floats, Floats]:
        """Split parameters (..., p) into weights and intercept."""
        split, lead = self.d * self.t, params.shape[:-1]
        weights = params[..., :split].reshape(*lead, *self.weights_shape).copy()
        targets = self.weights_shape[1:]
        if not self.fit_intercept:
            return weights, np.zeros((*lead, *targets), self.dtype)
        return weights, params[..., split:].reshape(*lead, *targets).copy()


def fit_many(
    problems: Problems,
    sgd: SGD,
    options: Options,
    start: ManyState,
    progress: bool | Callable[[int, int, float], None],
) -> Fits:
    """Fit every problem, a block of them at a time."""
    sgd = sgd.each(problems.count)
    if options.method == "exact":  # which reads nothing else
        sgd = SGD(weight_decay=sgd.weight_decay, decay_intercept=sgd.decay_intercept)
    run = _Run(problems, sgd, options, start)
    try:
        with Progress.make(progress, 0, problems.count) as bar:
            work = run.solve if options.method == "exact" else run.block
            for part in problems.blocks():
                work(part, bar)
        run.warn_of_rates()
    except DataLostError as error:
        error.fit = run.result()
        raise
    except KeyboardInterrupt:
        raise FitInterrupted(run.result()) from None
    return run.result()


def start_of(init: Any, problems: Problems) -> ManyState:
    """Return the state to start from, its parameters checked against the problems' shapes."""
    count, targets = problems.count, problems.weights_shape[1:]
    intercept: Any = 0.0
    if isinstance(init, Fits):
        state: ManyState | None = init.state
        if state is not None and state.fits(count, problems.size, problems.dtype):
            return state.restarted()
        weights, intercept = np.nan_to_num(init.weights), np.nan_to_num(init.intercept)
    elif isinstance(init, Fit):
        weights, intercept = init.weights, init.intercept
    elif isinstance(init, tuple) and len(init) == 2:
        weights, intercept = init
    else:
        weights = np.zeros(problems.weights_shape) if init is None else init
    weights, intercept = _core.prepare(("init weights", weights), ("init intercept", intercept))
    try:
        weights = np.broadcast_to(weights, (count, *problems.weights_shape))
        intercept = np.broadcast_to(intercept, (count, *targets))
    except ValueError:
        raise ValueError(
            f"init has weights of shape {weights.shape} and an intercept of shape "
            f"{intercept.shape}; they must broadcast to {(count, *problems.weights_shape)} and "
            f"{(count, *targets)}."
        ) from None
    if not problems.fit_intercept and np.any(intercept):
        raise ValueError(
            "init has an intercept but fit_intercept is False; pass it as offset to keep it fixed."
        )
    if not (np.isfinite(weights).all() and np.isfinite(intercept).all()):
        raise ValueError("init holds NaN or infinity; pass finite weights and intercept.")
    parts = [weights.reshape(count, problems.d * problems.t)]
    if problems.fit_intercept:
        parts.append(intercept.reshape(count, problems.t))
    state = ManyState.at(np.concatenate(parts, axis=1).astype(problems.dtype))
    if isinstance(init, Fits):
        state.epoch[:] = init.epochs
    return state


def stacked(
    X_given: npt.ArrayLike,
    y_given: npt.ArrayLike,
    offset: npt.ArrayLike | None,
    sample_weight: npt.ArrayLike | None,
    fit_intercept: bool,
    reduction: str,
) -> Problems:
    """Check X (count, n, d) and y (count, n) or (count, n, t); ValueError says what to change."""
    X, y, fixed, weight = _core.prepare(
        ("X", X_given),
        ("y", y_given),
        ("offset", offset, True),
        ("sample_weight", sample_weight, True),
    )
    if y.ndim not in (2, 3) or y.shape[:2] != X.shape[:2]:
        raise ValueError(
            f"y has shape {y.shape} and X {X.shape}; with X (count, n, d), y must be (count, n), "
            "or (count, n, t) for several targets."
        )
    y, fixed, weight, several = laid_out(X, y, fixed, weight, fit_intercept)
    return Problems(X, y, fixed, weight, bool(fit_intercept), reduction, several)


class _Run:
    """The results so far, and the work on one block more."""

    def __init__(self, problems: Problems, sgd: SGD, options: Options, start: ManyState) -> None:
        self.problems, self.sgd, self.options = problems, sgd, options
        self.start, self.state = start, start.copy()
        count, dtype = problems.count, problems.dtype
        self.gram = np.full(count, options.method == "gram")
        if options.method == "auto" and options.batch_size is None:
            self.gram[:] = worth_it(problems.n, problems)
        elif options.method == "exact":
            self.gram[:] = solvable(problems.n, problems)
        self.epochs_told = self._recorded()
        self.losses = np.full((count, len(self.epochs_told)), np.nan, dtype)
        self.loss = np.full(count, np.nan, dtype)
        self.lr = np.full(count, np.nan)
        self.rates: Floats | None = None  # of a schedule
        self.given: Floats | None = None  # rates that are no schedule's
        if not callable(sgd.lr) and options.method != "exact":
            self.given = np.full(count, np.nan if isinstance(sgd.lr, str) else sgd.lr)
        self.first_epoch = int(start.epoch.min()) if count else 0
        self.limit = np.full(count, np.nan)
        self.status = np.full(count, Status.MAX_EPOCHS.code, np.int8)
        self.streamed = ~self.gram
        self.rank = np.zeros(count, np.int64) if options.method == "exact" else None
        self.params = start.params.copy()  # as the caller gets them
        self.momentum = np.zeros(count)
        self.r2_lost = np.full(count, np.nan)
        size = problems.size // max(problems.t, 1)
        self.auto = sgd.momentum == "auto"
        if self.auto and size > MOST_SPECTRUM:
            raise ValueError(NO_SPECTRUM)
        self.judged = options.method != "exact" and (self.auto or judges(size, options, sgd))
        self.scaled = options.standardize and options.method != "exact"
        width = 2 * problems.d + problems.t
        self.state.scaling = np.zeros((count, width) if self.scaled else (0, 0))

    def _recorded(self) -> Ints:
        """Return the epochs whose losses are kept: none if the problems begin at different ones."""
        options, first = self.options, self.start.epoch
        nothing = np.empty(0, np.int64)
        if not options.history or options.method == "exact" or np.any(first != first[:1]):
            return nothing
        begin, every = int(first[0]) if len(first) else 0, int(options.history)
        bounds = begin // every + 1, (begin + int(options.epochs)) // every + 1
        if (bounds[1] - bounds[0]) * len(first) * self.problems.dtype.itemsize > RECORD_BYTES:
            return nothing
        return np.arange(*bounds, dtype=np.int64) * every

    def solve(self, part: slice, bar: Progress) -> None:
        """Solve the problems of one block in closed form."""
        threads, how = self.options.n_threads or 0, exact_options(self.sgd, self.options)
        many = self.problems.core(part, self.gram)
        while not many.survey(False, False, BLOCK_SECONDS, threads):
            check()
        empty, finite, *_ = (flag.astype(bool) for flag in many.surveyed()[3:])
        many.start(
            self.state.part(part).as_dict(),
            self._settings(part, empty | ~finite, np.ones(len(empty)), np.zeros(len(empty))),
        )
        reached = _reached(many)
        try:
            done = False
            while not done:
                done = many.solve(how, BLOCK_SECONDS, threads)
                reached = _reached(many)
                bar.update(part.stop if done else part.start + many.done, math.nan)
        finally:
            states = reached or many.states()
            params = states["params"].reshape(-1, self.problems.size)
            self._keep(part, states, empty, finite & np.isfinite(params).all(axis=1))
            size = self.problems.size // self.problems.t
            status = self.status[part]
            status[(status == Status.CONVERGED.code) & (many.rank < size)] = Status.SINGULAR.code
            assert self.rank is not None
            self.rank[part] = many.rank

    def block(self, part: slice, bar: Progress) -> None:
        """Fit the problems of one block."""
        threads = self.options.n_threads or 0
        many = self.problems.core(part, self.gram, judged=self.judged, scaled=self.scaled)
        curved = isinstance(self.sgd.lr, str) and not self.auto
        steep = curved and self.options.batch_size is not None
        while not many.survey(curved, steep, BLOCK_SECONDS, threads):
            check()
        curvature, error, steepest, *flags = many.surveyed()
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
            self.limit[part] = self.sgd_of(part).stability_limit(curvature * self._share(part))
            finite &= np.isfinite(rate)
        self._place(part, many.scalings())
        settings = self._settings(part, empty | ~finite, rate, momentum)
        many.start(self.state.part(part).as_dict(), settings)
        reached = _reached(many)
        try:
            done = False
            while not done:
                done = many.advance(BLOCK_SECONDS, threads)
                reached = _reached(many)
                bar.update(part.stop if done else part.start + many.done, math.nan)
        finally:
            self._keep(part, reached or many.states(), empty, finite)

    def _place(self, part: slice, scalings: Floats) -> None:
        """Put the start into the coordinates of the descent, as `Problem.at` does."""
        before, state = self.start.scaling, self.state
        same = np.zeros(part.stop - part.start, bool)
        params = self.start.params[part]
        if before.size:
            params = self._rescaled(params, before[part], to=False)
        if self.scaled:
            own = scalings.reshape(len(same), -1)
            state.scaling[part] = own
            if before.size:
                same = (before[part] == own).all(axis=1)
            params = np.where(
                same[:, None], self.start.params[part], self._rescaled(params, own, to=True)
            )
        elif not before.size:
            return
        state.params[part] = params
        state.moving[part] &= same.astype(np.uint8)

    def _rescaled(self, params: Floats, scaling: Floats, *, to: bool) -> Floats:
        p = self.problems
        flat = _core.rescaled(params, scaling, p.d, p.t, p.fit_intercept, to)
        return flat.reshape(params.shape)

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
                history=int(options.history) if len(self.epochs_told) else 0,
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
            records=len(self.epochs_told),
            auto_momentum=self.auto,
        )

    def sgd_of(self, part: slice) -> SGD:
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

    def _share(self, part: slice) -> Any:
        """How much of the whole sum one step sees: a mean looks the same in every mini-batch."""
        n, batch = self.problems.n[part], self.options.batch_size
        if batch is None or self.problems.reduction not in ("sum", "half_sum"):
            return np.ones(len(n))
        return np.minimum(batch, n) / np.maximum(n, 1)

    def _rates(self, part: slice, curvature: Floats, steepest: Floats) -> Floats:
        """One rate a problem (NaN: there is none), or one an epoch if lr is a schedule."""
        lr = self.sgd.lr
        if callable(lr):
            return self._schedule(lr)
        if not isinstance(lr, str):
            return self._each(lr, part)
        n, batch, share = self.problems.n[part], self.options.batch_size, self._share(part)
        if self.problems.reduction in ("sum", "half_sum") and batch is not None:
            steepest = steepest * np.minimum(batch, n)
        rate = np.array(fast_rate(self.sgd_of(part), curvature * share, steepest, n, batch))
        for i in np.flatnonzero(~(rate < float(np.finfo(self.problems.dtype).max))):
            X, _ = self.problems.rows(part.start + int(i))
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
                    f"first; run at most {MOST_RATES} epochs, and go on from there with init."
                )
            self.rates = np.array([rate_at(lr, first + e) for e in range(count)])
        return self.rates

    def _keep(self, part: slice, states: dict[str, Any], empty: Any, finite: Any) -> None:
        self.state.put(part, states)
        self.params[part] = states["returned"].reshape(self.params[part].shape)
        self.momentum[part], self.r2_lost[part] = states["momentum"], states["r2_lost"]
        if self.auto:
            assert self.given is not None
            self.given[part] = self.state.lr[part] = states["chosen_lr"]
            self.state.momentum[part] = states["momentum"]
        self.loss[part] = states["loss"]
        self.losses[part] = states["losses"].reshape(self.losses[part].shape)
        used, status = states["lr"].copy(), OUTCOMES[states["outcome"]]
        at_start = np.isnan(used) & (status == Status.DIVERGED.code)
        if self.given is not None:
            used[np.isnan(used)] = self.given[part][np.isnan(used)]
        for i in np.flatnonzero(status == Status.DIVERGED.code):
            at_start[i] |= not all(np.isfinite(a).all() for a in self.problems.rows(part.start + i))
        status[at_start | ~finite] = Status.INVALID.code
        status[empty] = Status.EMPTY.code
        used[(status == Status.INVALID.code) | (status == Status.EMPTY.code)] = math.nan
        rising = (status == Status.MAX_EPOCHS.code) & ~(states["loss"] <= states["first_loss"])
        for i in np.flatnonzero(rising & ~np.isnan(states["loss"])):
            if used[i] > self._limit(part.start + int(i)):
                status[i] = Status.DIVERGED.code
        self.status[part], self.lr[part] = status, used
        invalid = status == Status.INVALID.code
        self.state.params[part][invalid] = self.params[part][invalid] = np.nan
        self.r2_lost[part][invalid] = np.nan
        self.loss[part][invalid] = np.nan

    def _limit(self, i: int) -> float:
        """Stability limit of one problem, found when it is needed."""
        if np.isnan(self.limit[i]):
            one = self.problems.core(slice(i, i + 1), self.gram, scaled=self.scaled)
            while not one.survey(True, False, BLOCK_SECONDS, self.options.n_threads or 0):
                check()
            part = slice(i, i + 1)
            curvature = one.surveyed()[0] * self._share(part)
            sgd = self.sgd_of(part)
            if self.auto:
                sgd = replace(sgd, momentum=float(self.momentum[i]))
            self.limit[i] = sgd.stability_limit(curvature)[0]
        return float(self.limit[i])

    def warn_of_rates(self) -> None:
        """Warn once of given rates that some problems cannot converge at.

        Their limits cost as much as many epochs, so only those of problems that diverged are known.
        """
        if self.given is None or isinstance(self.sgd.lr, str) or self.sgd.maximize:
            return
        diverged = np.flatnonzero(self.status == Status.DIVERGED.code)
        for i in diverged.tolist():
            rate, limit = float(self.lr[i]), self._limit(i)
            if rate > limit:
                name = named(self.problems.labels, i)
                others = f", one of {len(diverged)} that diverged" if len(diverged) > 1 else ""
                warnings.warn(
                    f"lr={rate:.6g} is above the stability limit {limit:.6g} of {name}"
                    f"{others}; use lr='auto', which finds one for each, or an array of rates.",
                    LearningRateWarning,
                    stacklevel=stacklevel(),
                )
                return

    def result(self) -> Fits:
        """Return what is known now; problems not reached are at their start."""
        weights, intercept = self.problems.unpack(self.params)
        return Fits(
            weights=weights,
            intercept=intercept,
            loss=self.loss,
            epochs=self.state.epoch.copy(),
            status=STATUSES[self.status],
            lr=self.lr,
            history=History(self.epochs_told, self.losses),
            method=self._method(),
            method_reason=self._reason(),
            stability_limit=self.limit,
            fit_intercept=self.problems.fit_intercept,
            state=self.state,
            rows=self.problems.n,
            rank=self.rank,
            momentum=self.momentum,
            r2_lost=self.r2_lost,
        )

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


def _reached(many: _core.Many) -> dict[str, Any] | None:
    """Return where problems stand whose rows may get lost; DataLostError if some did."""
    check()
    return many.states() if watching() else None


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
