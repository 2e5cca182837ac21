"""What a kind of function is: its operands, its probes, its references, the forms of its result."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from gdcore.oracle.numbers.arithmetic import Arithmetic, arithmetic_of
from gdcore.oracle.numbers.intake import dtype_name, to_numpy
from gdcore.oracle.probing.maker import Maker
from gdcore.oracle.probing.probe import GROUPS, Operands, Probe, Shape
from gdcore.oracle.references.losses import check_reduction
from gdcore.oracle.references.reference import Reference

References = tuple[Reference | None, list[Reference]]


class ContractViolation(AssertionError):
    """A function broke the rules of the check, so no result can be judged."""

    unsteady = False  # whether equal calls gave different results, so that no result says much


@dataclass(frozen=True)
class Settings:
    """What a user says about the function; see `gdcore.oracle.assert_grad`."""

    dtype: Any = "float32"
    accumulator: Any = None
    reduction: str = "mean"
    operands: tuple[str, ...] | None = None
    grad_out: bool = False
    skip: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


class Kind:
    """One kind of function; subclasses say what is special about it."""

    name: ClassVar[str]
    extra: ClassVar[tuple[str, ...]] = ()  # operands that a user may ask for
    usual: ClassVar[tuple[str, ...]] = ()  # those of them passed unless a user says which
    options: ClassVar[tuple[str, ...]] = ()  # keywords that the reference shares with the function
    has_grad_out: ClassVar[bool] = False  # whether there are vector-Jacobian products to ask for
    groups: ClassVar[tuple[str, ...]]  # of `GROUPS`: those it has probes of
    axes: ClassVar[range]  # numbers of sizes that a shape may have
    shape_words: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.check_reduction(settings.reduction)
        extra = self.usual if settings.operands is None else settings.operands
        if unknown := [name for name in extra if name not in self.extra]:
            known = f"there are {', '.join(self.extra)}" if self.extra else "it has none to choose"
            raise ValueError(f"operands has {unknown[0]!r}; for kind={self.name!r} {known}.")
        if settings.grad_out and not self.has_grad_out:
            raise ValueError(
                f"grad_out is not for kind={self.name!r}, whose function returns the gradient of a "
                "loss."
            )
        if unknown := [name for name in settings.skip if name not in GROUPS]:
            raise ValueError(f"skip has {unknown[0]!r}; there are {', '.join(GROUPS)}.")
        if unknown := [name for name in settings.options if name not in self.options]:
            known = f"there are {', '.join(self.options)}" if self.options else "it has none"
            raise ValueError(f"options has {unknown[0]!r}; for kind={self.name!r} {known}.")
        self.settings, self.extra_given = settings, tuple(extra)
        self.arithmetic: Arithmetic = arithmetic_of(settings.dtype, settings.accumulator)
        self.precision = {"dtype": settings.dtype, "accumulator": settings.accumulator}

    def check_reduction(self, reduction: str) -> None:
        """Raise ValueError for a reduction that the kind does not have."""
        check_reduction(reduction)

    @property
    def may_alias(self) -> bool:
        """Whether the result may be a view of an argument."""
        return False

    def maker(self, seed: int) -> Maker:
        """Return what draws the probes."""
        raise NotImplementedError

    def references(self, operands: Operands) -> References:
        """Return the references of the loss, if there is one, and of the results."""
        raise NotImplementedError

    def positional(self, names: Sequence[str]) -> int:
        """Return how many of the operands are passed by position; the rest go by keyword."""
        return len(names)

    def left_out(self, loss: bool) -> list[str]:
        """Return what no probe of the kind holds, in words; `loss`: whether it was returned."""
        return []

    def shape_cause(self, probe: Probe, reference: Reference, shape: Shape) -> str:
        """Return the mistake that makes a result of a wrong shape, if it is known."""
        return ""

    def sizes_fit(self, sizes: Shape) -> bool:
        """Whether sizes make a shape."""
        return len(sizes) in self.axes and all(map(_is_size, sizes))

    def shape(self, shape: Any) -> Shape:
        """Return a shape that a user gave; ValueError if it does not fit the kind."""
        sizes = shape if isinstance(shape, tuple) else (shape,)
        if not self.sizes_fit(sizes):
            raise ValueError(
                f"shapes has {shape!r}; for {self.name} each is {self.shape_words}, of positive "
                "whole numbers."
            )
        return tuple(_whole(size) for size in sizes)

    def probes(self, shapes: Sequence[Shape] | None, seed: int) -> Any:
        """Return the probes, those of the given shapes or the usual ones."""
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must be a whole number of at least 0.")
        maker = self.maker(seed)
        if shapes is None:
            return maker.default_probes(self.settings.skip)
        if isinstance(shapes, tuple) and self.axes.start > 1 and any(map(_is_size, shapes)):
            raise ValueError(f"shapes is {shapes}, one shape; pass a list of them: [{shapes}].")
        taken = [self.shape(shape) for shape in shapes]
        return maker.probes(taken, taken, self.settings.skip)

    def not_probed(self, probes: Sequence[Probe], loss: bool) -> tuple[str, ...]:
        """Return what none of the probes held, in words."""
        held = {group for probe in probes for group in probe.groups}
        rest = [GROUPS[group] for group in self.groups if group not in held]
        rest += self.left_out(loss)
        return (*rest, "other dtypes", "empty arrays", "negative strides")

    def arguments(self, operands: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """Return the operands passed by position, and those by keyword."""
        names = list(operands)
        by_position = self.positional(names)
        return names[:by_position], names[by_position:]

    def pair(
        self, probe: Probe, references: References, outputs: list[Any]
    ) -> list[tuple[Reference, Any]]:
        """Return each output beside its reference, their number and shapes being right."""
        loss, gradients = references
        wanted = gradients
        if loss is not None and len(outputs) == len(gradients) + 1:
            wanted = [loss, *gradients]
        if len(outputs) != len(wanted):
            names = ", ".join(reference.name for reference in gradients)
            raise ContractViolation(
                f"fn returned {len(outputs)} arrays where the {names} is expected, or (loss, "
                f"gradient); the probe was {probe.description}."
            )
        for reference, output in zip(wanted, outputs, strict=True):
            self._check_form(probe, reference, output, reference is loss)
        return list(zip(wanted, (to_numpy("the result", o) for o in outputs), strict=True))

    def _check_form(self, probe: Probe, reference: Reference, output: Any, loss: bool) -> None:
        where = f"the probe was {probe.description}."
        try:
            shape = to_numpy(f"the {reference.name}", output).shape
        except TypeError as error:
            raise ContractViolation(f"fn returned no array: {error}") from None
        wanted = reference.value.shape
        if shape != wanted:
            cause = self.shape_cause(probe, reference, shape)
            if not cause and sorted(shape) == sorted(wanted):
                cause = "the axes are in another order"
            raise ContractViolation(
                f"{cause and f'{cause}: '}fn returned a {reference.name} of shape {shape} instead "
                f"of {wanted}; {where}"
            )
        name, store = dtype_name(output), self.arithmetic.name
        right = {"tf32": ("float32",), "bfloat16": ("bfloat16", "float32")}.get(store, (store,))
        if not loss and name and name not in right:
            raise ContractViolation(
                f"fn returned a {reference.name} of dtype {name} for {store} arguments; {where}"
            )


def _is_size(n: Any) -> bool:
    return hasattr(n, "__index__") and operator.index(n) > 0


def are_sizes(sizes: Sequence[Any]) -> bool:
    """Whether all are positive whole numbers."""
    return all(map(_is_size, sizes))


def _whole(size: Any) -> Any:
    """Return a size, or a batch of sizes, as Python's whole numbers."""
    return tuple(map(operator.index, size)) if isinstance(size, tuple) else operator.index(size)
