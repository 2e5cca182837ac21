"""Layer norm and RMS norm, and their vector-Jacobian products."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import FORMATS, Arithmetic
from gdcore.oracle.numbers.operands import take
from gdcore.oracle.references.axes import Rows, check_grad_out, settled
from gdcore.oracle.references.norm_rows import NormRows, Scaled
from gdcore.oracle.references.reference import Reference

Array = NDArray[Any]


def layer_norm(
    x: Any,
    weight: Any = None,
    bias: Any = None,
    *,
    axis: Any = -1,
    eps: float = 1e-5,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of a layer norm, ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Mean and variance (divided by n) are those over `axis` (Ba, Kiros and Hinton 2016, Layer
    normalization). The bound holds for two passes, Welford's and Chan's updates, for a reciprocal
    root or a division, for weights multiplied in first or last, and for ``x * scale + shift`` in
    one step; docs/numerics.md derives it. The variance as a difference of means may rightly be
    beyond it.

    Parameters
    ----------
    x : array_like, any shape
    weight, bias : array_like, of x's sizes along `axis`, optional
        By default 1 and 0.
    axis : int, tuple of int or None
        What each mean and variance is over.
    eps : float
        Added to the variance; 1e-5 as in torch (JAX's flax has 1e-6, and Keras 1e-3).
    grad_out : array_like, shape of x, optional
        What the vector-Jacobian products are taken with.
    dtype, accumulator : optional
        The arithmetic under test, as in `matmul`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x``, ``grad.weight`` and ``grad.bias`` (None without them) are
        those of the derivatives of ``(grad_out * result).sum()``.

    Raises
    ------
    ValueError
        If shapes do not fit, an axis is out of range, eps is negative, there are no elements to
        take a mean of, or the dtype is unknown.
    TypeError
        If an operand cannot be read as real numbers, or an axis is not an integer.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.layer_norm([[1.0, 3.0]], eps=0.0)
    >>> print(ref.value, ref.check([[-1.0, 1.5]]).worst_status)
    [[-1.  1.]] WRONG
    """
    return _norm(True, x, weight, bias, axis, eps, grad_out, dtype, accumulator)


def rms_norm(
    x: Any,
    weight: Any = None,
    *,
    axis: Any = -1,
    eps: float | None = None,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of an RMS norm, ``x / sqrt((x**2).mean() + eps) * weight``.

    The mean is over `axis` (Zhang and Sennrich 2019, Root mean square layer normalization). All
    terms of the sum are positive, so a result is off by a few roundings and half of those of
    the sum, relative to itself; docs/numerics.md derives the bound.

    Parameters
    ----------
    x : array_like, any shape
    weight : array_like, of x's sizes along `axis`, optional
        By default 1.
    axis : int, tuple of int or None
    eps : float, optional
        Added to the mean of the squares. By default as in torch: 2**-52 for float64, and 2**-23
        for all others, since torch computes those of 16 bits in float32.
    grad_out, dtype, accumulator
        As in `layer_norm`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` and ``grad.weight`` are those of the derivatives.

    Raises
    ------
    ValueError, TypeError
        As `layer_norm`.

    Examples
    --------
    >>> from gdcore import oracle
    >>> print(oracle.rms_norm([[3.0, 4.0], [0.0, 0.0]], [2.0, 1.0], eps=3.5).value)
    [[1.5 1. ]
     [0.  0. ]]
    """
    return _norm(False, x, weight, None, axis, eps, grad_out, dtype, accumulator)


def _norm(
    centred: bool, x: Any, weight: Any, bias: Any, axis: Any, eps: Any, grad_out: Any,
    dtype: Any, accumulator: Any,
) -> Reference:  # fmt: skip
    arithmetic, given = take(dtype, accumulator, x=x, weight=weight, bias=bias, grad_out=grad_out)
    rows = Rows(given["x"].shape, axis)
    for name in ("weight", "bias"):
        if given[name] is not None and given[name].shape != rows.inner:
            raise ValueError(
                f"{name} has shape {given[name].shape}; along the axes {rows.axes} x has shape "
                f"{rows.inner}."
            )
    check_grad_out(given["grad_out"], rows.shape)
    if not rows.n:
        raise ValueError("the mean over 0 elements is not defined; pass data.")
    if eps is None:
        eps = 2 * FORMATS["float64" if arithmetic.name == "float64" else "float32"].unit
    if not 0 <= eps < np.inf:
        raise ValueError(f"eps is {eps!r}; it must be a number of at least 0, such as 1e-5.")
    return _Norm(centred, arithmetic, rows, given, float(eps)).value()


class _Norm:
    """The operands as rows, and the references made of them."""

    def __init__(
        self, centred: bool, arithmetic: Arithmetic, rows: Rows, given: dict[str, Any], eps: float
    ) -> None:
        self.build = partial(NormRows, centred, arithmetic, rows, given["x"], eps)
        self.x = rows.take(given["x"])
        self.w, self.b = (
            None if given[name] is None else np.asarray(given[name], np.float64).reshape(-1)
            for name in ("weight", "bias")
        )
        self.g = None if given["grad_out"] is None else rows.take(given["grad_out"])

    def value(self) -> Reference:
        """Return the reference of the result."""
        grad = None if self.g is None else NormGrad(self)
        return settled(
            lambda x, w, b: self.build(Scaled(x, w, b, None)).value(grad), self.x, self.w, self.b
        )

    def gradient(self, what: str) -> Reference:
        """Return the reference of the derivative with respect to x, the weight or the bias."""

        def of(x: Any, w: Any, g: Any) -> Reference:
            reference: Reference = getattr(
                self.build(Scaled(x, w, self.b, g)), f"gradient_of_{what}"
            )()
            return reference

        return settled(of, self.x, self.w, self.g)


class NormGrad:
    """References of the derivatives, each computed when it is first asked for."""

    def __init__(self, norm: _Norm) -> None:
        self._norm = norm

    @cached_property
    def x(self) -> Reference:
        """With respect to x."""
        return self._norm.gradient("x")

    @cached_property
    def weight(self) -> Reference | None:
        """With respect to the weight, if there is one."""
        return None if self._norm.w is None else self._norm.gradient("weight")

    @cached_property
    def bias(self) -> Reference | None:
        """With respect to the bias, if there is one."""
        return None if self._norm.b is None else self._norm.gradient("bias")
