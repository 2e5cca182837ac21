"""The linear kernel against exact integers, torch autograd and the other kernels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import bounds
import gdcore as gd
import problems
from gdcore import oracle
from loops import each
from problems import EDGES, LAYOUTS, REDUCTIONS, SEGMENT, Linear, Shape, canonical, exact_linear

PARTS = ["", "b", "o", "s", "bos"]
TARGETS = [None, 1, 3]
# Shapes of X, y, weights, intercept, offset, sample weights (None: not given), and of the batch.
N, D, T = 6, 3, 2
BATCHES: dict[str, tuple[list[Shape | None], Shape]] = {
    "one": ([(N, D), (N,), (D,), (), (N,), (N,)], ()),
    "targets": ([(N, D), (N, T), (D, T), (T,), (N, T), (N,)], ()),
    "all": ([(4, N, D), (4, N), (4, D), (4,), (4, N), (4, N)], (4,)),
    "all-targets": ([(4, N, D), (4, N, T), (4, D, T), (4, T), (4, N, T), (4, N)], (4,)),
    "X": ([(4, N, D), (N,), (D,), (), None, None], (4,)),
    "X-one": ([(1, N, D), (4, N), (D,), None, None, None], (4,)),
    "y": ([(1, N, D), (4, N), (1, D), (), None, (N,)], (4,)),
    "weights": ([(N, D), (N,), (4, D), None, None, None], (4,)),
    "intercept": ([(N, D), (N,), (D,), (4,), None, None], (4,)),
    "offset": ([(N, D), (N,), (D,), None, (4, N), None], (4,)),
    "sample-weight": ([(N, D), (N,), (D,), (), None, (4, N)], (4,)),
    "two": ([(5, 1, N, D), (4, N), (5, 1, D), (4,), (N,), (5, 4, N)], (5, 4)),
    "two-targets": ([(5, 1, N, D), (1, 4, N, T), (D, T), (4, 1), (N, T), (N,)], (5, 4)),
    "targets-weights": ([(N, D), (N, T), (4, D, T), (T,), None, None], (4,)),
    "targets-intercept": ([(N, D), (N, T), (D, T), (4, T), (N, 1), None], (4,)),
    "shared-X-targets": ([(N, D), (4, N, T), (4, D, T), None, None, None], (4,)),
    "none": ([(0, N, D), (N,), (D,), (), (N,), (N,)], (0,)),
}  # fmt: skip


def torch_outputs(torch: Any, problem: Linear) -> tuple[Any, Any, Any]:
    """Return loss and gradients by autograd in float64."""
    p = problem.full(float)
    X, y, o, s = (torch.tensor(np.array(x)) for x in (p.X, p.y, p.o, p.s))
    w, b = (torch.tensor(np.array(x), requires_grad=True) for x in (p.w, p.b))
    loss = (s * (torch.matmul(X, w) + b + o - y) ** 2).sum((-2, -1))
    if problem.reduction.endswith("mean"):
        loss = loss / (s.sum((-2, -1)) * y.shape[-1])
    if problem.reduction.startswith("half"):
        loss = loss / 2
    loss.sum().backward()
    return problem.squeeze(loss.detach().numpy(), w.grad.numpy(), b.grad.numpy()[..., 0, :])


def check_against(problem: Linear, dtype: Any, expected: Any, **bound: Any) -> None:
    allowed = bounds.against(bounds.linear, problem, dtype=dtype, **bound)
    for got, want, limit in zip(problem.outputs(), expected, allowed, strict=False):
        assert got.dtype == dtype
        bounds.check(got, want, limit)


@pytest.mark.torch
@each("reduction", REDUCTIONS)
@each("t", TARGETS)
@each("parts", PARTS)
def test_torch(torch: Any, rng: Any, dtype: Any, parts: str, t: int | None, reduction: Any) -> None:
    problem = problems.linear(rng, 37, 5, t, dtype=dtype, reduction=reduction, parts=parts)
    check_against(problem, dtype, torch_outputs(torch, problem))


@pytest.mark.torch
@each("t", TARGETS)
@each("dim", ["n", "d"])
@each("size", EDGES[1:])
def test_torch_at_the_edges(
    torch: Any, rng: Any, dtype: Any, size: int, dim: str, t: int | None
) -> None:
    n, d = (size, 11) if dim == "n" else (11, size)
    problem = problems.linear(rng, n, d, t, dtype=dtype, reduction="half_mean", parts="bo")
    check_against(problem, dtype, torch_outputs(torch, problem))


@each("name", BATCHES)
def test_the_oracle_with_batches(rng: Any, dtype: Any, name: str) -> None:
    arrays = [None if s is None else problems.normal(rng, s, dtype) for s in BATCHES[name][0]]
    if arrays[5] is not None:
        arrays[5] = np.abs(arrays[5])
    p = Linear(*arrays)  # type: ignore[arg-type]
    ref = oracle.linear_mse(
        p.X, p.y, p.weights, p.intercept, offset=p.offset, sample_weight=p.sample_weight
    )
    loss, grad = p()
    assert ref.check(loss).worst_status is oracle.Status.OK
    assert ref.grad.weights.check(grad.weights).worst_status is oracle.Status.OK
    if p.intercept is not None:
        assert ref.grad.intercept.check(grad.intercept).worst_status is oracle.Status.OK


@pytest.mark.torch
@each("name", BATCHES)
def test_torch_with_batches(torch: Any, rng: Any, dtype: Any, name: str) -> None:
    shapes, batch = BATCHES[name]
    arrays = [None if s is None else problems.normal(rng, s, dtype) for s in shapes]
    if arrays[5] is not None:
        arrays[5] = np.abs(arrays[5])
    problem = Linear(*arrays)  # type: ignore[arg-type]
    loss, grad = problem()
    assert np.shape(loss) == batch
    assert grad.weights.shape == batch + ((D, T) if problem.several else (D,))
    if arrays[3] is not None:
        assert np.shape(grad.intercept) == batch + ((T,) if problem.several else ())
    check_against(problem, dtype, torch_outputs(torch, problem))


@each("parts", ["", "bos"])
@each("t", TARGETS)
@each("dim", ["n", "d"])
@each("size", EDGES)
def test_integer_sums_are_exact(
    rng: Any, dtype: Any, size: int, dim: str, t: int | None, parts: str
) -> None:
    n, d = (size, 11) if dim == "n" else (11, size)
    problem = exact_linear(rng, n, d, t, dtype, parts)
    for got, want in zip(problem.outputs(), problem.exact(), strict=False):
        np.testing.assert_array_equal(got, want.astype(dtype))


@each("n", [1, 3, 16, 40])
@each("d", [1, 2, 4, 5, 8, 9, 16, 17])
@each("t", [None, 2, 7, 8, 17, 33])
def test_small_integers_are_exact(
    rng: Any, isa: str, dtype: Any, n: int, d: int, t: int | None
) -> None:
    problem = exact_linear(rng, n, d, t, dtype, "bs")
    for got, want in zip(problem.outputs(), problem.exact(), strict=False):
        np.testing.assert_array_equal(got, want.astype(dtype))


@each("reduction", ["mean", "half_mean"])
@each("n, t", [(1, None), (2, 1), (64, None), (32, 4), (1024, None), (1024, 2)])
def test_integer_means_are_exact(
    rng: Any, dtype: Any, n: int, t: int | None, reduction: Any
) -> None:
    problem = replace(exact_linear(rng, n, 7, t, dtype, "b"), reduction=reduction)
    for got, want in zip(problem.outputs(), problem.exact(), strict=True):
        np.testing.assert_array_equal(got, want.astype(dtype))


@each("t", [None, 3])
def test_zero_weights_drop_rows_and_whole_ones_repeat_them(
    rng: Any, dtype: Any, t: int | None
) -> None:
    weighted = exact_linear(rng, 40, 5, t, dtype, "bos")
    assert weighted.sample_weight is not None
    assert weighted.offset is not None
    rows = np.repeat(np.arange(40), weighted.sample_weight.astype(int))
    repeated = replace(
        weighted,
        X=weighted.X[rows],
        y=weighted.y[rows],
        offset=weighted.offset[rows],
        sample_weight=None,
    )
    assert canonical(*weighted.outputs()) == canonical(*repeated.outputs())
    means = [replace(p, reduction="mean").outputs() for p in (weighted, repeated)]
    assert canonical(*means[0]) == canonical(*means[1])


@each("reduction", REDUCTIONS)
@each("n, t", [(100, None), (1300, None), (300, 3), (900, 17)])
def test_loss_is_the_mse_of_the_prediction(
    rng: Any, dtype: Any, n: int, t: int | None, reduction: Any
) -> None:
    """The same roundings in the same order: the bytes agree."""
    p = problems.linear(rng, n, 9, t, dtype=dtype, reduction=reduction, parts="bo")
    pred = gd.matmul(p.X, p.weights) + p.intercept + p.offset
    assert canonical(p()[0]) == canonical(gd.mse(pred, p.y, reduction=reduction))


@each("reduction", REDUCTIONS)
@each("t", TARGETS)
def test_gradient_is_the_chain_rule(rng: Any, dtype: Any, t: int | None, reduction: Any) -> None:
    """X^T times mse's gradient has no more roundings than `bounds.linear` counts."""
    p = problems.linear(rng, 70, 9, t, dtype=dtype, reduction=reduction)
    _, outer = gd.mse_value_and_grad(gd.matmul(p.X, p.weights), p.y, reduction=reduction)
    bounds.check(p()[1].weights, gd.matmul(p.X.T, outer), 2 * bounds.linear(p, dtype).weights)


@each("n, d", [(7, 3), (129, 33), (600, 17)])
def test_adjoint(rng: Any, dtype: Any, n: int, d: int) -> None:
    """With zero weights and y = -r the gradient of half_sum is X^T r, and <X^T r, w> = <r, X w>."""
    X, w, r = (problems.normal(rng, shape, dtype) for shape in ((n, d), (d,), (n,)))
    gradient = Linear(X, -r, np.zeros_like(w), reduction="half_sum")()[1].weights
    left, right = gd.matmul(gradient, w), gd.matmul(r, gd.matmul(X, w))
    size = np.abs(r, dtype=float) @ np.abs(X, dtype=float) @ np.abs(w, dtype=float)
    bounds.check(left, right, bounds.up(2 * bounds.gamma(n + d + 3, dtype) * size, n + d))


def test_long_sums_keep_their_digits(rng: Any, dtype: Any) -> None:
    """A segment is summed in its dtype, segments in float64, so errors do not grow with n."""
    p = problems.linear(rng, 2**17 + 3, 2, dtype=dtype, parts="b")
    p = replace(p, X=np.abs(p.X) + 1, y=-np.abs(p.y), weights=np.abs(p.weights))
    allowed = bounds.against(
        bounds.linear, p, dtype=dtype, other=problems.WIDE, segment=SEGMENT[dtype.name]
    )
    for got, want, limit in zip(p.outputs(), p.exact(), allowed, strict=True):
        bounds.check(got, want, limit)


@each("layout", LAYOUTS)
@each("t", [None, 3])
@each("batch", [(), (4,)])
def test_layouts(rng: Any, dtype: Any, layout: str, t: int | None, batch: Shape) -> None:
    p = problems.linear(rng, 23, 10, t, batch, dtype, parts="bos")
    assert canonical(*p.map(LAYOUTS[layout]).outputs()) == canonical(*p.outputs())


def test_axes_of_y_tell_targets_from_problems(rng: Any) -> None:
    """2-D X: a 2-D y holds targets. 3-D X: a 2-D y holds one target for each problem."""
    X, y, w, b = (problems.normal(rng, shape, float) for shape in ((8, 2), (8, 3), (2, 3), (3,)))
    targets = Linear(X, y, w, b, reduction="sum")()
    stacked = Linear(np.broadcast_to(X, (3, 8, 2)), y.T, w.T, b, reduction="sum")()
    single = [Linear(X, y[:, j], w[:, j], b[j], reduction="sum")() for j in range(3)]
    assert np.shape(targets[0]) == ()
    assert targets[1].weights.shape == (2, 3)
    assert stacked[1].weights.shape == (3, 2)
    assert canonical(*stacked[0]) == canonical(*(loss for loss, _ in single))
    assert canonical(*stacked[1].weights) == canonical(*(grad.weights for _, grad in single))
    assert canonical(*stacked[1].intercept) == canonical(*(grad.intercept for _, grad in single))


def test_without_an_intercept_there_is_no_gradient_of_it(rng: Any) -> None:
    loss, grad = problems.linear(rng, 8, 2)()
    assert grad.intercept is None
    assert np.ndim(loss) == 0


@each("t", [None, 2])
def test_no_features(t: int | None) -> None:
    p = Linear(
        np.ones((4, 0)),
        np.full((4,) if t is None else (4, t), 3.0),
        np.ones((0,) if t is None else (0, t)),
    )
    loss, grad = p()
    assert loss == 9
    assert grad.weights.shape == p.weights.shape


@each("reduction", ["sum", "half_sum"])
@each("t", [None, 2])
def test_no_rows_sum_to_zero(rng: Any, dtype: Any, t: int | None, reduction: Any) -> None:
    for out in problems.linear(
        rng, 0, 3, t, dtype=dtype, reduction=reduction, parts="bos"
    ).outputs():
        np.testing.assert_array_equal(out, 0)


@each("dtypes", [
    ("f4", "f8", "f4", "f8"),
    ("f2", "f4", "f8", "f8"),
    ("i8", "f4", "f4", "f8"),
    ("f2", "f2", "f2", "f4"),
    ("?", "i4", "u1", "f8"),
    (">f8", ">f8", ">f8", "f8"),
])  # fmt: skip
def test_dtypes(dtypes: tuple[str, ...]) -> None:
    X, y, w = (
        np.array(x).astype(t) for x, t in zip(([[1], [0]], [0, 1], [1]), dtypes, strict=False)
    )
    loss, grad = gd.linear_mse_value_and_grad(X, y, w)
    assert loss.dtype == grad.weights.dtype == dtypes[3]
    assert (loss, *grad.weights) == (1, 1)


def test_lists() -> None:
    loss, grad = gd.linear_mse_value_and_grad(
        [[1, 2], [3, 4]], [1, 1], [1, 0], 2, offset=[0, 1], sample_weight=[1, 3]
    )
    assert (loss, *grad.weights, grad.intercept) == (
        79 / 4,
        2 * (2 + 45) / 4,
        2 * (4 + 60) / 4,
        2 * (2 + 15) / 4,
    )
