"""What people get wrong about the derivatives of softmax, its logarithm and logsumexp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.references.lines import Rows
from gdcore.oracle.references.mistakes import Factor, Mistakes
from gdcore.oracle.references.softmax_mistakes import (
    COMMON,
    LOG_2,
    Formula,
    alternatives_of,
    largest,
    logs,
    parts_of_rows,
    shares,
    total,
)

Array = NDArray[Any]


def of_softmax_vjp(rows: Rows, x: Array, g: Array) -> Mistakes:
    """Return the known mistakes of softmax's vector-Jacobian product."""

    def right(x: Array) -> Array:
        p = shares(x)
        result: Array = p * (g - total(g * p))
        return result

    def changed() -> Iterator[tuple[str, Formula]]:
        yield "the projection is missing: p g alone", lambda x: shares(x) * g
        yield (
            "the diagonal of the Jacobian alone: p (1 - p) g",
            lambda x: shares(x) * (1 - shares(x)) * g,
        )
        yield "the factor p is missing: g - sum(p g)", lambda x: g - total(g * shares(x))
        yield "sum(g) in place of sum(p g)", lambda x: shares(x) * (g - total(g))
        yield (
            "the mean of p g in place of its sum",
            (lambda x: shares(x) * (g - np.mean(g * shares(x), axis=1, keepdims=True))),
        )
        yield "sum(p g) is added", lambda x: shares(x) * (g + total(g * shares(x)))
        for cause, sums in _totals_along(rows, g * shares(rows.take(x))):
            yield f"sum(p g) {cause}", lambda x, sums=sums: shares(x) * (g - sums)  # type: ignore[misc]
        yield "x is taken for its softmax", lambda x: x * (g - total(g * x))
        yield "the derivative of log-softmax: g - p sum(g)", lambda x: g - shares(x) * total(g)
        for cause, kept in parts_of_rows(rows.count, len(g)):
            yield (
                f"{cause} missing from the sum of p g",
                (
                    lambda x, kept=kept: shares(x) * (g - total(g * shares(x) * kept))  # type: ignore[misc]
                ),
            )

    def along(other: Rows) -> Formula:
        turned = other.take(rows.back(g))
        return lambda x: shares(x) * (turned - total(turned * shares(x)))

    return _of_vjp("softmax", rows, x, right, changed, along)


def of_log_softmax_vjp(rows: Rows, x: Array, g: Array) -> Mistakes:
    """Return the known mistakes of log-softmax's vector-Jacobian product."""

    def changed() -> Iterator[tuple[str, Formula]]:
        yield "the projection is missing: g alone", lambda x: g + 0 * x
        yield "g - p: the sum of g is missing", lambda x: g - shares(x)
        yield (
            "the mean of g in place of its sum",
            (lambda x: g - shares(x) * np.mean(g, axis=1, keepdims=True)),
        )
        yield "p sum(g) is added", lambda x: g + shares(x) * total(g)
        for cause, sums in _totals_along(rows, g):
            yield f"sum(g) {cause}", lambda x, sums=sums: g - shares(x) * sums  # type: ignore[misc]
        yield "log-softmax in place of softmax: g - z sum(g)", lambda x: g - logs(x) * total(g)
        yield (
            "the derivative of softmax: p (g - sum(p g))",
            (lambda x: shares(x) * (g - total(g * shares(x)))),
        )
        yield "p g in place of p sum(g)", lambda x: g - shares(x) * g
        for cause, kept in parts_of_rows(rows.count, len(g)):
            sums = total(g * kept)
            yield f"{cause} missing from the sum of g", lambda x, sums=sums: g - shares(x) * sums  # type: ignore[misc]

    def along(other: Rows) -> Formula:
        turned = other.take(rows.back(g))
        return lambda x: turned - shares(x) * total(turned)

    def right(x: Array) -> Array:
        result: Array = g - shares(x) * total(g)
        return result

    return _of_vjp("log-softmax", rows, x, right, changed, along)


def of_logsumexp_vjp(rows: Rows, x: Array, g: Array) -> Mistakes:
    """Return the known mistakes of logsumexp's vector-Jacobian product, g (R,1)."""

    def of_largest(x: Array) -> Array:
        result: Array = g * (np.arange(x.shape[1]) == x.argmax(1)[:, None])
        return result

    def changed() -> Iterator[tuple[str, Formula]]:
        yield "softmax is missing: g alone", lambda x: g + 0 * x
        yield "grad_out is missing: p alone", shares
        yield "the division by the sum is missing", lambda x: g * np.exp(x - largest(x))
        yield "the largest element alone has a derivative", of_largest
        yield "powers of 2 in place of e", lambda x: g * shares(x * LOG_2)

    return _of_vjp("logsumexp", rows, x, lambda x: g * shares(x), changed, lambda other: None)


def _of_vjp(
    what: str,
    rows: Rows,
    x: Array,
    right: Formula,
    changed: Callable[[], Iterator[tuple[str, Formula]]],
    along: Callable[[Rows], Formula | None],
) -> Mistakes:
    n = rows.count
    means = (Factor(1 / n, f"a division by n = {n} too many"),) if n > 1 else ()
    return Mistakes(
        f"the gradient of {what} along axis {rows.axis}",
        (*COMMON, *means),
        partial(alternatives_of, rows, x, right, changed, along),
    )


def _totals_along(rows: Rows, values: Array) -> Iterator[tuple[str, Array]]:
    """Yield the sums (R,n) that a wrong axis, or all of them, give for those of rows."""
    whole = rows.back(values)
    for axis in {*range(len(rows.shape))} - {rows.axis}:
        sums = np.broadcast_to(whole.sum(axis=axis, keepdims=True), whole.shape)
        yield f"runs along axis {axis} instead of axis {rows.axis}", rows.take(sums)
    if len(values) > 1:
        yield "runs over all rows", np.broadcast_to(values.sum(), values.shape)
