"""SciPy: `scipy.linalg.lstsq`, which takes stacks since SciPy 1.16."""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.suites.many import Stack


class Scipy:
    """`scipy`; its threads are those of its BLAS, which the environment sets."""

    closed_forms: ClassVar[Collection[str]] = ("fit_stack",)

    def __init__(self, threads: int) -> None:
        self.scipy: Any = import_module("scipy")
        self.linalg: Any = import_module("scipy.linalg")

    def describe(self) -> dict[str, Any]:
        """Return the version."""
        return {"version": self.scipy.__version__}

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """Its fastest driver, by QR with pivots; the column of ones is there already."""
        A = np.concatenate([X, np.ones_like(X[..., :1])], axis=-1)

        def call() -> tuple[Array, Array]:
            found = self.linalg.lstsq(A, y[..., None], lapack_driver="gelsy", check_finite=False)
            return found[0][:, :-1, 0], found[0][:, -1, 0]

        return repeating(call)
