"""The data that find mistakes: whole numbers that leave no rounding to hide in, and hard cases.

On an exact probe every partial sum is a whole number below 2**bits, whatever the order of
summation, fused or not: only one result is right, and any other is a proven mistake. One entry has
more bits than the next narrower dtype holds, so that a detour through that dtype shows. The
generator proves it for the very numbers it returns, or returns none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.numbers.arithmetic import Arithmetic, rounded
from gdcore.oracle.probing.probe import LAYOUTS, Operands, Probe, Shape

Array = NDArray[Any]
LARGE = {"float64": 2**24 + 1, "float32": 2049, "tf32": 257}  # one bit too many for the next


class Maker:
    """Draws probes of one kind; subclasses say what its operands are."""

    default_shapes: tuple[Shape, ...]
    hard_shapes: tuple[Shape, ...]  # those for all but exact probes

    def __init__(self, arithmetic: Arithmetic, seed: int) -> None:
        self.arithmetic = arithmetic
        self.bits = arithmetic.store.bits
        self.rng = np.random.default_rng([seed, 20260])

    def default_probes(self, skip: Sequence[str]) -> Iterator[Probe]:
        """Yield the probes of the usual shapes."""
        raise NotImplementedError

    def probes(
        self, shapes: Sequence[Shape], hard: Sequence[Shape], skip: Sequence[str] = ()
    ) -> Iterator[Probe]:
        """Yield the probes of given shapes, the exact ones first."""
        raise NotImplementedError

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return the sizes of a problem by their names."""
        raise NotImplementedError

    def group_of(self, shape: Shape) -> tuple[str, ...]:
        """Return the kind's own group if a shape belongs to it."""
        raise NotImplementedError

    def make(self, name: str, shape: Shape, drawn: Operands, *groups: str) -> Probe:
        """Return a probe of the drawn operands, in the dtype under test."""
        operands = self.stored(drawn)
        of = (*self.group_of(shape), *groups)
        return Probe(name, operands, groups=of, sizes=self.sizes(operands))

    def stored(self, operands: Operands) -> Operands:
        """Return the operands in the dtype under test; bfloat16 is kept in float32.

        Whole numbers and booleans, such as labels and masks, stay what they are.
        """
        name = self.arithmetic.name
        dtype = np.dtype(np.float32 if name in ("tf32", "bfloat16") else name)
        return {
            k: np.array(rounded(v, 8) if name == "bfloat16" else v, dtype)
            if v.dtype.kind == "f"
            else v.copy()
            for k, v in operands.items()
        }

    def just_subnormal(self, shape: Shape, exponent: int = 0) -> Array:
        """Return positive numbers well above the smallest subnormal one, times 2**exponent."""
        store = self.arithmetic.store
        return np.ldexp(1 + self.rng.random(shape), store.least + store.bits // 2 + exponent)


class SumsMaker(Maker):
    """Draws probes of sums of products, which are exact for few and small whole numbers."""

    group = ""  # of `GROUPS`: the kind's own one
    group_shapes: tuple[Shape, ...] = ()
    hard_group_shapes: tuple[Shape, ...] = ()  # those for random numbers, layouts and NaN

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
                yield self.make("random", shape, self._normal(shape))
                yield from self._layouts(shape)
                yield from self._not_finite(shape, skip)

    def probes(
        self, shapes: Sequence[Shape], hard: Sequence[Shape], skip: Sequence[str] = ()
    ) -> Iterator[Probe]:
        """Yield the probes of given shapes, the exact ones first."""
        yield from map(self.integers, shapes)
        for shape in hard:
            for name, draw in self._hard().items():
                yield self.make(name, shape, draw(shape))
            yield from self._layouts(shape)
            yield from self._not_finite(shape, skip)
            if "subnormal" not in skip:
                yield self.make("subnormal", shape, self.subnormal(shape), "subnormal")

    def _held(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Return those whose sizes the dtype holds: float16 has no 65537."""
        return [
            s
            for s in shapes
            if max(map(np.max, filter(np.size, s))) < self.arithmetic.store.largest
        ]

    def _layouts(self, shape: Shape) -> Iterator[Probe]:
        for name, lay_out in LAYOUTS.items():
            probe = self.make(name, shape, self._normal(shape))
            yield replace(probe, operands=lay_out(probe.operands))

    def _not_finite(self, shape: Shape, skip: Sequence[str]) -> Iterator[Probe]:
        for group, value in (("nan", np.nan), ("infinity", np.inf)):
            if group not in skip:
                for name, drawn in self.spoil(self._normal(shape), value):
                    yield self.make(name, shape, drawn, group)

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
            self.place_large(drawn, 0 if attempt > 12 else LARGE.get(self.arithmetic.name, 0))
            self.adjust(drawn, True)
            largest = max((float(np.max(s, initial=0.0)) for s in self.sums(drawn)), default=0.0)
            if largest < 2.0**self.bits:
                found = drawn, largest
                break
            limit, kept = 1, kept if limit == 2 else kept * 0.7
        if found is None:
            return self.make("whole numbers", shape, self._whole(shape))
        drawn, largest = found
        if not self.divides_exactly(drawn):
            return self.make("whole numbers", shape, drawn)
        return replace(self.make("exact", shape, drawn), exact=True, largest=largest)

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
        drawn = self.stored(self._normal(shape))
        self.cancel(drawn)
        return drawn

    def _magnitudes(self, shape: Shape, exponent: int) -> Operands:
        """Draw numbers of one magnitude, so that even products of tiny ones are normal."""
        return self._map(
            shape, lambda x: np.ldexp(np.sign(x) * (1 + self.rng.random(x.shape)), exponent)
        )
