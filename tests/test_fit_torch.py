"""gd.fit against a plain loop in torch: float64 autograd and torch.optim.SGD, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bounds
import fits
import gdcore as gd
import problems
from loops import each
from problems import REDUCTIONS, Array, Linear

pytestmark = pytest.mark.torch

EPOCHS = 8
N, D, T = 39, 3, 2
OPTIONS = [
    {"momentum": m, "dampening": d, "nesterov": n, "weight_decay": w}
    for m, d, n, w in product([0.0, 0.9], [0.0, 0.3], [False, True], [0.0, 0.1])
    if not n or (m and not d)
]
every_option = each("options", OPTIONS)
every_batch = each("batch_size", [None, 7])  # of 39 rows the last batch has 4


@dataclass(frozen=True)
class Step:
    """One step of torch: where it started, what it saw."""

    problem: Linear  # the rows of the step, at the parameters before it
    sgd: gd.SGD  # with the step's lr
    loss: float
    grad: Array
    velocity: Array
    params: Array  # after it
    hessian: Array


@dataclass
class TorchLoop:
    """The training loop of a torch tutorial, kept step by step."""

    torch: ModuleType
    problem: Linear
    sgd: gd.SGD
    batch_size: int | None = None
    shuffle: bool = True
    seed: int = 0
    rate: Callable[[int], float] | None = None
    epochs: list[list[Step]] = field(default_factory=list)

    def loss(self, p: Linear, leaves: list[Any]) -> Any:
        """Write the reduction, weighted or not, out in torch."""
        X, y = (self.torch.tensor(a, dtype=self.torch.float64) for a in (p.X, p.y))
        prediction = X @ leaves[0]
        if p.intercept is not None:
            prediction = prediction + leaves[1]
        if p.offset is not None:
            prediction = prediction + self.torch.tensor(p.offset, dtype=self.torch.float64)
        squares = (prediction - y) ** 2
        count = squares.numel()
        if p.sample_weight is not None:
            s = self.torch.tensor(p.sample_weight, dtype=self.torch.float64)
            assert s.sum() > 0
            squares = squares * (s[:, None] if p.several else s)
            count = s.sum() * (y.shape[1] if p.several else 1)
        half = 0.5 if p.reduction.startswith("half") else 1.0
        return half * squares.sum() / (count if p.reduction.endswith("mean") else 1.0)

    def run(self, epochs: int) -> TorchLoop:
        sgd, p = self.sgd, self.problem
        starts = [p.weights] if p.intercept is None else [p.weights, p.intercept]
        leaves = [
            self.torch.nn.Parameter(self.torch.tensor(x, dtype=self.torch.float64)) for x in starts
        ]
        options = {
            k: getattr(sgd, k)
            for k in ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
        }
        optimizer = self.torch.optim.SGD(leaves, **options)

        def vector(tensors: list[Any]) -> Array:
            parts = [np.zeros(x.shape) if t is None else t.detach().numpy() for t, x in tensors]
            return np.concatenate([np.ravel(x).copy() for x in parts])

        for epoch in range(epochs):
            rate = sgd.lr if self.rate is None else self.rate(epoch)
            optimizer.param_groups[0]["lr"] = rate
            steps = []
            for rows in fits.batches(len(p.X), self.batch_size, self.shuffle, self.seed, epoch):
                part = fits.at(fits.rows_of(p, rows), vector([(x, x) for x in leaves]))
                buffers = [(optimizer.state[x].get("momentum_buffer"), x) for x in leaves]
                velocity = vector(buffers)
                optimizer.zero_grad()
                loss = self.loss(part, leaves)
                loss.backward()
                grad = vector([(x.grad, x) for x in leaves])
                optimizer.step()
                after = vector([(x, x) for x in leaves])
                one = replace(sgd, lr=rate or 5e-324)  # for the bounds, which want an SGD
                known = float(loss.detach()), grad, velocity, after, fits.hessian(part)
                steps.append(Step(part, one, *known))
            self.epochs.append(steps)
        return self

    def final(self) -> tuple[Linear, float]:
        """Return the whole problem at the last parameters, and its loss there."""
        p = fits.at(self.problem, self.epochs[-1][-1].params)
        leaves = [self.torch.tensor(x) for x in (p.weights, p.intercept) if x is not None]
        return p, float(self.loss(p, leaves))


def compare(result: gd.Fit, loop: TorchLoop) -> None:
    """Assert that a fit followed torch: parameters after, loss during each epoch, and the end.

    Both stay within the path bound of the exact run, each with its own roundings
    (`fits.step_bound`, `fits.path_bound`), so within the sum of the two of each other. A loss
    differs by its own rounding, in both, and by what the parameters' difference e makes of it:
    |gradient| e + e |H| e / 2. A mini-batch epoch's loss is the mean (or sum) over its batches.
    """
    dtype, steps = result.weights.dtype, [s for epoch in loop.epochs for s in epoch]
    local = []
    for i, s in enumerate(steps):
        args = s.sgd, s.problem, s.grad, s.velocity, i == 0
        ours = fits.step_bound(*args, dtype, result.method)
        local.append(ours + fits.step_bound(*args, np.float64))
    matrices = [bounds.sgd_matrix(s.sgd, s.hessian) for s in steps]
    path = fits.path_bound(matrices, local)
    size = len(steps[0].params)
    history = result.history
    assert history.weights is not None
    assert history.intercept is not None
    assert history.epoch.tolist() == list(range(1, len(loop.epochs) + 1))

    def loss_difference(p: Linear, hessian: Array, e: Array) -> Any:
        rounding = fits.loss_bound(p, dtype, result.method) + fits.loss_bound(p, np.float64)
        return rounding + np.abs(fits.gradient(p)) @ e + e @ np.abs(hessian) @ e / 2

    done = 0
    for epoch, batch in enumerate(loop.epochs):
        shares = [share(s.problem, loop.problem) for s in batch]
        allowed = sum(
            w * loss_difference(s.problem, s.hessian, path[done + i][:size])
            for i, (w, s) in enumerate(zip(shares, batch, strict=True))
        )
        loss = sum(w * s.loss for w, s in zip(shares, batch, strict=True))
        slack = bounds.gamma(len(batch) + 4, dtype) * loss
        bounds.check(history.loss[epoch], loss, bounds.up(allowed + slack, 2 * len(batch)))
        done += len(batch)
        ours = fits.flat(history.weights[epoch], history.intercept[epoch], size)
        bounds.check(ours, batch[-1].params, path[done][:size])
    bounds.check(fits.parameters(result)[:size], steps[-1].params, path[done][:size])
    at_end, loss = loop.final()
    allowed = loss_difference(at_end, fits.hessian(at_end), path[done][:size])
    bounds.check(result.loss, loss, allowed)
    assert result.epochs == len(loop.epochs)
    assert result.lr == steps[-1].sgd.lr


def share(part: Linear, whole: Linear) -> float:
    """Return how much of the epoch's loss a batch makes."""
    if whole.reduction.endswith("sum"):
        return 1.0
    if whole.sample_weight is None:
        return len(part.X) / len(whole.X)
    assert part.sample_weight is not None
    return float(part.sample_weight.sum(dtype=float) / whole.sample_weight.sum(dtype=float))


def draw(rng: np.random.Generator, t: int | None = None, **how: Any) -> Linear:
    """Draw a problem; of its sample weights two are zero, fewer than the rows of a batch."""
    problem = problems.linear(rng, N, D, t, **how)
    if problem.sample_weight is None:
        return problem
    weight = rng.integers(1, 5, N).astype(problem.X.dtype)
    weight[[3, 30]] = 0
    return replace(problem, sample_weight=weight)


def ways(batch_size: int | None) -> list[dict[str, Any]]:
    """Return the options of the fits that take these steps."""
    methods = ("stream", "gram") if batch_size is None else ("auto",)
    return [{"method": method, "batch_size": batch_size} for method in methods]


def check(torch: ModuleType, problem: Linear, options: dict[str, Any], **order: Any) -> None:
    """Compare from the problem's own parameters, at an lr well below the limit."""
    sgd = gd.SGD(lr=0.3 / fits.steepest(problem), **options)
    loop = TorchLoop(torch, problem, sgd, **order).run(EPOCHS)
    for way in ways(order.get("batch_size")):
        compare(fits.fit(problem, sgd, epochs=EPOCHS, tol=None, **(order | way)), loop)


@every_option
@every_batch
def test_options(
    torch: ModuleType, rng: Any, dtype: Any, options: dict[str, Any], batch_size: int | None
) -> None:
    problem = draw(rng, T, dtype=dtype, parts="bos")
    check(torch, problem, options, batch_size=batch_size)


PROBLEMS = list(product(REDUCTIONS, [None, T], ["", "b", "bo", "bs", "bos", "os"]))


@each("reduction, t, parts", PROBLEMS)
def test_problems(torch: ModuleType, rng: Any, reduction: str, t: int | None, parts: str) -> None:
    check(torch, draw(rng, t, reduction=reduction, parts=parts), {"momentum": 0.5})


@each("reduction, t, parts", PROBLEMS[::5])
def test_problems_in_batches(
    torch: ModuleType, rng: Any, reduction: str, t: int | None, parts: str
) -> None:
    problem = draw(rng, t, reduction=reduction, parts=parts)
    check(torch, problem, {"momentum": 0.5}, batch_size=7)


@each("batch_size", [1, 13, 38, 39])
@each("shuffle", [False, True])
def test_batch_sizes(torch: ModuleType, rng: Any, shuffle: bool, batch_size: int) -> None:
    """One row at a time, batches that divide n, one row left over, all rows as one batch."""
    problem = draw(rng, parts="b")
    check(torch, problem, {}, batch_size=batch_size, shuffle=shuffle, seed=2**64 - 1)


def test_batches_of_several_segments(torch: ModuleType, rng: Any, dtype: Any) -> None:
    problem = problems.linear(rng, 1500, D, dtype=dtype, parts="b")
    check(torch, problem, {"momentum": 0.9, "nesterov": True}, batch_size=700)


@every_batch
@each("options", [{}, {"momentum": 0.9}])
def test_schedule(
    torch: ModuleType, rng: Any, options: dict[str, Any], batch_size: int | None
) -> None:
    """An lr of its own for each epoch; one of them is zero."""
    problem = draw(rng, parts="b")
    top = 0.5 / fits.steepest(problem)

    def rate(epoch: int) -> float:
        return 0.0 if epoch == 5 else top / (1 + epoch)

    sgd = gd.SGD(lr=rate, **options)
    loop = TorchLoop(torch, problem, replace(sgd, lr=top), batch_size, rate=rate).run(EPOCHS)
    for way in ways(batch_size):
        compare(fits.fit(problem, sgd, epochs=EPOCHS, tol=None, **way), loop)


@every_batch
def test_maximize(torch: ModuleType, rng: Any, batch_size: int | None) -> None:
    """The fit climbs, and warns that there is no maximum."""
    problem = draw(rng, parts="b")
    sgd = gd.SGD(lr=0.3 / fits.steepest(problem), maximize=True)
    loop = TorchLoop(torch, problem, sgd, batch_size).run(EPOCHS)
    for way in ways(batch_size):
        with (
            pytest.warns(gd.LearningRateWarning, match="maximize"),
            pytest.warns(gd.FitWarning, match="Diverged"),
        ):
            result = fits.fit(problem, sgd, epochs=EPOCHS, tol=None, **way)
        assert result.status is gd.Status.DIVERGED
        compare(result, loop)


def test_the_comparison_can_fail(torch: ModuleType, rng: Any) -> None:
    """The same run with one row left out, and one whose lr differs by 1e-12 of it."""
    problem = draw(rng, parts="b")
    lr = 0.3 / fits.steepest(problem)
    sgd, how = gd.SGD(lr=lr), {"epochs": EPOCHS, "tol": None}
    loop = TorchLoop(torch, problem, sgd).run(EPOCHS)
    compare(fits.fit(problem, sgd, **how), loop)
    short = fits.rows_of(problem, slice(1, None))
    for wrong in (
        fits.fit(short, sgd, **how),
        fits.fit(problem, gd.SGD(lr=lr * (1 + 1e-12)), **how),
    ):
        with pytest.raises(AssertionError):
            compare(replace(wrong, lr=lr), loop)
