"""Probes of a linear layer and of its vector-Jacobian products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.probing.kind import Kind, References
from gdcore.oracle.probing.maker import Array, SumsMaker
from gdcore.oracle.probing.probe import Operands, Shape
from gdcore.oracle.references.affine import linear


class LinearLayerMaker(SumsMaker):
    """x (…,m,k), weight (n,k), perhaps bias (n) and grad_out (…,m,n), for shapes (…,m,k,n)."""

    default_shapes = (
        (1, 1, 1), (2, 2, 2), (4, 4, 4), (3, 5, 7), (8, 8, 8), (16, 17, 5), (33, 31, 9),
        (5, 64, 3), (1, 65, 1), (6, 14, 22), (12, 22, 47), (4, 6, 48), (17, 129, 19),
        (65, 300, 129), (1, 65537, 1), (65537, 1, 1),
    )  # fmt: skip
    hard_shapes = ((3, 5, 7), (17, 33, 9))
    group = "stacks"
    group_shapes = ((3, 3, 5, 7), (2, 3, 4, 9, 5))
    hard_group_shapes = ((4, 9, 17, 5),)

    def __init__(
        self, arithmetic: Arithmetic, seed: int, extra: tuple[str, ...], grad_out: bool
    ) -> None:
        super().__init__(arithmetic, seed)
        self.extra, self.grad_out = extra, grad_out

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return m, k and n of x (m,k) and weight (n,k)."""
        x, weight = operands["x"], operands["weight"]
        return {"m": x.shape[-2], "k": x.shape[-1], "n": weight.shape[0]}

    def group_of(self, shape: Shape) -> tuple[str, ...]:
        """Whether there are several batches of rows."""
        return ("stacks",) if len(shape) > 3 else ()

    def axes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        *rows, k, n = shape
        axes: dict[str, Shape] = {"x": (*rows, k), "weight": (n, k)}
        if "bias" in self.extra:
            axes["bias"] = (n,)
        return axes | ({"grad_out": (*rows, n)} if self.grad_out else {})

    def sums(self, operands: Operands) -> list[Array]:
        """Return |x| @ |weight|.T + |bias|, and the same for the gradients, over all rows."""
        x, weight = np.abs(operands["x"]), np.abs(operands["weight"])
        value = x @ weight.T + np.abs(operands.get("bias", 0.0))
        if not self.grad_out:
            return [value]
        g = np.abs(operands["grad_out"]).reshape(-1, len(weight))
        return [value, g @ weight, g.T @ x.reshape(len(g), -1), g.sum(0)]

    def divides_exactly(self, operands: Operands) -> bool:
        """Nothing is divided."""
        return True

    def adjust(self, operands: Operands, exact: bool) -> None:
        """Leave no zeros in the last terms of a sum, nor in the bias."""
        if exact:
            x, weight = operands["x"], operands["weight"]
            x[..., -2:] += x[..., -2:] == 0
            weight[..., -2:] += weight[..., -2:] == 0
            if "bias" in operands:
                operands["bias"] += operands["bias"] == 0

    def place_large(self, operands: Operands, value: float) -> None:
        """Put it into the middle of x, where the weights are 1."""
        x, weight = operands["x"], operands["weight"]
        if value and x.size:
            k = x.shape[-1] // 2
            x[..., x.shape[-2] // 2, k] = value
            weight[:, k] = 1.0

    def cancel(self, operands: Operands) -> None:
        """Make half of the sum nearly the opposite of the other half."""
        x, weight = operands["x"], operands["weight"]
        half = x.shape[-1] // 2
        x[..., half : 2 * half] = x[..., :half]
        weight[:, half : 2 * half] = -weight[:, :half]
        weight[:, 2 * half :] *= weight.dtype.type(2.0 ** -(self.bits // 2))

    def spoil(self, operands: Operands, value: float) -> Iterator[tuple[str, Operands]]:
        """Yield one probe: the last row of x, the first of weight, opposite a 0 in the other."""
        x, weight = operands["x"], operands["weight"]
        rows = x.reshape(-1, x.shape[-1])
        weight[-1, 0] = 0
        rows[-1, 0] = value
        weight[0, -1] = -value
        if "bias" in operands:
            operands["bias"][len(weight) // 2] = value
        yield ("NaN" if np.isnan(value) else "infinity"), operands

    def subnormal(self, shape: Shape) -> Operands:
        """Return numbers whose products are subnormal."""
        axes, half = self.axes(shape), self.arithmetic.store.least // 2
        drawn = {name: np.ldexp(1 + self.rng.random(axes[name]), half) for name in axes}
        drawn["x"] = self.just_subnormal(axes["x"], -half)
        if "bias" in drawn:
            drawn["bias"] = self.just_subnormal(axes["bias"])
        return drawn


class LinearKind(Kind):
    """``fn(x, weight, bias)``, or ``fn(x, weight, bias, grad_out)``: all three gradients."""

    name = "linear"
    extra = usual = ("bias",)
    has_grad_out = True
    groups = ("stacks", "nan", "infinity", "subnormal")
    axes = range(3, 9)
    shape_words = "(m, k, n) or (*batch, m, k, n)"

    def maker(self, seed: int) -> LinearLayerMaker:
        """Return what draws the probes."""
        return LinearLayerMaker(self.arithmetic, seed, self.extra_given, self.settings.grad_out)

    def references(self, operands: Operands) -> References:
        """Return the reference of the result, or those of the vector-Jacobian products."""
        whole = linear(**operands, **self.precision)
        if not self.settings.grad_out:
            return None, [whole]
        names = [name for name in ("x", "weight", "bias") if name in operands]
        return None, [getattr(whole.grad, name) for name in names]

    def left_out(self, loss: bool) -> list[str]:
        """Return what no probe of the kind holds, in words."""
        rest = [] if self.settings.grad_out else ["gradients (grad_out)"]
        return [*rest, *([] if self.extra_given else ["bias (operands)"]), "vectors"]
