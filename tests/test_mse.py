"""mse and its gradient against exact integers and torch autograd within the certified bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bounds
import gdcore as gd
import problems
from loops import each
from problems import (
    EDGES,
    LAYOUTS,
    REDUCTIONS,
    SEGMENT,
    Array,
    Shape,
    canonical,
    integers,
    normal,
)


def exact_pair(rng: np.random.Generator, shape: Shape, dtype: Any) -> tuple[Array, Array]:
    pred, target = integers(rng, shape, dtype), integers(rng, shape, dtype)
    if pred.size:
        pred.flat[rng.integers(pred.size)] = problems.probe(dtype)
    return pred, target


def torch_loss(torch: Any, pred: Any, target: Any, reduction: Any) -> Any:
    kind = reduction.removeprefix("half_")
    return (0.5 if "half" in reduction else 1) * torch.nn.functional.mse_loss(
        pred, target, reduction=kind
    )


@pytest.mark.torch
@each("reduction", REDUCTIONS)
@each("size", EDGES[1:])
def test_torch(torch: Any, rng: Any, dtype: Any, size: int, reduction: Any) -> None:
    pred, target = normal(rng, (size,), dtype), normal(rng, (size,), dtype)
    leaf = torch.tensor(pred.astype(float), requires_grad=True)
    expected = torch_loss(torch, leaf, torch.tensor(target.astype(float)), reduction)
    expected.backward()
    loss, grad = gd.mse_value_and_grad(pred, target, reduction=reduction)
    bound = bounds.against(bounds.mse, pred, target, reduction, dtype=dtype)
    assert loss.dtype == grad.dtype == dtype
    bounds.check(loss, expected.detach().numpy(), bound[0])
    bounds.check(grad, leaf.grad.numpy(), bound[1])
    assert canonical(gd.mse(pred, target, reduction=reduction)) == canonical(loss)


@pytest.mark.torch
@each("size", EDGES)
def test_torch_without_reduction(torch: Any, rng: Any, dtype: Any, size: int) -> None:
    pred, target = normal(rng, (size,), dtype), normal(rng, (size,), dtype)
    a, b = (torch.tensor(x.astype(float)) for x in (pred, target))
    expected = torch_loss(torch, a, b, "none")
    bound = bounds.against(bounds.mse, pred, target, "none", dtype=dtype)
    bounds.check(gd.mse(pred, target, reduction="none"), expected.numpy(), bound[0])


@each("reduction", ["sum", "half_sum"])
@each("size", EDGES)
def test_integer_sums_are_exact(rng: Any, isa: str, dtype: Any, size: int, reduction: Any) -> None:
    pred, target = exact_pair(rng, (size,), dtype)
    r, scale = pred.astype(int) - target.astype(int), 0.5 if reduction == "half_sum" else 1
    loss, grad = gd.mse_value_and_grad(pred, target, reduction=reduction)
    assert loss == gd.mse(pred, target, reduction=reduction) == scale * (r * r).sum()
    np.testing.assert_array_equal(grad, scale * 2 * r)
    squares = gd.mse(np.where(pred > 9, 9, pred).astype(dtype), target, reduction="none")
    np.testing.assert_array_equal(squares, (np.minimum(pred, 9) - target) ** 2)


@each("reduction", ["mean", "half_mean"])
@each("size", [1, 2, 8, 16, 32, 64, 256, 512, 1024, 2048])
def test_integer_means_are_exact(rng: Any, dtype: Any, size: int, reduction: Any) -> None:
    pred, target = exact_pair(rng, (size,), dtype)
    r, scale = (pred.astype(int) - target.astype(int)), (0.5 if "half" in reduction else 1) / size
    loss, grad = gd.mse_value_and_grad(pred, target, reduction=reduction)
    assert loss == gd.mse(pred, target, reduction=reduction) == dtype.type(scale * (r * r).sum())
    np.testing.assert_array_equal(grad, (2 * scale * r).astype(dtype))


@each("shape", [(), (1,), (4, 6), (3, 1, 5), (2, 3, 4, 5), (1, 1)])
def test_every_element_counts_once(rng: Any, dtype: Any, shape: Shape) -> None:
    pred, target = exact_pair(rng, shape, dtype)
    r = pred.astype(int) - target.astype(int)
    loss, grad = gd.mse_value_and_grad(pred, target, reduction="sum")
    assert np.shape(loss) == ()
    assert loss == (r * r).sum()
    assert np.shape(grad) == np.shape(gd.mse(pred, target, reduction="none")) == shape
    np.testing.assert_array_equal(grad, 2 * r)


@each("name_b", LAYOUTS)
@each("name_a", LAYOUTS)
def test_layouts(rng: Any, dtype: Any, name_a: str, name_b: str) -> None:
    pred, target = exact_pair(rng, (5, 3, 37), dtype)
    expected = canonical(*gd.mse_value_and_grad(pred, target))
    assert (
        canonical(*gd.mse_value_and_grad(LAYOUTS[name_a](pred), LAYOUTS[name_b](target)))
        == expected
    )


@each("layout", LAYOUTS)
def test_out_of_any_layout(rng: Any, dtype: Any, layout: str) -> None:
    pred, target = exact_pair(rng, (5, 3, 37), dtype)
    out = LAYOUTS[layout](np.full(pred.shape, np.nan, dtype))
    loss, grad = gd.mse_value_and_grad(pred, target, out=out, reduction="sum")
    assert grad is out
    np.testing.assert_array_equal(out, 2 * (pred - target))
    assert loss == gd.mse(pred, target, reduction="sum")


@each("which", ["pred", "target", "shifted", "reversed"])
def test_out_may_overlap_the_inputs(rng: Any, dtype: Any, which: str) -> None:
    memory, other = integers(rng, (1001,), dtype), integers(rng, (1000,), dtype)
    pred, target = (other, memory[:1000]) if which == "target" else (memory[:1000], other)
    out = {"shifted": memory[1:], "reversed": memory[999::-1]}.get(which, memory[:1000])
    expected, total = 2 * (pred - target), ((pred - target) ** 2).sum()
    loss, _ = gd.mse_value_and_grad(pred, target, reduction="sum", out=out)
    np.testing.assert_array_equal(out, expected)
    assert loss == total


def test_long_sums_keep_their_digits(rng: Any, dtype: Any) -> None:
    """A segment is summed in its dtype, segments in float64, so errors do not grow with n."""
    segment = SEGMENT[dtype.name]
    pred = (rng.random(2**20 + 3) + 1).astype(dtype)
    target = np.zeros_like(pred)
    expected = (pred.astype(problems.WIDE) ** 2).sum() / pred.size
    bound = bounds.mse(pred, target, "mean", dtype, segment=segment).loss
    bound = bound + bounds.mse(pred, target, "mean", problems.WIDE).loss
    bounds.check(gd.mse(pred, target), expected, bound)


@each("a, b, result", [
    ("float32", "float64", "float64"),
    ("float16", "float16", "float32"),
    ("int64", "int64", "float64"),
    ("bool", "float32", "float64"),
    (">f8", "<f4", "float64"),
])  # fmt: skip
def test_dtypes(a: str, b: str, result: str) -> None:
    loss, grad = gd.mse_value_and_grad(np.array([1, 0], a), np.array([1, 1], b))
    assert loss.dtype == grad.dtype == result
    assert (loss, *grad) == (0.5, 0, -1)


def test_lists_and_read_only_inputs() -> None:
    pred = np.array([1.0, 2.0, 4.0, 4.0])
    pred.flags.writeable = False
    assert gd.mse(pred, [1, 1, 1, 2]) == 3.5
