"""What people get wrong about softmax, its logarithm, logsumexp and their derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Format
from gdcore.oracle.numbers.operands import finite
from gdcore.oracle.references.lines import Rows
from gdcore.oracle.references.mistakes import (
    BLOCKS,
    PRECISIONS,
    Alternative,
    Factor,
    Mistakes,
    usual_blocks,
)

Array = NDArray[Any]
Formula = Callable[[Array], Array]  # of rows (R,n); returns rows, or one number each (R,1)
LOG_2 = float(np.log(2.0))
_SMALL = 1 << 24  # elements of all alternatives that are computed for any number of missing ones
COMMON = (
    Factor(-1.0, "the sign is wrong"),
    Factor(2.0, "stale accumulation, or a factor 2"),
    Factor(0.5, "a factor 1/2 too many"),
)
NO_MAXIMUM = "the largest element is not subtracted: exponentials overflow or vanish"


def shares(x: Array) -> Array:
    """Return softmax of rows."""
    e = np.exp(x - largest(x))
    p: Array = e / total(e)
    return p


def logs(x: Array) -> Array:
    """Return log-softmax of rows."""
    shifted = x - largest(x)
    z: Array = shifted - np.log(total(np.exp(shifted)))
    return z


def log_sums(x: Array) -> Array:
    """Return logsumexp of rows (R,1)."""
    m = largest(x)
    lse: Array = m + np.log(total(np.exp(x - m)))
    return lse


def of_softmax(rows: Rows, x: Array, store: Format) -> Mistakes:
    """Return the known mistakes of softmax."""
    n = rows.count
    means = [Factor(n, f"a division by the mean of the n = {n} exponentials")] if n > 1 else []

    def changed() -> Iterator[tuple[str, Formula]]:
        yield "the division by the sum is missing", lambda x: np.exp(x - largest(x))
        yield "the division by the sum, and the largest element, are missing", np.exp
        yield "powers of 2 in place of e", lambda x: shares(x * LOG_2)
        yield "the logarithm of softmax, where softmax is asked for", logs
        yield "the sign of x is wrong: exp(-x)", lambda x: shares(-x)
        yield "softmax is applied twice", lambda x: shares(shares(x))
        for cause, share in sums_of_parts(n, len(rows.take(x))):
            yield cause, lambda x, share=share: shares(x) / share(x)  # type: ignore[misc]
        for cause, kept in parts_of_rows(n, len(rows.take(x))):
            cause = f"{cause} missing, and its results are 0"
            yield cause, lambda x, kept=kept: shares(np.where(kept, x, -np.inf))  # type: ignore[misc]

    return Mistakes(
        f"softmax along axis {rows.axis}",
        (*COMMON, *means),
        partial(_of_values, rows, x, shares, changed),
        nonfinite=partial(_nonfinite, rows, x, store, lambda e: e / total(e)),
        lost=partial(_lost, rows, x, shares, {"0": 0.0, "1/n": 1 / max(n, 1)}),
    )


def of_log_softmax(rows: Rows, x: Array, store: Format) -> Mistakes:
    """Return the known mistakes of log-softmax."""
    n = rows.count

    def changed() -> Iterator[tuple[str, Formula]]:
        yield "softmax, where its logarithm is asked for", shares
        yield "the logarithm of the sum is not subtracted", lambda x: x - largest(x)
        yield (
            "the largest element is not subtracted from x",
            lambda x: x - log_sums(x) + largest(x),
        )
        yield "the logarithm of the sum is added", lambda x: 2 * (x - largest(x)) - logs(x)
        yield "powers of 2 in place of e", lambda x: logs(x * LOG_2)
        yield "log-softmax is applied twice, or to probabilities", lambda x: logs(shares(x))
        for cause, share in sums_of_parts(n, len(rows.take(x))):
            yield cause, lambda x, share=share: logs(x) - np.log(share(x))  # type: ignore[misc]

    return Mistakes(
        f"log-softmax along axis {rows.axis}",
        (*COMMON, *_logarithms()),
        partial(_of_values, rows, x, logs, changed),
        nonfinite=partial(_nonfinite_logs, rows, x, store),
        lost=partial(_lost, rows, x, logs, {"0": 0.0, "-log n": -np.log(max(n, 1))}),
    )


def of_logsumexp(rows: Rows, x: Array, store: Format) -> Mistakes:
    """Return the known mistakes of logsumexp."""
    n = rows.count

    def changed() -> Iterator[tuple[str, Formula]]:
        yield "the largest element is not added back", lambda x: log_sums(x) - largest(x)
        yield "the largest element alone", largest
        yield (
            "the largest element is subtracted, not added back",
            (lambda x: log_sums(x) - 2 * largest(x)),
        )
        yield "the logarithm is missing", lambda x: np.exp(log_sums(x))
        yield (
            f"a mean over the n = {n} exponentials, where it is a sum",
            (lambda x: log_sums(x) - np.log(n)),
        )
        yield "powers of 2 in place of e", lambda x: log_sums(x * LOG_2)
        for cause, share in sums_of_parts(n, len(rows.take(x))):
            yield cause, lambda x, share=share: log_sums(x) + np.log(share(x))  # type: ignore[misc]

    return Mistakes(
        f"logsumexp along axis {rows.axis}",
        (*COMMON, *_logarithms()),
        partial(
            alternatives_of,
            rows,
            x,
            log_sums,
            changed,
            lambda other: log_sums if other.others == rows.others else None,
        ),
        nonfinite=partial(_nonfinite, rows, x, store, lambda e: np.log(total(e))),
        lost=partial(_lost, rows, x, log_sums, {}),
    )


def alternatives_of(
    rows: Rows,
    x: Array,
    right: Formula,
    changed: Callable[[], Iterator[tuple[str, Formula]]],
    along: Callable[[Rows], Formula | None],
) -> Iterator[Alternative]:
    """Yield what known mistakes make of a result; `along` has the formula for other rows."""
    for cause, formula in changed():
        yield result_of(cause, rows, x, formula)
    for axis, size in enumerate(rows.shape):
        other = rows.along(axis)
        turned = along(other)
        if axis != rows.axis and turned and (size > 1 or rows.count > 1):
            yield result_of(
                f"taken along axis {axis} instead of axis {rows.axis}", other, x, turned
            )
    for precision, narrow in PRECISIONS.items():
        yield result_of(f"x is rounded through {precision}", rows, narrow(x), right)


def _of_values(
    rows: Rows, x: Array, right: Formula, changed: Callable[[], Iterator[tuple[str, Formula]]]
) -> Iterator[Alternative]:
    """Yield what known mistakes make of softmax or its logarithm."""
    yield from alternatives_of(rows, x, right, changed, lambda other: right)
    if len(rows.shape) > 1:
        cause = f"taken over all {x.size} elements instead of axis {rows.axis}"
        yield result_of(cause, Rows((x.size,), 0), x.reshape(-1), right)


def _nonfinite(
    rows: Rows, x: Array, store: Format, of: Callable[[Array], Array]
) -> Iterator[Alternative]:
    """Yield results that exponentials spoil which overflow or vanish."""

    def naive(x: Array) -> Array:
        return of(narrow_range(np.exp(x), store))

    yield result_of(NO_MAXIMUM, rows, x, naive)
    if len(rows.shape) > 1 and x.size:
        for axis in {*range(len(rows.shape))} - {rows.axis}:
            cause = f"the largest element along axis {axis}, not {rows.axis}, is subtracted"
            shifted = x - np.max(x, axis=axis, keepdims=True)
            yield result_of(f"{cause}: exponentials overflow or vanish", rows, shifted, naive)
        cause = "the largest element of all rows is subtracted: exponentials vanish"
        yield result_of(cause, rows, x - np.max(x), naive)


def _nonfinite_logs(rows: Rows, x: Array, store: Format) -> Iterator[Alternative]:
    def of_shares(x: Array) -> Array:
        e = narrow_range(np.exp(x - largest(x)), store)
        return np.log(narrow_range(e / total(e), store))

    cause = "the logarithm of softmax, which vanishes: compute x - logsumexp(x)"
    yield result_of(cause, rows, x, of_shares)
    yield result_of(
        NO_MAXIMUM, rows, x, lambda x: x - np.log(total(narrow_range(np.exp(x), store)))
    )
    yield result_of(NO_MAXIMUM, rows, x, lambda x: np.log(_divided(narrow_range(np.exp(x), store))))


def _lost(
    rows: Rows, x: Array, right: Formula, replaced: dict[str, float]
) -> Iterator[Alternative]:
    """Yield what becomes of NaN and infinity if they are replaced."""
    yield result_of("replaced by 0 in x", rows, finite(x), right)
    lowest = float(np.finfo(x.dtype).min)
    bounded = np.where(np.isneginf(x), lowest, x)
    yield result_of("-inf is replaced by the lowest finite number in x", rows, bounded, right)
    for name, number in replaced.items():

        def of(x: Array, number: float = number) -> Array:
            idle = (x == -np.inf).all(axis=1, keepdims=True)
            return np.where(idle, number, right(x))

        yield result_of(f"rows of -inf alone become {name}", rows, x, of)


def result_of(cause: str, rows: Rows, x: Array, formula: Formula) -> Alternative:
    """Return what a formula of rows makes of an array."""

    def of(where: Any) -> Array:
        with np.errstate(all="ignore"):
            made = formula(rows.take(x))
        whole = rows.back(made) if made.shape[1:] == (rows.count,) else made
        elements: Array = whole.reshape(-1)[where]
        return elements

    return Alternative(cause, of)


def _logarithms() -> tuple[Factor, ...]:
    return (
        Factor(1 / LOG_2, "the logarithm to base 2 in place of the natural one"),
        Factor(LOG_2, "a factor log 2 too many"),
        Factor(1 / float(np.log(10.0)), "the logarithm to base 10 in place of the natural one"),
    )


def sums_of_parts(n: int, rows: int) -> Iterator[tuple[str, Formula]]:
    """Yield what share of the sum mistakes in blocks and passes take for the whole."""
    for cause, kept in parts_of_rows(n, rows):
        yield f"{cause} missing from the sum", lambda x, kept=kept: total(shares(x) * kept)  # type: ignore[misc]
    for size in (1, *BLOCKS):
        if size < n:
            cause = f"the sum is not rescaled when the maximum grows, in blocks of {size}"
            yield cause, partial(_without_rescaling, size)


def parts_of_rows(n: int, rows: int) -> Iterator[tuple[str, Array]]:
    """Yield which elements of a row are left where blocks at its end are dropped.

    Of several short rows any number may be missing: that explains no other result by chance.
    """
    usual = [1, *usual_blocks(n)]
    every = range(1, n) if rows > 1 and rows * n * n <= _SMALL else ()
    for rest in dict.fromkeys((*usual, *every)):
        if rest < n:
            what = "element" if rest == 1 else f"block of {rest}"
            yield f"the last {what} of a row of n = {n} is", np.arange(n) < n - rest


def _without_rescaling(size: int, x: Array) -> Array:
    """Return the sum of a running softmax that forgets to rescale, over the right one (R,1)."""
    running = np.maximum.accumulate(x, axis=1)
    ends = np.minimum(np.arange(x.shape[1]) // size * size + size, x.shape[1]) - 1
    share: Array = total(np.exp(x - running[:, ends])) / total(np.exp(x - largest(x)))
    return share


def narrow_range(x: Array, store: Format) -> Array:
    """Return numbers of no less than 0 with the range of a format."""
    small = np.rint(np.minimum(x, 1.0) / store.tiny) * store.tiny
    kept = np.where(x < store.tiny * 2.0**store.bits, small, x)
    return np.where(x > store.largest, np.inf, kept)


def _divided(e: Array) -> Array:
    p: Array = e / total(e)
    return p


def largest(x: Array) -> Array:
    """Return the largest elements of rows (R,1)."""
    m: Array = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    return m


def total(x: Array) -> Array:
    """Return the sums of rows (R,1)."""
    sums: Array = np.sum(x, axis=1, keepdims=True)
    return sums
