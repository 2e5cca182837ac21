"""The matrix product and its vector-Jacobian products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.numbers.double_double import DoubleDouble, product
from gdcore.oracle.numbers.operands import finite, root_of_squares, take
from gdcore.oracle.references.mistakes import (
    PRECISIONS,
    Alternative,
    Factor,
    Mistakes,
    Parts,
    Terms,
    Where,
    as_float64,
    vectors,
)
from gdcore.oracle.references.reference import Reference, all_finite
from gdcore.oracle.references.reference import make_reference as make

Array = NDArray[Any]
_SMALL = 1 << 22  # products that are written down one by one


def matmul(
    a: Any, b: Any, *, grad_out: Any = None, dtype: Any = None, accumulator: Any = None
) -> Reference:
    """Return the reference of a matrix product.

    Float32 data are multiplied exactly and summed in float64; float64 data as pairs of float64
    numbers (Dot2; Ogita, Rump, Oishi 2005). An element of k products is off by at most
    ``((1 + u)**k - 1) * |a| @ |b| + k * eta`` (Higham, Accuracy and Stability of Numerical
    Algorithms, chapter 3), u being half an ulp of 1 and eta the smallest subnormal of the
    accumulator; with an accumulator of more precision, once more by the rounding of the result.
    TF32 also loses 2**-10 of each operand, whose last bits may be cut off.

    Parameters
    ----------
    a : array_like, shape (..., m, k) or (k,)
    b : array_like, shape (..., k, n) or (k,)
        Batch dimensions broadcast.
    grad_out : array_like, shape of the product, optional
        What the product's vector-Jacobian products are taken with.
    dtype : {"float32", "float64", "float16", "bfloat16", "tf32"}, optional
        The dtype under test; by default the operands'.
    accumulator : {"float32", "float64"}, optional
        Where sums are kept, if in more precision than the dtype's.

    Returns
    -------
    Reference
        With `grad_out`, ``grad.a`` and ``grad.b`` are those of the derivatives of
        ``(grad_out * (a @ b)).sum()``.

    Raises
    ------
    ValueError
        If shapes do not fit, or the dtype is unknown.
    TypeError
        If an operand cannot be read as real numbers.

    Examples
    --------
    >>> from gdcore import oracle
    >>> ref = oracle.matmul([[1.0, 2.0]], [[3.0], [4.0]], grad_out=[[1.0]], dtype="float32")
    >>> print(ref.value, ref.grad.a.value)
    [[11.]] [[3. 4.]]
    >>> print(ref.check([[12.0]]).worst_status)
    WRONG
    """
    arithmetic, given = take(dtype, accumulator, a=a, b=b, grad_out=grad_out)
    left, right = given["a"], given["b"]
    shape = _result_shape(left, right)
    rows = left[None, :] if left.ndim == 1 else left
    columns = right[:, None] if right.ndim == 1 else right
    grad = None
    if given["grad_out"] is not None:
        if given["grad_out"].shape != shape:
            raise ValueError(
                f"grad_out has shape {given['grad_out'].shape}; the product has shape {shape}."
            )
        grad = MatmulGrad(arithmetic, left, right, given["grad_out"])
    return product_reference("product", "the product", arithmetic, rows, columns, shape, grad)


class MatmulGrad:
    """References of the derivatives of a product, each computed when it is first asked for."""

    def __init__(self, arithmetic: Arithmetic, a: Array, b: Array, grad_out: Array) -> None:
        self._arithmetic = arithmetic
        self._a, self._b = a, b
        rows, columns = (a[None, :] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
        batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        core = grad_out.reshape((*batch, rows.shape[-2], columns.shape[-1]))
        self._rows, self._columns, self._grad_out = rows, columns, core

    @cached_property
    def a(self) -> Reference:
        """Return the reference for the first operand's gradient: ``grad_out @ b.T``."""
        left, right = self._grad_out, np.swapaxes(self._columns, -1, -2)
        left, right, summed = _summed_over(left, right, self._rows.shape[:-2])
        what, shape = "the gradient grad_out @ b.T", self._a.shape
        return product_reference(
            "gradient of a", what, self._arithmetic, left, right, shape, summed=summed
        )

    @cached_property
    def b(self) -> Reference:
        """Return the reference for the second operand's gradient: ``a.T @ grad_out``."""
        left, right = np.swapaxes(self._rows, -1, -2), self._grad_out
        left, right, summed = _summed_over(left, right, self._columns.shape[:-2])
        what, shape = "the gradient a.T @ grad_out", self._b.shape
        return product_reference(
            "gradient of b", what, self._arithmetic, left, right, shape, summed=summed
        )


def _summed_over(a: Array, b: Array, batch: tuple[int, ...]) -> tuple[Array, Array, int]:
    """Return operands whose product is that of a (…,m,k) and b (…,k,n), summed down to a batch.

    The dimensions of the batch that are summed over lie beside k, so that all is one sum; of so
    many products as the last number says.
    """
    full = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    missing = len(full) - len(batch)
    over = [
        axis for axis in range(len(full)) if axis < missing or batch[axis - missing] != full[axis]
    ]
    if not over:
        return a, b, 1
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    a, b = np.broadcast_to(a, (*full, m, k)), np.broadcast_to(b, (*full, k, n))
    kept = [axis for axis in range(len(full)) if axis not in over]
    at = len(full)
    rest = tuple(full[axis] for axis in kept)
    a = a.transpose(*kept, at, *over, at + 1).reshape(*rest, m, -1)
    b = b.transpose(*kept, *over, at, at + 1).reshape(*rest, -1, n)
    return a, b, math.prod(full[axis] for axis in over)


def _result_shape(a: Array, b: Array) -> tuple[int, ...]:
    shapes_given = f"matmul (m,k),(k,n)->(m,n): a has shape {a.shape} and b has shape {b.shape};"
    if not a.ndim or not b.ndim:
        raise ValueError(f"{shapes_given} a scalar is not a matrix.")
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ValueError(f"{shapes_given} the columns of a must equal the rows of b.")
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ValueError(f"{shapes_given} their batch dimensions do not broadcast.") from None
    return (*batch, *(a.shape[-2:-1] if a.ndim > 1 else ()), *(b.shape[-1:] if b.ndim > 1 else ()))


def product_reference(
    name: str,
    what: str,
    arithmetic: Arithmetic,
    a: Array,
    b: Array,
    shape: tuple[int, ...],
    grad: Any = None,
    summed: int = 1,
) -> Reference:
    """Return the reference of a (…,m,k) @ b (…,k,n), as `shape`.

    It is the sum of `summed` products, each of which may be stored before it is added, and each
    sum of them, too.
    """
    with np.errstate(all="ignore"):
        value, size = product(a, b)
        k = a.shape[-1]
        stores = arithmetic.final * summed
        growth = arithmetic.growth(k, stores + 2 * arithmetic.converted, operands=2)
        lost = k * arithmetic.sums.tiny + stores * arithmetic.store.tiny
        bound = growth * size + lost
        if growth == np.inf:
            bound = np.where(size == 0, lost, bound)

    def typical() -> Any:
        """Errors of a sum that wanders, and of one that grows steadily to its end."""
        squares = root_of_squares(a, b).reshape(shape) ** 2
        spread = k * squares
        drift = k * value.hi.reshape(shape) ** 2 / 3
        u = max(arithmetic.sum_unit, arithmetic.operand_unit / max(k, 1) ** 0.5)
        stored = value.hi.reshape(shape) ** 2 + (summed * squares if summed > 1 else 0)
        return np.hypot(u * np.sqrt(spread + drift), arithmetic.store.unit * np.sqrt(stored))

    reference = make(
        name,
        DoubleDouble(*(np.broadcast_to(part, value.hi.shape).reshape(shape) for part in value)),
        bound.reshape(shape),
        k,
        arithmetic,
        Mistakes(
            what,
            _factors(k),
            partial(_alternatives, a, b),
            partial(_terms, a, b),
            parts=partial(_parts, a, b),
            lost=partial(_lost, a, b),
        ),
        size=((1 + growth) * size if k else size).reshape(shape),
        stored=summed > 1,
        finite_inputs=all_finite(a, b),
        typical=typical,
        grad=grad,
    )
    if reference.finite_inputs:
        return reference
    rest = product_reference(name, what, arithmetic, finite(a), finite(b), shape, None, summed)
    return reference.undecided_where(rest)


def _factors(k: int) -> tuple[Factor, ...]:
    factors = [
        Factor(-1.0, "the sign is wrong"),
        Factor(2.0, "stale accumulation, or a factor 2"),
        Factor(0.5, "a factor 1/2 too many"),
    ]
    if k > 1:
        factors.append(Factor(1 / k, f"a mean over the k = {k} products, where it is a sum"))
    return tuple(factors)


def _alternatives(a: Array, b: Array) -> Iterator[Alternative]:
    """Yield what known mistakes make of a (…,m,k) @ b (…,k,n)."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    turned_a, turned_b = np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)
    if m == k and (m > 1 or n > 1):
        yield Alternative("the first operand is transposed", partial(_product, turned_a, b))
    if n == k and (m > 1 or n > 1):
        yield Alternative("the second operand is transposed", partial(_product, a, turned_b))
    if m == n > 1:
        yield Alternative("the result is transposed", partial(_product, turned_b, turned_a))
    for precision, narrow in PRECISIONS.items():
        through = f"rounded through {precision}"
        both = partial(_product, a, b, of_a=narrow, of_b=narrow)
        yield Alternative(f"the operands are {through}", both)
        yield Alternative(f"the first operand is {through}", partial(_product, a, b, of_a=narrow))
        yield Alternative(f"the second operand is {through}", partial(_product, a, b, of_b=narrow))


def _parts(a: Array, b: Array) -> Parts | None:
    """Return the problems of a stack; None if there is one alone."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if math.prod(batch) < 2:
        return None
    left, right = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
    return Parts(
        "problem",
        ("a", "b"),
        batch,
        (_numbered(a.shape[:-2]), _numbered(b.shape[:-2])),
        lambda i, j: (as_float64(left[i]) @ as_float64(right[j])).reshape(-1),
        lambda x: x.reshape(math.prod(batch), -1),
    )


def _numbered(shape: tuple[int, ...]) -> Array:
    return np.arange(math.prod(shape)).reshape(shape)


def _lost(a: Array, b: Array) -> Iterator[Alternative]:
    """Yield what becomes of NaN and infinity if they are replaced, or terms of 0 are skipped."""
    yield Alternative("replaced by 0 in the operands", partial(_product, finite(a), finite(b)))
    if math.prod(_result_shape(a, b)) * a.shape[-1] < _SMALL:

        def without_zeros(where: Where) -> Array:
            indices = np.arange(math.prod(_result_shape(a, b)))[where]
            rows, columns = vectors(a, b, indices)
            kept = (rows != 0) & (columns != 0)
            terms = np.multiply(
                rows, columns, dtype=np.float64, out=np.zeros(kept.shape), where=kept
            )
            result: Array = terms.sum(-1)
            return result

        yield Alternative("products with a factor 0 are skipped", without_zeros)


def _product(
    a: Array,
    b: Array,
    where: Where,
    of_a: Callable[[Array], Array] = as_float64,
    of_b: Callable[[Array], Array] = as_float64,
) -> Array:
    """Return elements of a @ b, the operands changed first, in float64 alone."""
    if isinstance(where, slice):
        result: Array = (of_a(a) @ of_b(b)).reshape(-1)[where]
        return result
    rows, columns = vectors(a, b, where)
    result = (of_a(rows) * of_b(columns)).sum(-1)
    return result


def _terms(a: Array, b: Array) -> Iterator[Terms]:
    """Yield the products that each element of a (…,m,k) @ b (…,k,n) is the sum of."""

    def at(where: Array) -> Array:
        rows, columns = vectors(a, b, where)
        return as_float64(rows) * as_float64(columns)

    def total(part: slice) -> Array:
        return _product(a[..., part], b[..., part, :], slice(None))

    k = a.shape[-1]
    yield Terms(f"k = {k} products", k, k, at, total)
