"""Bits of a problem do not depend on the batch around it, nor those of a row on other rows."""

from __future__ import annotations

from typing import Any

import numpy as np

import gdcore as gd
from loops import each
from operations import (
    OPERATIONS,
    reference,
)
from problems import (
    Shape,
    canonical,
    normal,
)

BATCHED = (
    "matmul",
    "linear",
    "linear-full",
    "linear-targets",
    "linear-targets-full",
    "huber",
    "huber-targets",
)
PICKS = {
    "permuted": [3, 0, 4, 1, 2],
    "sliced": [0, 2, 4],
    "repeated": [1, 1, 1, 1, 1, 1, 1],
    "padded": [4, 4, 0, 1, 2, 3, 4, 0, 0],
    "single": [2],
}


@each("name", BATCHED)
@each("sizes", [(3, 2, 2), (9, 4, 3), (37, 41, 19), (600, 5, 3), (5, 600, 2)])
def test_batches(isa: str, dtype: Any, name: str, sizes: Shape) -> None:
    """A problem's bits do not depend on the problems beside it, nor on being in a batch."""
    kernel, rng = OPERATIONS[name], np.random.default_rng(7)
    problems_ = [kernel.draw(rng, sizes, dtype) for _ in range(5)]
    alone = [[np.asarray(x) for x in kernel.run(*p)] for p in problems_]
    stack = [np.stack(x) for x in zip(*problems_, strict=True)]
    for pick in PICKS.values():
        want = canonical(*(np.stack([out[i] for i in pick]) for out in zip(*alone, strict=True)))
        assert kernel.bits([x[pick] for x in stack]) == want
    view = [x[::-2] for x in stack]
    want = canonical(*(np.stack([out[i] for i in (4, 2, 0)]) for out in zip(*alone, strict=True)))
    assert kernel.bits(view) == want


@each("name", BATCHED)
def test_batches_over_threads(isa_and_threads: Any, dtype: Any, name: str) -> None:
    """Enough problems for each thread to take whole ones, and more than are taken at once."""
    rng = np.random.default_rng(19)
    problems_ = [OPERATIONS[name].draw(rng, (33, 7, 2), dtype) for _ in range(9)]
    stack = [np.stack(x * 78) for x in zip(*problems_, strict=True)]
    got = [x.reshape(78, -1) for x in OPERATIONS[name].run(*stack)]
    with reference():
        want = OPERATIONS[name].run(*(x[:9] for x in stack))
    assert canonical(*got) == canonical(*(np.tile(x.reshape(1, -1), (78, 1)) for x in want))


@each("n", [1, 2, 16, 40])
@each("k", [1, 3, 5, 9, 17, 40, 600])
def test_rows_do_not_depend_on_other_rows(isa: str, dtype: Any, n: int, k: int) -> None:
    rng = np.random.default_rng(11)
    a, b = normal(rng, (130, k), dtype), normal(rng, (k, n), dtype)
    whole = gd.matmul(a, b)
    for rows in (
        slice(0, 1),
        slice(129, 130),
        slice(0, 7),
        slice(3, 70),
        slice(None, None, -3),
        [5, 5, 99],
    ):
        assert canonical(gd.matmul(a[rows], b)) == canonical(whole[rows])
    assert canonical(gd.matmul(a[77], b)) == canonical(whole[77])
    assert canonical(gd.matmul(a, b[:, 0])) == canonical(gd.matmul(a, b[:, :1])[:, 0])


@each("reduction", ["sum", "mean"])
def test_elements_beside_zero_residuals(isa: str, dtype: Any, reduction: Any) -> None:
    """An element of the gradient depends on its own prediction only."""
    rng = np.random.default_rng(13)
    pred, target = normal(rng, (600,), dtype), normal(rng, (600,), dtype)
    _, whole = gd.mse_value_and_grad(pred, target, reduction=reduction)
    changed = np.where(np.arange(600) % 5 == 0, pred, target)
    _, some = gd.mse_value_and_grad(changed, target, reduction=reduction)
    assert canonical(some[::5]) == canonical(whole[::5])
