"""A linear model under Huber's loss: against torch autograd, exact sums and the squared error.

Its bits are tested in test_bits.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bounds
import gdcore as gd
import problems
from loops import each
from problems import EDGES, REDUCTIONS, Array, Linear, canonical, exact_linear, scales

PARTS = ["", "b", "o", "s", "bos"]
TARGETS = [None, 1, 3]
DELTAS = [0.25, 1.5, 1000.0]  # most residuals beyond, about half, none


def outputs(p: Linear, **loss: Any) -> list[Array]:
    """Return loss and gradients as a flat list, without the None of a missing intercept."""
    value, grad = gd.linear_value_and_grad(
        p.X,
        p.y,
        p.weights,
        p.intercept,
        offset=p.offset,
        sample_weight=p.sample_weight,
        reduction=p.reduction,
        **loss,
    )
    return [x for x in (value, grad.weights, grad.intercept) if x is not None]


def exact(problem: Linear, delta: float) -> tuple[Array, Array, Array]:
    """Return loss and gradients by the textbook formulas in more than float64."""
    p = problem.full(problems.WIDE)
    factor, _ = scales(problem.reduction, p.s.sum((-2, -1)) * p.w.shape[-1])
    r = p.X @ p.w + p.b + p.o - p.y
    h = np.where(np.abs(r) <= delta, r * r / 2, delta * (np.abs(r) - problems.WIDE.type(delta) / 2))
    sg = p.s * np.clip(r, -delta, delta)
    weights = factor[..., None, None] * (np.swapaxes(p.X, -1, -2) @ sg)
    loss = factor * (p.s * h).sum((-2, -1))
    return problem.squeeze(loss, weights, factor[..., None] * sg.sum(-2))


def torch_outputs(torch: Any, problem: Linear, delta: float) -> tuple[Any, Any, Any]:
    """Return loss and gradients by autograd in float64."""
    p = problem.full(float)
    X, y, o, s = (torch.tensor(np.array(x)) for x in (p.X, p.y, p.o, p.s))
    w, b = (torch.tensor(np.array(x), requires_grad=True) for x in (p.w, p.b))
    each = torch.nn.functional.huber_loss(
        torch.matmul(X, w) + b + o, y, reduction="none", delta=delta
    )
    loss = (s * each).sum((-2, -1))
    if problem.reduction.endswith("mean"):
        loss = loss / (s.sum((-2, -1)) * y.shape[-1])
    if problem.reduction.startswith("half"):
        loss = loss / 2
    loss.sum().backward()
    return problem.squeeze(loss.detach().numpy(), w.grad.numpy(), b.grad.numpy()[..., 0, :])


def check(problem: Linear, delta: float, expected: Any, dtype: Any) -> None:
    allowed = bounds.against(bounds.huber, problem, delta, dtype=dtype)
    for got, want, limit in zip(
        outputs(problem, loss="huber", delta=delta), expected, allowed, strict=False
    ):
        assert got.dtype == dtype
        bounds.check(got, want, limit)


@pytest.mark.torch
@each("t", TARGETS)
def test_torch(torch: Any, rng: Any, dtype: Any, t: int | None) -> None:
    for reduction in REDUCTIONS:
        for parts in PARTS:
            for delta in DELTAS:
                p = problems.linear(rng, 37, 5, t, dtype=dtype, reduction=reduction, parts=parts)
                check(p, delta, torch_outputs(torch, p, delta), dtype)


@pytest.mark.torch
@each("t", TARGETS)
@each("dim", ["n", "d"])
def test_torch_at_the_edges(torch: Any, rng: Any, dtype: Any, dim: str, t: int | None) -> None:
    for size in EDGES[1:]:
        n, d = (size, 11) if dim == "n" else (11, size)
        p = problems.linear(rng, n, d, t, dtype=dtype, reduction="half_mean", parts="bo")
        check(p, 1.5, torch_outputs(torch, p, 1.5), dtype)


@pytest.mark.torch
def test_torch_with_batches(torch: Any, rng: Any, dtype: Any) -> None:
    for shapes in (
        [(4, 6, 3), (4, 6), (4, 3), (4,), (4, 6), (4, 6)],
        [(6, 3), (6,), (4, 3), None, None, None],
        [(5, 1, 6, 3), (4, 6), (5, 1, 3), (4,), (6,), (5, 4, 6)],
        [(5, 1, 6, 3), (1, 4, 6, 2), (3, 2), (4, 1), (6, 2), (6,)],
    ):
        arrays = [None if s is None else problems.normal(rng, s, dtype) for s in shapes]
        if arrays[5] is not None:
            arrays[5] = np.abs(arrays[5])
        p = Linear(*arrays)  # type: ignore[arg-type]
        check(p, 0.75, torch_outputs(torch, p, 0.75), dtype)


@each("t", [None, 2, 17])
def test_small_integers_are_exact(rng: Any, isa: str, dtype: Any, t: int | None) -> None:
    """With an integer delta each loss is a multiple of 1/2, so that no sum rounds."""
    for n in (1, 3, 16, 40, 530):
        for d in (1, 2, 4, 5, 8, 9, 16, 17):
            for delta in (1, 2, 6):
                p = exact_linear(rng, n, d, t, dtype, "bs")
                for got, want in zip(outputs(p, delta=delta), exact(p, delta), strict=True):
                    np.testing.assert_array_equal(got, want.astype(dtype))


@each("reduction", REDUCTIONS)
@each("t", TARGETS)
def test_squared_is_the_squared_error(rng: Any, dtype: Any, t: int | None, reduction: Any) -> None:
    for parts in PARTS:
        p = problems.linear(rng, 70, 9, t, dtype=dtype, reduction=reduction, parts=parts)
        assert canonical(*outputs(p, loss="squared")) == canonical(*p.outputs())


def test_huber_is_the_default(rng: Any) -> None:
    p = problems.linear(rng, 30, 3)
    assert canonical(*outputs(p)) == canonical(*outputs(p, loss="huber", delta=1.0))


def test_a_large_delta_halves_the_squared_error(rng: Any, dtype: Any) -> None:
    """Below delta the loss is exactly r * (r / 2): every sum is half of the squared error's."""
    p = problems.linear(rng, 700, 7, dtype=dtype, parts="bos")
    half = replace(p, reduction="half_mean")
    assert canonical(*outputs(p, delta=1e9)) == canonical(*half.outputs())


@pytest.mark.torch
def test_infinity_and_nan_go_where_torch_has_them(torch: Any, isa: str, dtype: Any) -> None:
    for kind in (np.inf, -np.inf, np.nan):
        for place in ("X", "y", "offset", "sample_weight"):
            rows = np.arange(20.0)
            p = Linear(
                X=np.stack([rows % 3, rows % 5], axis=1).astype(dtype),
                y=(rows % 7).astype(dtype),
                weights=np.array([1, -1], dtype),
                intercept=np.array(2, dtype),
                offset=np.ones(20, dtype),
                sample_weight=np.ones(20, dtype),
                reduction="sum",
            )
            getattr(p, place)[13] = kind
            with np.errstate(invalid="ignore"):
                want = torch_outputs(torch, p, 2.0)
            for got, expected in zip(outputs(p, delta=2.0), want, strict=True):
                np.testing.assert_array_equal(got, expected.astype(dtype))


@each("delta", [0, -1.0, np.nan, np.inf, -np.inf, 1e-400])
def test_delta_is_finite_and_above_zero(delta: Any) -> None:
    with pytest.raises(ValueError, match=r"^delta is .*; it must be finite and above 0 in float64"):
        gd.linear_value_and_grad([[1.0]], [1.0], [1.0], delta=delta)


@each("delta", [1e-60, 1e60])
def test_delta_is_a_number_of_the_dtype(delta: float) -> None:
    X, y, w = np.ones((2, 1), np.float32), np.ones(2, np.float32), np.ones(1, np.float32)
    with pytest.raises(ValueError, match=r"^delta is 1e.60; .*above 0 in float32\.$"):
        gd.linear_value_and_grad(X, y, w, delta=delta)
    gd.linear_value_and_grad(X.astype(float), y, w, delta=delta)


@each("delta", ["1", None, [1.0], 1j])
def test_delta_is_a_number(delta: Any) -> None:
    with pytest.raises(TypeError, match=r"^delta is .*; it must be a number above 0\.$"):
        gd.linear_value_and_grad([[1.0]], [1.0], [1.0], delta=delta)


@each("loss", ["hinge", "Huber", "", None, 1])
def test_unknown_losses_are_refused(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"^loss is .*; choose 'squared' or 'huber'\.$"):
        gd.linear_value_and_grad([[1.0]], [1.0], [1.0], loss=loss)


def test_errors_name_the_function() -> None:
    with pytest.raises(ValueError, match=r"^linear_value_and_grad: weights has shape \(2,\)"):
        gd.linear_value_and_grad([[1.0]], [1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"^linear_value_and_grad: the mean over 0 samples"):
        gd.linear_value_and_grad(np.ones((0, 2)), [], [1.0, 2.0])
    with pytest.raises(ValueError, match="reduction is 'none'"):
        gd.linear_value_and_grad([[1.0]], [1.0], [1.0], reduction="none")  # type: ignore[arg-type]
