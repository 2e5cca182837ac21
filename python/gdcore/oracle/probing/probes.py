"""The data that find mistakes: whole numbers that leave no rounding to hide in, and hard cases.

On an exact probe every partial sum is a whole number below 2**bits, whatever the order of
summation, fused or not: only one result is right, and any other is a proven mistake. One entry has
more bits than the next narrower dtype holds, so that a detour through that dtype shows. The
generator proves it for the very numbers it returns, or returns none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic, rounded

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
_LARGE = {"float64": 2**24 + 1, "float32": 2049, "tf32": 257}  # one bit too many for the next


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
    """

    name: str
    operands: Operands
    exact: bool = False
    largest: float = 0.0
    groups: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of a problem by their names, such as n and d."""
        if "pred" in self.operands:
            return {"n": self.operands["pred"].size}
        first, second = list(self.operands.values())[:2]
        if "a" in self.operands:
            return {"m": first.shape[-2], "k": first.shape[-1], "n": second.shape[-1]}
        return {"n": first.shape[0], "d": first.shape[1]} | (
            {"t": second.shape[1]} if second.ndim > 1 else {}
        )

    @property
    def shapes(self) -> str:
        """The operands' shapes, in words."""
        return ", ".join(f"{name} {array.shape}" for name, array in self.operands.items())

    @property
    def description(self) -> str:
        """The name and the shapes."""
        return f"{self.name}: {self.shapes}"


class Maker:
    """Draws probes of one kind; subclasses say what its operands are."""

    default_shapes: tuple[Shape, ...]
    hard_shapes: tuple[Shape, ...]  # those for all but exact probes
    group = ""  # of `GROUPS`: the kind's own one
    group_shapes: tuple[Shape, ...] = ()
    hard_group_shapes: tuple[Shape, ...] = ()  # those for random numbers, layouts and NaN

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

    def place_large(self, operands: Operands, value: float) -> None:
        """Put a number of many bits into the operands."""

    def cancel(self, operands: Operands) -> None:
        """Change drawn operands so that what remains is small."""

    def group_of(self, shape: Shape) -> tuple[str, ...]:
        """Return the kind's own group if a shape belongs to it."""
        raise NotImplementedError

    def spoil(self, operands: Operands, value: float) -> Iterator[tuple[str, Operands]]:
        """Yield names of probes and operands with NaN or infinity where it must show."""
        raise NotImplementedError

    def subnormal(self, shape: Shape) -> Operands:
        """Return normal numbers of which subnormal results are made."""
        raise NotImplementedError

    def default_probes(self, skip: Sequence[str]) -> Iterator[Probe]:
        """Yield the probes of the usual shapes; those of the kind's own group come last."""
        yield from self.probes(self._held(self.default_shapes), self.hard_shapes, skip)
        if self.group and self.group not in skip:
            yield from map(self.integers, self._held(self.group_shapes))
            for shape in self.hard_group_shapes:
                yield self._probe("random", shape, self._normal(shape))
                yield from self._layouts(shape)
                yield from self._not_finite(shape, skip)

    def probes(
        self, shapes: Sequence[Shape], hard: Sequence[Shape], skip: Sequence[str] = ()
    ) -> Iterator[Probe]:
        """Yield the probes of given shapes, the exact ones first."""
        yield from map(self.integers, shapes)
        for shape in hard:
            for name, draw in self._hard().items():
                yield self._probe(name, shape, draw(shape))
            yield from self._layouts(shape)
            yield from self._not_finite(shape, skip)
            if "subnormal" not in skip:
                yield self._probe("subnormal", shape, self.subnormal(shape), "subnormal")

    def _held(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return those whose sizes the dtype holds: float16 has no 65537."""
        return [
            s
            for s in shapes
            if max(map(np.max, filter(np.size, s))) < self.arithmetic.store.largest
        ]

    def _probe(self, name: str, shape: Shape, drawn: Operands, *groups: str) -> Probe:
        return Probe(name, self._stored(drawn), groups=(*self.group_of(shape), *groups))

    def _layouts(self, shape: Shape) -> Iterator[Probe]:
        for name, lay_out in LAYOUTS.items():
            probe = self._probe(name, shape, self._normal(shape))
            yield replace(probe, operands=lay_out(probe.operands))

    def _not_finite(self, shape: Shape, skip: Sequence[str]) -> Iterator[Probe]:
        for group, value in (("nan", np.nan), ("infinity", np.inf)):
            if group not in skip:
                for name, drawn in self.spoil(self._normal(shape), value):
                    yield self._probe(name, shape, drawn, group)

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
            self.place_large(drawn, 0 if attempt > 12 else _LARGE.get(self.arithmetic.name, 0))
            self.adjust(drawn, True)
            largest = max((float(np.max(s, initial=0.0)) for s in self.sums(drawn)), default=0.0)
            if largest < 2.0**self.bits:
                found = drawn, largest
                break
            limit, kept = 1, kept if limit == 2 else kept * 0.7
        if found is None:
            return self._probe("whole numbers", shape, self._whole(shape))
        drawn, largest = found
        if not self.divides_exactly(drawn):
            return self._probe("whole numbers", shape, drawn)
        return replace(self._probe("exact", shape, drawn), exact=True, largest=largest)

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

    def _just_subnormal(self, shape: Shape, exponent: int = 0) -> Array:
        """Return positive numbers well above the smallest subnormal one, times 2**exponent."""
        store = self.arithmetic.store
        return np.ldexp(1 + self.rng.random(shape), store.least + store.bits // 2 + exponent)

    def _stored(self, operands: Operands) -> Operands:
        """Return the operands in the dtype under test; bfloat16 is kept in float32."""
        name = self.arithmetic.name
        if name == "bfloat16":
            return {k: np.asarray(rounded(v, 8), np.float32) for k, v in operands.items()}
        dtype = np.float32 if name == "tf32" else np.dtype(name)
        return {k: np.array(v, dtype) for k, v in operands.items()}


class MatmulMaker(Maker):
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
        drawn = {"a": self._just_subnormal(axes["a"], -half)}
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


class MseMaker(Maker):
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
        pred = self._just_subnormal(shape, scale)
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


class LinearMaker(Maker):
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
        drawn = {name: self._just_subnormal(size) for name, size in axes.items()}
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


LAYOUTS = {"every second": _spread, "columns first": _columns_first}
