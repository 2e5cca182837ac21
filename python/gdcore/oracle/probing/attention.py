"""Probes of scaled dot-product attention and of its vector-Jacobian products."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gdcore.oracle.probing.formula import FormulaKind, power_of_two
from gdcore.oracle.probing.maker import Maker
from gdcore.oracle.probing.probe import Operands, Shape
from gdcore.oracle.references.attention import attention


class AttentionKind(FormulaKind):
    """``fn(q, k, v)``, or ``fn(q, k, v, grad_out)``, which returns all three gradients.

    For shapes (*batch, m, n, d) of q (*batch,m,d), k and v (*batch,n,d). A mask is passed by
    keyword, as -inf and 0; some of each query's keys are left.
    """

    name = "attention"
    function = attention
    main = ("q", "k", "v")
    differentiable = ("q", "k", "v")
    nan_in = ("k", "v", "grad_out")  # of NaN in q some kernels of torch make 0
    largest = 30.0
    extra = by_keyword = ("mask",)
    options = ("causal", "scale")
    axes = range(3, 9)
    shape_words = "(*batch, m, n, d), for m queries, n keys and d features"
    plain = 5
    default_shapes = (
        (1, 1, 1, 1, 1), (1, 2, 2, 2, 4), (2, 1, 4, 8, 4), (1, 1, 3, 7, 5), (2, 3, 7, 5, 8),
        (1, 2, 16, 16, 16), (1, 1, 17, 33, 9), (2, 2, 31, 31, 12), (1, 1, 5, 64, 64),
        (1, 1, 33, 65, 3), (1, 1, 2, 129, 32), (1, 1, 130, 3, 8), (1, 1, 1, 1025, 4),
    )  # fmt: skip
    hard_shapes = ((1, 2, 5, 5, 4), (1, 1, 9, 33, 8))
    group_shapes = ()

    def operand_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        *batch, m, n, d = shape
        shapes: dict[str, Shape] = {"q": (*batch, m, d), "k": (*batch, n, d), "v": (*batch, n, d)}
        if self.settings.grad_out:
            shapes["grad_out"] = (*batch, m, d)
        return shapes | ({"mask": (m, n)} if "mask" in self.extra_given else {})

    def exact(self, rng: np.random.Generator, shape: Shape) -> Operands | None:
        """Return equal keys, a power of two of them, so that each has the same part."""
        *_, n, d = shape
        root = int(np.sqrt(d))
        whole = root * root == d and power_of_two(root) and "scale" not in self.settings.options
        if not (power_of_two(n) and whole) or self.extra_given or self._is_causal:
            return None
        drawn = {
            name: rng.integers(-2, 3, size) * 1.0
            for name, size in self.operand_shapes(shape).items()
        }
        drawn["k"] = np.broadcast_to(drawn["k"][..., :1, :], drawn["k"].shape).copy()
        if n * d > 2 ** (self.arithmetic.store.bits - 4) or self.settings.grad_out:
            return None
        return drawn

    @property
    def _is_causal(self) -> bool:
        return bool(self.settings.options.get("causal"))

    def adjust(self, operands: Operands, rng: np.random.Generator) -> None:
        """Mask some keys, never all those of a query."""
        if "mask" in operands:
            m, n = operands["mask"].shape
            mask = np.where(rng.random((m, n)) < 0.4, -np.inf, 0.0)
            mask[:, 0] = 0.0
            operands["mask"] = mask

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return the numbers of queries, keys and features, and of heads of the whole batch."""
        q, k = operands["q"], operands["k"]
        m, d = q.shape[-2:]
        return {"heads": q.size // (m * d), "m": m, "n": k.shape[-2], "d": d}

    def infinite(self, operands: Operands) -> Iterator[tuple[str, Operands]]:
        """Yield a value that is infinite, unless a weight of 0 may make it NaN."""
        if not (self.extra_given or self._is_causal):
            yield "infinity in v", self.with_value(operands, "v", np.inf)

    def shrink(self, operands: Operands, maker: Maker) -> None:
        """Make the values, and so the result, subnormal."""
        operands["v"] = maker.just_subnormal(operands["v"].shape)

    def left_out(self, loss: bool) -> list[str]:
        """Return what no probe of the kind holds, in words."""
        return [*super().left_out(loss), "NaN in q", "queries without a key"]
