"""Kinds of functions whose result is a formula of each row, and the probes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.probing.families import FAMILIES, large_in
from gdcore.oracle.probing.kind import Kind, References, Settings
from gdcore.oracle.probing.maker import Maker
from gdcore.oracle.probing.probe import LAYOUTS, Operands, Probe, Shape
from gdcore.oracle.references.reference import Reference

Array = NDArray[Any]


class FormulaKind(Kind):
    """A kind with vector-Jacobian products, judged by one reference; subclasses say by which."""

    function: ClassVar[Callable[..., Reference]]
    main: ClassVar[tuple[str, ...]] = ("x",)  # operands that families of data change
    differentiable: ClassVar[tuple[str, ...]] = ("x",)  # in the order of the gradients
    by_keyword: ClassVar[tuple[str, ...]] = ()
    nan_in: ClassVar[tuple[str, ...]] = ("x", "weight", "bias", "grad_out")
    has_grad_out = True
    groups: ClassVar[tuple[str, ...]] = ("stacks", "nan", "infinity", "subnormal")
    axes = range(1, 9)
    shape_words = "(..., n)"
    default_shapes: ClassVar[tuple[Shape, ...]] = (
        (1, 1), (1, 2), (2, 3), (4, 8), (3, 7), (5, 16), (7, 17), (2, 31), (3, 33), (6, 64),
        (3, 65), (2, 100), (130, 5), (3, 257), (2, 1024), (1, 4099), (1, 65537),
    )  # fmt: skip
    hard_shapes: ClassVar[tuple[Shape, ...]] = ((5, 7), (4, 33))
    group_shapes: ClassVar[tuple[Shape, ...]] = ((2, 3, 5), (3, 2, 4, 9))
    plain: ClassVar[int] = 2  # sizes of a shape that is not a stack
    largest: ClassVar[float] = 0.0  # what counts as large, if not as the dtype has it

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.large = self.largest or large_in(self.arithmetic.store)

    def operand_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand, the last axis of the main ones being the formula's."""
        raise NotImplementedError

    def exact(self, rng: np.random.Generator, shape: Shape) -> Operands | None:
        """Return operands whose result every right algorithm finds without rounding, if any."""
        return None

    def adjust(self, operands: Operands, rng: np.random.Generator) -> None:
        """Change drawn operands into what they must be, such as labels."""

    def infinite(self, operands: Operands) -> Iterator[tuple[str, Operands]]:
        """Yield names of probes and operands with infinity where it must show."""
        yield "infinity", self.with_value(operands, self.main[0], np.inf)

    def shrink(self, operands: Operands, maker: Maker) -> None:
        """Change drawn operands so that they, or the results, are subnormal."""
        for name in self.main:
            operands[name] = maker.just_subnormal(operands[name].shape)

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return the sizes of a problem by their names."""
        x = next(iter(operands.values()))
        return {"rows": x.size // x.shape[-1], "n": x.shape[-1]}

    @staticmethod
    def with_value(operands: Operands, name: str, value: float) -> Operands:
        """Return operands with one element of one of them changed: in the last row."""
        changed = {each: array.copy() for each, array in operands.items()}
        flat = changed[name].reshape(-1)
        flat[flat.size - 1 - changed[name].shape[-1] // 2] = value
        return changed

    def maker(self, seed: int) -> Maker:
        """Return what draws the probes."""
        return FormulaMaker(self, seed)

    def keywords(self) -> dict[str, Any]:
        """Return the options of the reference."""
        return dict(self.settings.options)

    def references(self, operands: Operands) -> References:
        """Return the reference of the value, or those of the vector-Jacobian products."""
        whole = type(self).function(**operands, **self.keywords(), **self.precision)
        if not self.settings.grad_out:
            return None, [whole]
        names = [name for name in self.differentiable if name in operands]
        return None, [getattr(whole.grad, name) for name in names]

    def positional(self, names: Sequence[str]) -> int:
        """Pass by position all operands but those that a user asked for."""
        return sum(name not in self.by_keyword for name in names)

    def left_out(self, loss: bool) -> list[str]:
        """Return what no probe of the kind holds, in words."""
        rest = [] if self.settings.grad_out else ["gradients (grad_out)"]
        if missing := [name for name in self.extra if name not in self.extra_given]:
            rest.append(f"{', '.join(missing)} (operands)")
        if unset := [name for name in self.options if name not in self.settings.options]:
            rest.append(f"other values of {', '.join(unset)} (options)")
        return rest


class RowKind(FormulaKind):
    """``fn(x)`` of rows along an axis, or ``fn(x, grad_out)``, which returns the gradient of x."""

    options: ClassVar[tuple[str, ...]] = ("axis",)
    reduced: ClassVar[bool] = False  # whether the axis is gone from the result

    def shape_cause(self, probe: Probe, reference: Reference, shape: Shape) -> str:
        """Return the mistake that makes a result of a wrong shape, if it is known."""
        if not self.reduced or self.settings.grad_out:
            return ""
        given = probe.operands["x"].shape
        axis = range(len(given))[self.settings.options.get("axis", -1)]
        for other in range(len(given)):
            if shape == given[:other] + given[other + 1 :] and other != axis:
                return f"taken along axis {other} instead of axis {axis}"
        return (
            "the axis is kept" if shape[:axis] + shape[axis + 1 :] == reference.value.shape else ""
        )

    def operand_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        result = shape[:-1] if self.reduced else shape
        return {"x": shape} | ({"grad_out": result} if self.settings.grad_out else {})

    def adjust(self, operands: Operands, rng: np.random.Generator) -> None:
        """Turn the rows so that they lie along the axis asked for."""
        axis = self.settings.options.get("axis", -1)
        for name in operands if not self.reduced else ("x",):
            operands[name] = np.ascontiguousarray(np.moveaxis(operands[name], -1, axis))


class FormulaMaker(Maker):
    """Draws families of data for the operands of a kind."""

    def __init__(self, kind: FormulaKind, seed: int) -> None:
        super().__init__(kind.arithmetic, seed)
        self.kind = kind

    def sizes(self, operands: Operands) -> dict[str, int]:
        """Return the sizes of a problem by their names."""
        return self.kind.sizes(operands)

    def group_of(self, shape: Shape) -> tuple[str, ...]:
        """Whether there is a stack of problems."""
        return ("stacks",) if len(shape) > self.kind.plain else ()

    def default_probes(self, skip: Sequence[str]) -> Iterator[Probe]:
        """Yield the probes of the usual shapes; stacks come last."""
        yield from self.probes(self.kind.default_shapes, self.kind.hard_shapes, skip)
        if "stacks" not in skip:
            for shape in self.kind.group_shapes:
                yield self._drawn("random", shape)
                yield from self._layouts(shape)

    def probes(
        self, shapes: Sequence[Shape], hard: Sequence[Shape], skip: Sequence[str] = ()
    ) -> Iterator[Probe]:
        """Yield the probes of given shapes, the exact ones first."""
        yield from (probe for shape in shapes for probe in self._exact(shape))
        yield from (self._drawn("random", shape) for shape in shapes if shape not in hard)
        for shape in hard:
            for name in FAMILIES:
                yield self._drawn(name, shape)
            yield from self._layouts(shape)
            if "nan" not in skip:
                yield from self._with_nan(shape)
            if "infinity" not in skip:
                for name, operands in self.kind.infinite(self._operands("random", shape)):
                    yield self.make(name, shape, operands, "infinity")
            if "subnormal" not in skip:
                drawn = self._operands("random", shape)
                self.kind.shrink(drawn, self)
                yield self.make("subnormal", shape, drawn, "subnormal")

    def _exact(self, shape: Shape) -> Iterator[Probe]:
        drawn = self.kind.exact(self.rng, shape)
        if drawn is not None:
            yield replace(self.make("exact", shape, drawn), exact=True)

    def _operands(self, family: str, shape: Shape) -> Operands:
        drawn = {
            name: FAMILIES[family if name in self.kind.main else "random"](
                self.rng, size, self.kind.large
            )
            for name, size in self.kind.operand_shapes(shape).items()
        }
        self.kind.adjust(drawn, self.rng)
        return drawn

    def _drawn(self, family: str, shape: Shape) -> Probe:
        return self.make(family, shape, self._operands(family, shape))

    def _layouts(self, shape: Shape) -> Iterator[Probe]:
        for name, lay_out in LAYOUTS.items():
            probe = self.make(name, shape, self._operands("random", shape))
            yield replace(probe, operands=lay_out(probe.operands))

    def _with_nan(self, shape: Shape) -> Iterator[Probe]:
        drawn = self._operands("random", shape)
        for name, array in drawn.items():
            if name in self.kind.nan_in and array.ndim:
                yield self.make(
                    f"NaN in {name}", shape, self.kind.with_value(drawn, name, np.nan), "nan"
                )


def power_of_two(n: int) -> bool:
    """Whether a division by a number is exact."""
    return n > 0 and n & (n - 1) == 0
