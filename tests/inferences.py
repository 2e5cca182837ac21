"""Inference for the tests by plain float64: another way to the numbers of `covariance=`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS: tuple[Any, ...] = ("ols", "hc0", "hc1", "hc2", "hc3")
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Reference:
    """Least squares of one target: p parameters, the intercept last."""

    parameters: Array  # (p,)
    covariance: Array  # (p, p)
    sigma2: float
    r2: float
    df_resid: int


def reference(
    X: Array,
    y: Array,
    kind: str,
    *,
    fit_intercept: bool = True,
    sample_weight: Array | None = None,
    offset: Any = 0.0,
) -> Reference:
    """Return the covariance by an orthogonal factor: of rows times the roots of their weights.

    Rows of weight 0 count in nothing. White's estimate and those of MacKinnon and White (1985)
    weigh the rows by their squared residuals, scaled by their leverage.
    """
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    X, y = np.asarray(X, float), np.asarray(y, float) - offset
    X, y, weight = X[weight > 0], y[weight > 0], weight[weight > 0]
    root = np.sqrt(weight)
    A = np.column_stack([X, np.ones(len(X))]) if fit_intercept else X
    A, b = A * root[:, None], y * root
    Q, R = np.linalg.qr(A)
    inverse = np.linalg.inv(R)
    x = inverse @ (Q.T @ b)
    residual = b - A @ x
    n, p = A.shape
    df, squares = n - p, float(residual @ residual)
    centre = np.average(y, weights=weight) if fit_intercept else 0.0
    r2 = 1 - squares / float(weight @ (y - centre) ** 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma2 = np.float64(squares) / df
        rest = 1 - (Q**2).sum(axis=1)
        factor = {"hc1": np.float64(n) / df, "hc2": 1 / rest, "hc3": 1 / rest**2}.get(kind, 1.0)
    if kind == "ols":
        covariance = inverse @ inverse.T * sigma2
    else:
        part = (A @ inverse @ inverse.T) * residual[:, None]
        covariance = part.T @ (part * np.broadcast_to(factor, n)[:, None])
    return Reference(x, covariance, float(sigma2), r2, df)
