"""The first reading of chunks: the moments of all rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.chunks.pieces import threads_beside
from gdcore.chunks.source import Chunk, Source, read
from gdcore.data.home import Home
from gdcore.data.moment_problem import MomentProblem, make_moment_problem
from gdcore.data.statistics import Columns, Statistics
from gdcore.errors import ChunkError, FitInterrupted
from gdcore.moments import Moments
from gdcore.results.fit import empty_fit
from gdcore.solvers.options import Options
from gdcore.solvers.progress import Progress
from gdcore.solvers.start import initial_state


class Survey:
    """Statistics of the rows read so far, and the curvature of the steepest row."""

    def __init__(self, options: Options, fit_intercept: bool, reduction: str, init: Any) -> None:
        self._options, self._init = options, init
        self._how = bool(fit_intercept), reduction
        self.weighted, self._steepest, self._bytes = False, 0.0, 0
        self._statistics: Statistics | None = None
        self._home: Home | None = None  # of the first chunk's X
        self._dropped = 0  # rows with missing values
        self._threads = 0
        # Refuse a wrong reduction or option before anything is read.
        make_moment_problem(Statistics.empty(Columns(1, None, np.dtype(float))), True, reduction)
        replace(options, batch_size=options.batch_size and 1).check(1)

    def run(self, source: Source, bar: Progress, work: Callable[[Iterable[Chunk]], None]) -> None:
        """Read every chunk once, and pass each on to other work."""
        try:
            with closing(read(source)) as chunks:
                work(self._surveyed(source, chunks, bar))
        except ChunkError as error:
            if self._statistics is not None:
                error.moments = Moments.of(self._statistics)
            raise
        except KeyboardInterrupt:
            if self._statistics is None:
                raise
            shape = self.problem().shape
            fit = empty_fit(shape, initial_state(self._init, shape, None), self._options.method)
            raise FitInterrupted(fit, Moments.of(self._statistics)) from None
        if self._statistics is None:
            raise ValueError("there are no chunks: the iterable is empty.")

    def problem(self) -> MomentProblem:
        """Return the problem of the rows read."""
        assert self._statistics is not None
        problem = make_moment_problem(self._statistics, *self._how, self._steepest)
        return replace(
            problem, shape=replace(problem.shape, home=self._home, dropped=self._dropped)
        )

    def _surveyed(self, source: Source, chunks: Iterable[Chunk], bar: Progress) -> Iterator[Chunk]:
        for chunk in chunks:
            rows = self._add(source, chunk)
            bar.read(rows, self._bytes)
            bar.update(0, math.nan)
            yield chunk

    def _add(self, source: Source, chunk: Chunk) -> int:
        """Add a chunk; return the rows so far."""
        shape, rows = chunk.shape, chunk.rows
        if self._statistics is None:
            t = shape.t if shape.has_target_axis else None
            self._statistics = Statistics.empty(Columns(shape.d, t, shape.dtype))
            self._home = shape.home
            self._threads = threads_beside(source, self._options, shape)
            self.weighted = rows.sample_weight is not None
        try:
            self._statistics = self._statistics.with_rows(chunk.problem, self._threads)
        except ValueError as error:
            raise chunk.error(str(error)) from None
        self._bytes += rows.nbytes
        self._dropped += shape.dropped
        if self._options.batch_size is not None and shape.n:
            core = _core.Problem(rows.X, rows.y, None, rows.sample_weight, *self._how)
            self._steepest = max(self._steepest, core.largest_row())
        return self._statistics.n
