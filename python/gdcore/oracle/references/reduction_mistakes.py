"""What people get wrong about sums, means and variances over axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import combinations
from typing import Any

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.axes import Rows
from gdcore.oracle.references.mistakes import (
    BLOCKS,
    PRECISIONS,
    Alternative,
    Array,
    Factor,
    Loss,
    Mistakes,
    Terms,
    usual_blocks,
)

_LARGE = 1 << 22  # numbers, beyond which no other axes are tried
Named = Iterator[tuple[str, Callable[[], Array]]]


def once(cause: str, build: Callable[[], Array]) -> Alternative:
    """Return an alternative whose result is computed once, as a whole."""
    whole = cache(lambda: np.asarray(build(), np.float64).reshape(-1))
    return Alternative(cause, lambda where: whole()[where])


def listed(named: Callable[[], Named]) -> Callable[[], Iterator[Alternative]]:
    """Return what yields alternatives for names and what builds their results."""
    return lambda: (once(cause, build) for cause, build in named())


def other_axes(rows: Rows) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield other axes that an operation may be over by mistake, and their names."""
    everything = tuple(range(len(rows.shape)))
    for count in {1, len(rows.axes), len(everything)}:
        for axes in combinations(everything, count):
            if axes != rows.axes and axes:
                yield axes, f"axis {axes[0]}" if count == 1 else f"axes {axes}"


def padded_sizes(n: int) -> Iterator[int]:
    """Yield how many elements blocks have that hold n, for usual sizes of blocks."""
    sizes = {1 << (n - 1).bit_length(), *(-(-n // size) * size for size in (*BLOCKS, 256, 1024))}
    yield from sorted(sizes - {n})


def of_sum(rows: Rows, given: Array, x: Floats, shape: tuple[int, ...]) -> Mistakes:
    """Return what people get wrong about a sum."""
    factors = [*_FACTORS]
    if rows.n > 1:
        factors.append(Factor(1 / rows.n, f"a mean of the {rows.n} elements, where it is a sum"))
    alternatives = listed(partial(_reductions, np.sum, rows, given, x, shape))
    return Mistakes("the sum", tuple(factors), alternatives, partial(_terms, x, 1.0))


def of_mean(rows: Rows, given: Array, x: Floats, shape: tuple[int, ...]) -> Mistakes:
    """Return what people get wrong about a mean."""
    n, factors = rows.n, [*_FACTORS]
    if n > 1:
        factors += [
            Factor(n, "a sum, where it is a mean: a missing 1/n"),
            Factor(1 / n, "1/n is applied twice"),
            Factor(n / (n - 1), "a division by n - 1 instead of n"),
        ]
    factors += [Factor(n / size, _padded(size)) for size in padded_sizes(n)]
    alternatives = listed(partial(_reductions, np.mean, rows, given, x, shape))
    return Mistakes(
        f"the mean with n = {n}", tuple(factors), alternatives, partial(_terms, x, 1 / n)
    )


def of_variance(
    rows: Rows, given: Array, x: Floats, shape: tuple[int, ...], correction: float, lost: Floats
) -> Mistakes:
    """Return what people get wrong about a variance; `lost` is what one pass may lose."""
    n = rows.n
    factors = [*_FACTORS]
    for other, name in ((0, "biased: divided by n"), (1, "unbiased: divided by n - 1")):
        if other != correction and n > other:
            cause = f"the variance is {name}; the correction is {correction:g}"
            factors.append(Factor((n - correction) / (n - other), cause))
    factors.append(Factor(n - correction, "the sum of squares, not divided"))
    factors += [
        Factor((n - correction) / (size - correction), _padded(size)) for size in padded_sizes(n)
    ]
    of = f"the variance with n = {n}"
    found = partial(_variances, rows, given, x, shape, correction)
    return Mistakes(
        of, tuple(factors), listed(found), losses=lambda: [Loss(ONE_PASS, lost.reshape(shape))]
    )


def of_spread(rows: Rows, g: Floats, factor: float, of: str) -> Mistakes:
    """Return what people get wrong about the gradient of a sum or mean."""
    n, factors = rows.n, [*_FACTORS]
    if n > 1:
        factors.append(
            Factor(1 / n, "a mean's gradient, where it is a sum's")
            if factor == 1
            else Factor(n, "a missing 1/n")
        )
        factors.append(Factor(1 / n**2 if factor == 1 else 1 / n, "1/n is applied twice"))

    def rounded() -> Named:
        for precision, narrow in PRECISIONS.items():
            yield (
                f"grad_out is rounded through {precision}",
                lambda f=narrow: rows.back(np.repeat(f(g) * factor, n).reshape(rows.count, n)),  # type: ignore[misc]
            )

    return Mistakes(of, tuple(factors), listed(rounded))


def of_variance_gradient(rows: Rows, x: Floats, g: Floats, correction: float) -> Mistakes:
    """Return what people get wrong about the gradient of a variance."""
    n = rows.n
    divisor = n - correction
    factors = [*_FACTORS, Factor(divisor, "a missing 1/(n - correction)")]
    for other in (0, 1):
        if other != correction and n > other:
            cause = f"a division by n - {other:g} instead of n - {correction:g}"
            factors.append(Factor(divisor / (n - other), cause))

    def of(x: Floats, g: Floats, mean: Any = None) -> Array:
        mean = x.mean(-1, keepdims=True) if mean is None else mean
        return rows.back(2 * (x - mean) * g[:, None] / divisor)

    def named() -> Named:
        yield "the mean is not subtracted", lambda: of(x, g, 0.0)
        yield (
            "the derivative of the root",
            lambda: of(
                x, g / (2 * np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).sum(-1) / divisor))
            ),
        )
        for precision, narrow in PRECISIONS.items():
            yield f"x is rounded through {precision}", lambda f=narrow: of(f(x), g)  # type: ignore[misc]
            yield f"grad_out is rounded through {precision}", lambda f=narrow: of(x, f(g))  # type: ignore[misc]

    return Mistakes("the gradient of a variance", tuple(factors), listed(named))


ONE_PASS = (
    "a variance in one pass, E[x^2] - E[x]^2, cancels where the mean is large beside the standard "
    "deviation"
)
_FACTORS = (
    Factor(-1.0, "the sign is wrong"),
    Factor(2.0, "stale accumulation, or a factor 2"),
    Factor(0.5, "a factor 1/2 too many"),
)


def _padded(size: int) -> str:
    return f"the division is by the {size} elements of padded blocks"


def _reductions(
    function: Any, rows: Rows, given: Array, x: Floats, shape: tuple[int, ...]
) -> Named:
    if given.size <= _LARGE:
        for axes, name in other_axes(rows):
            other = Rows(given.shape, axes)
            if other.kept and other.reduced(len(shape) == len(given.shape)) == shape:
                yield f"over {name} instead", lambda r=other: function(r.take(given), axis=-1)  # type: ignore[misc]
    yield "of the magnitudes", lambda: function(np.abs(x), axis=-1)
    yield "the largest element, not the " + function.__name__, lambda: x.max(-1)
    for precision, narrow in PRECISIONS.items():
        yield (
            f"the elements are rounded through {precision}",
            lambda f=narrow: function(f(x), axis=-1),  # type: ignore[misc]
        )


def _variances(
    rows: Rows, given: Array, x: Floats, shape: tuple[int, ...], correction: float
) -> Named:
    n, divisor = rows.n, rows.n - correction
    mean = x.mean(-1, keepdims=True)
    squares = (x - mean) ** 2

    def of(y: Floats, count: float) -> Array:
        result: Array = ((y - y.mean(-1, keepdims=True)) ** 2).sum(-1) / count
        return result

    if given.size <= _LARGE:
        for axes, name in other_axes(rows):
            other = Rows(given.shape, axes)
            if other.kept and other.reduced(len(shape) == len(given.shape)) == shape:
                yield (
                    f"over {name} instead",
                    lambda r=other: of(r.take(given), max(r.n - correction, 1)),  # type: ignore[misc]
                )
    yield "the standard deviation, not the variance", lambda: np.sqrt(of(x, divisor))
    yield "the mean is not subtracted", lambda: (x * x).sum(-1) / divisor
    yield "the absolute deviations, not their squares", lambda: np.sqrt(squares).sum(-1) / divisor
    for rest in usual_blocks(n):
        if n - rest > correction:
            cause = f"the last {rest} of the n = {n} elements are dropped"
            yield cause, lambda k=rest: of(x[:, : n - k], n - k - correction)  # type: ignore[misc]
            yield (
                f"{cause}, and the division is by n - {correction:g} all the same",
                lambda k=rest: of(x[:, : n - k], divisor),  # type: ignore[misc]
            )
    for size in padded_sizes(n):
        more = (size - n) * mean[:, 0] ** 2
        cause = f"the zeros that pad blocks to {size} elements are counted"
        yield cause, lambda e=more: (squares.sum(-1) + e) / divisor  # type: ignore[misc]
        yield (
            f"{cause}, also in n",
            lambda e=more, s=size: (squares.sum(-1) + e) / (s - correction),  # type: ignore[misc]
        )
        yield (
            f"{cause}, also in n and the mean",
            lambda s=size: of(np.pad(x, ((0, 0), (0, s - n))), s - correction),  # type: ignore[misc]
        )
    for precision, narrow in PRECISIONS.items():
        yield f"the elements are rounded through {precision}", lambda f=narrow: of(f(x), divisor)  # type: ignore[misc]


def _terms(x: Floats, factor: float) -> Iterator[Terms]:
    """Yield the elements that each sum is of."""
    n = x.shape[-1]
    yield Terms(
        f"n = {n} elements", n, n, lambda where: factor * x[where],
        lambda part: factor * x[:, part].sum(-1), factor != 1,
    )  # fmt: skip
