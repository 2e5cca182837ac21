"""Operators for torch, with autograd: gdcore's bits in a torch model.

Forward computes the loss and its gradient in one pass over the data, backward scales the gradient.
They run on the tensors' device, on torch's current stream, and in `torch.compile` and graphs. Needs
torch 2.4 or newer, which is imported on first use. Derivatives are those of `backward` and
`torch.autograd`, of any order: there are none in forward mode and in `torch.func`.

Examples
--------
>>> import gdcore.torch  # doctest: +SKIP
>>> weights = torch.zeros(3, requires_grad=True)  # doctest: +SKIP
>>> gdcore.torch.linear_mse_loss(X, y, weights).backward()  # doctest: +SKIP
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import gdcore.kernels as kernels

if TYPE_CHECKING:
    from torch import Tensor

    from gdcore.typing import Reduction

__all__ = ["linear_mse_loss", "matmul", "mse_loss"]

_registering = Lock()


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product of two tensors, with the shapes of `torch.matmul`.

    Parameters
    ----------
    a : Tensor, shape (..., m, k) or (k,)
    b : Tensor, shape (..., k, n) or (k,)
        float32 or float64, as a is.

    Returns
    -------
    Tensor, shape (..., m, n)

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError
        If an argument is not a tensor, or of another dtype.
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> gdcore.torch.matmul(torch.eye(2), torch.ones(2))  # doctest: +SKIP
    tensor([1., 1.])
    """
    _check("matmul", {"a": a, "b": b})
    return _operators().matmul(a, b)


def mse_loss(pred: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Squared error between two tensors of one shape; see `gdcore.mse`.

    Parameters
    ----------
    pred, target : Tensor, any shape, the same for both
        float32 or float64.
    reduction : {"mean", "sum", "half_mean", "half_sum"}

    Returns
    -------
    Tensor, shape ()

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError
        If an argument is not a tensor, or of another dtype.
    ValueError
        If shapes differ, or for a mean over 0 elements.

    Examples
    --------
    >>> pred = torch.tensor([1.0, 2.0], requires_grad=True)  # doctest: +SKIP
    >>> gdcore.torch.mse_loss(pred, torch.zeros(2)).backward()  # doctest: +SKIP
    >>> pred.grad  # doctest: +SKIP
    tensor([1., 2.])
    """
    _check("mse_loss", {"pred": pred, "target": target})
    return _operators().mse_value_and_grad(pred, target, reduction)[0]


def linear_mse_loss(
    X: Tensor,
    y: Tensor,
    weights: Tensor,
    intercept: Tensor | None = None,
    *,
    offset: Tensor | None = None,
    sample_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Squared error of a linear model; see `gdcore.linear_mse_value_and_grad`.

    X is read once for the loss and the gradients of weights and intercept. Gradients of the other
    arguments, and second derivatives, are computed by torch's own operations where they are needed.

    Parameters
    ----------
    X : Tensor, shape (..., n, d)
    y : Tensor, shape (..., n) or (..., n, t)
    weights : Tensor, shape (..., d) or (..., d, t)
    intercept : Tensor, shape (...) or (..., t), optional
    offset : Tensor, optional
        Fixed term of the prediction, broadcast to y's shape.
    sample_weight : Tensor, shape (..., n), optional
        Weight of each row's squared error.
    reduction : {"mean", "sum", "half_mean", "half_sum"}

    Returns
    -------
    Tensor, shape (...)
        One for each problem of the batch.

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError
        If an argument is not a tensor, or of another dtype.
    ValueError
        If shapes do not fit, or for a mean over no samples.

    Examples
    --------
    >>> X, y = torch.ones(4, 1), torch.full((4,), 3.0)  # doctest: +SKIP
    >>> weights = torch.zeros(1, requires_grad=True)  # doctest: +SKIP
    >>> gdcore.torch.linear_mse_loss(X, y, weights).backward()  # doctest: +SKIP
    >>> weights.grad  # doctest: +SKIP
    tensor([-6.])
    """
    given = {"X": X, "y": y, "weights": weights, "intercept": intercept}
    _check("linear_mse_loss", given | {"offset": offset, "sample_weight": sample_weight})
    operands = X, y, weights, intercept, offset, sample_weight
    return _operators().linear_mse_value_and_grad(*operands, reduction)[0]


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ImportError("gdcore.torch needs the package torch: pip install torch.") from None
    return torch


def _check(function: str, given: dict[str, Any]) -> None:
    """Raise TypeError unless all are tensors of one floating dtype, to be derived backwards."""
    torch = _torch()
    dtypes = {}
    for name, value in given.items():
        if value is None:
            continue
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"{function}: {name} is {type(value).__name__}; pass a tensor, or use gdcore's "
                "function of that name for other arrays."
            )
        dtypes[name] = value.dtype
    (first, dtype), *others = dtypes.items()
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"{function}: {first} is {dtype}; gdcore computes in float32 and float64: convert it "
            f"with {first}.float() or {first}.double()."
        )
    if not torch.compiler.is_compiling() and any(_is_dual(torch, a) for a in given.values()):
        raise NotImplementedError(
            f"{function} has derivatives for backward() and torch.autograd alone: not in forward "
            "mode, and not in torch.func."
        )
    for name, other in others:
        if other != dtype:
            raise TypeError(
                f"{function}: {first} is {dtype} and {name} {other}; convert one with .to()."
            )


def _is_dual(torch: Any, value: Any) -> bool:
    """Whether a tensor carries derivatives that its operators would drop without a word."""
    if value is None:
        return False
    wrapped = getattr(torch._C._functorch, "is_gradtrackingtensor", None)
    if wrapped is not None and wrapped(value):
        return True
    return torch.autograd.forward_ad.unpack_dual(value).tangent is not None


def _operators() -> Any:
    """Return torch's namespace of gdcore's operators."""
    torch = _torch()
    _register()
    return torch.ops.gdcore


def _register() -> bool:
    """Register the operators with torch, once."""
    torch = _torch()
    with _registering:
        if not hasattr(torch.ops.gdcore, "matmul"):
            _register_linear(torch)
            _register_mse(torch)
            _register_matmul(torch)
    return True


# torch.compile calls it while it traces, and takes the result for granted; as
# torch.compiler.assume_constant_result says, which would import torch here.
_register._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _summed_to(gradient: Any, like: Any) -> Any:
    """Sum the gradient of what was broadcast."""
    return gradient.sum_to_size(like.shape) if like.dim() else gradient.sum()


# ---- matmul ----


def _register_matmul(torch: Any) -> None:
    def product(a: Any, b: Any) -> Any:
        return kernels.matmul(a, b)

    def shape_only(a: Any, b: Any) -> Any:
        batch = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        columns = b.shape[-1:] if b.dim() > 1 else ()
        return a.new_empty((*batch, *a.shape[-2:-1], *columns))

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    def backward(ctx: Any, grad: Any) -> Any:
        a, b = ctx.saved_tensors
        grad = grad.unsqueeze(-1) if b.dim() == 1 else grad
        grad = grad.unsqueeze(-2) if a.dim() == 1 else grad
        rows = a if a.dim() > 1 else a.unsqueeze(0)
        columns = b if b.dim() > 1 else b.unsqueeze(-1)
        of_a = of_b = None
        if ctx.needs_input_grad[0]:
            of_a = operator(grad, columns.mT).sum_to_size(rows.shape).reshape(a.shape)
        if ctx.needs_input_grad[1]:
            of_b = operator(rows.mT, grad).sum_to_size(columns.shape).reshape(b.shape)
        return of_a, of_b

    schema = "(Tensor a, Tensor b) -> Tensor"
    operator = torch.library.custom_op("gdcore::matmul", product, mutates_args=(), schema=schema)
    operator.register_fake(shape_only)
    operator.register_autograd(backward, setup_context=save)


# ---- mse ----


def _register_mse(torch: Any) -> None:
    def value_and_grad(pred: Any, target: Any, reduction: str) -> Any:
        return kernels.mse_value_and_grad(pred, target, reduction=reduction)  # type: ignore[arg-type]

    def shape_only(pred: Any, target: Any, reduction: str) -> Any:
        return pred.new_empty(()), pred.new_empty(pred.shape)

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        pred, _, ctx.reduction = inputs
        ctx.save_for_backward(output[1])
        ctx.size = pred.numel()
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, of_loss: Any, of_grad: Any) -> Any:
        (grad,) = ctx.saved_tensors
        found = 0.0
        if of_loss is not None:
            found = of_loss * grad
        if of_grad is not None:  # a second derivative: grad is factor * (pred - target)
            found = found + of_grad * (2 * _factor(ctx.reduction, ctx.size))
        if of_loss is None and of_grad is None:
            return None, None, None
        return found, -found if ctx.needs_input_grad[1] else None, None

    operator = torch.library.custom_op(
        "gdcore::mse_value_and_grad",
        value_and_grad,
        mutates_args=(),
        schema="(Tensor pred, Tensor target, str reduction) -> (Tensor, Tensor)",
    )
    operator.register_fake(shape_only)
    operator.register_autograd(backward, setup_context=save)


def _factor(reduction: str, size: Any) -> Any:
    """Return what a sum of squares is multiplied by."""
    half = 0.5 if reduction.startswith("half") else 1.0
    return half / size if reduction.endswith("mean") else half


# ---- linear_mse ----


def _register_linear(torch: Any) -> None:
    def value_and_grad(
        X: Any,
        y: Any,
        weights: Any,
        intercept: Any,
        offset: Any,
        sample_weight: Any,
        reduction: str,
    ) -> Any:
        loss, grad = kernels.linear_mse_value_and_grad(
            X,
            y,
            weights,
            intercept,
            offset=offset,
            sample_weight=sample_weight,
            reduction=reduction,  # type: ignore[arg-type]
        )
        absent = loss.new_empty(0)
        return loss, grad.weights, absent if intercept is None else grad.intercept

    def shape_only(
        X: Any,
        y: Any,
        weights: Any,
        intercept: Any,
        offset: Any,
        sample_weight: Any,
        reduction: str,
    ) -> Any:
        several = y.dim() >= X.dim()
        batch = _batch(torch, X, y, weights, intercept, offset, sample_weight)
        targets = y.shape[-1:] if several else ()
        absent = X.new_empty(0)
        return (
            X.new_empty(batch),
            X.new_empty((*batch, X.shape[-1], *targets)),
            absent if intercept is None else X.new_empty((*batch, *targets)),
        )

    def save(ctx: Any, inputs: Any, output: Any) -> None:
        *operands, ctx.reduction = inputs
        ctx.save_for_backward(*operands, *output[1:])
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, of_loss: Any, of_weights: Any, of_intercept: Any) -> Any:
        *operands, grad_weights, grad_intercept = ctx.saved_tensors
        X, y, weights, intercept, *_ = operands
        needs = ctx.needs_input_grad
        if of_loss is None and of_weights is None and of_intercept is None:
            return (None,) * 7
        found: list[Any] = [None] * 6
        is_first = of_weights is None and of_intercept is None and not torch.is_grad_enabled()
        if is_first:  # the gradient is there: backward scales it
            targets = (1,) * (y.dim() >= X.dim())
            scale = of_loss.reshape((*of_loss.shape, 1, *targets))
            found[2] = _summed_to(scale * grad_weights, weights) if needs[2] else None
            if needs[3]:
                scale = of_loss.reshape((*of_loss.shape, *targets))
                found[3] = _summed_to(scale * grad_intercept, intercept)
        if any(need and have is None for need, have in zip(needs[:6], found, strict=True)):
            of_intercept = None if intercept is None else of_intercept
            others = _pull_back(
                torch, operands, needs, ctx.reduction, (of_loss, of_weights, of_intercept)
            )
            found = [b if a is None else a for a, b in zip(found, others, strict=True)]
        return *found, None

    operator = torch.library.custom_op(
        "gdcore::linear_mse_value_and_grad",
        value_and_grad,
        mutates_args=(),
        schema=(
            "(Tensor X, Tensor y, Tensor weights, Tensor? intercept, Tensor? offset, "
            "Tensor? sample_weight, str reduction) -> (Tensor, Tensor, Tensor)"
        ),
    )
    operator.register_fake(shape_only)
    operator.register_autograd(backward, setup_context=save)


def _batch(
    torch: Any, X: Any, y: Any, weights: Any, intercept: Any, offset: Any, sample_weight: Any
) -> Any:
    """Return the batch dimensions that all operands broadcast to."""
    targets = int(y.dim() >= X.dim())
    core = (
        (X, 2), (y, 1 + targets), (weights, 1 + targets), (intercept, targets),
        (offset, 1 + targets), (sample_weight, 1),
    )  # fmt: skip
    return torch.broadcast_shapes(
        *(a.shape[: max(a.dim() - size, 0)] for a, size in core if a is not None)
    )


def _pull_back(
    torch: Any, operands: Any, needs: Any, reduction: str, cotangents: tuple[Any, Any, Any]
) -> list[Any]:
    """Return the gradients of the loss and of its gradient, by torch's own operations.

    With the cotangents g, v, u of the loss, the weights' and the intercept's gradient, what is
    differentiated is ``F = k sum(s r (g r + 2 (X v + u)))`` for residuals r and row weights s.
    """
    X, y, weights, intercept, offset, sample_weight = operands
    of_loss, of_weights, of_intercept = cotangents
    several = y.dim() >= X.dim()

    def with_targets(a: Any) -> Any:  # (..., t), where there is one target without an axis
        return a if several else a.unsqueeze(-1)

    def of_rows(a: Any) -> Any:  # (..., 1, t), from an entry for each target
        return with_targets(a).unsqueeze(-2) if with_targets(a).dim() else a

    W = with_targets(weights)
    residual = X @ W - with_targets(y)
    if intercept is not None:
        residual = residual + of_rows(intercept)
    if offset is not None:
        residual = residual + with_targets(offset)
    direction = torch.zeros_like(residual)  # X v + u
    if of_weights is not None:
        direction = direction + X @ with_targets(of_weights)
    if of_intercept is not None:
        direction = direction + of_rows(of_intercept)
    slope = direction  # of F / (2 k s) along r
    if of_loss is not None:
        slope = slope + of_loss[..., None, None] * residual

    n, t = residual.shape[-2:]
    s = residual.new_ones(()) if sample_weight is None else sample_weight.unsqueeze(-1)
    total = n if sample_weight is None else _total(sample_weight, n)
    k = _factor(reduction, total * t)
    k = k[..., None, None] if isinstance(k, torch.Tensor) and k.dim() else k

    of_residual = 2 * k * s * slope
    found: list[Any] = [None] * 6
    if needs[0]:
        of_X = of_residual @ W.mT
        if of_weights is not None:
            of_X = of_X + (2 * k * s * residual) @ with_targets(of_weights).mT
        found[0] = _summed_to(of_X, X)
    if needs[1]:
        found[1] = _summed_to(-_without_targets(of_residual, several), y)
    if needs[2]:
        found[2] = _summed_to(_without_targets(X.mT @ of_residual, several), weights)
    if needs[3]:
        found[3] = _summed_to(_without_targets(of_residual.sum(-2), several), intercept)
    if needs[4]:
        found[4] = _summed_to(_without_targets(of_residual, several), offset)
    if needs[5]:
        each = (k * residual * (slope + direction)).sum(-1)  # F = sum(s * each)
        if reduction.endswith("mean"):
            each = each - (s[..., 0] * each).sum(-1, keepdim=True) / total[..., None]
        found[5] = _summed_to(each, sample_weight)
    return found


def _total(sample_weight: Any, n: int) -> Any:
    """Return the sum of the rows' weights; one weight may stand for all rows."""
    weight = sample_weight if sample_weight.dim() else sample_weight[None]
    return weight.expand(*weight.shape[:-1], n).sum(-1)


def _without_targets(a: Any, several: bool) -> Any:
    return a if several else a.squeeze(-1)
