"""A linear model and its data, every axis of every operand in its place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.numbers.operands import finite

Array = NDArray[Any]
SHAPES = (
    "The shapes are X (…,n,d), y (…,n) or (…,n,t), weights (…,d) or (…,d,t), intercept (…) or "
    "(…,t), offset like y, sample_weight (…,n)."
)


@dataclass(frozen=True, eq=False)
class Problem:
    """Operands in float64, with every axis.

    X (…,n,d), y (…,n,t), w (…,d,t); or None: b (…,1,t), o (…,n,t), s (…,n,1).
    """

    X: Array
    y: Array
    w: Array
    b: Array | None
    o: Array | None
    s: Array | None
    reduction: str
    several: bool
    batch: tuple[int, ...]

    def residual(self) -> Floats:
        """Return r, in float64 alone."""
        r: Floats = self.X @ self.w - self.y
        for term in (self.b, self.o):
            if term is not None:
                r = r + term
        return r

    def finite(self) -> Problem:
        """Return the problem with 0 for what is not finite."""
        operands: dict[str, Any] = {
            name: getattr(self, name) for name in ("X", "y", "w", "b", "o", "s")
        }
        parts: dict[str, Any] = {k: None if x is None else finite(x) for k, x in operands.items()}
        return replace(self, **parts)


def linear_problem(
    reduction: str,
    X: Array,
    y: Array,
    weights: Array,
    intercept: Array | None,
    offset: Array | None,
    sample_weight: Array | None,
) -> Problem:
    """Read the operands of `linear_mse`; ValueError if their shapes do not fit."""
    shapes_given = f"linear_mse: X has shape {X.shape}, y {y.shape}, weights {weights.shape}"
    if X.ndim < 2 or not y.ndim or not weights.ndim:
        raise ValueError(
            f"{shapes_given}; X needs rows and columns, y and weights one axis. {SHAPES}"
        )
    several = y.ndim >= X.ndim
    n, d = X.shape[-2:]
    t = y.shape[-1] if several else 1

    def full(name: str, x: Array | None, core: tuple[int, ...], axes: tuple[int, ...]) -> Any:
        """Return an operand whose last axes broadcast to `core`, with all of `axes`."""
        if x is None:
            return None
        own = x.shape[max(0, x.ndim - len(core)) :]
        stretch = name in ("offset", "sample_weight", "intercept")
        fits = len(own) == len(core) or stretch
        for have, want in zip(own[::-1], core[::-1], strict=False):
            fits = fits and (have == want or (stretch and have == 1))
        if not fits:
            raise ValueError(f"{shapes_given}; {name} {x.shape} does not end in {core}. {SHAPES}")
        wide = x.astype(np.float64, copy=False)
        wide = np.broadcast_to(wide, (*x.shape[: max(0, x.ndim - len(core))], *core))
        return wide.reshape((*wide.shape[: wide.ndim - len(core)], *axes))

    rows, columns = ((n, t), (d, t)) if several else ((n,), (d,))
    parts = {
        "X": full("X", X, (n, d), (n, d)),
        "y": full("y", y, rows, (n, t)),
        "w": full("weights", weights, columns, (d, t)),
        "b": full("intercept", intercept, (t,) if several else (), (1, t)),
        "o": full("offset", offset, rows, (n, t)),
        "s": full("sample_weight", sample_weight, (n,), (n, 1)),
    }
    try:
        batch = np.broadcast_shapes(*(x.shape[:-2] for x in parts.values() if x is not None))
    except ValueError:
        raise ValueError(
            f"{shapes_given}; the batch dimensions do not broadcast. {SHAPES}"
        ) from None
    return Problem(**parts, reduction=reduction, several=several, batch=batch)
