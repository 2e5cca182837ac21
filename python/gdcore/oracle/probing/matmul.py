"""Probes of a matrix product and of its vector-Jacobian products."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic
from gdcore.oracle.probing.kind import Kind, References, are_sizes
from gdcore.oracle.probing.maker import SumsMaker
from gdcore.oracle.probing.probe import Operands, Probe, Shape
from gdcore.oracle.references.products import matmul
from gdcore.oracle.references.reference import Reference

Array = NDArray[Any]


class MatmulMaker(SumsMaker):
    """a (…,m,k), b (…,k,n), and perhaps grad_out (…,m,n).

    For shapes (m, k, n), (*batch, m, k, n), or (batch of a, batch of b, m, k, n) with two tuples.
    """

    default_shapes = (
        (1, 1, 1), (2, 2, 2), (4, 4, 4), (3, 5, 7), (8, 8, 8), (16, 17, 5), (33, 31, 9),
        (5, 64, 3), (1, 65, 1), (6, 14, 22), (23, 12, 31), (12, 22, 47), (4, 6, 48), (17, 129, 19),
        (130, 67, 65), (65, 300, 129), (1, 65537, 1), (65537, 1, 1),
    )  # fmt: skip
    hard_shapes = ((3, 5, 7), (17, 33, 9))
    group = "stacks"
    group_shapes = (
        (3, 3, 5, 7), (2, 3, 4, 9, 5), ((2, 1), (3,), 5, 3, 4),
        ((), (3,), 4, 6, 5), ((4,), (), 3, 2, 6), ((1, 3), (2, 1), 2, 5, 3), ((3,), (1,), 5, 4, 3),
        (65537, 1, 1, 1),
    )  # fmt: skip
    hard_group_shapes = ((4, 9, 17, 5), ((2, 3), (3,), 5, 6, 7))

    def __init__(self, arithmetic: Arithmetic, seed: int, grad_out: bool) -> None:
        super().__init__(arithmetic, seed)
        self.grad_out = grad_out

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return m, k and n of a (m,k) and b (k,n)."""
        a, b = operands["a"], operands["b"]
        return {"m": a.shape[-2], "k": a.shape[-1], "n": b.shape[-1]}

    def group_of(self, shape: Shape) -> tuple[str, ...]:
        """Whether there is more than one product."""
        return ("stacks",) if len(shape) > 3 else ()

    def axes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        *batch, m, k, n = shape
        of_a, of_b = batch if batch and isinstance(batch[0], tuple) else (batch, batch)
        axes: dict[str, Shape] = {"a": (*of_a, m, k), "b": (*of_b, k, n)}
        if self.grad_out:
            axes["grad_out"] = (*np.broadcast_shapes(tuple(of_a), tuple(of_b)), m, n)
        return axes

    def sums(self, operands: Operands) -> list[Array]:
        """Return |a| @ |b|, and the same for the gradients, summed over all of the stack."""
        a, b = np.abs(operands["a"]), np.abs(operands["b"])
        if not self.grad_out:
            return [a @ b]
        g = np.abs(operands["grad_out"])
        gradients = [g @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ g]
        return [a @ b, *(x.reshape(-1, *x.shape[-2:]).sum(0) for x in gradients)]

    def spoil(self, operands: Operands, value: float) -> Iterator[tuple[str, Operands]]:
        """Yield one probe: corners of a, the end of b, opposite a 0 in the other.

        In a stack only the last matrix of a, the first of b.
        """
        a, b = (operands[name] for name in ("a", "b"))
        last = a[(-1,) * (a.ndim - 2)]
        first = b[(0,) * (b.ndim - 2)]
        (m, k), n = last.shape, first.shape[-1]
        last[m // 2, k // 2] = 0
        first[-1, n // 2] = 0
        last[0, 0], last[-1, -1], first[k // 2, -1] = value, -value, value
        if self.grad_out:
            operands["grad_out"][..., m // 2, 0] = value
        yield ("NaN" if np.isnan(value) else "infinity"), operands

    def subnormal(self, shape: Shape) -> Operands:
        """Return numbers whose products are subnormal."""
        axes, half = self.axes(shape), self.arithmetic.store.least // 2
        drawn = {"a": self.just_subnormal(axes["a"], -half)}
        return {name: np.ldexp(1 + self.rng.random(axes[name]), half) for name in axes} | drawn

    def divides_exactly(self, operands: Operands) -> bool:
        """Nothing is divided."""
        return True

    def adjust(self, operands: Operands, exact: bool) -> None:
        """Leave no zeros in the last terms of a sum."""
        if exact:
            a, b = operands["a"], operands["b"]
            a[..., -2:] += a[..., -2:] == 0
            b[..., -2:, :] += b[..., -2:, :] == 0

    def place_large(self, operands: Operands, value: float) -> None:
        """Put it into the middle of a, where b is 1."""
        a, b = operands["a"], operands["b"]
        if value and a.size and b.size:
            k = a.shape[-1] // 2
            a[..., a.shape[-2] // 2, k] = value
            b[..., k, :] = 1.0

    def cancel(self, operands: Operands) -> None:
        """Make half of the sum nearly the opposite of the other half."""
        a, b = operands["a"], operands["b"]
        half = a.shape[-1] // 2
        a[..., half : 2 * half] = a[..., :half]
        b[..., half : 2 * half, :] = -b[..., :half, :]
        b[..., 2 * half :, :] *= b.dtype.type(2.0 ** -(self.bits // 2))


class MatmulKind(Kind):
    """``fn(a, b)``, which returns the product, or ``fn(a, b, grad_out)`` both gradients."""

    name = "matmul"
    has_grad_out = True
    groups = ("stacks", "nan", "infinity", "subnormal")
    axes = range(3, 9)
    shape_words = "(m, k, n), (*batch, m, k, n) or (batch of a, batch of b, m, k, n)"

    def maker(self, seed: int) -> MatmulMaker:
        """Return what draws the probes."""
        return MatmulMaker(self.arithmetic, seed, self.settings.grad_out)

    def references(self, operands: Operands) -> References:
        """Return the references of the product, or of its gradients."""
        whole = matmul(**operands, **self.precision)
        return None, [whole.grad.a, whole.grad.b] if self.settings.grad_out else [whole]

    def left_out(self, loss: bool) -> list[str]:
        """Return what no probe of the kind holds, in words."""
        return [*([] if self.settings.grad_out else ["gradients (grad_out)"]), "vectors"]

    def sizes_fit(self, sizes: Shape) -> bool:
        """Whether sizes make a shape, perhaps with the batches of both operands."""
        if len(sizes) != 5 or not all(isinstance(batch, tuple) for batch in sizes[:2]):
            return super().sizes_fit(sizes)
        if not are_sizes((*sizes[0], *sizes[1], *sizes[2:])):
            return False
        try:
            np.broadcast_shapes(*sizes[:2])
        except ValueError:
            return False
        return True

    def shape_cause(self, probe: Probe, reference: Reference, shape: Shape) -> str:
        """Return the mistake that makes a result of a wrong shape, if it is known."""
        wanted = reference.value.shape
        a, b = probe.operands["a"].shape, probe.operands["b"].shape
        if reference.name == "product":
            if shape == (*a[:-1], *b[:-2], *b[-1:]):
                return "every matrix of a is multiplied by every matrix of b, as in numpy.dot"
            if a[:-2] != b[:-2] and shape[-2:] == wanted[-2:]:
                return "the batch dimensions are not broadcast"
        elif len(shape) >= len(wanted) and shape[-2:] == wanted[-2:]:
            return "no sum over the batch dimensions that broadcast"
        return ""
