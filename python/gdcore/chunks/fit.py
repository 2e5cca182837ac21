"""Fits of rows that come in chunks, a few of which are in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gdcore._core as _core
from gdcore.chunks.source import (
    Chunk,
    ChunkError,
    Source,
    epoch_order,
    piece_seed,
    pieces,
    read,
    threads_beside,
    unit_of,
)
from gdcore.data.memmap import check
from gdcore.data.problem import Problem
from gdcore.fitting import empty_fit, start_from
from gdcore.moments import (
    Moments,
    RowlessProblem,
    add_rows,
    rowless_problem,
    total_of,
)
from gdcore.results.fit import Fit
from gdcore.results.state import FitState
from gdcore.sgd import SGD, rate_at
from gdcore.solvers.descent import descend, loss_at, make_descent, open_checkpoint, result_of
from gdcore.solvers.exact import check_range, exact_options, solution, solve_normal
from gdcore.solvers.method import in_range, out_of_range, solvable
from gdcore.solvers.options import BLOCK_SECONDS, Options
from gdcore.solvers.plan import make_plan
from gdcore.solvers.progress import Progress
from gdcore.status import FitInterrupted

Show = bool | Callable[[int, int, float], None]
EXACT_BYTES = 1 << 20  # of rows that the closed form takes in at a time


@dataclass(frozen=True)
class _Surveyed(RowlessProblem):
    """The problem of all rows, once they were read."""

    steepest: float

    def largest_row(self) -> float:
        return self.steepest

    def fingerprint(self) -> str:
        """Digest of the rows' moments and of what is fitted to them."""
        import hashlib

        how = (self.d, self.t, self.n, str(self.dtype), self.fit_intercept, self.reduction)
        digest = hashlib.blake2b(repr(how).encode(), digest_size=16)
        digest.update(self.moments.hi.tobytes() + self.moments.lo.tobytes())
        return digest.hexdigest()


def fit_chunks(
    given: Any,
    sgd: SGD,
    options: Options,
    fit_intercept: bool,
    init: Any,
    reduction: str,
    progress: Show,
    checkpoint: Any,
) -> Fit:
    """Fit chunks of rows; see `gdcore.fit`."""
    source = Source.of(given)
    streams = options.method == "stream" or options.batch_size is not None
    if streams and not source.again:
        raise ValueError(
            f"the chunks are a {type(given).__name__}, which can be read once only, and every "
            "epoch of 'stream' and of mini-batches reads them: pass a list or a function that "
            "returns a new iterator, or use method='gram' without batch_size."
        )
    with _core.FpEnv():
        survey = _Survey(options, fit_intercept, reduction, init)
        exact = options.method == "exact"
        solver = _Solver(sgd, options, fit_intercept, reduction) if exact else None
        with Progress.make(progress, 0, options.epochs) as bar:
            survey.run(source, bar, solver.take if solver else _pass_by)
        problem, moments = survey.problem(), survey.moments
        options.check_batch(problem.n)
        start = start_from(init, problem, options.batch_size)
        if problem.weightless:
            fit = empty_fit(problem, start)
        elif streams:
            fit = _Stream(source, survey, sgd, options, start, checkpoint).run(progress)
        elif in_range(problem, total_of(moments)):
            if solver:
                fit = solver.fit(problem, total_of(moments))
            else:
                fit = descend(problem, sgd, options, start, progress, checkpoint, total_of(moments))
                fit = replace(fit, method_reason="chunks are read once.")
        else:
            other = "" if exact else ", or use method='stream'"
            raise ValueError(f"{out_of_range(problem.dtype)}{other}.")
    if hasattr(given, "feature_names"):  # a reader of files
        fit = replace(fit, feature_names=given.feature_names, target_name=given.target_name)
    return fit


class _Survey:
    """The first reading: moments, rows, and the steepest of them."""

    def __init__(self, options: Options, fit_intercept: bool, reduction: str, init: Any) -> None:
        self._options, self._init = options, init
        self._how = bool(fit_intercept), reduction
        self.weighted, self._steepest, self._bytes = False, 0.0, 0
        self._moments: Moments | None = None
        self._threads = 0
        rowless_problem(Moments(1), True, reduction)  # refuses what it can before reading
        replace(options, batch_size=options.batch_size and 1).check(1)

    def run(self, source: Source, bar: Progress, work: Callable[[Iterable[Chunk]], None]) -> None:
        """Read every chunk once, and hand it on to other work."""
        try:
            with closing(read(source)) as chunks:
                work(self._surveyed(source, chunks, bar))
        except ChunkError as error:
            error.moments = self._moments
            raise
        except KeyboardInterrupt:
            if self._moments is None:
                raise
            problem = self.problem()
            fit = empty_fit(problem, start_from(self._init, problem, None))
            raise FitInterrupted(fit, self._moments) from None
        if self._moments is None:
            raise ValueError("there are no chunks: the iterable is empty.")

    def _surveyed(self, source: Source, chunks: Iterable[Chunk], bar: Progress) -> Iterator[Chunk]:
        for chunk in chunks:
            self._add(source, chunk)
            bar.read(self.moments.n, self._bytes)
            bar.update(0, float("nan"))
            yield chunk

    @property
    def moments(self) -> Moments:
        assert self._moments is not None
        return self._moments

    def problem(self, weighted: bool = True) -> _Surveyed:
        problem = rowless_problem(self.moments, *self._how, weighted)
        fields: dict[str, Any] = {f: getattr(problem, f) for f in Problem.__dataclass_fields__}
        return _Surveyed(**fields, steepest=self._steepest, moments=self.moments)

    def _add(self, source: Source, chunk: Chunk) -> None:
        p = chunk.problem
        if self._moments is None:
            self._moments = Moments(p.d, p.t if p.several else None, p.dtype)
            self._threads = threads_beside(source, self._options, p)
            self.weighted = p.sample_weight is not None
        try:
            add_rows(self._moments, p, self._threads)
        except ValueError as error:
            raise chunk.error(str(error)) from None
        self._bytes += p.X.nbytes + p.y.nbytes
        if self._options.batch_size is not None and p.n:
            core = _core.Problem(p.X, p.y, None, p.sample_weight, *self._how)
            self._steepest = max(self._steepest, core.largest_row())


def _pass_by(chunks: Iterable[Chunk]) -> None:
    for _ in chunks:
        pass


class _Solver:
    """The closed form, of rows that come in chunks."""

    def __init__(self, sgd: SGD, options: Options, fit_intercept: bool, reduction: str) -> None:
        self._options, self._how = options, (bool(fit_intercept), reduction)
        self._minimised = exact_options(sgd, options)
        self._exact: _core.Exact | None = None

    def take(self, chunks: Iterable[Chunk]) -> None:
        """Take in all rows."""
        for piece in pieces(chunks, unit_of(None), *self._how, piece_bytes=EXACT_BYTES):
            if self._exact is None:
                self._exact = _core.Exact(piece, self._minimised)
            else:
                self._exact.go_on(piece)
            while not self._exact.advance(BLOCK_SECONDS):
                check()

    def fit(self, problem: Problem, moments: _core.Moments) -> Fit:
        """Return the minimiser, its loss from the moments of the rows."""
        if solvable(problem.n, problem):
            fit = solve_normal(problem, moments, self._minimised, self._options)
            if fit is not None:
                return fit
        assert self._exact is not None
        params, rank = self._exact.solve()
        check_range(problem, params)
        loss = loss_at(problem, params, self._options, moments)
        return solution(problem, params, rank, loss, self._options)


class _Stream:
    """Descent that reads the chunks every epoch."""

    def __init__(
        self,
        source: Source,
        survey: _Survey,
        sgd: SGD,
        options: Options,
        start: FitState,
        checkpoint: Any,
    ) -> None:
        self._source, self._options, self._start = source, options, start
        problem, moments = survey.problem(), total_of(survey.moments)
        self._threads = threads_beside(source, options, problem)
        plan = make_plan(problem, sgd, options, start, moments, self._threads)
        self._rate, self._scaling = plan.rate, plan.problem.scaling
        self._start = start = plan.start
        self._target = start.epoch + options.epochs
        rows = survey.problem(survey.weighted)
        self._problem = rows if self._scaling is None else rows.scaled(self._scaling)
        self._plan = replace(plan, problem=self._problem, on_moments=False)
        self._saved = open_checkpoint(checkpoint, problem, sgd, options, start, "stream")
        state = self._saved.state or start
        self._descent = make_descent(
            self._problem, plan.sgd, options, state, self._target, plan.judge, self._plan
        )
        self._outcome: _core.Outcome = "running"

    def run(self, progress: Show) -> Fit:
        try:
            with Progress.make(progress, self._start.epoch, self._target) as bar:
                while self._outcome == "running":
                    self._read(bar)
                    self._outcome = self._descent.end_pass()
                    bar.update(self._descent.epoch, self._descent.last_loss)
                    self._saved.save(self._descent, force=self._outcome != "running")
        except ChunkError as error:
            error.fit = self._result()
            raise
        except KeyboardInterrupt:
            raise FitInterrupted(self._result()) from None
        return self._result()

    def _read(self, bar: Progress) -> None:
        """Feed the descent with one pass over the rows."""
        options, descent, epoch = self._options, self._descent, self._descent.epoch
        if callable(self._rate):
            descent.set_schedule(epoch, [rate_at(self._rate, epoch)])
        else:
            descent.set_constant_lr(float(self._rate))
        batch_size = None if descent.begin_pass() else options.batch_size
        shuffled = batch_size is not None and options.shuffle
        order = epoch_order(self._source, options.seed, epoch) if shuffled else None
        p = self._problem
        with closing(_Counted(read(self._source, order))) as counted:
            unit = unit_of(batch_size)
            for k, piece in enumerate(pieces(counted, unit, p.fit_intercept, p.reduction)):
                seed = piece_seed(options.seed, k)
                if self._scaling is not None:
                    piece = piece.scaled(self._scaling)
                while not descent.feed(piece, seed, BLOCK_SECONDS, self._threads):
                    bar.update(epoch, descent.last_loss)
                bar.read(counted.rows, counted.size)
                bar.update(epoch, descent.last_loss)
            rows, number = counted.rows, counted.number
        if rows != p.n:
            raise ChunkError(
                f"the chunks gave {rows} rows after {epoch} epochs and {p.n} when they were first "
                "read: pass what can be read again and again, or use method='gram'.",
                number,
            )

    def _result(self) -> Fit:
        fit = result_of(self._plan, self._options, self._descent, self._saved, self._outcome)
        return replace(fit, method="stream", method_reason="chunks are read every epoch.")


class _Counted:
    """Chunks, and how many of them went by."""

    def __init__(self, chunks: Any) -> None:
        self._chunks, self.number, self.rows, self.size = chunks, 0, 0, 0

    def __iter__(self) -> Any:
        for chunk in self._chunks:
            p = chunk.problem
            self.number, self.rows = self.number + 1, self.rows + p.n
            self.size += p.X.nbytes + p.y.nbytes
            yield chunk

    def close(self) -> None:
        self._chunks.close()
