"""NIST's certified regressions: the certificates themselves, then method='exact' against them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

import gdcore as gd
import nist
from gdcore import Status
from least_squares import check, exact
from loops import each
from problems import Linear


@each("name", nist.NAMES + nist.WITHOUT_INTERCEPT)
def test_the_certificates_of_nist_are_exact(name: str) -> None:
    """The certified values equal the exact ones in all 15 digits of the files."""
    reference = nist.read(name)
    found = nist.solve(reference.design, reference.response)

    def same(squared: Fraction, certified: Fraction) -> bool:
        """Whether a number with this square rounds to the certified one."""
        exponent = math.floor(math.log10(certified)) if certified else 0
        half = Fraction(10) ** (exponent - 14) / 2
        return max(certified - half, Fraction(0)) ** 2 <= squared <= (certified + half) ** 2

    for solved, certified in zip(found.coefficients, reference.coefficients, strict=True):
        assert solved * certified >= 0
        assert same(solved**2, abs(certified))
    for variance, certified in zip(found.variances, reference.standard_deviations, strict=True):
        assert same(variance, certified)
    assert same(found.variance, reference.residual_standard_deviation)


@each("name", nist.NAMES)
@each("intercept", [True, False])
def test_nist(name: str, intercept: bool) -> None:
    """Within the bound of the exact solution of the rows as rounded, so never much worse than
    lstsq; and with its digits among many problems and groups.
    """
    reference = nist.read(name)
    X, y = reference.X, reference.y
    if not intercept:
        X = np.hstack([np.ones((len(X), 1)), X])
    problem = Linear(X, y, np.zeros(X.shape[1]), np.zeros(()) if intercept else None)
    result = exact(problem)
    assert result.status is Status.CONVERGED
    x = np.array([[float(b)] for b in nist.rounded(reference).coefficients])
    check(problem, result, np.roll(x, -1, axis=0) if intercept else x)

    how: Any = {"method": "exact", "fit_intercept": intercept}
    stacked = gd.fit(np.stack([X, X[::-1], X]), np.stack([y, y[::-1], y]), **how)
    labels = np.repeat([7, 3], len(X))
    grouped = gd.fit_groups(np.vstack([X[::-1], X]), np.concatenate([y[::-1], y]), labels, **how)
    for many, i in ((stacked, 0), (stacked, 2), (grouped, 0)):
        assert many.status[i] == Status.CONVERGED
        assert many.weights[i].tobytes() == result.weights.tobytes()
        assert many.intercept[i] == result.intercept


def test_filip_has_full_rank() -> None:
    """NumPy cuts off what is small beside the longest column, x^10: rank 10 of 11 and no digit."""
    reference = nist.read("Filip")
    A = np.hstack([np.ones((len(reference.X), 1)), reference.X])
    theirs, _, rank, _ = np.linalg.lstsq(A, reference.y)
    result = gd.fit(reference.X, reference.y, method="exact")
    ours = np.append(result.intercept, result.weights)
    assert rank == 10
    assert result.status is Status.CONVERGED
    assert nist.digits(theirs, reference.certified) < 1 < nist.digits(ours, reference.certified)
