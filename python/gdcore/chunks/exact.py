"""The closed form of rows that come in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import gdcore._core as _core
from gdcore.chunks.pieces import pieces, unit_of
from gdcore.chunks.source import Chunk
from gdcore.data import slices
from gdcore.data.problem import Problem
from gdcore.results.fit import Fit
from gdcore.sgd import SGD
from gdcore.solvers.exact import exact_options, finite_loss, solution, solve_normal
from gdcore.solvers.inference import inferred, with_inference
from gdcore.solvers.method import moments_suffice
from gdcore.solvers.options import Options

EXACT_BYTES = 1 << 20  # of rows that the closed form reads together


class ExactSolver:
    """The factorisation of the rows read so far."""

    def __init__(self, sgd: SGD, options: Options, fit_intercept: bool, reduction: str) -> None:
        self._options, self._how = options, (bool(fit_intercept), reduction)
        self._sgd, self._minimised = sgd, exact_options(sgd, options)
        self._exact: _core.Exact | None = None

    def read(self, chunks: Iterable[Chunk]) -> None:
        """Add the rows of all chunks."""
        for piece in pieces(chunks, unit_of(None), *self._how, piece_bytes=EXACT_BYTES):
            if self._exact is None:
                self._exact = _core.Exact(piece, self._minimised)
            else:
                self._exact.go_on(piece)
            slices.run(self._exact.advance)

    def fit(
        self,
        problem: Problem,
        moments: _core.Moments,
        read_again: Callable[[_core.Inference], None],
    ) -> Fit:
        """Return the minimiser, its loss from the moments of the rows."""
        exact, options, fit = self._exact, self._options, None
        assert exact is not None
        if moments_suffice(problem.shape):
            fit = solve_normal(problem, moments, self._minimised, options)
        if fit is None:
            params, rank = exact.solve()
            loss = finite_loss(problem, params, options, moments)
            fit = solution(problem, params, rank, loss, options)
        elif options.covariance is not None:
            exact.solve()
        return with_inference(
            fit,
            problem,
            self._sgd,
            options,
            lambda: inferred(exact.inference(), problem.shape, options, read_again),
        )
