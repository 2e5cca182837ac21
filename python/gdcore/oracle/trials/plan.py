"""Which data and sizes the golden function takes, before a kernel is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gdcore.oracle.trials.families import FAMILIES, GIVEN, make
from gdcore.oracle.trials.golden import NoGoldenError, results_of
from gdcore.oracle.trials.operand import Operand
from gdcore.oracle.trials.runner import Runner
from gdcore.oracle.trials.scale import precision
from gdcore.oracle.trials.sizes import (
    LONG,
    MOST_ELEMENTS,
    NAMES,
    Size,
    as_indices,
    attainable,
    elements,
    smaller,
    wanted,
)
from gdcore.oracle.trials.template import Argument, Domain, Role

LONG_FAMILIES = ("normal", "large", "offset", "cancelling", "spread", "small")
FULL_FAMILIES = (GIVEN, "normal", "large", "spread", "-inf masks")  # at the user's size if large
FULL_SIZE_LIMIT = 1 << 21  # elements of all arguments: checking more takes gigabytes


@dataclass
class Plan:
    """What is to be tried.

    Attributes
    ----------
    arguments : list of Argument
    trials : list of pairs of str and Size
        Family and size, in the order in which they are tried.
    not_tried : list of str
        With the reasons.
    """

    arguments: list[Argument]
    trials: list[tuple[str, Size]] = field(default_factory=list)
    not_tried: list[str] = field(default_factory=list)


class Reference:
    """The golden function and the eager one, asked together.

    Parameters
    ----------
    golden, eager : Runner
    grads : bool
        Whether they are a `Pullback`, which takes gradients of the results too.
    """

    def __init__(self, golden: Runner, eager: Runner | None, grads: bool) -> None:
        self.golden = golden
        self.eager = eager
        self.grads = grads

    def refusal(self, operands: tuple[Operand, ...]) -> str:
        """Return why one of the two does not take inputs, "" if both do."""
        try:
            results_of(self.golden, [wide(operands)])
            if self.eager is not None:
                results_of(self.eager, [operands])
        except NoGoldenError as error:
            return str(error)
        return ""

    def completed(
        self, sets: Sequence[tuple[Operand, ...]], seed: int
    ) -> list[tuple[Operand, ...]]:
        """Return sets of inputs followed by random gradients of the results, if there are any."""
        if not self.grads:
            return list(sets)
        rng = np.random.default_rng([seed & 0xFFFFFFFF, 99])
        results = results_of(self.golden, [wide(operands) for operands in sets])
        return [
            operands
            + tuple(
                Operand.of(rng.standard_normal(value.shape), precision(operands))
                for value in values
                if value.is_float
            )
            for operands, values in zip(sets, results, strict=True)
        ]


def wide(operands: Sequence[Operand]) -> tuple[Operand, ...]:
    """Return operands as the golden function gets them: contiguous, floats in float64."""
    return tuple(Operand.of(x.values(), "float64" if x.is_float else x.dtype) for x in operands)


def with_domains(reference: Reference, arguments: list[Argument]) -> list[Argument]:
    """Return the arguments with the widest domain in which golden is not NaN.

    Whole numbers that look like indices may be any index.

    Raises
    ------
    NoGoldenError
        If golden does not take the user's own inputs.
    """
    literal = tuple(a.operand for a in arguments)
    before = _nans(reference, [literal])[0]
    found = list(arguments)
    for i, argument in enumerate(arguments):
        if argument.role is Role.INTEGER:
            wider = as_indices(argument, arguments)
            changed = [*found[:i], wider, *found[i + 1 :]]
            drawn = make("normal", changed, seed=i)[i]
            if not reference.refusal((*literal[:i], drawn, *literal[i + 1 :])):
                found[i] = wider
        if argument.role not in (Role.DATA, Role.PARAMETER):
            continue
        ladder = [Domain.ANY, Domain.NOT_NEGATIVE, Domain.SEEN]
        if argument.low < 0:
            ladder.remove(Domain.NOT_NEGATIVE)
        for domain in ladder:
            found[i] = argument.limited_to(domain)
            drawn = make("normal", found, seed=i)[i]
            if _nans(reference, [(*literal[:i], drawn, *literal[i + 1 :])])[0] <= before:
                break
    return found


def _nans(reference: Reference, sets: Sequence[tuple[Operand, ...]]) -> list[int]:
    results = results_of(reference.golden, [wide(operands) for operands in sets])
    return [
        sum(int(np.isnan(x.values()).sum()) for x in result if x.is_float) for result in results
    ]


def plan_of(
    reference: Reference,
    arguments: list[Argument],
    families: str | Sequence[str],
    sizes: str | Sequence[str] | None,
) -> Plan:
    """Return what is to be tried.

    Raises
    ------
    ValueError
        If a family or a size has no such name.
    """
    chosen = names_of(families, FAMILIES, "families")
    names = names_of("all" if sizes is None else sizes, NAMES, "sizes")
    plan = Plan(arguments)

    def takes(size: Size) -> str:
        if elements(size, arguments) > MOST_ELEMENTS:
            return f"it has more than {MOST_ELEMENTS} numbers"
        return reference.refusal(make("normal", arguments, size, seed=1))

    given = Size("given")
    usual = smaller(arguments)
    if usual.lengths:
        found, reason = attainable("smaller", usual.lengths, takes)
        if found is None:
            plan.not_tried.append(f"smaller sizes: {reason}")
        usual = found or given
    if usual.lengths and "given" in names and elements(given, arguments) > FULL_SIZE_LIMIT:
        plan.not_tried.append(f"{given.label(arguments)}: too large to check each element")
    elif usual.lengths and "given" in names:
        plan.trials += [(f, given) for f in FULL_FAMILIES if f in chosen]
    if "given" in names:
        plan.trials += [(f, usual) for f in chosen]
    for name in names:
        if name == "given":
            continue
        size, reason = attainable(name, wanted(name, arguments), takes)
        if name == "long" and size is not None and LONG not in size.lengths.values():
            size, reason = None, "the reference takes no other length there"
        if size is None:
            plan.not_tried.append(f"size {name}: {reason}")
            continue
        some = LONG_FAMILIES if name == "long" else FAMILIES
        plan.trials += [(f, size) for f in chosen if f in some]
    return plan


def names_of(wished: str | Sequence[str], known: Sequence[str], what: str) -> tuple[str, ...]:
    """Return names that are known, "all" being all of them.

    Examples
    --------
    >>> names_of("all", ("a", "b"), "letters"), names_of(["b"], ("a", "b"), "letters")
    (('a', 'b'), ('b',))
    """
    if isinstance(wished, str):
        if wished == "all":
            return tuple(known)
        wished = (wished,)
    unknown = [name for name in wished if name not in known]
    if unknown:
        raise ValueError(f"{what} has no {unknown[0]!r}; use some of {', '.join(known)}.")
    return tuple(name for name in known if name in wished)
