"""Rows that an operation over some axes works on, and how far its roundings may take it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import FUNCTION, Arithmetic
from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.numbers.operands import finite
from gdcore.oracle.references.reference import Reference, all_finite

Array = NDArray[Any]


class Rows:
    """An array's axes, some of which an operation is over: as rows (R, n), and back."""

    def __init__(self, shape: tuple[int, ...], axis: Any) -> None:
        self.shape = shape
        self.axes = _axes(len(shape), axis)
        self.kept = tuple(i for i in range(len(shape)) if i not in self.axes)
        self.n = math.prod(shape[i] for i in self.axes)
        self.count = math.prod(shape[i] for i in self.kept)
        self.inner = tuple(shape[i] for i in self.axes)

    def take(self, x: Array) -> Floats:
        """Return the rows (R, n) of an array, as float64."""
        turned = np.transpose(x, self.kept + self.axes)
        return np.asarray(turned.reshape(self.count, self.n), np.float64)

    def back(self, rows: Array) -> Array:
        """Return rows (R, n) in the array's own shape."""
        sizes = tuple(self.shape[i] for i in self.kept + self.axes)
        turned: Array = np.transpose(rows.reshape(sizes), np.argsort(self.kept + self.axes))
        return turned

    def reduced(self, keepdims: bool) -> tuple[int, ...]:
        """Return the shape of one number a row."""
        if keepdims:
            return tuple(1 if i in self.axes else size for i, size in enumerate(self.shape))
        return tuple(self.shape[i] for i in self.kept)


class Roundings:
    """How far roundings take a result: at most, or typically.

    Typically k roundings come to the root of k of them; at most, to all of them. `tiny` is what
    may be lost near 0: typically subnormal numbers are kept, at most they are flushed.
    """

    def __init__(self, arithmetic: Arithmetic, typical: bool = False) -> None:
        self.arithmetic, self.typical = arithmetic, typical
        sums, store = arithmetic.sums, arithmetic.store
        self.tiny = sums.tiny + store.tiny if typical else sums.vanishing + store.vanishing

    def __call__(self, sums: float, stores: float = 0) -> float:
        """Return the growth of this many roundings, `stores` of them only where sums are wider."""
        a = self.arithmetic
        if self.typical:
            return float(a.sum_unit * sums**0.5 + a.store.unit * a.final * stores**0.5)
        return a.growth(sums, stores * a.final)

    def function(self, sums: float = 0, stores: float = 0) -> float:
        """Return the growth of a rsqrt, erf, tanh or exp, and of what is rounded beside it."""
        return self(FUNCTION + sums, 1 + stores)

    def stored(self, size: Any) -> Floats:
        """Return what is lost where numbers of this size are stored on the way."""
        a = self.arithmetic
        lost: Floats = np.asarray(a.final * a.store.unit * size)
        return lost

    def converted(self, size: Any) -> Floats:
        """Return what is lost where operands of this size are rounded to the dtype first."""
        a = self.arithmetic
        if not a.converted:
            return np.zeros(())
        lost: Floats = np.where(np.equal(size, 0), 0.0, a.converted * a.store.unit * size)
        return lost

    def sum(self, x: Floats, total: Floats, more: float = 0) -> Floats:
        """Return how far sums of rows (R, n) are off, after this many roundings more."""
        n = x.shape[-1]
        if not self.typical:
            size = np.abs(x).sum(-1)
            lost: Floats = self(n + more) * size + np.where(size == 0, 0.0, n * self.tiny)
            return lost
        spread = root_mean_square(x) * n
        walk: Floats = np.hypot(spread, np.sqrt((n + more) / 3) * total)
        return self.arithmetic.sum_unit * walk


def root_mean_square(x: Floats) -> Floats:
    """Return the root of the mean of the squares of rows (R, n), which do not overflow."""
    most = np.max(np.abs(x), axis=-1, keepdims=True, initial=0.0)
    scale = np.where((most > 0) & np.isfinite(most), most, 1.0)
    shares = x / scale
    root: Floats = np.sqrt((shares * shares).sum(-1) / max(x.shape[-1], 1)) * scale[..., 0]
    return root


def settled(build: Callable[..., Reference], *operands: Any) -> Reference:
    """Return the reference of operands, without a verdict where the finite ones may overflow."""
    with np.errstate(all="ignore"):
        reference = build(*operands)
        if all_finite(*operands):
            return reference
        rest = build(*(None if x is None else finite(x) for x in operands))
        return reference.undecided_where(rest)


def check_grad_out(grad_out: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless it has the result's shape."""
    if grad_out is not None and grad_out.shape != shape:
        raise ValueError(f"grad_out has shape {grad_out.shape}; the result has shape {shape}.")


def _axes(ndim: int, axis: Any) -> tuple[int, ...]:
    given = range(ndim) if axis is None else (axis if isinstance(axis, tuple | list) else (axis,))
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int | np.integer):
            raise TypeError(f"axis is {axis!r}; pass an integer, a tuple of integers, or None.")
        if not -ndim <= one < ndim:
            raise ValueError(f"axis {one} is out of range for an array of {ndim} dimensions.")
    axes = sorted(int(one) % ndim for one in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis is {axis!r}; name each axis once.")
    return tuple(axes)
