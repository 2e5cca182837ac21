"""What a cross-entropy is taken with: classes or probabilities, weights, and what is left out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.double_double import Floats
from gdcore.oracle.numbers.intake import dtype_name, to_numpy
from gdcore.oracle.references.lines import Rows

Array = NDArray[Any]
SHAPES = (
    "The shapes are logits (C,), (N,C) or (N,C,…), target () or (N,) or (N,…) for classes and that "
    "of the logits for probabilities, weight (C,)."
)


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of R rows of C classes.

    Attributes
    ----------
    rows : Rows
        Of the logits.
    classes : ndarray of int, shape (R,), or None
        None for probabilities.
    y : ndarray, shape (R,C)
        1 for the class, or the probabilities; before smoothing and weights.
    kept : ndarray of bool, shape (R,)
        Rows that are not ignored.
    weight : ndarray, shape (C,), or None
    """

    rows: Rows
    classes: NDArray[np.int64] | None
    y: Floats
    kept: NDArray[np.bool_]
    weight: Floats | None
    ignored: int
    smoothing: float
    reduction: str

    @property
    def dense(self) -> bool:
        """Whether the targets are probabilities."""
        return self.classes is None

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Which logarithms a loss has a term of (R,C)."""
        whole = np.broadcast_to(self.kept[:, None], self.y.shape)
        return whole if self.dense or self.smoothing else whole & (self.y != 0)

    @cached_property
    def weight_of_rows(self) -> Floats:
        """Weights of the rows' classes, 0 for ignored ones (R,)."""
        weight = np.ones(self.y.shape[1]) if self.weight is None else self.weight
        assert self.classes is not None
        return np.where(self.kept, weight[np.where(self.kept, self.classes, 0)], 0.0)


def read_targets(
    logits: Any,
    target: Any,
    weight: Any,
    ignore_index: int,
    label_smoothing: float,
    reduction: str,
) -> Targets:
    """Read the targets of `cross_entropy`; ValueError or TypeError if they do not fit."""
    shape, given = to_numpy("logits", logits).shape, to_numpy("target", target)
    if not shape:
        raise ValueError(f"cross_entropy: the logits are a scalar. {SHAPES}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is {label_smoothing!r}; it must be from 0 to 1.")
    rows = Rows(shape, 1 if len(shape) > 1 else 0)
    weights = None if weight is None else to_numpy("weight", weight).astype(np.float64)
    if weights is not None and weights.shape != (rows.count,):
        raise ValueError(
            f"cross_entropy: weight has shape {weights.shape} for {rows.count} classes. {SHAPES}"
        )
    settings = (weights, int(ignore_index), float(label_smoothing), reduction)
    if given.shape == shape:
        if _is_whole(target):
            raise TypeError(
                "cross_entropy: the target has the shape of the logits and holds integers; "
                "convert it to floating point for probabilities, or pass classes of shape "
                f"{rows.others}."
            )
        if ignore_index >= 0:
            raise ValueError("cross_entropy: ignore_index is for classes, not for probabilities.")
        y = rows.take(given)
        return Targets(rows, None, y, np.ones(len(y), bool), *settings)
    if given.shape != rows.others:
        raise ValueError(
            f"cross_entropy: the target has shape {given.shape} for logits {shape}. {SHAPES}"
        )
    return _of_classes(rows, given.reshape(-1), settings)


def _of_classes(rows: Rows, given: Array, settings: tuple[Any, ...]) -> Targets:
    ignored = settings[1]
    classes = given.astype(np.int64)
    kept = classes != ignored
    off = kept & ((classes != given) | (classes < 0) | (classes >= rows.count))
    if off.any():
        raise ValueError(
            f"cross_entropy: target {given[off][0]:g} is not a class from 0 to {rows.count - 1}, "
            f"nor the ignored one, {ignored}."
        )
    y = np.zeros((len(classes), rows.count))
    y[np.flatnonzero(kept), classes[kept]] = 1.0
    return Targets(rows, classes, y, kept, *settings)


def _is_whole(target: Any) -> bool:
    """Whether an array is one of integers."""
    name = dtype_name(target) if hasattr(target, "dtype") else np.asarray(target).dtype.name
    return name.startswith(("int", "uint", "bool"))
