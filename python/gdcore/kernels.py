"""The kernels: matrix product, squared error, losses of a linear model, and their gradients.

Every output bit is the same for any thread count, batch, stride and instruction set
(docs/numerics.md). float32 in gives float32 out and float64 likewise; integers and bools become
float64, float16 becomes float32, mixed floats become the wider; Python numbers follow the arrays.

Arrays of torch, JAX, CuPy and of anything with DLPack or `__cuda_array_interface__` are read where
they are, without a copy, and results are arrays of that library on that device: of the first such
operand's, where NumPy arrays are among the others. `out` is an array of that library too. torch
parameters that need gradients are read, but results carry no graph: see `gdcore.torch`.

On a CUDA device all operands but Python numbers are there, of one dtype, float32 or float64. The
work is queued on the library's current stream and nothing waits for it, so that losses are 0-d
arrays there, and calls can be captured in a graph.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy.typing as npt

import gdcore._core as _core
from gdcore.typing import Reduction

Loss = Literal["squared", "huber"]


class LinearGrad(NamedTuple):
    """Gradient of a linear model's loss.

    Attributes
    ----------
    weights : ndarray, shape (..., d) or (..., d, t)
        Derivative with respect to the weights.
    intercept : ndarray, shape (...) or (..., t), or None
        Derivative with respect to the intercept; None if there was none.
    """

    weights: Any
    intercept: Any


def matmul(a: npt.ArrayLike, b: npt.ArrayLike, out: Any = None) -> Any:
    """Matrix product, with the shapes of `numpy.matmul`.

    Row i of ``a @ b`` has the same bits whatever other rows and batches are there.

    Parameters
    ----------
    a : array_like, shape (..., m, k) or (k,)
    b : array_like, shape (..., k, n) or (k,)
        Batch dimensions broadcast; a broadcast operand is never copied.
    out : array, optional
        Where to write: exactly the result's shape and dtype, any strides. It may overlap a or b.

    Returns
    -------
    array, shape (..., m, n)
        Without the dimension of a one-dimensional operand; a scalar if both are.

    Raises
    ------
    ValueError
        If shapes do not fit, or `out` is read-only or of another shape.
    TypeError
        If a dtype is not real, or `out` is of another dtype.

    Examples
    --------
    >>> import gdcore as gd
    >>> gd.matmul([[1.0, 2.0], [3.0, 4.0]], [1.0, 10.0])
    array([21., 43.])
    """
    return _core.matmul(a, b, out)


def mse(
    pred: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction | Literal["none"] = "mean",
) -> Any:
    """Squared error between two arrays of one shape.

    Parameters
    ----------
    pred, target : array_like, any shape, the same for both
    reduction : {"mean", "sum", "half_mean", "half_sum", "none"}
        How the squares are reduced; "half" multiplies by 1/2, "none" returns all of them.

    Returns
    -------
    scalar, or ndarray of the inputs' shape for "none"

    Raises
    ------
    ValueError
        If the shapes differ, or for a mean over 0 elements.
    TypeError
        If a dtype is not real.

    Examples
    --------
    >>> import gdcore as gd
    >>> print(gd.mse([1.0, 2.0, 3.0], [1.0, 2.0, 5.0], reduction="sum"))
    4.0
    """
    return _core.mse(pred, target, reduction)


def mse_value_and_grad(
    pred: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    reduction: Reduction = "mean",
    out: Any = None,
) -> tuple[Any, Any]:
    """Squared error and its derivative with respect to `pred`, in one pass.

    Parameters
    ----------
    pred, target : array_like, any shape, the same for both
    reduction : {"mean", "sum", "half_mean", "half_sum"}
    out : array, optional
        Where to write the gradient: the inputs' shape and dtype, any strides; may overlap them.

    Returns
    -------
    loss : scalar
    grad : ndarray, the inputs' shape
        ``2 / n * (pred - target)`` for "mean", the factor rounded once to the dtype.

    Raises
    ------
    ValueError
        If the shapes differ, for a mean over 0 elements, or if `out` does not fit.
    TypeError
        If a dtype is not real, or `out` is of another dtype.

    Examples
    --------
    >>> import gdcore as gd
    >>> loss, grad = gd.mse_value_and_grad([1.0, 2.0], [0.0, 4.0])
    >>> print(loss, grad)
    2.5 [ 1. -2.]
    """
    loss, grad = _core.mse_value_and_grad(pred, target, reduction, out)
    return loss, grad


def linear_mse_value_and_grad(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    weights: npt.ArrayLike,
    intercept: npt.ArrayLike | None = None,
    *,
    offset: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> tuple[Any, LinearGrad]:
    """Squared error of a linear model and its gradient; X is read once.

    The prediction is ``X @ weights + intercept + offset``. Leading batch dimensions broadcast.
    y has several targets if it has at least as many dimensions as X.

    Parameters
    ----------
    X : array_like, shape (..., n, d)
    y : array_like, shape (..., n) or (..., n, t)
    weights : array_like, shape (..., d) or (..., d, t)
    intercept : array_like, shape (...) or (..., t), optional
    offset : array_like, optional
        Fixed term of the prediction, broadcast to y's shape.
    sample_weight : array_like, shape (..., n), optional
        Weight of each row's squared error. "mean" divides by their sum (times t).
    reduction : {"mean", "sum", "half_mean", "half_sum"}

    Returns
    -------
    loss : scalar or array, shape (...)
        One for each problem of the batch.
    grad : LinearGrad
        For "mean" the gradient is ``2 / (n t) * X.T @ (prediction - y)``.

    Raises
    ------
    ValueError
        If shapes do not fit, or for a mean over no samples. On a CUDA device weights that sum to 0
        are not known without waiting: the mean is NaN there.
    TypeError
        If a dtype is not real.

    Examples
    --------
    >>> import gdcore as gd
    >>> loss, grad = gd.linear_mse_value_and_grad([[1.0], [2.0]], [2.0, 4.0], [0.0], 0.0)
    >>> print(loss, grad.weights, grad.intercept)
    10.0 [-10.] -6.0
    """
    loss, grad, intercept_grad = _core.linear_mse_value_and_grad(
        X, y, weights, intercept, offset, sample_weight, reduction
    )
    return loss, LinearGrad(grad, intercept_grad)


def linear_value_and_grad(
    X: npt.ArrayLike,
    y: npt.ArrayLike,
    weights: npt.ArrayLike,
    intercept: npt.ArrayLike | None = None,
    *,
    loss: Loss = "huber",
    delta: float = 1.0,
    offset: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
    reduction: Reduction = "mean",
) -> tuple[Any, LinearGrad]:
    """Loss of a linear model and its gradient; X is read once.

    As `linear_mse_value_and_grad`, with a choice of the loss of a residual
    ``r = X @ weights + intercept + offset - y``.

    Parameters
    ----------
    X : array_like, shape (..., n, d)
    y : array_like, shape (..., n) or (..., n, t)
    weights : array_like, shape (..., d) or (..., d, t)
    intercept : array_like, shape (...) or (..., t), optional
    loss : {"huber", "squared"}
        "huber" is ``r**2 / 2`` where ``abs(r) <= delta``, and ``delta * (abs(r) - delta / 2)``
        beyond [1]_; "squared" is ``r**2``.
    delta : float
        Where Huber's loss becomes linear: finite and above 0, also as a number of the data's dtype,
        to which it is rounded. "squared" does not depend on it.
    offset : array_like, optional
        Fixed term of the prediction, broadcast to y's shape.
    sample_weight : array_like, shape (..., n), optional
        Weight of each row's loss. "mean" divides by their sum (times t).
    reduction : {"mean", "sum", "half_mean", "half_sum"}
        "half" multiplies by 1/2.

    Returns
    -------
    value : scalar or ndarray, shape (...)
        One for each problem of the batch.
    grad : LinearGrad
        For Huber's loss and "mean" it is ``1 / (n t) * X.T @ clip(r, -delta, delta)``.

    Raises
    ------
    ValueError
        If shapes do not fit, for a mean over no samples, for an unknown loss, or if delta is not
        finite and above 0.
    TypeError
        If a dtype is not real, or delta is not a number.

    See Also
    --------
    linear_mse_value_and_grad : The squared error alone.

    References
    ----------
    .. [1] P. J. Huber (1964), "Robust estimation of a location parameter", Annals of Mathematical
       Statistics 35, 73-101.

    Examples
    --------
    >>> import gdcore as gd
    >>> value, grad = gd.linear_value_and_grad([[1.0], [2.0]], [0.5, 9.0], [0.0], loss="huber")
    >>> print(value, grad.weights)
    4.3125 [-1.25]
    """
    value, grad, intercept_grad = _core.linear_value_and_grad(
        X, y, weights, intercept, offset, sample_weight, reduction, loss, delta
    )
    return value, LinearGrad(grad, intercept_grad)
