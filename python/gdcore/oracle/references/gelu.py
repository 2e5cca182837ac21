"""The GELU activation, exact and with tanh, and its derivative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import FUNCTION, Arithmetic
from gdcore.oracle.numbers.constants import pair
from gdcore.oracle.numbers.double_double import DoubleDouble, Floats, add, exact, negative, times
from gdcore.oracle.numbers.elementary import divide, erfc, exp, sqrt, tanh, where
from gdcore.oracle.numbers.operands import take
from gdcore.oracle.references import gelu_mistakes as mistakes
from gdcore.oracle.references.axes import Roundings, check_grad_out, settled
from gdcore.oracle.references.mistakes import Mistakes
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]
_ROUNDINGS = 64  # of float64, on the way to a bound
_FLAT = 22.0  # from there on tanh is 1 in every dtype
_CUBIC = 0.044715
_FAR = 1e4  # from there on what x is multiplied by is 0 or 1 to any precision
_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
KINDS = ("none", "tanh")


def gelu(
    x: Any,
    *,
    approximate: str = "none",
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of a GELU, ``x * (1 + erf(x / sqrt(2))) / 2``, or of its approximation.

    With ``approximate="tanh"`` it is ``x * (1 + tanh(z)) / 2``,
    ``z = sqrt(2 / pi) * (x + 0.044715 * x**3)`` (Hendrycks and Gimpel 2016, Gaussian error linear
    units). Left of 0 the sum ``1 + erf`` cancels: libraries are off by ``u * abs(x)`` there, not by
    ``u`` of the result, and the bound allows it. It assumes tanh, exp, and the normal distribution
    function ``(1 + erf) / 2`` to be off by at most 8 u, and tanh to be 1 from 22 on;
    docs/numerics.md derives it.

    Parameters
    ----------
    x : array_like, any shape
    approximate : {"none", "tanh"}
        As in torch.
    grad_out : array_like, shape of x, optional
        What the vector-Jacobian product is taken with.
    dtype, accumulator : optional
        The arithmetic under test, as in `matmul`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x`` is that of the derivative of ``(grad_out * result).sum()``.
        Where the formulas are 0 times infinity all results are right: at -inf, and the derivative
        at both infinities.

    Raises
    ------
    ValueError
        If `approximate` is unknown, shapes do not fit, or the dtype is unknown.
    TypeError
        If an operand cannot be read as real numbers.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.gelu([-1.0, 0.0, 1.0])
    >>> print(ref.value.round(6), ref.check([0.0, 0.0, 1.0]).worst_status)
    [-0.158655  0.        0.841345] WRONG
    """
    if approximate not in KINDS:
        raise ValueError(f"approximate is {approximate!r}; choose 'none' or 'tanh'.")
    arithmetic, given = take(dtype, accumulator, x=x, grad_out=grad_out)
    check_grad_out(given["grad_out"], given["x"].shape)
    g = None if given["grad_out"] is None else np.asarray(given["grad_out"], np.float64)
    operation = _Gelu(arithmetic, np.asarray(given["x"], np.float64), g, approximate)
    return operation.value()


class Gate(NamedTuple):
    """What x is multiplied by, and how far it is off; likewise what the derivative adds."""

    share: DoubleDouble
    share_error: Callable[[Roundings], Floats]
    slope: DoubleDouble  # x times the derivative of the share
    slope_error: Callable[[Roundings], Floats]
    largest: Floats  # on the way to the slope


class _Gelu:
    """x and grad_out, and the references made of them."""

    def __init__(self, arithmetic: Arithmetic, x: Floats, g: Floats | None, kind: str) -> None:
        self.arithmetic, self.x, self.g, self.kind = arithmetic, x, g, kind
        self.gate = _erf_gate if kind == "none" else _tanh_gate

    def value(self) -> Reference:
        grad = None if self.g is None else GeluGrad(self)
        return _open(settled(partial(self._value, grad), self.x), np.isneginf(self.x))

    def gradient(self) -> Reference:
        return _open(settled(self._gradient, self.x, self.g), np.isinf(self.x))

    def _value(self, grad: Any, x: Floats) -> Reference:
        gate = self.gate(x)
        size = np.abs(x)

        def bound(g: Roundings) -> Floats:
            share = gate.share_error(g) + g(3, 4) * gate.share.size
            share = share + g.converted(
                gate.share.size + np.abs(gate.slope.hi) + gate.share_error(g)
            )
            off: Floats = size * share * (1 + g(3, 4)) + (4 + size) * g.tiny
            return off

        found = mistakes.of_value(x, self.kind)
        return self._make("GELU", times(exact(x), gate.share), bound, found, size, x, grad)

    def _gradient(self, x: Floats, g_out: Floats) -> Reference:
        gate = self.gate(x)
        size, parts = np.abs(g_out), gate.share.size + gate.slope.size

        def bound(g: Roundings) -> Floats:
            off = gate.share_error(g) + gate.slope_error(g)
            off = off + g(4, 5) * (parts + off) + 2 * g.converted(parts + off)
            lost: Floats = size * off + (4 + size) * g.tiny
            return lost

        largest = np.maximum(gate.largest, size * parts)
        value = times(exact(g_out), add(gate.share, gate.slope))
        found = mistakes.of_gradient(x, g_out, self.kind)
        return self._make("gradient of x", value, bound, found, largest, x, g=g_out)

    def _make(
        self, name: str, value: DoubleDouble, bound: Callable[[Roundings], Floats],
        found: Mistakes, largest: Floats, x: Floats, grad: Any = None, g: Floats | None = None,
    ) -> Reference:  # fmt: skip
        usual = Roundings(self.arithmetic, typical=True)
        return make(
            name,
            value,
            bound(Roundings(self.arithmetic)),
            _ROUNDINGS,
            self.arithmetic,
            found,
            size=largest,
            stored=False,
            finite_inputs=all_finite(x, g),
            typical=lambda: bound(usual),
            grad=grad,
        )


class GeluGrad:
    """Reference of the derivative, computed when it is first asked for."""

    def __init__(self, operation: _Gelu) -> None:
        self._operation = operation

    @cached_property
    def x(self) -> Reference:
        """With respect to x."""
        return self._operation.gradient()


def _open(reference: Reference, where: Any) -> Reference:
    """Return the reference without a verdict where the formulas are 0 times infinity."""
    return replace(reference, bound=np.where(where, np.inf, reference.bound))


def _erf_gate(x: Floats) -> Gate:
    """Return Phi(x), half of erfc(-x / sqrt(2)), and x phi(x)."""
    density, near = _over_pi(-1), exact(np.clip(x, -_FAR, _FAR))
    share = times(erfc(negative(times(near, sqrt(exact(0.5))))), exact(0.5))
    falling = exp(times(times(near, near), exact(-0.5)))
    slope = times(times(near, density), falling)
    size = np.abs(x)
    most = 40.0  # beyond it e^(-x²/2) is 0 in every dtype

    def share_error(g: Roundings) -> Floats:
        moved = g(2, 2)
        least = np.minimum(size * max(1 - moved, 0.0), most)
        steep = size * moved * np.exp(-least * least / 2) / np.sqrt(2 * np.pi)
        stored = g(0, 3) * np.maximum(share.hi, 0.5)  # erf, 1 + erf and half of it
        error: Floats = steep + g(FUNCTION + 2) + stored + g.tiny
        return error

    def slope_error(g: Roundings) -> Floats:
        square = np.minimum(size, most) ** 2 / 2
        moved = np.expm1(g(6, 6) * square)
        off: Floats = slope.size * (moved + (1 + moved) * g.function(5, 4))
        return off + (1 + size) * g.tiny

    return Gate(share, share_error, slope, slope_error, np.zeros(x.shape))


def _tanh_gate(x: Floats) -> Gate:
    """Return (1 + tanh z) / 2 and x times its derivative."""
    factor, near = _over_pi(1), exact(np.clip(x, -_FAR, _FAR))
    cube = times(times(near, near), exact(_CUBIC))
    z = times(times(near, add(cube, exact(1.0))), factor)
    t = tanh(z)
    share = _share(z, t)
    steep = times(share, _share(negative(z), negative(t)))  # (1 - tanh²) / 4
    inner = times(add(times(cube, exact(3.0)), exact(1.0)), factor)
    slope = times(times(times(near, inner), steep), exact(2.0))
    size, close = np.abs(z.hi), np.abs(z.hi) < 2 * _FLAT
    rising = np.abs(x) * (1 + 3 * _CUBIC * x * x)

    def tanh_error(g: Roundings) -> Floats:
        moved = g(9, 8)
        left = np.minimum(4 * np.exp(-2 * size * max(1 - moved, 0.0)), 1.0)
        function = np.where(close, g.function(1, 1), (1 + g.function(1, 1)) * left)
        error: Floats = left * size * moved + function
        return error

    def share_error(g: Roundings) -> Floats:
        error: Floats = tanh_error(g) / 2 + g(1, 1) * share.size
        return error

    def slope_error(g: Roundings) -> Floats:
        off = tanh_error(g)
        lost = 2 * off + off**2 + np.where(close, g(2, 2), 0.0)
        error: Floats = rising * lost / 2 * (1 + g(8, 8)) + g(8, 8) * slope.size
        return error + (1 + rising) * g.tiny

    return Gate(share, share_error, slope, slope_error, rising)


def _share(z: DoubleDouble, t: DoubleDouble) -> DoubleDouble:
    """Return (1 + tanh z) / 2 to the same relative error where it nearly vanishes."""
    near = times(add(t, exact(1.0)), exact(0.5))
    low = exp(times(z, exact(2.0)))
    far = divide(low, add(low, exact(1.0)))
    return where(z.hi < 0, far, near)


def _over_pi(power: int) -> DoubleDouble:
    """Return the root of 2^power / pi."""
    with localcontext(prec=60):
        hi, lo = pair((Decimal(2) ** power / _PI).sqrt())
    return DoubleDouble(np.asarray(hi), np.asarray(lo), np.asarray(abs(hi) * 2.0**-104))
