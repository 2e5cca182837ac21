"""The bounds against exact arithmetic: rational numbers of python-flint, without any rounding.

A case is one element of one problem. Right results of several orders must lie within the bound of
the exact value, and the reference itself within a small part of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flint import fmpq, fmpq_mat
from numpy.typing import NDArray
from oracle_variants import CONDITIONS, linear_problem, matmul_problem, mse_problem, orders

from gdcore import oracle

Array = NDArray[Any]


def rational(x: float) -> fmpq:
    return fmpq(*float(x).as_integer_ratio())


def matrix(x: Array) -> fmpq_mat:
    return fmpq_mat(*x.shape, [rational(v) for v in x.ravel()])


def exact_values(x: fmpq_mat) -> list[fmpq]:
    return [x[i, j] for i in range(x.nrows()) for j in range(x.ncols())]


def shares(exact: list[fmpq], reference: oracle.Reference, actual: Any) -> tuple[float, float]:
    """Return the largest errors over the bound, of a result and of the reference; exactly."""
    of_result = of_reference = fmpq(0)
    columns = (np.asarray(actual, float), reference.value, reference.tail, reference.bound)
    for value, result, hi, lo, bound in zip(exact, *(c.ravel() for c in columns), strict=True):
        error, own = abs(rational(result) - value), abs(rational(hi) + rational(lo) - value)
        if error == 0 and own == 0:
            continue
        allowed = rational(bound)
        assert allowed > 0, "an error where none is allowed"
        of_result, of_reference = max(of_result, error / allowed), max(of_reference, own / allowed)
    return tuple(int(x.p) / int(x.q) for x in (of_result, of_reference))  # type: ignore[return-value]


def run(repeats: int = 8) -> dict[str, Any]:
    """Compare every element; return the largest shares of the bound."""
    rng = np.random.default_rng(7)
    cases = 0
    worst = {"result": 0.0, "reference": 0.0}

    def take(exact: list[fmpq], reference: oracle.Reference, results: list[Array]) -> None:
        nonlocal cases
        cases += len(exact)
        for result in results:
            error, own = shares(exact, reference, result)
            worst["result"] = max(worst["result"], error)
            worst["reference"] = max(worst["reference"], own)

    with np.errstate(all="ignore"):
        for dtype in (np.float32, np.float64):
            for condition in CONDITIONS:
                for _ in range(repeats):
                    sums = list(orders(rng).values())[:4]
                    for shape in ((1, 1, 1), (4, 2, 4), (5, 7, 6), (4, 40, 5)):
                        reference, (a, b) = matmul_problem(rng, shape, dtype, condition)
                        products = a[:, None, :] * b.T[None]
                        exact = exact_values(matrix(a) * matrix(b))
                        take(exact, reference, [order(products) for order in sums])
                    for n, d in ((1, 1), (3, 2), (9, 4), (40, 6)):
                        reference, (X, y, w) = linear_problem(rng, (n, d), dtype, condition)
                        r = matrix(X) * matrix(w[:, None]) - matrix(y[:, None])
                        exact = exact_values(matrix(X.T.copy()) * r * fmpq(2, n))
                        got = []
                        for order in sums:
                            residual = order(X * w) - y
                            got.append(order((X * residual[:, None]).T) * dtype(2 / n))
                        take(exact, reference, got)
                    for shape in ((1,), (6,), (41,)):
                        reference, (p, y) = mse_problem(rng, shape, dtype, condition)
                        difference = matrix(p[None]) - matrix(y[None])
                        exact = exact_values(difference * fmpq(2, p.size))
                        take(exact, reference.grad.pred, [dtype(2 / p.size) * (p - y)])
                        loss = exact_values(difference * difference.transpose() * fmpq(1, p.size))
                        squares = ((p - y) ** 2)[None]
                        losses = [(order(squares) / dtype(p.size))[0] for order in sums]
                        take(loss, reference, losses)
    return {
        "cases": cases,
        "largest_error_over_bound": worst["result"],
        "largest_reference_error_over_bound": worst["reference"],
    }


if __name__ == "__main__":
    print(run())
