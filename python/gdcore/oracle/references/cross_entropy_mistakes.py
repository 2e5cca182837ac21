"""What people get wrong about a cross-entropy and its derivative."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Format
from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.numbers.operands import finite
from gdcore.oracle.references.mistakes import PRECISIONS, Alternative, Factor, Mistakes, Terms
from gdcore.oracle.references.softmax_mistakes import (
    NO_MAXIMUM,
    logs,
    narrow_range,
    shares,
    sums_of_parts,
)
from gdcore.oracle.references.targets import Targets

Array = NDArray[Any]
_LOG_2 = float(np.log(2.0))


@dataclass(frozen=True)
class _Model:
    """A loss of rows x (R,C) in float64 alone, and what mistakes change of it."""

    x: Floats
    y: Floats  # (R,C), before smoothing and weights
    kept: Array  # (R,)
    weight: Floats  # (C,)
    smoothing: float
    others: bool = False  # smoothing goes to the other classes alone
    added: bool = False  # smoothing is added, and nothing taken from the class itself
    mean: str = ""  # what a mean divides by: "rows", "kept" or "weights"
    divided: float = 0.0  # by this, if not 0
    logs: Callable[[Array], Array] = logs
    shares: Callable[[Array], Array] = shares

    @property
    def coefficients(self) -> Floats:
        """T (R,C)."""
        classes = self.y.shape[1]
        y, s = self.y, self.smoothing
        spread = s / max(classes - 1, 1) * (1 - y) if self.others else s / max(classes, 1)
        made = (y if self.added else (1 - s) * y) + spread
        whole: Floats = np.where(self.kept[:, None], made * self.weight, 0.0)
        return whole

    @property
    def divisor(self) -> float:
        """What the sum over rows is divided by."""
        if self.divided or not self.mean:
            return self.divided or 1.0
        if self.mean == "weights":
            return float((self.y * self.weight).sum(axis=1)[self.kept].sum())
        return float(self.kept.sum() if self.mean == "kept" else len(self.kept))

    def rows(self) -> Floats:
        """Return the losses of the rows."""
        t, z = self.coefficients, self.logs(self.x)
        rows: Floats = -np.where(t != 0, t * z, 0.0).sum(axis=1)
        return rows

    def loss(self, reduced: bool) -> Floats:
        """Return the loss."""
        rows = self.rows()
        return np.asarray(rows.sum() / self.divisor) if reduced else rows

    def gradient(self, g: Array) -> Floats:
        """Return the derivative (R,C)."""
        t, p = self.coefficients, self.shares(self.x)
        made: Floats = (p * t.sum(axis=1, keepdims=True) - t) * g / self.divisor
        return np.where(self.kept[:, None], made, 0.0)


def _model(t: Targets, x: Floats) -> _Model:
    classes = t.y.shape[1]
    weight = np.ones(classes) if t.weight is None else t.weight
    mean = ""
    if t.reduction == "mean":
        mean = "rows" if t.dense else "kept" if t.weight is None else "weights"
    return _Model(x, t.y, t.kept, weight, t.smoothing, mean=mean)


def of_loss(t: Targets, x: Floats, store: Format) -> Mistakes:
    """Return the known mistakes of the loss."""
    model, reduced = _model(t, x), t.reduction != "none"

    def made(cause: str, changed: Callable[[], _Model]) -> Alternative:
        def of(where: Any) -> Array:
            with np.errstate(all="ignore"):
                elements: Array = changed().loss(reduced).reshape(-1)[where]
            return elements

        return Alternative(cause, of)

    def alternatives() -> Iterator[Alternative]:
        for cause, changed in (*_options(t, model), *_logarithms(model, x.shape[1])):
            yield made(cause, changed)

    def lost() -> Iterator[Alternative]:
        yield made("replaced by 0 in the logits", lambda: replace(model, x=finite(x)))

    def terms() -> Iterator[Terms]:
        if reduced:
            rows = (model.rows() / model.divisor).reshape(1, -1)
            n = rows.shape[1]
            yield Terms(
                f"N = {n} rows", n, n, lambda where: rows,
                lambda part: rows[:, part].sum(axis=1), t.reduction == "mean",
            )  # fmt: skip

    def nonfinite() -> Iterator[Alternative]:
        for cause, change in _overflows(store):
            yield made(cause, partial(replace, model, logs=change))

    return Mistakes(
        f"the cross-entropy, reduction {t.reduction!r}, with N = {len(x)}",
        _factors(t, model, "loss"),
        alternatives,
        terms,
        lost=lost,
        nonfinite=nonfinite,
    )


def of_gradient(t: Targets, x: Floats, g: Array) -> Mistakes:
    """Return the known mistakes of the derivative with respect to the logits."""
    model = _model(t, x)

    def made(cause: str, result: Callable[[], Array]) -> Alternative:
        def of(where: Any) -> Array:
            with np.errstate(all="ignore"):
                elements: Array = t.rows.back(result()).reshape(-1)[where]
            return elements

        return Alternative(cause, of)

    def alternatives() -> Iterator[Alternative]:
        for cause, changed in _options(t, model):
            yield made(cause, lambda changed=changed: changed().gradient(g))  # type: ignore[misc]
        scale = g / model.divisor
        coefficients, p = model.coefficients, shares(x)
        whole = coefficients.sum(axis=1, keepdims=True)
        yield made("the target is not subtracted: p alone", lambda: p * whole * scale)
        yield made("softmax is missing: x - y", lambda: (x * whole - coefficients) * scale)
        yield made(
            "log-softmax in place of softmax", lambda: (logs(x) * whole - coefficients) * scale
        )
        yield made("softmax is missing: -y alone", lambda: -coefficients * scale)
        if t.weight is not None:
            rows = model.kept[:, None] * scale
            yield made("p is not weighted: p - w y", lambda: (p - coefficients) * rows)
            yield made("the target is not weighted: w p - y", lambda: (p * whole - t.y) * rows)
        if np.any(g != 1):
            yield made("grad_out is missing", lambda: model.gradient(np.ones(())))
        if not model.kept.all():
            cause = "the derivative of ignored rows is not 0"
            p_alone = np.where(model.kept[:, None], 0.0, p * scale)
            yield made(cause, lambda: model.gradient(g) + p_alone)

    return Mistakes(
        f"the gradient of the cross-entropy, reduction {t.reduction!r}, with N = {len(x)}",
        _factors(t, model, "gradient"),
        alternatives,
    )


def _options(t: Targets, model: _Model) -> Iterator[tuple[str, Callable[[], _Model]]]:
    """Yield what becomes of the loss if an option is missing or applied wrongly."""
    change = partial(partial, replace, model)
    classes = t.y.shape[1]
    if t.smoothing:
        yield "the label smoothing is missing", change(smoothing=0.0)
        cause = f"the label smoothing goes to the other {classes - 1} classes alone: s / (C - 1)"
        yield cause, change(others=True)
        yield "1 - s is missing: the label smoothing is added to the target", change(added=True)
        yield "1 - s in place of the label smoothing s", change(smoothing=1 - t.smoothing)
    for usual in () if t.smoothing else (0.1, 0.05, 0.2):
        yield f"the labels are smoothed by {usual}, and should not be", change(smoothing=usual)
    if t.weight is not None:
        ones = np.ones(classes)
        mean = "kept" if model.mean == "weights" else model.mean
        yield "the class weights are missing", change(weight=ones, mean=mean)
        yield "the class weights are applied twice", change(weight=t.weight**2, mean=model.mean)
        if model.mean == "weights":
            cause = "the mean is over the rows, where it is over the sum of their weights"
            yield cause, change(mean="kept")
            cause = "the class weights are missing from the sum that their sum divides"
            yield cause, change(weight=ones, divided=model.divisor)
    if not t.kept.all():
        if model.mean:
            yield "ignored rows are counted in the mean", change(mean="rows")
        yield from _not_ignored(t, model)
    if t.classes is not None:
        for step in (1, -1):
            y = _one_hot(t.classes + step, classes)
            yield f"classes are numbered from {'1' if step < 0 else '-1'}", change(y=y)
    if len(t.y) > 1 and not np.array_equal(t.y, np.roll(t.y, 1, axis=0)):
        yield "the target is that of the next row", change(y=np.roll(t.y, -1, axis=0))
    for precision, narrow in PRECISIONS.items():
        cause = f"the logits are rounded through {precision}"
        yield cause, change(x=narrow(model.x))


def _not_ignored(t: Targets, model: _Model) -> Iterator[tuple[str, Callable[[], _Model]]]:
    """Yield what becomes of ignored rows that are not left out, their class modulo C."""
    if t.classes is None:
        return
    y, every = _one_hot(t.classes, t.y.shape[1]), np.ones(len(t.kept), bool)
    for mean in dict.fromkeys((model.mean, "kept" if model.mean else "")):
        cause = "the ignored class is not ignored"
        yield cause, partial(replace, model, y=y, kept=every, mean=mean)
    clipped = _one_hot(np.clip(t.classes, 0, t.y.shape[1] - 1), t.y.shape[1])
    yield "the ignored class is taken for class 0", partial(replace, model, y=clipped, kept=every)


def _one_hot(classes: Array, count: int) -> Floats:
    y = np.zeros((len(classes), count))
    if count:
        y[np.arange(len(classes)), classes % count] = 1.0
    return y


def _logarithms(model: _Model, classes: int) -> Iterator[tuple[str, Callable[[], _Model]]]:
    """Yield what becomes of the loss if log-softmax is wrong."""

    def safe_log(x: Array) -> Array:
        return np.log(np.where(x > 0, x, np.nan))

    known: list[tuple[str, Callable[[Array], Array]]] = [
        ("log-softmax is missing: the logits are taken for logarithms", lambda x: x),
        ("the logits are taken for probabilities: log-softmax is missing", safe_log),
        ("the logarithm is missing: -p", shares),
        ("softmax is applied twice: the logits are not probabilities", lambda x: logs(shares(x))),
        ("log-softmax is taken over the rows instead of the classes", lambda x: logs(x.T).T),
        ("the largest element is not added back", _without_shift),
        ("powers of 2 in place of e", lambda x: logs(x * _LOG_2)),
    ]
    for cause, change in known:
        yield cause, partial(replace, model, logs=change)
    for cause, share in sums_of_parts(classes, len(model.x)):
        lesser = partial(_less, share)
        yield cause, partial(replace, model, logs=lesser)


def _less(share: Callable[[Array], Array], x: Array) -> Array:
    """Return log-softmax with a sum of which only a share was taken."""
    z: Array = logs(x) - np.log(share(x))
    return z


def _without_shift(x: Array) -> Array:
    """Return x - log(sum(exp(x - max)))."""
    m = np.max(x, axis=1, keepdims=True, initial=-np.inf)
    z: Array = logs(x) + m
    return z


def _overflows(store: Format) -> Iterator[tuple[str, Callable[[Array], Array]]]:
    """Yield logarithms that exponentials spoil which overflow or vanish."""

    def naive(x: Array) -> Array:
        e = narrow_range(np.exp(x), store)
        z: Array = x - np.log(e.sum(axis=1, keepdims=True))
        return z

    def of_naive(x: Array) -> Array:
        e = narrow_range(np.exp(x), store)
        z: Array = np.log(narrow_range(e / e.sum(axis=1, keepdims=True), store))
        return z

    yield NO_MAXIMUM, naive
    yield NO_MAXIMUM, of_naive
    cause = "the logarithm of softmax, which vanishes: compute x - logsumexp(x)"
    yield cause, lambda x: np.log(narrow_range(shares(x), store))


def _factors(t: Targets, model: _Model, what: str) -> tuple[Factor, ...]:
    """Return what known mistakes multiply a result by."""
    n, classes = len(t.kept), t.y.shape[1]
    found = [
        Factor(-1.0, "the sign is wrong"),
        Factor(2.0, "stale accumulation, or a factor 2"),
        Factor(0.5, "a factor 1/2 too many"),
    ]
    if what == "loss":
        found.append(Factor(1 / _LOG_2, "the logarithm to base 2 in place of the natural one"))
    if model.mean:
        d = model.divisor
        over = {"rows": "rows", "kept": "rows", "weights": "the sum of the weights"}[model.mean]
        if d not in (0.0, 1.0):
            found.append(Factor(d, f"a sum, where the reduction is a mean: a missing 1/{d:.6g}"))
            found.append(Factor(1 / d, f"the division by {over} is applied twice"))
        if classes > 1:
            found.append(Factor(1 / classes, f"a mean over the C = {classes} classes, too"))
    elif t.reduction == "sum" and n > 1:
        found.append(Factor(1 / n, "a mean, where the reduction is a sum"))
    return tuple(found)
