"""PyTorch: eager mode, gradients by autograd."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, Unsupported, repeating
from gdcore.bench.suites.fit import Equation, FullBatch, MiniBatch
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.many import Stack
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.mse import Mse
from gdcore.bench.suites.operands import Operands


class Opened:
    """`torch`, in full precision on a fixed number of threads."""

    def __init__(self, threads: int) -> None:
        self.torch: Any = import_module("torch")
        self.torch.set_num_threads(threads)
        self.torch.set_float32_matmul_precision("highest")
        self.loss = self.torch.nn.functional.mse_loss

    def describe(self) -> dict[str, Any]:
        """Return version and build, without the paths and flags of the compiler."""
        lines = self.torch.__config__.show().splitlines()[1:]
        build = [line.removeprefix("  - ") for line in lines if "Build settings" not in line]
        return {"version": self.torch.__version__, "build": build}


class Torch(Opened):
    """Eager mode, gradients by autograd."""

    def matmul(self, case: Matmul, a: Array, b: Array) -> Run:
        """`torch.bmm`, or `torch.mm` for a batch of one."""
        product = self.torch.bmm if a.ndim == 3 else self.torch.mm
        left, right = self.torch.from_numpy(a), self.torch.from_numpy(b)
        out = self.torch.empty((*a.shape[:-1], case.n), dtype=left.dtype)
        return repeating(lambda: product(left, right, out=out))

    def mse(self, case: Mse, pred: Array, target: Array) -> Run:
        """`mse_loss` and its derivative."""
        leaf = self.torch.from_numpy(pred).requires_grad_()
        other = self.torch.from_numpy(target)

        def call() -> tuple[Any, Any]:
            leaf.grad = None
            loss = self.loss(leaf, other)
            loss.backward()
            return loss.detach(), leaf.grad

        return repeating(call)

    def gradient(self, case: Gradient, X: Array, y: Array, w: Array) -> Run:
        """`mse_loss` of a product and its derivative."""
        A, target = self.torch.from_numpy(X), self.torch.from_numpy(y)
        leaf = self.torch.from_numpy(w).requires_grad_()

        def call() -> tuple[Any, Any]:
            leaf.grad = None
            loss = self.loss(A @ leaf, target)
            loss.backward()
            return loss.detach(), leaf.grad

        return repeating(call)

    def operands(self, case: Operands, *inputs: Array) -> Run:
        """Do the product or the gradient of operands with their own strides."""
        if case.layout == "reversed":
            raise Unsupported("torch has no negative strides")
        run: Run = getattr(self, case.inner.suite)(case.inner, *inputs)
        return run

    def fit(self, case: FullBatch | MiniBatch, X: Array, y: Array) -> Run:
        """`torch.optim.SGD` in the loop that anyone would write."""
        torch, n = self.torch, len(y)
        batch = case.batch_size or n
        features, targets = torch.from_numpy(X), torch.from_numpy(y)

        def call() -> tuple[Any, Any]:
            w = torch.zeros(X.shape[1], dtype=features.dtype, requires_grad=True)
            b = torch.zeros((), dtype=features.dtype, requires_grad=True)
            optimizer = torch.optim.SGD([w, b], lr=case.lr)
            for _ in range(case.epochs):
                order = torch.randperm(n) if batch < n else None
                for first in range(0, n, batch):
                    A, target = features, targets
                    if order is not None:
                        rows = order[first : first + batch]
                        A, target = features[rows], targets[rows]
                    optimizer.zero_grad()
                    self.loss(A @ w + b, target).backward()
                    optimizer.step()
            return np.asarray(w.detach()), np.asarray(b.detach())

        return repeating(call)

    def fit_equation(self, case: Equation, a: Array, y: Array) -> Run:
        """`torch.optim.SGD` in the loop that anyone would write."""
        torch = self.torch
        added, right = torch.from_numpy(a), torch.from_numpy(y)

        def call() -> Any:
            x = torch.zeros(1, dtype=added.dtype, requires_grad=True)
            optimizer = torch.optim.SGD([x], lr=case.lr)
            for _ in range(case.steps):
                optimizer.zero_grad()
                ((right - (x + added)) ** 2 / 2).sum().backward()
                optimizer.step()
            return x.detach()

        return repeating(call)

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """All problems at once, by `torch.bmm`; the step by hand, as `optim.SGD` takes one rate."""
        torch = self.torch
        features, targets = torch.from_numpy(X), torch.from_numpy(y)
        rates = torch.from_numpy(lr)[:, None]

        def call() -> tuple[Any, Any]:
            w = torch.zeros((case.count, case.d), dtype=features.dtype, requires_grad=True)
            b = torch.zeros((case.count, 1), dtype=features.dtype, requires_grad=True)
            for _ in range(case.epochs):
                w.grad = b.grad = None
                r = torch.bmm(features, w[..., None])[..., 0] + b - targets
                (r * r).mean(1).sum().backward()
                with torch.no_grad():
                    w -= rates * w.grad
                    b -= rates * b.grad
            return w.detach(), b.detach()[:, 0]

        return repeating(call)
