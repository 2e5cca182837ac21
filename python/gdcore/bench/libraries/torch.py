"""PyTorch: eager mode, gradients by autograd."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries import Run, Unsupported, repeating
from gdcore.bench.suites.fit import FullBatch, MiniBatch
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.mse import Mse
from gdcore.bench.suites.operands import Operands


class Torch:
    """`torch`, in full precision."""

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
        """Do the product or the gradient of operands as they lie."""
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
