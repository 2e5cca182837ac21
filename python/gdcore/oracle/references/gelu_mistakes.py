"""What people get wrong about a GELU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import pi, sqrt
from typing import Any

import numpy as np

from gdcore.oracle.numbers.double_double import Floats, exact
from gdcore.oracle.numbers.elementary import erfc
from gdcore.oracle.references.mistakes import PRECISIONS, Array, Factor, Mistakes
from gdcore.oracle.references.reduction_mistakes import Named, listed

_SIGMOID = 1.702
_CUBIC = 0.044715
_OTHER = {"none": "tanh", "tanh": "none"}
_WORDS = {"none": "the exact GELU, with erf", "tanh": "the approximation with tanh"}
_FACTORS = (
    Factor(-1.0, "the sign is wrong"),
    Factor(2.0, "the factor 1/2 is missing"),
    Factor(0.5, "a factor 1/2 too many"),
)


def of_value(x: Floats, kind: str) -> Mistakes:
    """Return what people get wrong about the result."""
    return Mistakes("the GELU", _FACTORS, listed(partial(_values, x, kind)))


def of_gradient(x: Floats, g: Floats, kind: str) -> Mistakes:
    """Return what people get wrong about the gradient."""
    return Mistakes("the gradient of a GELU", _FACTORS, listed(partial(_gradients, x, g, kind)))


def _erf(x: Array) -> Array:
    result: Array = 1 - erfc(exact(x)).hi
    return result


def _sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


def _inner(x: Array, factor: float = sqrt(2 / pi), cubic: float = _CUBIC) -> Array:
    result: Array = factor * (x + cubic * x**3)
    return result


def _share(x: Array, kind: str) -> Array:
    """Return what x is multiplied by."""
    if kind == "none":
        return erfc(exact(-x * sqrt(0.5))).hi / 2
    return _sigmoid(2 * _inner(x))


def _slope(x: Array, kind: str) -> Array:
    """Return x times the derivative of what it is multiplied by."""
    if kind == "none":
        return x * np.exp(-x * x / 2) / sqrt(2 * pi)
    share = _share(x, kind)
    steep: Array = sqrt(2 / pi) * (1 + 3 * _CUBIC * x * x)
    slope: Array = 2 * x * share * (1 - share) * steep
    return slope


def _values(x: Floats, kind: str) -> Named:
    other = _OTHER[kind]
    yield f"{_WORDS[other]}, in place of {_WORDS[kind]}", lambda: x * _share(x, other)
    yield "x * sigmoid(1.702 x), the quick approximation", lambda: x * _sigmoid(_SIGMOID * x)
    yield "x * sigmoid(x): SiLU in place of GELU", lambda: x * _sigmoid(x)
    yield "ReLU in place of GELU", lambda: np.maximum(x, 0.0)
    yield "x is not multiplied in", lambda: _share(x, kind)
    if kind == "none":
        yield "the division by sqrt(2) is missing", lambda: x * (1 + _erf(x)) / 2
        yield "a multiplication by sqrt(2), not a division", lambda: x * (1 + _erf(x * sqrt(2))) / 2
        yield "a division by 2 instead of sqrt(2)", lambda: x * (1 + _erf(x / 2)) / 2
        yield "1 is not added to erf", lambda: x * _erf(x * sqrt(0.5)) / 2
    else:
        yield from _tanh_values(x)
    yield from _tails(x, lambda y: y * _share(y, kind))
    for precision, narrow in PRECISIONS.items():
        yield f"x is rounded through {precision}", lambda f=narrow: f(x) * _share(f(x), kind)  # type: ignore[misc]


def _tanh_values(x: Floats) -> Named:
    def of(z: Array) -> Array:
        result: Array = x * (1 + np.tanh(z)) / 2
        return result

    yield "the factor sqrt(2 / pi) is missing", lambda: of(_inner(x, 1.0))
    yield "sqrt(2) / pi in place of sqrt(2 / pi)", lambda: of(_inner(x, sqrt(2) / pi))
    yield "the cubic term is missing", lambda: of(_inner(x, cubic=0.0))
    yield "0.44715 in place of 0.044715", lambda: of(_inner(x, cubic=0.44715))
    yield "0.0044715 in place of 0.044715", lambda: of(_inner(x, cubic=0.0044715))
    yield "0.04715 in place of 0.044715", lambda: of(_inner(x, cubic=0.04715))
    yield "x**2 in place of x**3", lambda: of(sqrt(2 / pi) * (x + _CUBIC * x**2))
    yield "sigmoid(z) in place of sigmoid(2 z)", lambda: x * _sigmoid(_inner(x))


def _tails(x: Floats, of: Callable[[Floats], Array]) -> Named:
    """Yield what is made of a result that is cut off left or right of a limit."""
    for limit in (2, 3, 4, 5, 6, 8):
        yield f"0 below -{limit}", lambda k=limit: np.where(x < -k, 0.0, of(x))  # type: ignore[misc]
        yield f"x above {limit}", lambda k=limit: np.where(x > k, x, of(x))  # type: ignore[misc]


def _gradients(x: Floats, g: Floats, kind: str) -> Named:
    def of(x: Any, g: Any, kind: str = kind) -> Array:
        result: Array = g * (_share(x, kind) + _slope(x, kind))
        return result

    other = _OTHER[kind]
    yield f"the gradient of {_WORDS[other]}, in place of {_WORDS[kind]}", lambda: of(x, g, other)
    yield "x times the density is missing", lambda: g * _share(x, kind)
    yield "the distribution function is missing", lambda: g * _slope(x, kind)
    yield (
        "x is not multiplied into the density",
        lambda: g * (_share(x, kind) + _slope(x, kind) / np.where(x == 0, 1.0, x)),
    )
    yield "x times the density is subtracted", lambda: g * (_share(x, kind) - _slope(x, kind))
    yield "grad_out is missing", lambda: of(x, np.ones(()))
    yield "ReLU's gradient in place of GELU's", lambda: g * (x > 0)
    s, quick = _sigmoid(x), _sigmoid(_SIGMOID * x)
    yield "SiLU's gradient in place of GELU's", lambda: g * (s + x * s * (1 - s))
    yield (
        "the gradient of x * sigmoid(1.702 x), the quick approximation",
        lambda: g * (quick + _SIGMOID * x * quick * (1 - quick)),
    )
    if kind == "tanh":
        share = _share(x, kind)
        yield (
            "the derivative of the cubic term is missing",
            lambda: g * (share + 2 * x * share * (1 - share) * sqrt(2 / pi)),
        )
    else:
        root = sqrt(2)
        yield (
            "the density lacks the division by sqrt(2)",
            lambda: g * (_share(x, kind) + root * _slope(x, kind)),
        )
        yield (
            "the exponent lacks the 1/2",
            lambda: g * (_share(x, kind) + x * np.exp(-x * x) / sqrt(2 * pi)),
        )
    yield from _tails(x, lambda y: of(y, g))
    for precision, narrow in PRECISIONS.items():
        yield f"x is rounded through {precision}", lambda f=narrow: of(f(x), g)  # type: ignore[misc]
        yield f"grad_out is rounded through {precision}", lambda f=narrow: of(x, f(g))  # type: ignore[misc]
