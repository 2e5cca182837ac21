"""Descent that reads the chunks every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import gdcore._core as _core
from gdcore.chunks.pieces import epoch_order, piece_seed, pieces, threads_beside, unit_of
from gdcore.chunks.source import Chunk, Source, read
from gdcore.data import slices
from gdcore.data.moment_problem import MomentProblem
from gdcore.data.shape import without_rows
from gdcore.errors import ChunkError, FitInterrupted
from gdcore.results.fit import Fit
from gdcore.results.state import FitState
from gdcore.sgd import SGD, rate_at
from gdcore.solvers.descent import make_descent, open_checkpoint, result_of
from gdcore.solvers.options import Options
from gdcore.solvers.plan import make_plan
from gdcore.solvers.progress import Progress
from gdcore.typing import Show


class Stream:
    """A descent, fed by one pass over the chunks an epoch."""

    def __init__(
        self,
        source: Source,
        problem: MomentProblem,
        weighted: bool,
        sgd: SGD,
        options: Options,
        start: FitState,
        checkpoint: Any,
    ) -> None:
        self._source, self._options = source, options
        self._threads = threads_beside(source, options, problem.shape)
        moments = problem.statistics.total()
        plan = make_plan(
            problem, sgd, replace(options, n_threads=self._threads or None), start, moments
        )
        self._rate, self._scaling = plan.rate, plan.problem.shape.scaling
        self._start = plan.start
        self._target = plan.start.epoch + options.epochs
        # Pieces count rows by their weights if they have any, and moments always do.
        fed = replace(problem, core=without_rows(problem.shape, weighted))
        self._problem = fed if self._scaling is None else fed.scaled(self._scaling)
        self._plan = replace(plan, problem=self._problem, on_moments=False)
        self._saved = open_checkpoint(checkpoint, problem, sgd, options, plan.start, "stream")
        state = self._saved.state or plan.start
        self._descent = make_descent(self._plan, options, state, self._target)
        self._outcome: _core.Outcome = "running"

    def run(self, progress: Show) -> Fit:
        """Descend to the end."""
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
        shape = self._problem.shape
        with closing(_Counted(read(self._source, order))) as counted:
            unit = unit_of(batch_size)
            for k, piece in enumerate(pieces(counted, unit, shape.fit_intercept, shape.reduction)):
                seed = piece_seed(options.seed, k)
                if self._scaling is not None:
                    piece = piece.scaled(self._scaling)
                while not descent.feed(piece, seed, slices.SECONDS, self._threads):
                    bar.update(epoch, descent.last_loss)
                bar.read(counted.rows, counted.size)
                bar.update(epoch, descent.last_loss)
            rows, number = counted.rows, counted.number
        if rows != shape.n:
            raise ChunkError(
                f"the chunks gave {rows} rows after {epoch} epochs and {shape.n} when they were "
                "first read: pass chunks that can be read again and again, or use method='gram'.",
                number,
            )

    def _result(self) -> Fit:
        reason = "chunks are read every epoch."
        how = self._outcome, "stream", reason
        return result_of(self._plan, self._options, self._descent, self._saved, *how)


class _Counted:
    """Chunks, with the number of chunks, rows and bytes so far."""

    def __init__(self, chunks: Any) -> None:
        self._chunks, self.number, self.rows, self.size = chunks, 0, 0, 0

    def __iter__(self) -> Iterator[Chunk]:
        for chunk in self._chunks:
            self.number, self.rows = self.number + 1, self.rows + chunk.shape.n
            self.size += chunk.rows.nbytes
            yield chunk

    def close(self) -> None:
        self._chunks.close()
