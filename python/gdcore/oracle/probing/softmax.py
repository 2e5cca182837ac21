"""Probes of softmax, its logarithm, the logarithm of its sum, and cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gdcore.oracle.probing.formula import FormulaKind, RowKind, power_of_two
from gdcore.oracle.probing.maker import Maker
from gdcore.oracle.probing.probe import Operands, Shape
from gdcore.oracle.references.cross_entropy import cross_entropy
from gdcore.oracle.references.softmax import log_softmax, logsumexp, softmax


class SoftmaxKind(RowKind):
    """Softmax of rows."""

    name = "softmax"
    function = softmax

    def exact(self, rng: np.random.Generator, shape: Shape) -> Operands | None:
        """Return equal numbers, a power of two of them: each result is 1/n."""
        if not power_of_two(shape[-1]):
            return None
        operands = {"x": np.broadcast_to(rng.integers(-2, 3, (*shape[:-1], 1)), shape) * 1.0}
        if self.settings.grad_out:  # 1 on average, so that a result has few bits
            half = rng.integers(-2, 3, (*shape[:-1], shape[-1] // 2)) * 1.0
            rest = np.zeros((*shape[:-1], shape[-1] % 2))
            operands["grad_out"] = np.concatenate([half, -half, rest], -1) + 1
        self.adjust(operands, rng)
        return operands

    def infinite(self, operands: Operands) -> Iterator[tuple[str, Operands]]:
        """Yield rows with masked elements, which are -inf, and a row with inf, which is NaN."""
        masked = {name: array.copy() for name, array in operands.items()}
        x = masked["x"].reshape(-1)
        x[1::3] = -np.inf
        x[-1] = 1.0
        yield "-inf mask", masked
        yield from super().infinite(operands)

    def shrink(self, operands: Operands, maker: Maker) -> None:
        """Move most of each row so far below its maximum that exp is subnormal."""
        store = maker.arithmetic.store
        least = (store.least + store.bits / 2) * np.log(2)
        x = operands["x"]
        axis = self.settings.options.get("axis", -1)
        x *= 0.1
        x += least
        np.moveaxis(x, axis, -1)[..., :1] = 0.0


class LogSoftmaxKind(SoftmaxKind):
    """The logarithm of softmax of rows."""

    name = "log_softmax"
    function = log_softmax

    def exact(self, rng: np.random.Generator, shape: Shape) -> Operands | None:
        """Return single numbers, whose softmax is 1."""
        return super().exact(rng, shape) if shape[-1] == 1 else None


class LogsumexpKind(LogSoftmaxKind):
    """The logarithm of the sum of exp of rows."""

    name = "logsumexp"
    function = logsumexp
    reduced = True

    def exact(self, rng: np.random.Generator, shape: Shape) -> Operands | None:
        """Return single numbers, which are the result."""
        operands = super().exact(rng, shape)
        if operands is not None and self.settings.grad_out:
            operands["grad_out"] = rng.integers(-2, 3, shape[:-1]) * 1.0
        return operands


class CrossEntropyKind(FormulaKind):
    """``fn(logits, target)``, or ``fn(logits, target, grad_out)``: the gradient of the logits."""

    name = "cross_entropy"
    function = cross_entropy
    main = ("logits",)
    differentiable = ("logits",)
    nan_in = ("logits", "grad_out")
    extra = ("weight",)
    by_keyword = ("weight",)
    options = ("probabilities", "ignore_index", "label_smoothing")
    groups = ("nan", "infinity", "subnormal")
    axes = range(2, 3)
    shape_words = "(rows, classes)"
    default_shapes = (
        (1, 1), (1, 2), (2, 3), (4, 8), (8, 4), (3, 7), (5, 16), (7, 17), (2, 31), (3, 33),
        (16, 64), (31, 65), (33, 10), (130, 5), (3, 257), (2, 1024), (1025, 3), (1, 32769),
    )  # fmt: skip
    group_shapes = ()

    def check_reduction(self, reduction: str) -> None:
        """Raise ValueError for a reduction that the kind does not have."""
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"reduction is {reduction!r}; choose 'mean', 'sum' or 'none'.")

    def keywords(self) -> dict[str, Any]:
        """Return the options of the reference."""
        options = {k: v for k, v in self.settings.options.items() if k != "probabilities"}
        return options | {"reduction": self.settings.reduction}

    def operand_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        rows, classes = shape
        labels = not self.settings.options.get("probabilities")
        shapes: dict[str, Shape] = {"logits": shape, "target": (rows,) if labels else shape}
        if self.settings.grad_out:
            shapes["grad_out"] = (rows,) if self.settings.reduction == "none" else ()
        if "weight" in self.extra_given:
            shapes["weight"] = (classes,)
        return shapes

    def adjust(self, operands: Operands, rng: np.random.Generator) -> None:
        """Make targets labels, some of them ignored, or probabilities."""
        rows, classes = operands["logits"].shape
        if "weight" in operands:
            operands["weight"] = rng.integers(1, 9, (classes,)) / 4.0
        if self.settings.options.get("probabilities"):
            shares = rng.integers(1, 9, (rows, classes)) * 1.0
            operands["target"] = shares / shares.sum(-1, keepdims=True)
            return
        target = rng.integers(0, classes, (rows,))
        ignored = self.settings.options.get("ignore_index", -100)
        if rows > 2:
            target[1::4] = ignored
        operands["target"] = target

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return the numbers of rows and of classes."""
        rows, classes = operands["logits"].shape
        return {"rows": rows, "classes": classes}

    def infinite(self, operands: Operands) -> Iterator[tuple[str, Operands]]:
        """Yield classes that are ruled out, but for those of the targets, and an infinite logit."""
        if not self.settings.options.get("probabilities") and not self.settings.options.get(
            "label_smoothing"
        ):
            masked = {name: array.copy() for name, array in operands.items()}
            logits, target = masked["logits"], masked["target"]
            classes = logits.shape[1]
            logits[:, 1::3] = -np.inf
            used = np.where((target >= 0) & (target < classes), target, 0)
            logits[np.arange(len(logits)), used] = 0.5
            yield "-inf mask", masked
        yield from super().infinite(operands)

    def shrink(self, operands: Operands, maker: Maker) -> None:
        """Move most of each row so far below its maximum that exp is subnormal."""
        store = maker.arithmetic.store
        logits = operands["logits"]
        logits *= 0.1
        logits += (store.least + store.bits / 2) * np.log(2)
        logits[:, :1] = 0.0
