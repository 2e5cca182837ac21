"""A problem whose rows are known by their moments."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import gdcore._core as _core
from gdcore.data.problem import Problem, check_scale
from gdcore.data.shape import Shape, without_rows
from gdcore.data.statistics import Statistics


@dataclass(frozen=True, eq=False)
class MomentProblem(Problem):
    """A shape and the statistics of its rows."""

    statistics: Statistics
    steepest: float = nan  # curvature of the steepest row, if that is known

    @property
    def has_rows(self) -> bool:
        """Whether the rows can be read: False."""
        return False

    @property
    def is_weightless(self) -> bool:
        """Whether no row counts."""
        return not self.statistics.filled[self.shape.d]

    @property
    def rows_that_count(self) -> int:
        """The number of rows of weight above 0."""
        return int(self.statistics.filled[self.shape.d])

    @property
    def is_featureless(self) -> bool:
        """Whether every feature is 0 in every row that counts."""
        return not self.statistics.filled[: self.shape.d].any()

    def largest_row(self) -> float:
        """Return the curvature of the steepest row, if it is known."""
        return self.steepest

    def fingerprint(self) -> str:
        """Return a digest of the moments and of what is fitted to them."""
        import hashlib

        shape, total = self.shape, self.statistics.total()
        how = shape.d, shape.t, shape.n, str(shape.dtype), shape.fit_intercept, shape.reduction
        digest = hashlib.blake2b(repr(how).encode(), digest_size=16)
        digest.update(total.hi.tobytes() + total.lo.tobytes())
        return digest.hexdigest()

    def check_finite(self) -> None:
        """Do nothing: the rows were finite when they were added."""


def make_moment_problem(
    statistics: Statistics, fit_intercept: bool, reduction: str, steepest: float = nan
) -> MomentProblem:
    """Return the problem of the rows behind statistics."""
    d, t, dtype = statistics.columns
    if d == 0 and not fit_intercept:
        raise ValueError("d is 0 and fit_intercept is False: there is nothing to fit.")
    if 0 < (total := statistics.total_weight()) < 1:  # no weight is larger
        check_scale(total, dtype)
    names = statistics.feature_names, statistics.target_name
    how = bool(fit_intercept), reduction
    shape = Shape(statistics.n, d, t or 1, t is not None, dtype, *how, *names)
    core: _core.Problem = without_rows(shape, weighted=True)
    return MomentProblem(shape, core, statistics, steepest)
