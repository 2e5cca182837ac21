"""The data that find mistakes: whole numbers that leave no rounding to hide in, and hard cases.

On an exact probe every partial sum is a whole number below 2**bits, whatever the order of
summation, fused or not: only one result is right, and any other is a proven mistake. One entry has
more bits than the next narrower dtype holds, so that a detour through that dtype shows. The
generator proves it for the very numbers it returns, or returns none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.arithmetic import Arithmetic, rounded

Array = NDArray[Any]
Shape = tuple[int, ...]
Operands = dict[str, Array]
_WIDE = {"float64": 2**24 + 1, "float32": 2049, "tf32": 257}  # one bit too many for the next


@dataclass(frozen=True, eq=False)
class Probe:
    """Arguments for a function under test.

    Attributes
    ----------
    name : str
        What is hard about them.
    operands : dict of ndarray
        By the names that the kind has for them.
    exact : bool
        Whether every partial sum is exact, so that the tolerance is zero.
    largest : float
        For an exact probe, at least the magnitude of every partial sum.
    """

    name: str
    operands: Operands
    exact: bool = False
    largest: float = 0.0

    @property
    def shapes(self) -> str:
        """The operands' shapes, in words."""
        return ", ".join(f"{name} {array.shape}" for name, array in self.operands.items())


class Maker:
    """Draws probes of one kind; subclasses say what its operands are."""

    default_shapes: tuple[Shape, ...]
    hard_shapes: tuple[Shape, ...]  # of the defaults, those for all but exact probes

    def __init__(self, arithmetic: Arithmetic, seed: int) -> None:
        self.arithmetic = arithmetic
        self.bits = arithmetic.store.bits
        self.rng = np.random.default_rng([seed, 20260])

    def axes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        raise NotImplementedError

    def sums(self, operands: Operands) -> list[Array]:
        """Return sums of magnitudes that no partial sum of any order exceeds."""
        raise NotImplementedError

    def divides_exactly(self, operands: Operands) -> bool:
        """Whether the division of the mean is exact."""
        raise NotImplementedError

    def adjust(self, operands: Operands, exact: bool) -> None:
        """Change drawn operands so that nothing about them is idle."""

    def place_wide(self, operands: Operands, value: float) -> None:
        """Put a number of many bits into the operands."""

    def cancel(self, operands: Operands) -> None:
        """Change drawn operands so that what remains is small."""

    def probes(self, shapes: list[Shape], hard: list[Shape]) -> Iterator[Probe]:
        """Yield all probes, the exact ones first."""
        for shape in shapes:
            yield self.integers(shape)
        for shape in hard:
            for name, draw in self._hard().items():
                yield Probe(name, self._stored(draw(shape)))
            yield Probe("every second", _spread(self._stored(self._normal(shape))))
            yield Probe("columns first", _columns_first(self._stored(self._normal(shape))))

    def integers(self, shape: Shape) -> Probe:
        """Return whole numbers: an exact probe wherever the sums stay exact."""
        limit, kept, found = 2, 1.0, None
        for attempt in range(24):
            drawn = {
                name: self.rng.integers(-limit, limit, size, endpoint=True).astype(np.float64)
                for name, size in self.axes(shape).items()
            }
            for array in drawn.values():
                array *= self.rng.random(array.shape) < kept
            self.place_wide(drawn, 0 if attempt > 12 else _WIDE.get(self.arithmetic.name, 0))
            self.adjust(drawn, True)
            largest = max((float(np.max(s, initial=0.0)) for s in self.sums(drawn)), default=0.0)
            if largest < 2.0**self.bits:
                found = drawn, largest
                break
            limit, kept = 1, kept if limit == 2 else kept * 0.7
        if found is None:
            return Probe("whole numbers", self._stored(self._whole(shape)))
        drawn, largest = found
        if not self.divides_exactly(drawn):
            return Probe("whole numbers", self._stored(drawn))
        return Probe("exact", self._stored(drawn), True, largest)

    def _whole(self, shape: Shape) -> Operands:
        drawn = {
            name: self.rng.integers(-2, 2, size, endpoint=True).astype(np.float64)
            for name, size in self.axes(shape).items()
        }
        self.adjust(drawn, False)
        return drawn

    def _hard(self) -> dict[str, Callable[[Shape], Operands]]:
        store = self.arithmetic.store
        far = int(0.2 * store.most)
        near = int(0.1 * store.most)
        return {
            "random": self._normal,
            "badly scaled": lambda shape: self._map(shape, self._badly_scaled(near)),
            "ill-conditioned": lambda shape: self._map(shape, self._nearly_equal),
            "cancelling": self._cancelling,
            "zero": lambda shape: self._map(shape, np.zeros_like),
            "huge": lambda shape: self._magnitudes(shape, far),
            "tiny": lambda shape: self._magnitudes(shape, -far),
        }

    def _normal(self, shape: Shape) -> Operands:
        drawn = {name: self.rng.standard_normal(size) for name, size in self.axes(shape).items()}
        self.adjust(drawn, False)
        return drawn

    def _map(self, shape: Shape, change: Callable[[Array], Array]) -> Operands:
        drawn = {
            name: array if name == "sample_weight" else change(array)
            for name, array in self._normal(shape).items()
        }
        self.adjust(drawn, False)
        return drawn

    def _badly_scaled(self, span: int) -> Callable[[Array], Array]:
        def change(x: Array) -> Array:
            exponents = self.rng.integers(-span, span, x.shape[-1:], endpoint=True)
            scaled: Array = np.ldexp(x, exponents)
            return scaled

        return change

    def _nearly_equal(self, x: Array) -> Array:
        first = x[..., :1] if x.ndim else x
        near: Array = first + x * 2.0 ** -(self.bits // 2)
        return near

    def _cancelling(self, shape: Shape) -> Operands:
        drawn = self._stored(self._normal(shape))
        self.cancel(drawn)
        return drawn

    def _magnitudes(self, shape: Shape, exponent: int) -> Operands:
        """Draw numbers of one magnitude, so that even products of tiny ones are normal."""
        return self._map(
            shape, lambda x: np.ldexp(np.sign(x) * (1 + self.rng.random(x.shape)), exponent)
        )

    def _stored(self, operands: Operands) -> Operands:
        """Return the operands in the dtype under test; bfloat16 is kept in float32."""
        name = self.arithmetic.name
        if name == "bfloat16":
            return {k: np.asarray(rounded(v, 8), np.float32) for k, v in operands.items()}
        dtype = np.float32 if name == "tf32" else np.dtype(name)
        return {k: np.array(v, dtype) for k, v in operands.items()}


class MatmulMaker(Maker):
    """a (m,k), b (k,n), and perhaps grad_out (m,n), for shapes (m, k, n)."""

    default_shapes = (
        (1, 1, 1), (2, 2, 2), (4, 4, 4), (3, 5, 7), (8, 8, 8), (16, 17, 5), (33, 31, 9),
        (5, 64, 3), (1, 65, 1), (17, 129, 19), (130, 67, 65), (65, 300, 129),
    )  # fmt: skip
    hard_shapes = ((3, 5, 7), (17, 33, 9))

    def __init__(self, arithmetic: Arithmetic, seed: int, grad_out: bool) -> None:
        super().__init__(arithmetic, seed)
        self.grad_out = grad_out

    def axes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        *batch, m, k, n = shape
        axes = {"a": (*batch, m, k), "b": (*batch, k, n)}
        return axes | {"grad_out": (*batch, m, n)} if self.grad_out else axes

    def sums(self, operands: Operands) -> list[Array]:
        """Return |a| @ |b|, and the same for the gradients."""
        a, b = np.abs(operands["a"]), np.abs(operands["b"])
        if not self.grad_out:
            return [a @ b]
        g = np.abs(operands["grad_out"])
        return [a @ b, g @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ g]

    def divides_exactly(self, operands: Operands) -> bool:
        """Nothing is divided."""
        return True

    def adjust(self, operands: Operands, exact: bool) -> None:
        """Leave no zeros in the last terms of a sum."""
        if exact:
            a, b = operands["a"], operands["b"]
            a[..., -2:] += a[..., -2:] == 0
            b[..., -2:, :] += b[..., -2:, :] == 0

    def place_wide(self, operands: Operands, value: float) -> None:
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


class MseMaker(Maker):
    """pred and target, of any shape."""

    default_shapes = ((1,), (2,), (16,), (7,), (4, 8), (33,), (64,), (1024,), (5, 7), (257,))
    hard_shapes = ((7,), (5, 33))

    def __init__(self, arithmetic: Arithmetic, seed: int, reduction: str) -> None:
        super().__init__(arithmetic, seed)
        self.reduction = reduction

    def axes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        return {"pred": shape, "target": shape}

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

    def place_wide(self, operands: Operands, value: float) -> None:
        """Put it into the middle of pred."""
        if value:
            flat = operands["pred"].reshape(-1)
            flat[flat.size // 2] = value

    def cancel(self, operands: Operands) -> None:
        """Make the two differ in their last places."""
        operands["target"][...] = operands["pred"] * (1 + 2.0 ** (2 - self.bits))


class LinearMaker(Maker):
    """X (n,d), y (n) or (n,t), weights (d) or (d,t) and more, for shapes (n, d) or (n, d, t)."""

    default_shapes = (
        (1, 1), (2, 1), (4, 3), (8, 5), (16, 8), (64, 17), (7, 3), (33, 5), (257, 2), (512, 7),
        (1025, 67),
    )  # fmt: skip
    hard_shapes = ((7, 3), (65, 9))

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

    def place_wide(self, operands: Operands, value: float) -> None:
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


def _spread(operands: Operands) -> Operands:
    """Return the same numbers in arrays of twice the size, with NaN between them."""
    spread = {}
    for name, array in operands.items():
        if not array.ndim:
            spread[name] = array
            continue
        wide = np.full([2 * size for size in array.shape], np.nan, array.dtype)
        view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        spread[name] = view
    return spread


def _columns_first(operands: Operands) -> Operands:
    return {name: np.asarray(array, order="F") for name, array in operands.items()}
