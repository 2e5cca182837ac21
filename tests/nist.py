"""NIST's linear reference sets, read as fractions: data, certified values, the exact solution."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FOLDER = Path(__file__).parent / "data" / "nist"
NAMES = (
    "Norris", "Pontius", "Longley", "Wampler1", "Wampler2", "Wampler3", "Wampler4", "Wampler5",
    "Filip",
)  # fmt: skip
WITHOUT_INTERCEPT = ("NoInt1", "NoInt2")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Solution:
    """The least squares of rows, in fractions."""

    coefficients: list[Fraction]
    variances: list[Fraction]  # of the coefficients
    variance: Fraction  # of the residuals
    inverse: list[list[Fraction]]  # of the second moments of the rows


@dataclass(frozen=True)
class Reference:
    """A set; the design has the intercept's column first, if there is an intercept."""

    name: str
    difficulty: str
    design: list[list[Fraction]]
    response: list[Fraction]
    coefficients: list[Fraction]
    standard_deviations: list[Fraction]
    residual_standard_deviation: Fraction
    has_intercept: bool

    @property
    def X(self) -> Array:
        """The design without the intercept, each entry rounded once."""
        return np.array([row[self.has_intercept :] for row in self.design], float)

    @property
    def y(self) -> Array:
        return np.array(self.response, float)

    @property
    def certified(self) -> Array:
        return np.array(self.coefficients, float)


def read(name: str) -> Reference:
    text = (FOLDER / f"{name}.json").read_text()
    given = json.loads(text, parse_float=Fraction, parse_int=Fraction)
    design, response, ones = [], [], [Fraction(1)] if given.get("intercept", True) else []
    for *x, y in given["rows"]:
        powers = [x[0] ** k for k in range(1, int(given["degree"]) + 1)] if len(x) == 1 else x
        design.append([*ones, *powers])
        response.append(y)
    return Reference(
        given["name"],
        given["difficulty"],
        design,
        response,
        given["coefficients"],
        given["standard_deviations"],
        given["residual_standard_deviation"],
        bool(ones),
    )


def solve(design: list[list[Fraction]], response: list[Fraction]) -> Solution:
    """Solve the normal equations by elimination: in fractions no condition is too bad."""
    n, p = len(design), len(design[0])
    rows = [
        [sum(r[i] * r[j] for r in design) for j in range(p)]
        + [sum(r[i] * y for r, y in zip(design, response, strict=True))]
        + [Fraction(i == j) for j in range(p)]
        for i in range(p)
    ]
    for k in range(p):
        pivot = rows[k][k]
        rows[k] = [value / pivot for value in rows[k]]
        for i in range(p):
            if i != k:
                rows[i] = [a - rows[i][k] * b for a, b in zip(rows[i], rows[k], strict=True)]
    found = [row[p] for row in rows]
    squares = sum(
        (y - sum(a * b for a, b in zip(r, found, strict=True))) ** 2
        for r, y in zip(design, response, strict=True)
    )
    variance = Fraction(squares) / (n - p)
    inverse = [row[p + 1 :] for row in rows]
    return Solution(found, [inverse[i][i] * variance for i in range(p)], variance, inverse)


def rounded(reference: Reference) -> Solution:
    """Solve the set as float64 holds it."""
    ones = [1.0] if reference.has_intercept else []
    design = [[Fraction(value) for value in [*ones, *row]] for row in reference.X.tolist()]
    return solve(design, [Fraction(value) for value in reference.y.tolist()])


def digits(found: npt.ArrayLike, true: npt.ArrayLike) -> float:
    """Return the correct digits of the worst coefficient, 0 to 15: its log relative error."""
    errors = np.abs(np.asarray(found, float) - true) / np.abs(true)
    return float(np.clip(-np.log10(np.maximum(errors, 1e-15)), 0, 15).min())
