"""PyTorch's other ways to many problems at once: `torch.func.vmap`, and closed forms."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

from gdcore.bench.case import Array
from gdcore.bench.libraries.base import Run, repeating
from gdcore.bench.libraries.torch import Opened
from gdcore.bench.suites.many import Stack


class Vmap(Opened):
    """One problem's gradient by `torch.func.grad`, of all problems by `torch.func.vmap`."""

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """Call it once an epoch."""
        torch = self.torch
        features, targets = torch.from_numpy(X), torch.from_numpy(y)
        rates = torch.from_numpy(lr)[:, None]

        def loss(w: Any, b: Any, x: Any, target: Any) -> Any:
            r = x @ w + b - target
            return (r * r).mean()

        slopes = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))

        def call() -> tuple[Any, Any]:
            w = torch.zeros((case.count, case.d), dtype=features.dtype)
            b = torch.zeros((case.count, 1), dtype=features.dtype)
            for _ in range(case.epochs):
                slope_w, slope_b = slopes(w, b, features, targets)
                w -= rates * slope_w
                b -= rates * slope_b
            return w, b[:, 0]

        return repeating(call)


class Solve(Opened):
    """The normal equations: `torch.bmm` and `torch.linalg.solve`."""

    closed_forms: ClassVar[Collection[str]] = ("fit_stack",)

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """Two products, then one solution of all; the column of ones is there already."""
        torch = self.torch
        A, target = _with_ones(torch, X), torch.from_numpy(y)[..., None]
        across = A.mT

        def call() -> tuple[Any, Any]:
            solution = torch.linalg.solve(torch.bmm(across, A), torch.bmm(across, target))[..., 0]
            return solution[:, :-1], solution[:, -1]

        return repeating(call)


class Lstsq(Opened):
    """`torch.linalg.lstsq`."""

    closed_forms: ClassVar[Collection[str]] = ("fit_stack",)

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """Its fastest driver, by QR; the column of ones is there already."""
        torch = self.torch
        A, target = _with_ones(torch, X), torch.from_numpy(y)[..., None]

        def call() -> tuple[Any, Any]:
            solution = torch.linalg.lstsq(A, target, driver="gels").solution[..., 0]
            return solution[:, :-1], solution[:, -1]

        return repeating(call)


def _with_ones(torch: Any, X: Array) -> Any:
    features = torch.from_numpy(X)
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
