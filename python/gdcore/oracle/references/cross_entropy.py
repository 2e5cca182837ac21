"""The cross-entropy of logits and classes, or probabilities, and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import DoubleDouble, Floats, add, exact, negative, times
from gdcore.oracle.numbers.elementary import divide, sum_along
from gdcore.oracle.numbers.operands import take
from gdcore.oracle.references import cross_entropy_mistakes as mistakes
from gdcore.oracle.references.exponentials import Exponentials
from gdcore.oracle.references.mistakes import Mistakes
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make
from gdcore.oracle.references.targets import Targets, read_targets

Array = NDArray[Any]


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of the cross-entropy, as `torch.nn.functional.cross_entropy` has it.

    A row's loss is ``-(T * log_softmax(logits)).sum()`` over C classes, with
    ``T = w * ((1 - s) * y + s / C)``: y is 1 for the target's class or holds the probabilities, w
    are the class weights and s is the label smoothing; rows of the ignored class have T = 0. The
    mean divides by the number of rows, or, for classes, by the sum of w over the targets that are
    not ignored. The bound holds for the ways to compute log-softmax that that of `log_softmax`
    holds for, and for sums in any order, also of ``T * x`` alone; docs/numerics.md derives it.

    Parameters
    ----------
    logits : array_like, shape (C,), (N, C) or (N, C, ...)
    target : array_like
        Classes, whole numbers of the shape of the logits without their axis of classes; or
        probabilities, floating, of the shape of the logits.
    weight : array_like, shape (C,), optional
    ignore_index : int
        Class that is left out; for classes alone.
    label_smoothing : float
        From 0 to 1.
    reduction : {"mean", "sum", "none"}
    grad_out : array_like, shape of the loss, optional
        What the derivative is multiplied with; 1 by default.
    dtype, accumulator : optional
        The arithmetic under test, as in `softmax`.

    Returns
    -------
    Reference
        Of the loss; ``grad.logits`` is that of its derivative. Where an ignored row holds NaN or
        infinity, or a mean ignores all rows, it gets no verdict: libraries differ.

    Raises
    ------
    ValueError
        If shapes do not fit, a class is out of range, or an option is unknown.
    TypeError
        If an array cannot be read as real numbers, or integers have the shape of the logits.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.cross_entropy([[0.0, 0.0], [0.0, 0.0]], [0, 1], dtype="float32")
    >>> print(ref.value.round(6), ref.grad.logits.value.tolist())
    0.693147 [[-0.25, 0.25], [0.25, -0.25]]
    >>> print(ref.check(2 * ref.value).worst_status)
    WRONG
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is {reduction!r}; choose one of 'mean', 'sum', 'none'.")
    targets = read_targets(logits, target, weight, ignore_index, label_smoothing, reduction)
    named = {"logits": logits, "weight": weight, "grad_out": grad_out}
    if targets.dense:
        named["target"] = target
    arithmetic, given = take(dtype, accumulator, **named)
    shape = targets.rows.others if reduction == "none" else ()
    g = np.ones(shape) if given["grad_out"] is None else given["grad_out"].astype(np.float64)
    if g.shape != shape:
        raise ValueError(
            f"cross_entropy: grad_out has shape {g.shape}; the loss has shape {shape}."
        )
    with np.errstate(all="ignore"):
        loss = _CrossEntropy(arithmetic, targets, given["logits"], g)
        return loss.without_verdict(loss.loss())


class _CrossEntropy:
    """What is known of the logits, and the references made of it."""

    def __init__(
        self, arithmetic: Arithmetic, targets: Targets, logits: Array, grad_out: Floats
    ) -> None:
        self.arithmetic, self.targets = arithmetic, targets
        self.logits, self.grad_out = logits, grad_out
        self.x = targets.rows.take(logits)
        self.soft = Exponentials(arithmetic, self.x)
        self.reduction = targets.reduction
        count, classes = self.x.shape
        self.dense = targets.dense or targets.smoothing > 0
        self.terms = (classes if self.dense else 1) + count
        self.divided = self.growth(count if targets.weight is not None else 0, 2)

    def growth(self, sums: float, stores: float) -> float:
        """Return how far roundings of sums, and of what is stored, move a number of 1."""
        a = self.arithmetic
        return a.growth(sums, stores * (1 + a.final) + 2 * a.converted)

    @cached_property
    def coefficients(self) -> DoubleDouble:
        """T (R,C)."""
        t = self.targets
        y = exact(t.y)
        if t.smoothing:
            rest = add(exact(1.0), negative(exact(t.smoothing)))
            share = divide(exact(t.smoothing), exact(float(self.x.shape[1])))
            y = add(times(y, rest), share)
        if t.weight is not None:
            y = times(y, exact(t.weight[None, :]))
        return y.map(lambda part: np.where(t.kept[:, None], part, 0.0))

    @cached_property
    def magnitude(self) -> Floats:
        """At least what |T| is made of (R,C)."""
        t = self.targets
        size: Floats = np.abs(t.y) + t.smoothing / max(self.x.shape[1], 1)
        if t.weight is not None:
            size = size * np.abs(t.weight)
        return np.where(t.counted, size, 0.0)

    @cached_property
    def divisor(self) -> DoubleDouble:
        """What a mean divides by; 1 for a sum."""
        t = self.targets
        if self.reduction != "mean":
            return exact(1.0)
        if t.classes is None or t.weight is None:
            return exact(float(len(self.x) if t.classes is None else t.kept.sum()))
        return sum_along(exact(t.weight_of_rows), 0)

    @cached_property
    def of_divisor(self) -> float:
        """Bound of the relative error of 1 / divisor."""
        t, growth = self.targets, self.divided
        if self.reduction == "mean" and t.classes is not None and t.weight is not None:
            size = float(np.abs(t.weight_of_rows).sum())
            growth *= float(size / np.abs(self.divisor.hi)) * (1 + 2.0**-30)
        return float(growth / (1 - growth)) if growth < 1 else np.inf

    def loss(self) -> Reference:
        """Return the reference of the loss."""
        t, soft, a = self.targets, self.soft, self.arithmetic
        product = times(self.coefficients, negative(soft.z))
        product = product.map(lambda part: np.where(t.counted, part, 0.0))
        rows = sum_along(product, 1)
        weights = self.magnitude
        settled = np.where(soft.vanish, 0.0, soft.of_z)
        off = np.where(weights > 0, weights * settled, 0.0).sum(axis=1)
        sizes = np.where(soft.vanish, 0.0, np.abs(soft.x)) + np.abs(soft.lse.hi)
        size = np.where(weights > 0, weights * (sizes + settled), 0.0).sum(axis=1)
        at_once = size
        if t.smoothing and not t.dense:  # all logarithms are summed, and stored, before the share
            weight = 1.0 if t.weight is None else np.abs(t.weight)
            at_once = np.where(t.counted, weight * (sizes + settled), 0.0).sum(axis=1)
        underflow = t.counted.sum(axis=1) * a.store.tiny
        usual = np.where(weights > 0, weights * soft.usual_z, 0.0).sum(axis=1)
        usual_size = np.where(weights > 0, weights * np.abs(soft.z.hi), 0.0).sum(axis=1)
        if self.reduction == "none":
            growth = self.growth(self.terms - len(self.x), 8)
            shape = t.rows.others
            bound = (1 + growth) * off + growth * size + underflow
            return self._reference(
                "cross-entropy", rows.map(lambda part: part.reshape(shape)), bound.reshape(shape),
                lambda: (usual + 3 * soft.unit * usual_size).reshape(shape) + a.store.tiny,
                mistakes.of_loss(t, self.x, a.store), size=at_once.reshape(shape),
                stored=bool(t.smoothing), grad=True,
            )  # fmt: skip
        value = divide(sum_along(rows, 0), self.divisor)
        d = np.abs(self.divisor.hi)
        growth = self.growth(self.terms, 8)
        growth = growth + (1 + growth) * (self.of_divisor if self.reduction == "mean" else 0.0)
        bound = ((1 + growth) * off.sum() + growth * size.sum() + underflow.sum()) / d

        def typical() -> Any:
            of_sum = soft.sum_unit * np.sqrt(self.terms / 3 + 1) + 3 * soft.unit
            own = np.sqrt((usual**2).sum()) + of_sum * usual_size.sum()
            return own / d + a.store.tiny

        return self._reference(
            "cross-entropy", value, np.asarray(bound + a.store.tiny * (1 + size.sum())), typical,
            mistakes.of_loss(t, self.x, a.store), size=np.asarray(at_once.sum()),
            stored=bool(t.smoothing), grad=True,
        )  # fmt: skip

    def without_verdict(self, loss: Reference) -> Reference:
        """Return the loss, without a verdict where all is smoothed and a class cannot be.

        (1 - smoothing) z is then 0 times infinity in libraries that compute it, and left out in
        others.
        """
        t = self.targets
        if t.smoothing != 1:
            return loss
        vague = (self.soft.vanish & (t.y != 0) & t.kept[:, None]).any(axis=1)
        open_ = vague.reshape(t.rows.others) if self.reduction == "none" else vague.any()
        return replace(
            loss,
            bound=np.where(open_, np.inf, loss.bound),
            slack=np.where(open_, np.inf, loss.slack),
        )

    def gradient(self) -> Reference:
        """Return the reference of the derivative with respect to the logits."""
        t, soft, a = self.targets, self.soft, self.arithmetic
        g = self.grad_out.reshape(-1, 1) if self.reduction == "none" else self.grad_out
        factor = divide(exact(g), self.divisor) if self.reduction == "mean" else exact(g)
        whole = sum_along(self.coefficients, 1).map(lambda part: part[:, None])
        value = times(add(times(soft.p, whole), negative(self.coefficients)), factor)
        kept = t.kept[:, None] & np.ones(self.x.shape, bool)
        h, weights = np.abs(factor.hi), self.magnitude
        most = weights.sum(axis=1, keepdims=True)
        p, off = soft.p.hi, soft.of_p
        size = p * most + weights
        growth = self.growth(self.terms, 8)
        growth = growth + (1 + growth) * (self.of_divisor if self.reduction == "mean" else 0.0)
        bound = h * ((1 + growth) * off * most + growth * size)
        bound = np.where(kept, bound + soft.least * (4 + h + size), soft.least)
        open_ = ~kept & (~soft.known | (self.divisor.hi == 0))
        value = value._replace(hi=np.where(kept, value.hi, 0.0))
        value = value._replace(lo=np.where(kept, value.lo, 0.0))
        value = value._replace(error=np.where(kept, value.error, 0.0))

        def typical() -> Any:
            own = soft.usual_p * most + 3 * soft.unit * np.abs(p * most - self.coefficients.hi)
            sums = soft.unit * size + soft.sum_unit * np.sqrt(self.terms / 3) * p * most
            return t.rows.back(h * (own + sums)) + a.store.tiny

        def back(part: Any) -> Array:
            return t.rows.back(np.broadcast_to(part, self.x.shape))

        reference = self._reference(
            "gradient of the logits", value.map(back), back(bound), typical,
            mistakes.of_gradient(t, self.x, g), size=back((1 + h) * (size + off * most)),
        )  # fmt: skip
        return replace(
            reference,
            bound=np.where(back(open_), np.inf, reference.bound),
            slack=np.where(back(kept), reference.slack, back(h * off)),
        )

    def _reference(
        self, name: str, value: DoubleDouble, bound: Floats, typical: Callable[[], Any],
        known: Mistakes, *, size: Any, stored: bool = False, grad: bool = False,
    ) -> Reference:  # fmt: skip
        made = make(
            name, value, bound, 2 * self.x.size + 64, self.arithmetic, known,
            size=size, stored=stored,
            finite_inputs=all_finite(self.logits, value.hi, self.grad_out, self.targets.weight),
            typical=typical, grad=CrossEntropyGrad(self) if grad else None,
        )  # fmt: skip
        return replace(made, _least_typical=0.0)


class CrossEntropyGrad:
    """The reference of the derivative, computed when it is first asked for."""

    def __init__(self, loss: _CrossEntropy) -> None:
        self._loss = loss

    @cached_property
    def logits(self) -> Reference:
        """With respect to the logits."""
        with np.errstate(all="ignore"):
            return self._loss.gradient()
