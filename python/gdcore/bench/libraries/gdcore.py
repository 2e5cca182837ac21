"""gdcore, through its public API."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

import gdcore as gd
from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.suites.fit import Equation, FullBatch, MiniBatch
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.many import Groups, Rolling, Stack
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.mse import Mse
from gdcore.bench.suites.operands import Operands


class Gdcore:
    """`gdcore` with everything as it comes, but descending."""

    def __init__(self, threads: int) -> None:
        gd.set_num_threads(threads)

    def describe(self) -> dict[str, Any]:
        """Return version and configuration."""
        return {"version": gd.__version__, "config": gd.config()}

    def matmul(self, case: Matmul, a: Array, b: Array) -> Run:
        """`gdcore.matmul` into an array that is there already."""
        out = np.empty((*a.shape[:-1], case.n), a.dtype)
        return repeating(lambda: gd.matmul(a, b, out))

    def mse(self, case: Mse, pred: Array, target: Array) -> Run:
        """`gdcore.mse_value_and_grad` into an array that is there already."""
        out = np.empty_like(pred)
        return repeating(lambda: gd.mse_value_and_grad(pred, target, out=out))

    def gradient(self, case: Gradient, X: Array, y: Array, w: Array) -> Run:
        """`gdcore.linear_mse_value_and_grad`."""

        def call() -> tuple[Any, Array]:
            loss, grad = gd.linear_mse_value_and_grad(X, y, w)
            return loss, grad.weights

        return repeating(call)

    def operands(self, case: Operands, *inputs: Array) -> Run:
        """Do the product or the gradient of operands with their own strides."""
        run: Run = getattr(self, case.inner.suite)(case.inner, *inputs)
        return run

    def fit(self, case: FullBatch | MiniBatch, X: Array, y: Array) -> Run:
        """`gdcore.fit`: the whole call, its checks and its look at the curvature too."""
        sgd = gd.SGD(case.lr)
        method: Any = "stream" if isinstance(case, MiniBatch) else case.method

        def call() -> tuple[Array, Any]:
            fit = gd.fit(
                X,
                y,
                sgd,
                epochs=case.epochs,
                batch_size=case.batch_size,
                tol=None,
                method=method,
            )
            return fit.weights, fit.intercept

        return repeating(call)

    def fit_equation(self, case: Equation, a: Array, y: Array) -> Run:
        """`gdcore.fit` with an offset and one feature, which is 1."""
        X, sgd = np.ones((1, 1), a.dtype), gd.SGD(case.lr)

        def call() -> Array:
            return gd.fit(
                X,
                y,
                sgd,
                offset=a,
                fit_intercept=False,
                reduction="half_sum",
                epochs=case.steps,
                tol=None,
                method="stream",
            ).weights

        return repeating(call)

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """`gdcore.fit` of all problems, a learning rate each."""
        sgd = gd.SGD(lr.astype(np.float64))

        def call() -> tuple[Array, Array]:
            fits = gd.fit(X, y, sgd, epochs=case.epochs, tol=None, method=case.method, history=0)
            return fits.weights, fits.intercept

        return repeating(call)

    def fit_groups(self, case: Groups, X: Array, y: Array, labels: Array) -> Run:
        """`gdcore.fit_groups` by descent."""

        def call() -> tuple[Array, Array]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", gd.FitWarning)  # some groups take more epochs
                fits = gd.fit_groups(X, y, labels, gd.SGD())
            return fits.weights, fits.intercept

        return repeating(call)

    def fit_rolling(self, case: Rolling, X: Array, y: Array) -> Run:
        """`gdcore.fit_rolling` by descent."""

        def call() -> tuple[Array, Array]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", gd.FitWarning)
                fit = gd.fit_rolling(X, y, case.window, gd.SGD())
            return fit.weights, fit.intercept

        return repeating(call)
