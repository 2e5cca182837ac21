"""Operands that are not contiguous: the same computations, beside those on contiguous copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gdcore.bench.bounds import Array
from gdcore.bench.case import Case, Expected, Work
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.matmul import Matmul


@dataclass(frozen=True)
class Operands(Case):
    """A product or a gradient of operands that lie in memory in some other way.

    Parameters
    ----------
    layout : {"strided", "reversed", "transposed", "broadcast"}
        Every other element of a row; from the last element to the first; by columns; one matrix
        for the whole batch (of a product the second operand, of X one row for all).
    inner : Matmul or Gradient
        The operation.
    """

    suite: ClassVar[str] = "operands"
    sizes: ClassVar[str] = "layout, suite, sizes"

    layout: str
    inner: Matmul | Gradient

    @property
    def name(self) -> str:
        """The layout, and the case that is computed."""
        return f"{self.layout} {self.inner.suite} {self.inner.name}"

    def inputs(self, dtype: str) -> tuple[Array, ...]:
        """Return the inputs of the inner case, laid out."""
        return _LAYOUTS[self.layout](*self.inner.inputs(dtype))

    def whole(self) -> Operands:
        """Return the layout of the inner case's whole numbers."""
        return replace(self, inner=self.inner.whole())

    def work(self, dtype: str) -> Work:
        """Count what the contiguous case has to do."""
        return self.inner.work(dtype)

    def expected(self, inputs: tuple[Array, ...]) -> list[Expected]:
        """Return what comes out of the inner case."""
        return self.inner.expected(inputs)


def _strided(*inputs: Array) -> tuple[Array, ...]:
    return tuple(np.repeat(each, 2, axis=-1)[..., ::2] for each in inputs)


def _reversed(*inputs: Array) -> tuple[Array, ...]:
    return tuple(np.flip(np.flip(each).copy()) for each in inputs)


def _transposed(*inputs: Array) -> tuple[Array, ...]:
    return tuple(
        each.swapaxes(-1, -2).copy().swapaxes(-1, -2) if each.ndim > 1 else each for each in inputs
    )


def _broadcast(*inputs: Array) -> tuple[Array, ...]:
    last = max(i for i, each in enumerate(inputs) if each.ndim > 1)
    return tuple(
        np.broadcast_to(each[:1], each.shape) if i == last else each
        for i, each in enumerate(inputs)
    )


_LAYOUTS: dict[str, Callable[..., tuple[Array, ...]]] = {
    "strided": _strided,
    "reversed": _reversed,
    "transposed": _transposed,
    "broadcast": _broadcast,
}
_FULL = (
    Matmul(10_000, 4, 4, 4),
    Matmul(4000, 16, 16, 16),
    Matmul(500, 64, 64, 64),
    Matmul(16, 256, 256, 256),
    Gradient(4, 50_000),
    Gradient(16, 10_000),
    Gradient(64, 2000),
    Gradient(256, 1000),
)
_QUICK = (Matmul(100, 16, 16, 16), Gradient(16, 2000))
FULL = tuple(Operands(layout, inner) for inner in _FULL for layout in _LAYOUTS)
QUICK = tuple(Operands(layout, inner) for inner in _QUICK for layout in _LAYOUTS)
