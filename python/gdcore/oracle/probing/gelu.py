"""Probes of the Gaussian error linear unit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gdcore.oracle.probing.formula import FormulaKind
from gdcore.oracle.probing.probe import Operands, Shape
from gdcore.oracle.references.gelu import gelu

_MANY = 1 << 14  # elements, of which one probe is enough


class GeluKind(FormulaKind):
    """``fn(x)``, or ``fn(x, grad_out)``, which returns the gradient of x."""

    name = "gelu"
    function = gelu
    options = ("approximate",)
    groups = ("nan", "infinity", "subnormal")  # infinity is always named as not probed
    shape_words = "(n,)"
    plain = 8
    group_shapes = ()

    def operand_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        return {"x": shape} | ({"grad_out": shape} if self.settings.grad_out else {})

    def exact(self, rng: np.random.Generator, shape: Shape) -> Operands | None:
        """Return zeros and numbers so large that nothing is left of the tail."""
        if np.prod(shape) > _MANY:
            return None
        operands = {"x": rng.integers(0, 3, shape) * 128.0}
        if self.settings.grad_out:
            operands["x"] += 128.0
            operands["grad_out"] = rng.integers(-2, 3, shape) * 1.0
        return operands

    def infinite(self, operands: Operands) -> Iterator[tuple[str, Operands]]:
        """Yield nothing: libraries differ on whether infinity times 1 - 0 is NaN."""
        yield from ()
