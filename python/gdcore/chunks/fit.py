"""Fits of rows that come in chunks, a few of which are in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.chunks.exact import ExactSolver
from gdcore.chunks.residuals import check_covariance, chunk_reader
from gdcore.chunks.source import Chunk, RaggedTargetsError, Source
from gdcore.chunks.stream import Stream
from gdcore.chunks.survey import Survey
from gdcore.data.device import Place
from gdcore.data.shape import Shape
from gdcore.data.sums import in_range, out_of_range
from gdcore.results.fit import Fit, empty_fit, fit_at
from gdcore.results.state import FitState
from gdcore.sgd import SGD
from gdcore.solvers.descent import descend
from gdcore.solvers.moments import with_inference_of_moments
from gdcore.solvers.options import Options
from gdcore.solvers.progress import Progress
from gdcore.solvers.start import initial_state
from gdcore.solvers.targets import fit_one_by_one
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
    chunks = given
    if options.missing == "drop" and hasattr(given, "keeping_gaps"):  # a reader of files
        chunks = given.keeping_gaps()
    source = replace(Source.of(chunks), place=place, missing=options.missing)
    if _streams(options) and not source.again:
        raise ValueError(
            f"the chunks are a {type(given).__name__}, which can be read once only, and every "
            "epoch of 'stream' and of mini-batches reads them: pass a list or a function that "
            "returns a new iterator, or use method='gram' without batch_size."
        )
    check_covariance(given, source, options)
    fitter = _Fitter(sgd, options, bool(fit_intercept), reduction, progress, checkpoint)
    with _core.FpEnv():
        try:
            fit = fitter.fit(source, init)[0]
        except RaggedTargetsError as ragged:
            if not source.again:
                raise ValueError(
                    "values are missing in other rows for some targets, and each target then reads "
                    f"the chunks by itself, but a {type(given).__name__} can be read once only: "
                    "pass a list or a function that returns a new iterator, or one target at a "
                    "time, chunks (X, y[:, j])."
                ) from None
            fit = fitter.fit_targets(source, ragged.shape, init)
    if hasattr(given, "feature_names"):  # a reader of files
        fit = replace(fit, feature_names=given.feature_names, target_name=given.target_name)
    return fit


def _streams(options: Options) -> bool:
    """Whether every epoch reads the chunks."""
    return options.method == "stream" or options.batch_size is not None


@dataclass(frozen=True)
class _Fitter:
    """Everything that a fit takes but the chunks and the start."""

    sgd: SGD
    options: Options
    fit_intercept: bool
    reduction: str
    progress: Show
    checkpoint: Any

    def fit(self, source: Source, init: Any) -> tuple[Fit, float]:
        """Return the fit of the chunks, and the sum of the rows' weights."""
        sgd, options, how = self.sgd, self.options, (self.fit_intercept, self.reduction)
        survey = Survey(options, *how, init)
        exact = options.method == "exact"
        solver = ExactSolver(sgd, options, *how) if exact else None
        with Progress.make(self.progress, 0, options.epochs) as bar:
            survey.run(source, bar, _exhaust if solver is None else solver.read)
        problem = survey.problem()
        shape, moments = problem.shape, problem.statistics.total()
        options.check_batch(shape.n)
        start = initial_state(init, shape, options.batch_size)
        read_again = chunk_reader(source, shape, options)
        if problem.is_weightless:
            fit = empty_fit(shape, start, options.method)
        elif _streams(options):
            how_to = problem, survey.weighted, sgd, options, start, self.checkpoint
            fit = Stream(source, *how_to).run(self.progress)
        elif not in_range(moments, shape.dtype):
            other = "" if exact else ", or use method='stream'"
            raise ValueError(f"{out_of_range(shape.dtype)}{other}.")
        elif solver is not None:
            fit = solver.fit(problem, moments, read_again)
        else:
            fit = descend(problem, sgd, options, start, self.progress, self.checkpoint, moments)
            fit = replace(fit, method_reason="chunks are read once.")
        if solver is None or problem.is_weightless:
            fit = with_inference_of_moments(fit, problem, moments, sgd, options, read_again)
        return fit, problem.statistics.total_weight()

    def fit_targets(self, source: Source, shape: Shape, init: Any) -> Fit:
        """Fit each target of chunks of this shape by itself, each with readings of its own."""
        shape = replace(shape, fit_intercept=self.fit_intercept, reduction=self.reduction)
        weight_sums = np.full(shape.t, np.nan)
        one = replace(shape, t=1, has_target_axis=False)

        def fit_target(j: int, state: FitState) -> Fit:
            begin = fit_at(one, state, state)
            fit, weight_sums[j] = self.fit(replace(source, target=j), begin)
            return fit

        start = initial_state(init, shape, self.options.batch_size)
        return fit_one_by_one(shape, start, self.checkpoint, fit_target, weight_sums)


def _exhaust(chunks: Iterable[Chunk]) -> None:
    for _ in chunks:
        pass
