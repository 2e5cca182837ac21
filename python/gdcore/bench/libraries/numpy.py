"""NumPy, with every result written into room that is there already."""

from __future__ import annotations

from typing import Any

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.suites.fit import Equation, FullBatch, MiniBatch
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.many import Stack
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.mse import Mse
from gdcore.bench.suites.operands import Operands


class Numpy:
    """`numpy`; its threads are those of its BLAS, which the environment sets."""

    def __init__(self, threads: int) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        """Return version and BLAS, without the folders it was built in."""
        built = np.show_config(mode="dicts")
        blas = built["Build Dependencies"]["blas"] if built else {}
        about = {key: value for key, value in blas.items() if "directory" not in key}
        return {"version": np.__version__, "blas": about}

    def matmul(self, case: Matmul, a: Array, b: Array) -> Run:
        """`numpy.matmul`."""
        out = np.empty((*a.shape[:-1], case.n), a.dtype)
        return repeating(lambda: np.matmul(a, b, out=out))

    def mse(self, case: Mse, pred: Array, target: Array) -> Run:
        """Difference, dot product, product."""
        grad, scale = np.empty_like(pred), pred.dtype.type(2 / case.n)

        def call() -> tuple[Any, Array]:
            np.subtract(pred, target, out=grad)
            loss = np.dot(grad, grad) / pred.dtype.type(case.n)
            return loss, np.multiply(grad, scale, out=grad)

        return repeating(call)

    def gradient(self, case: Gradient, X: Array, y: Array, w: Array) -> Run:
        """Two products with X."""
        n, r, grad = y.dtype.type(len(y)), np.empty_like(y), np.empty_like(w)

        def call() -> tuple[Any, Array]:
            np.matmul(X, w, out=r)
            np.subtract(r, y, out=r)
            np.matmul(r, X, out=grad)
            return np.dot(r, r) / n, np.multiply(grad, 2 / n, out=grad)

        return repeating(call)

    def operands(self, case: Operands, *inputs: Array) -> Run:
        """Do the product or the gradient of operands with their own strides."""
        run: Run = getattr(self, case.inner.suite)(case.inner, *inputs)
        return run

    def fit(self, case: FullBatch | MiniBatch, X: Array, y: Array) -> Run:
        """Descend in the loop that anyone would write."""
        rng = np.random.default_rng(0)
        n, scalar = len(y), y.dtype.type
        lr, batch = scalar(case.lr), case.batch_size or n

        def call() -> tuple[Array, Any]:
            w, b = np.zeros(X.shape[1], X.dtype), scalar(0)
            for _ in range(case.epochs):
                order = rng.permutation(n) if batch < n else None
                for first in range(0, n, batch):
                    A, target = X, y
                    if order is not None:
                        rows = order[first : first + batch]
                        A, target = X[rows], y[rows]
                    r = A @ w + b - target
                    step = lr * scalar(2 / len(target))
                    w -= step * (r @ A)
                    b -= step * r.sum()
            return w, b

        return repeating(call)

    def fit_equation(self, case: Equation, a: Array, y: Array) -> Run:
        """Descend in the loop that anyone would write."""
        lr = a.dtype.type(case.lr)

        def call() -> Array:
            x = np.zeros_like(a)
            for _ in range(case.steps):
                x -= lr * (x + a - y)
            return x

        return repeating(call)

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """Descend on all problems at once, by batched products."""
        step = (lr * lr.dtype.type(2 / case.n))[:, None]
        across = X.swapaxes(1, 2)

        def call() -> tuple[Array, Array]:
            w, b = np.zeros((case.count, case.d), X.dtype), np.zeros((case.count, 1), X.dtype)
            for _ in range(case.epochs):
                r = (X @ w[..., None])[..., 0] + b - y
                w -= step * (across @ r[..., None])[..., 0]
                b -= step * r.sum(1, keepdims=True)
            return w, b[:, 0]

        return repeating(call)
