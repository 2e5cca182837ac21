"""A linear layer, x @ weight.T + bias, and its vector-Jacobian products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import Floats, add, exact, product
from gdcore.oracle.numbers.operands import finite, root_of_squares, take
from gdcore.oracle.references.axes import check_grad_out, settled
from gdcore.oracle.references.mistakes import (
    PRECISIONS,
    Factor,
    Mistakes,
    Terms,
    as_float64,
)
from gdcore.oracle.references.products import product_reference
from gdcore.oracle.references.reduction_mistakes import Named, listed
from gdcore.oracle.references.reductions import total
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]


def linear(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    grad_out: Any = None,
    dtype: Any = None,
    accumulator: Any = None,
) -> Reference:
    """Return the reference of a linear layer, ``x @ weight.T + bias``.

    An element of k products is off by at most ``((1 + u)**(k + 1) - 1) * (abs(x) @ abs(weight).T
    + abs(bias))``, whether the bias is added at the end or the sum begins with it; with an
    accumulator of more precision the product and the sum are each rounded once more.

    Parameters
    ----------
    x : array_like, shape (..., k)
    weight : array_like, shape (m, k)
    bias : array_like, shape (m,), optional
    grad_out : array_like, shape (..., m), optional
        What the vector-Jacobian products are taken with.
    dtype, accumulator : optional
        The arithmetic under test, as in `matmul`.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.x``, ``grad.weight`` and ``grad.bias`` (None without a bias) are
        those of the derivatives of ``(grad_out * result).sum()``.

    Raises
    ------
    ValueError
        If shapes do not fit, or the dtype is unknown.
    TypeError
        If an operand cannot be read as real numbers.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.linear([[1.0, 2.0]], [[3.0, 4.0]], [5.0], grad_out=[[1.0]])
    >>> print(ref.value, ref.grad.weight.value, ref.grad.x.value)
    [[16.]] [[1. 2.]] [[3. 4.]]
    """
    arithmetic, given = take(dtype, accumulator, x=x, weight=weight, bias=bias, grad_out=grad_out)
    x, w, b, g = (given[name] for name in ("x", "weight", "bias", "grad_out"))
    if not x.ndim or w.ndim != 2 or x.shape[-1] != w.shape[1]:
        raise ValueError(
            f"linear (...,k),(m,k)->(...,m): x has shape {x.shape} and weight has shape "
            f"{w.shape}; the last dimension of each must be k."
        )
    if b is not None and b.shape != w.shape[:1]:
        raise ValueError(f"bias has shape {b.shape}; the weight {w.shape} asks for {w.shape[:1]}.")
    shape = (*x.shape[:-1], w.shape[0])
    check_grad_out(g, shape)
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    grad = None
    if g is not None:
        grad = LinearLayerGrad(arithmetic, x, rows, w, b, g.reshape(len(rows), w.shape[0]))
    return settled(lambda *of: _reference(arithmetic, shape, grad, *of), rows, w, b)


def _reference(
    arithmetic: Arithmetic, shape: tuple[int, ...], grad: Any, x: Array, w: Array, b: Array | None
) -> Reference:
    value, size = product(x, w.T)
    bias = np.zeros(w.shape[0]) if b is None else np.asarray(b, np.float64)
    if b is not None:
        value = add(value, exact(bias))
    k, final = x.shape[-1], arithmetic.final
    growth = arithmetic.growth(k + 1, 2 * final + 2 * arithmetic.converted, operands=2)
    size = size + np.abs(bias)
    bound = np.where(size == 0, 0.0, growth * size) + _vanishing(arithmetic, x, w)

    def typical() -> Any:
        spread = (k + 1) * (root_of_squares(x, w.T) ** 2 + bias**2)
        u = max(arithmetic.sum_unit, arithmetic.operand_unit / max(k, 1) ** 0.5)
        walk = u * np.sqrt(spread + (k + 1) * value.hi**2 / 3)
        stored = final * arithmetic.store.unit * (np.abs(value.hi) + np.abs(value.hi - bias))
        return np.hypot(walk, stored).reshape(shape)

    return make(
        "linear layer",
        value.map(lambda part: part.reshape(shape)),
        bound.reshape(shape),
        k + 16,
        arithmetic,
        _mistakes(x, w, b),
        size=((1 + growth) * size).reshape(shape),
        stored=b is not None,
        finite_inputs=all_finite(x, w, b),
        typical=typical,
        grad=grad,
    )


class LinearLayerGrad:
    """References of the derivatives, each computed when it is first asked for."""

    def __init__(
        self, arithmetic: Arithmetic, x: Array, rows: Array, w: Array, b: Array | None, g: Array
    ) -> None:
        self._arithmetic, self._shape = arithmetic, x.shape
        self._x, self._w, self._b, self._g = rows, w, b, g

    @cached_property
    def x(self) -> Reference:
        """With respect to x: ``grad_out @ weight``."""
        return self._product("x", "grad_out @ weight", self._g, self._w, self._shape)

    @cached_property
    def weight(self) -> Reference:
        """With respect to the weight: ``grad_out.T @ x``, over all rows of x."""
        return self._product("the weight", "grad_out.T @ x", self._g.T, self._x, self._w.shape)

    def _product(
        self, of: str, formula: str, a: Array, b: Array, shape: tuple[int, ...]
    ) -> Reference:
        arithmetic = self._arithmetic
        reference = product_reference(
            f"gradient of {of}", f"the gradient {formula}", arithmetic, a, b, shape
        )
        lost = _vanishing(arithmetic, a, b.T).reshape(shape)
        return replace(
            reference,
            bound=reference.bound + lost,
            slack=reference.slack + lost,
        )

    @cached_property
    def bias(self) -> Reference | None:
        """With respect to the bias, if there is one: the sum of grad_out over all rows."""
        if self._b is None:
            return None
        name, wide = self._arithmetic.name, self._arithmetic.final
        sums = "float64" if self._arithmetic.sums.bits == 53 else "float32"
        reference = total(self._g, 0, dtype=name, accumulator=sums if wide else None)
        return replace(reference, name="gradient of the bias")


def _vanishing(arithmetic: Arithmetic, x: Array, w: Array) -> Floats:
    """Return what is lost of the elements of x @ w.T where subnormal numbers are flushed."""
    sums, store = arithmetic.sums.vanishing, arithmetic.store.vanishing
    rows, columns = (np.abs(finite(part)).sum(-1, dtype=np.float64) for part in (x, w))
    lengths = rows[:, None] + columns
    lost: Floats = (x.shape[-1] + 2) * sums + 2 * arithmetic.final * store + store * lengths
    return lost


def _mistakes(x: Array, w: Array, b: Array | None) -> Mistakes:
    x64, w64 = as_float64(x), as_float64(w)
    bias: Any = 0.0 if b is None else as_float64(b)

    def named() -> Named:
        if w.shape[0] == w.shape[1] > 1:
            yield "the weight is not transposed", lambda: x64 @ w64 + bias
        if b is not None:
            yield "the bias is missing", lambda: x64 @ w64.T
            yield "the bias is added twice", lambda: x64 @ w64.T + 2 * bias
            yield "the bias is subtracted", lambda: x64 @ w64.T - bias
            if len(x) == len(w) > 1:
                yield (
                    "the bias is added along the rows, not the columns",
                    lambda: x64 @ w64.T + bias[:, None],
                )
        for precision, narrow in PRECISIONS.items():
            through = f"rounded through {precision}"
            yield f"x is {through}", lambda f=narrow: f(x) @ w64.T + bias  # type: ignore[misc]
            yield f"the weight is {through}", lambda f=narrow: x64 @ f(w).T + bias  # type: ignore[misc]
            yield (
                f"x and the weight are {through}",
                lambda f=narrow: f(x) @ f(w).T + bias,  # type: ignore[misc]
            )
            if b is not None:
                yield f"the bias is {through}", lambda f=narrow: x64 @ w64.T + f(bias)  # type: ignore[misc]

    def terms() -> Iterator[Terms]:
        k, columns = x.shape[-1], len(w)

        def at(where: Array) -> Array:
            row, column = np.divmod(where, max(columns, 1))
            each: Array = x64[row] * w64[column]
            return each

        yield Terms(
            f"k = {k} products", k, k, at,
            lambda part: (x64[:, part] @ w64[:, part].T).reshape(-1),
        )  # fmt: skip

    factors = (Factor(-1.0, "the sign is wrong"), Factor(2.0, "stale accumulation, or a factor 2"))
    return Mistakes("the linear layer", factors, listed(named), terms)
