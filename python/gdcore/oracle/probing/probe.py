"""Arguments for a function under test, and what makes them special."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[Any, ...]
Operands = dict[str, Array]
GROUPS = {
    "stacks": "stacks of matrices",
    "targets": "several targets",
    "nan": "NaN",
    "infinity": "infinity",
    "subnormal": "subnormal results",
}


@dataclass(frozen=True, eq=False)
class Probe:
    """Arguments for a function under test.

    Attributes
    ----------
    name : str
        The difficulty that the operands test.
    operands : dict of ndarray
        By the names that the kind has for them.
    exact : bool
        Whether every partial sum is exact, so that the tolerance is zero.
    largest : float
        For an exact probe, at least the magnitude of every partial sum.
    groups : tuple of str
        Those of `GROUPS` that it belongs to: what a function may not be made for.
    sizes : dict of int
        The sizes of the problem by their names, such as n and d.
    """

    name: str
    operands: Operands
    exact: bool = False
    largest: float = 0.0
    groups: tuple[str, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)

    @property
    def shapes(self) -> str:
        """The operands' shapes, in words."""
        return ", ".join(f"{name} {array.shape}" for name, array in self.operands.items())

    @property
    def description(self) -> str:
        """The name and the shapes."""
        return f"{self.name}: {self.shapes}"


def _spread(operands: Operands) -> Operands:
    """Return the same numbers in arrays of twice the size, with NaN between them."""
    spread = {}
    for name, array in operands.items():
        if not array.ndim:
            spread[name] = array
            continue
        between = np.nan if array.dtype.kind == "f" else 0
        wide = np.full([2 * size for size in array.shape], between, array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        spread[name] = view
    return spread


def _columns_first(operands: Operands) -> Operands:
    return {name: np.asarray(array, order="F") for name, array in operands.items()}


LAYOUTS = {"every second": _spread, "columns first": _columns_first}
