"""What people get wrong about layer norm and RMS norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.references.axes import Rows
from gdcore.oracle.references.mistakes import (
    PRECISIONS,
    Array,
    Factor,
    Loss,
    Mistakes,
    usual_blocks,
)
from gdcore.oracle.references.reduction_mistakes import (
    ONE_PASS,
    Named,
    listed,
    other_axes,
    padded_sizes,
)

_LARGE = 1 << 22  # numbers, beyond which no other axes are tried
_EPS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 2.0**-23, 2.0**-52)
_RMS = "RMS norm in place of layer norm: the mean is not subtracted"
_LAYER = "layer norm in place of RMS norm: the mean is subtracted"
_FACTORS = (
    Factor(-1.0, "the sign is wrong"),
    Factor(2.0, "stale accumulation, or a factor 2"),
    Factor(0.5, "a factor 1/2 too many"),
)


@dataclass(frozen=True)
class Plain:
    """The norm of rows in float64 alone, as a whole or with one thing changed."""

    rows: Rows
    given: Array
    x: Floats
    w: Floats | None
    b: Floats | None
    g: Floats | None
    eps: float
    centred: bool

    @property
    def weight(self) -> Any:
        """What normalised rows are multiplied by."""
        return 1.0 if self.w is None else self.w

    @property
    def mean(self) -> Floats:
        """Mean of each row (R, 1)."""
        mean: Floats = self.x.mean(-1, keepdims=True)
        return mean

    def square(self, centred: bool | None = None) -> Floats:
        """Return the variance, or the mean of the squares."""
        d = self.deviations(centred)
        square: Floats = (d * d).mean(-1, keepdims=True)
        return square

    def deviations(self, centred: bool | None = None) -> Floats:
        """Return what is scaled."""
        centred = self.centred if centred is None else centred
        return self.x - self.mean if centred else self.x

    def root(self, square: Any = None) -> Floats:
        """Return the reciprocal root."""
        root: Floats = 1 / np.sqrt((self.square() if square is None else square) + self.eps)
        return root

    def normed(self) -> Floats:
        """Return the normalised rows."""
        return self.deviations() * self.root()

    def affine(self, normed: Floats, w: Any = None, b: Any = None) -> Array:
        """Return normalised rows times the weight, with the bias, in the shape of x."""
        w = self.weight if w is None else w
        b = (0.0 if self.b is None else self.b) if b is None else b
        return self.rows.back(normed * w + b)

    def gradient(self, mean: float = 1.0, along: float = 1.0, w: Any = None) -> Array:
        """Return the gradient of x, with these multiples of its two projections."""
        assert self.g is not None
        gw, y = self.g * (self.weight if w is None else w), self.normed()
        inner = gw - along * y * (gw * y).mean(-1, keepdims=True)
        if self.centred:
            inner = inner - mean * gw.mean(-1, keepdims=True)
        return self.rows.back(inner * self.root())


def of_value(p: Plain, one_pass: Callable[[], Array] | None) -> Mistakes:
    """Return what people get wrong about the result."""
    name = "the layer norm" if p.centred else "the RMS norm"

    def losses() -> list[Loss]:
        return [] if one_pass is None else [Loss(ONE_PASS, one_pass())]

    return Mistakes(name, _FACTORS, listed(partial(_values, p)), losses=losses)


def of_gradient(p: Plain) -> Mistakes:
    """Return what people get wrong about the gradient of x."""
    return Mistakes("the gradient of x", _FACTORS, listed(partial(_gradients, p)))


def of_weight_gradient(p: Plain) -> Mistakes:
    """Return what people get wrong about the gradient of the weight."""

    def named() -> Named:
        g: Any = p.g
        yield "x is not normalised", lambda: (g * p.x).sum(0)
        yield "the division by the root is missing", lambda: (g * p.deviations()).sum(0)
        yield "grad_out is not multiplied by the normalised x", lambda: g.sum(0)
        if p.centred:
            yield "the mean is not subtracted", lambda: (g * p.x * p.root()).sum(0)
        else:
            yield _LAYER, lambda: (g * p.deviations(True) * p.root(p.square(True))).sum(0)
        yield from _other_roots(p, lambda y: (g * y).sum(0))
        for precision, narrow in PRECISIONS.items():
            yield (
                f"grad_out is rounded through {precision}",
                lambda f=narrow: (f(g) * p.normed()).sum(0),  # type: ignore[misc]
            )
            yield (
                f"x is rounded through {precision}",
                lambda f=narrow: (g * replace(p, x=f(p.x)).normed()).sum(0),  # type: ignore[misc]
            )
        yield from _dropped_rows(p, lambda part: (g[part] * p.normed()[part]).sum(0))

    return Mistakes("the gradient of the weight", _over_rows(p), listed(named))


def of_bias_gradient(p: Plain) -> Mistakes:
    """Return what people get wrong about the gradient of the bias."""

    def named() -> Named:
        g: Any = p.g
        yield "grad_out is multiplied by the weight", lambda: (g * p.weight).sum(0)
        yield "grad_out is multiplied by the normalised x", lambda: (g * p.normed()).sum(0)
        for precision, narrow in PRECISIONS.items():
            yield f"grad_out is rounded through {precision}", lambda f=narrow: f(g).sum(0)  # type: ignore[misc]
        yield from _dropped_rows(p, lambda part: g[part].sum(0))

    return Mistakes("the gradient of the bias", _over_rows(p), listed(named))


def _over_rows(p: Plain) -> tuple[Factor, ...]:
    count = p.rows.count
    if count < 2:
        return _FACTORS
    return (*_FACTORS, Factor(1 / count, f"a mean over the {count} rows, where it is a sum"))


def _dropped_rows(p: Plain, of: Callable[[slice], Array]) -> Named:
    count = p.rows.count
    for rest in {1, *usual_blocks(count)} if count > 1 else ():
        yield (
            f"the last {rest} of the {count} rows are dropped",
            partial(of, slice(0, count - rest)),
        )


def _other_roots(p: Plain, of: Callable[[Floats], Array]) -> Named:
    """Yield what other uses of eps, of n and of the root make of the normalised rows."""
    d, v, eps = p.deviations(), p.square(), p.eps
    n = p.rows.n
    if eps:
        yield "eps is outside the root", lambda: of(d / (np.sqrt(v) + eps))
        yield "eps is missing", lambda: of(d / np.sqrt(v))
    for other in _EPS:
        if not np.isclose(other, eps, rtol=1e-3):
            yield (
                f"eps is {other:.3g} instead of {eps:.3g}",
                lambda e=other: of(d / np.sqrt(v + e)),  # type: ignore[misc]
            )
    if n > 1:
        what = "variance" if p.centred else "mean of the squares"
        yield (
            f"the {what} is divided by n - 1 instead of n",
            lambda: of(d * p.root(v * (n / (n - 1)))),
        )
        yield "the sum of the squares is not divided by n", lambda: of(d * p.root(v * n))
    yield "the division is by the square, not by its root", lambda: of(d / (v + eps))
    for size in padded_sizes(n):
        yield (
            f"the mean of the squares is over the {size} elements of padded blocks",
            lambda s=size: of(d * p.root(v * (n / s))),  # type: ignore[misc]
        )


def _values(p: Plain) -> Named:
    d, v = p.deviations(), p.square()
    if p.centred:
        yield _RMS, lambda: p.affine(p.x * p.root(p.square(False)))
        yield "the mean is not subtracted", lambda: p.affine(p.x * p.root())
        yield (
            "the variance is the mean of x**2: its mean is not subtracted",
            lambda: p.affine(d * p.root(p.square(False))),
        )
    else:
        centred = p.deviations(True)
        yield _LAYER, lambda: p.affine(centred * p.root(p.square(True)))
        yield (
            "the root is of the variance, not of the mean of x**2",
            lambda: p.affine(d * p.root(p.square(True))),
        )
        yield "the mean is subtracted", lambda: p.affine(centred * p.root())
        yield (
            "the mean of the magnitudes, not the root of the squares",
            lambda: p.affine(d / (np.abs(d).mean(-1, keepdims=True) + p.eps)),
        )
    yield "the division by the root is missing", lambda: p.affine(d)
    yield from _other_roots(p, p.affine)
    yield from _affine_mistakes(p)
    yield from _other_axes(p)
    yield from _tails(p)
    for precision, narrow in PRECISIONS.items():
        yield (
            f"x is rounded through {precision}",
            lambda f=narrow: p.affine(replace(p, x=f(p.x)).normed()),  # type: ignore[misc]
        )
        yield (
            f"the normalised x is rounded through {precision}",
            lambda f=narrow: p.affine(f(d * p.root(v))),  # type: ignore[misc]
        )
        if p.w is not None:
            yield (
                f"the weight is rounded through {precision}",
                lambda f=narrow: p.affine(p.normed(), w=f(p.w)),  # type: ignore[misc]
            )
        if p.b is not None:
            yield (
                f"the bias is rounded through {precision}",
                lambda f=narrow: p.affine(p.normed(), b=f(p.b)),  # type: ignore[misc]
            )


def _affine_mistakes(p: Plain) -> Named:
    if p.w is not None:
        w = p.w
        yield "the weight is missing", lambda: p.affine(p.normed(), w=1.0)
        yield (
            "1 is added to the weight, as Gemma's RMS norm has it",
            lambda: p.affine(p.normed(), w=1 + w),
        )
        yield "the weight is multiplied in twice", lambda: p.affine(p.normed(), w=w * w)
        yield "the weight is reversed", lambda: p.affine(p.normed(), w=w[::-1])
    if p.b is not None:
        b = p.b
        yield "the bias is missing", lambda: p.affine(p.normed(), b=0.0)
        yield "the bias is subtracted", lambda: p.affine(p.normed(), b=-b)
        yield "the bias is added twice", lambda: p.affine(p.normed(), b=2 * b)
        yield (
            "the bias is added before the weight multiplies",
            lambda: p.rows.back((p.normed() + b) * p.weight),
        )
        if p.w is not None:
            yield (
                "the weight and the bias are missing",
                lambda: p.affine(p.normed(), w=1.0, b=0.0),
            )
            yield "the weight and the bias are swapped", lambda: p.affine(p.normed(), w=b, b=p.w)


def _other_axes(p: Plain) -> Named:
    if p.given.size > _LARGE:
        return
    for axes, name in other_axes(p.rows):
        other = Rows(p.given.shape, axes)

        def of(other: Rows = other) -> Array:
            moved = replace(p, rows=other, x=other.take(p.given), w=None, b=None)
            return p.affine(p.rows.take(moved.affine(moved.normed())))

        yield f"normalised over {name} instead", of


def _about(p: Plain, mean: Floats) -> Array:
    """Return what another mean makes of deviations and of their squares."""
    d = p.x - mean
    return p.affine(d * p.root((d * d).mean(-1, keepdims=True)))


def _tails(p: Plain) -> Named:
    """Yield what statistics of a part of each row, or of padded rows, make of the result."""
    n, x, mean = p.rows.n, p.x, p.mean

    def scaled(mean: Any, square: Any) -> Array:
        return p.affine((x - mean if p.centred else x) * p.root(square))

    def of(y: Floats) -> Array:
        part = replace(p, x=y)
        return scaled(part.mean, part.square())

    for rest in usual_blocks(n):
        yield (
            f"the last {rest} of the n = {n} elements are dropped from the statistics",
            lambda k=rest: of(x[:, : n - k]),  # type: ignore[misc]
        )
        part = x[:, : n - rest]
        left = f"the last {rest} of the n = {n} elements are missing from"
        squares = ((part - mean) if p.centred else part) ** 2
        yield (
            f"{left} the sum of the squares, which is divided by n",
            lambda s=squares: scaled(mean, s.sum(-1, keepdims=True) / n),  # type: ignore[misc]
        )
        if p.centred:
            yield f"{left} the mean", partial(_about, p, part.mean(-1, keepdims=True))
            yield (
                f"{left} the sum of the mean, which is divided by n",
                partial(_about, p, part.sum(-1, keepdims=True) / n),
            )
    if p.centred and p.rows.count > 1:
        yield "the mean is that of the columns, not of the rows", partial(_about, p, x.mean(0))
    if not p.centred:
        return
    for size in padded_sizes(n):
        cause = f"the zeros that pad blocks to {size} elements are counted in the variance"
        whole = p.square() * n + (size - n) * mean**2
        yield cause, lambda h=whole: scaled(mean, h / n)  # type: ignore[misc]
        yield f"{cause}, also in its n", lambda h=whole, s=size: scaled(mean, h / s)  # type: ignore[misc]
        yield (
            f"{cause}, also in the mean",
            lambda s=size: of(np.pad(x, ((0, 0), (0, s - n)))),  # type: ignore[misc]
        )


def _gradients(p: Plain) -> Named:
    assert p.g is not None
    if p.centred:
        yield "the mean of grad_out * weight is not subtracted", lambda: p.gradient(mean=0.0)
        yield (
            "RMS norm's gradient in place of layer norm's",
            lambda: replace(p, centred=False).gradient(),
        )
    else:
        yield (
            "layer norm's gradient in place of RMS norm's",
            lambda: replace(p, centred=True).gradient(),
        )
    yield (
        "the projection on the normalised x is not subtracted",
        lambda: p.gradient(along=0.0),
    )
    yield "mean and root are taken to be constants", lambda: p.gradient(0.0, 0.0)
    yield "the projections are sums, not divided by n", lambda: p.gradient(p.rows.n, p.rows.n)
    yield (
        "the projection on the normalised x is a sum, not divided by n",
        lambda: p.gradient(along=p.rows.n),
    )
    yield "the projection on the normalised x is added", lambda: p.gradient(along=-1.0)
    yield (
        "the reciprocal root is missing",
        lambda: p.rows.back(p.rows.take(p.gradient()) / p.root()),
    )
    yield (
        "the reciprocal root is multiplied in twice",
        lambda: p.rows.back(p.rows.take(p.gradient()) * p.root()),
    )
    if p.w is not None:
        yield "the weight is missing", lambda: p.gradient(w=1.0)
        yield "1 is added to the weight", lambda: p.gradient(w=1 + p.weight)
        yield (
            "the weight is multiplied in after the projections",
            lambda: p.rows.back(p.rows.take(p.gradient(w=1.0)) * p.weight),
        )
    for eps in (*_EPS, 0.0):
        if not np.isclose(eps, p.eps, rtol=1e-3):
            cause = f"eps is {eps:.3g} instead of {p.eps:.3g}" if eps else "eps is missing"
            yield cause, lambda e=eps: replace(p, eps=e).gradient()  # type: ignore[misc]
    for precision, narrow in PRECISIONS.items():
        for name in ("x", "g", "w"):
            value = getattr(p, name)
            if value is not None:
                what = {"g": "grad_out", "w": "the weight"}.get(name, name)
                yield (
                    f"{what} is rounded through {precision}",
                    lambda f=narrow, k=name, v=value: replace(p, **{k: f(v)}).gradient(),  # type: ignore[misc]
                )
