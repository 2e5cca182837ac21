"""Fits of rows that come in chunks, a few of which are in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import gdcore._core as _core
from gdcore.chunks.exact import ExactSolver
from gdcore.chunks.residuals import check_covariance, chunk_reader
from gdcore.chunks.source import Chunk, Source
from gdcore.chunks.stream import Stream
from gdcore.chunks.survey import Survey
from gdcore.data.device import Place
from gdcore.data.sums import in_range, out_of_range
from gdcore.results.fit import Fit, empty_fit
from gdcore.sgd import SGD
from gdcore.solvers.descent import descend
from gdcore.solvers.moments import with_inference_of_moments
from gdcore.solvers.options import Options
from gdcore.solvers.progress import Progress
from gdcore.solvers.start import initial_state
from gdcore.typing import Show


def fit_chunks(
    given: Any,
    sgd: SGD,
    options: Options,
    fit_intercept: bool,
    init: Any,
    reduction: str,
    progress: Show,
    checkpoint: Any,
    place: Place,
) -> Fit:
    """Fit chunks of rows; see `gdcore.fit`."""
    source = replace(Source.of(given), place=place)
    streams = options.method == "stream" or options.batch_size is not None
    if streams and not source.again:
        raise ValueError(
            f"the chunks are a {type(given).__name__}, which can be read once only, and every "
            "epoch of 'stream' and of mini-batches reads them: pass a list or a function that "
            "returns a new iterator, or use method='gram' without batch_size."
        )
    check_covariance(given, source, options)
    with _core.FpEnv():
        survey = Survey(options, fit_intercept, reduction, init)
        exact = options.method == "exact"
        solver = ExactSolver(sgd, options, fit_intercept, reduction) if exact else None
        with Progress.make(progress, 0, options.epochs) as bar:
            survey.run(source, bar, _exhaust if solver is None else solver.read)
        problem = survey.problem()
        shape, moments = problem.shape, problem.statistics.total()
        options.check_batch(shape.n)
        start = initial_state(init, shape, options.batch_size)
        read_again = chunk_reader(source, shape, options)
        if problem.is_weightless:
            fit = empty_fit(shape, start)
        elif streams:
            stream = Stream(source, problem, survey.weighted, sgd, options, start, checkpoint)
            fit = stream.run(progress)
        elif not in_range(moments, shape.dtype):
            other = "" if exact else ", or use method='stream'"
            raise ValueError(f"{out_of_range(shape.dtype)}{other}.")
        elif solver is not None:
            fit = solver.fit(problem, moments, read_again)
        else:
            fit = descend(problem, sgd, options, start, progress, checkpoint, moments)
            fit = replace(fit, method_reason="chunks are read once.")
        if solver is None or problem.is_weightless:
            fit = with_inference_of_moments(fit, problem, moments, sgd, options, read_again)
    if hasattr(given, "feature_names"):  # a reader of files
        fit = replace(fit, feature_names=given.feature_names, target_name=given.target_name)
    return fit


def _exhaust(chunks: Iterable[Chunk]) -> None:
    for _ in chunks:
        pass
