"""Probes of the squared error, and of the loss of a linear model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.probing.kind import Kind, References
from gdcore.oracle.probing.maker import SumsMaker
from gdcore.oracle.probing.probe import Operands, Probe, Shape
from gdcore.oracle.references.linear import linear_mse
from gdcore.oracle.references.losses import mse
from gdcore.oracle.references.reference import Reference

Array = NDArray[Any]


class MseMaker(SumsMaker):
    """pred and target, of any shape."""

    default_shapes = (
        (1,), (2,), (16,), (7,), (4, 8), (33,), (64,), (1024,), (5, 7), (257,), (3,), (6,), (31,),
        (12,), (61,), (2, 3, 5), (65537,),
    )  # fmt: skip
    hard_shapes = ((7,), (5, 33))

    def __init__(self, arithmetic: Arithmetic, seed: int, reduction: str) -> None:
        super().__init__(arithmetic, seed)
        self.reduction = reduction

    def axes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        return {"pred": shape, "target": shape}

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return the number of elements, n."""
        return {"n": operands["pred"].size}

    def group_of(self, shape: Shape) -> tuple[str, ...]:
        """Return none: any shape is as good."""
        return ()

    def spoil(self, operands: Operands, value: float) -> Iterator[tuple[str, Operands]]:
        """Yield a probe: the end and the middle of pred, the first of target.

        Of infinities another one, whose difference is NaN.
        """
        equal = {name: x.copy() for name, x in operands.items()}
        pred, target = (x.reshape(-1) for x in operands.values())
        target[0] = value
        pred[pred.size // 2] = -value
        pred[-1] = value if pred.size > 2 else pred[-1]
        yield ("NaN" if np.isnan(value) else "infinity"), operands
        if not np.isnan(value):
            for x in equal.values():
                x.reshape(-1)[0] = value
            yield "equal infinities", equal

    def subnormal(self, shape: Shape) -> Operands:
        """Return numbers whose gradient is subnormal."""
        scale = int(np.prod(shape)).bit_length() if self.reduction.endswith("mean") else 0
        pred = self.just_subnormal(shape, scale)
        return {"pred": pred, "target": pred * self.rng.uniform(0.2, 0.6, shape)}

    def sums(self, operands: Operands) -> list[Array]:
        """Return the sum of squares, even if each square is expanded."""
        size = np.abs(operands["pred"]) + np.abs(operands["target"])
        return [size, np.sum(size * size)]

    def divides_exactly(self, operands: Operands) -> bool:
        """Whether the number of elements is a power of two."""
        return self.reduction.endswith("sum") or _power_of_two(operands["pred"].size)

    def adjust(self, operands: Operands, exact: bool) -> None:
        """Leave no residual 0 on an exact probe."""
        if exact:
            operands["pred"] += operands["pred"] == operands["target"]

    def place_large(self, operands: Operands, value: float) -> None:
        """Put it into the middle of pred."""
        if value:
            flat = operands["pred"].reshape(-1)
            flat[flat.size // 2] = value

    def cancel(self, operands: Operands) -> None:
        """Make the two differ in their last places."""
        operands["target"][...] = operands["pred"] * (1 + 2.0 ** (2 - self.bits))


class LinearMaker(SumsMaker):
    """X (n,d), y (n) or (n,t), weights (d) or (d,t) and more, for shapes (n, d) or (n, d, t)."""

    default_shapes = (
        (1, 1), (2, 1), (4, 3), (8, 5), (16, 8), (64, 17), (7, 3), (33, 5), (257, 2), (512, 7),
        (11, 4), (14, 6), (31, 23), (60, 31), (1025, 67), (65537, 1),
    )  # fmt: skip
    hard_shapes = ((7, 3), (65, 9))
    group = "targets"
    group_shapes = ((4, 3, 2), (8, 5, 4), (16, 3, 3), (8, 2, 1), (2, 5, 3), (7, 3, 5), (33, 9, 17))
    hard_group_shapes = ((7, 5, 3),)

    def __init__(
        self, arithmetic: Arithmetic, seed: int, reduction: str, extra: tuple[str, ...]
    ) -> None:
        super().__init__(arithmetic, seed)
        self.reduction, self.extra = reduction, extra

    def axes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        n, d, *targets = shape
        axes: dict[str, Shape] = {"X": (n, d), "y": (n, *targets), "weights": (d, *targets)}
        others: dict[str, Shape] = {
            "intercept": (*targets,),
            "offset": (n, *targets),
            "sample_weight": (n,),
        }
        return axes | {name: others[name] for name in others if name in self.extra}

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return n and d, and t of several targets."""
        X, y = operands["X"], operands["y"]
        return {"n": X.shape[0], "d": X.shape[1]} | ({"t": y.shape[1]} if y.ndim > 1 else {})

    def group_of(self, shape: Shape) -> tuple[str, ...]:
        """Whether there is an axis of targets."""
        return ("targets",) if len(shape) > 2 else ()

    def spoil(self, operands: Operands, value: float) -> Iterator[tuple[str, Operands]]:
        """Yield probes with NaN in one operand each, or infinity in y: in one target alone.

        Infinity in another operand meets infinity of the other sign, so only NaN is right. Values
        of X and y that are not finite meet a 0 that must not hide them.
        """
        places = {"X": (-1, -1), "y": (-1, 0), "weights": (-1, 0), "intercept": (0,),
                  "offset": (0, 0), "sample_weight": (0,)}  # fmt: skip
        for name in operands if np.isnan(value) else ("y",):
            changed = {each: array.copy() for each, array in operands.items()}
            array = changed[name]
            array[places[name][: array.ndim]] = value
            if name == "X":
                changed["weights"][-1] = 0
            elif name == "y":
                changed["X"][-1, 0] = 0
            word = "NaN" if np.isnan(value) else "infinity"
            yield f"{word} in {name}", changed

    def subnormal(self, shape: Shape) -> Operands:
        """Return numbers whose residuals, and so gradients, are subnormal."""
        axes = self.axes(shape)
        drawn = {name: self.just_subnormal(size) for name, size in axes.items()}
        drawn["X"] = 1 + self.rng.random(axes["X"])
        drawn["y"] *= -1
        if "sample_weight" in drawn:
            drawn["sample_weight"][...] = 1
        return drawn

    def sums(self, operands: Operands) -> list[Array]:
        """Return |X|^T (s size) and the sum of s size^2, size = |X||w| + |b| + |o| + |y|.

        So the residuals, the gradient, and X^T X w - X^T y in any form, stay exact too.
        """
        size, X = self._size(operands), np.abs(operands["X"])
        s = np.abs(operands.get("sample_weight", np.ones(len(X))))[:, None]
        return [size, X.T @ (s * size), (s * size).sum(0), (s * size * size).sum(), s.sum()]

    def _size(self, operands: Operands) -> Array:
        absolute = {name: np.abs(array) for name, array in operands.items()}
        size: Array = absolute["X"] @ absolute["weights"] + absolute["y"]
        size = size + absolute.get("intercept", 0.0) + absolute.get("offset", 0.0)
        return size.reshape(len(size), -1)

    def divides_exactly(self, operands: Operands) -> bool:
        """Whether the number of elements, or the sum of their weights, is a power of two."""
        if self.reduction.endswith("sum"):
            return True
        rows = operands.get("sample_weight", np.ones(len(operands["X"]))).sum()
        return _power_of_two(int(rows) * (operands["y"].size // len(operands["y"])))

    def residual(self, operands: Operands) -> Array:
        """Return X w + b + o - y."""
        r: Array = operands["X"] @ operands["weights"] - operands["y"]
        return r + operands.get("intercept", 0.0) + operands.get("offset", 0.0)

    def adjust(self, operands: Operands, exact: bool) -> None:
        """Leave no residual 0 on an exact probe; weights of rows are positive."""
        if "sample_weight" in operands:
            s = operands["sample_weight"]
            s[...] = np.abs(s) + (s == 0)
            if exact and len(s):
                s[0] += 2.0 ** np.ceil(np.log2(s.sum())) - s.sum()
        if exact and self.arithmetic.store.bits >= 24:
            for name in ("intercept", "offset"):
                if name in operands:
                    operands[name] += operands[name] == 0
            X = operands["X"]
            X[-2:] += X[-2:] == 0
            operands["y"] -= self.residual(operands) == 0

    def place_large(self, operands: Operands, value: float) -> None:
        """Put it into the middle of X, where the weight is 1."""
        X, w = operands["X"], operands["weights"]
        if value and X.size:
            row, column = X.shape[0] // 2, X.shape[1] // 2
            X[row, column] = value
            w[column] = 1.0 if w.ndim == 1 else np.arange(w.shape[1]) == 0

    def cancel(self, operands: Operands) -> None:
        """Make y what the model predicts, but for rounding."""
        operands["y"][...] += self.residual(operands).astype(operands["y"].dtype)


def _power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


class MseKind(Kind):
    """``fn(pred, target)``, which returns the gradient, or (loss, gradient)."""

    name = "mse"
    groups = ("nan", "infinity", "subnormal")
    axes = range(1, 9)
    shape_words = "(n,)"

    def maker(self, seed: int) -> MseMaker:
        """Return what draws the probes."""
        return MseMaker(self.arithmetic, seed, self.settings.reduction)

    def references(self, operands: Operands) -> References:
        """Return the references of the loss and of the gradient."""
        loss = mse(**operands, reduction=self.settings.reduction, **self.precision)
        return loss, [loss.grad.pred]

    def left_out(self, loss: bool) -> list[str]:
        """Return what no probe of the kind holds, in words."""
        return [] if loss else ["the loss (not returned)"]


class LinearMseKind(Kind):
    """``fn(X, y, weights)``, which returns the gradient, or (loss, gradient)."""

    name = "linear_mse"
    extra = ("intercept", "offset", "sample_weight")
    groups = ("targets", "nan", "infinity", "subnormal")
    axes = range(2, 4)
    shape_words = "(n, d) or (n, d, t)"

    def maker(self, seed: int) -> LinearMaker:
        """Return what draws the probes."""
        return LinearMaker(self.arithmetic, seed, self.settings.reduction, self.extra_given)

    def positional(self, names: Sequence[str]) -> int:
        """Pass X, y and weights by position."""
        return 3

    def references(self, operands: Operands) -> References:
        """Return the references of the loss and of the gradients."""
        loss = linear_mse(**operands, reduction=self.settings.reduction, **self.precision)
        gradients = [loss.grad.weights]
        if "intercept" in self.extra_given:
            gradients.append(loss.grad.intercept)
        return loss, gradients

    def left_out(self, loss: bool) -> list[str]:
        """Return what no probe of the kind holds, in words."""
        rest = [] if loss else ["the loss (not returned)"]
        if missing := [name for name in self.extra if name not in self.extra_given]:
            rest.append(f"{', '.join(missing)} (operands)")
        return [*rest, "stacks of problems"]

    def shape_cause(self, probe: Probe, reference: Reference, shape: Shape) -> str:
        """Return the mistake that makes a result of a wrong shape, if it is known."""
        if "targets" not in probe.groups:
            return ""
        if reference.name == "loss":
            return "one loss for each target, where it is one number"
        if shape == reference.value.shape[:-1]:
            return "the gradient of one target, or the sum of all"
        return ""
