"""How far a result may be from the golden one: each element has a unit and limits of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.bias import WRONG as BIAS_WRONG
from gdcore.oracle.trials.bias import bias
from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.golden import NoGoldenError, golden_results, is_exact, results_of
from gdcore.oracle.trials.operand import SIZES, Operand
from gdcore.oracle.trials.runner import POISON, Returned, Runner
from gdcore.oracle.trials.scale import FLOOR, NARROW, Scale, errors_of, scale_of

Array = NDArray[Any]
Call = tuple[Operand, ...]


@dataclass(frozen=True)
class Assessment:
    """How a result compares with golden.

    Attributes
    ----------
    ruling : Ruling
        RIGHT, SUSPICIOUS, WRONG, or NOT_DECIDED if no element can be judged.
    units, limit : float
        How far the worst element is off, and how far it may be.
    output : int
        Which of the results.
    element : tuple of int
    value, golden : float
        There.
    sentence : str
        What was seen.
    unwritten : bool
        Whether the poison is still there.
    wrong_kind : bool
        Whether it was not an array of the right shape and dtype.
    """

    ruling: Ruling
    units: float = 0.0
    limit: float = FLOOR
    output: int = 0
    element: tuple[int, ...] = ()
    value: float = float("nan")
    golden: float = float("nan")
    sentence: str = ""
    unwritten: bool = False
    wrong_kind: bool = False

    @property
    def share(self) -> float:
        """How much of the limit the worst element takes."""
        return self.units / self.limit


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What one set of inputs must give."""

    scales: tuple[Scale, ...]

    @classmethod
    def measure(
        cls,
        golden: Runner,
        eager: Runner | None,
        sets: Sequence[Call],
        *,
        draws: int = 8,
        seed: int = 0,
        infinite: bool = True,
    ) -> list[Yardstick]:
        """Return the yardsticks of sets of inputs.

        Parameters
        ----------
        golden : Runner
            Gets floats of float64. Its results must not be views of its inputs.
        eager : Runner or None
            An implementation whose errors are usual; None: the golden function in the dtype of
            the inputs.
        sets : sequence of tuples of Operand
        draws : int
            How many times inputs are moved.
        seed : int
        infinite : bool
            Whether results that golden has infinite must be so.

        Raises
        ------
        NoGoldenError
            If the golden function does not take the inputs.
        """
        rng = np.random.default_rng([seed & 0xFFFFFFFF, 4711])
        goldens = golden_results(golden, sets, draws, rng)
        try:
            usual = results_of(eager if eager is not None else golden, sets)
        except NoGoldenError:
            if eager is not None:
                raise
            usual = [[] for _ in sets]
        single = _in_single(golden, sets, draws, rng)
        yards = []
        for i, operands in enumerate(sets):
            scales = []
            for k, result in enumerate(goldens[i]):
                theirs = usual[i][k] if k < len(usual[i]) else None
                errors = single[i][k] if single and k < len(single[i]) else None
                scale = scale_of(result, operands, theirs, errors, eager is not None)
                if not infinite:
                    scale = replace(scale, infinite=np.zeros_like(scale.infinite))
                scales.append(scale)
            yards.append(cls(tuple(scales)))
        return yards

    def check(self, returned: Returned) -> Assessment:
        """Return how the results of one call compare with golden, the worst of them."""
        if returned.fault:
            return Assessment(Ruling.WRONG, np.inf, sentence=returned.fault, wrong_kind=True)
        if len(returned.operands) != len(self.scales):
            counts = f"{len(returned.operands)} results, not {len(self.scales)}"
            return Assessment(
                Ruling.WRONG, np.inf, sentence=f"It returned {counts}.", wrong_kind=True
            )
        found = [
            _compared(scale, operand, k)
            for k, (scale, operand) in enumerate(zip(self.scales, returned.operands, strict=True))
        ]
        if len(found) > 1:
            found = [replace(a, sentence=f"Of result {a.output}: {a.sentence}") for a in found]
        order = (Ruling.WRONG, Ruling.SUSPICIOUS, Ruling.RIGHT, Ruling.NOT_DECIDED)
        return min(found, key=lambda a: (order.index(a.ruling), -a.share))


def _in_single(
    golden: Runner, sets: Sequence[Call], draws: int, rng: np.random.Generator
) -> list[list[Array]]:
    """Return golden's errors in float32, in units: what they are in float64 nobody can see.

    The same operations in the same order make about the same errors, in units, in both.
    """
    if not any(is_exact(call) for call in sets):
        return []
    narrow = [
        tuple(Operand.of(x.values(), "float32") if x.dtype == "float64" else x for x in call)
        for call in sets
    ]
    try:
        theirs = results_of(golden, narrow)
        truths = golden_results(golden, narrow, max(2, draws // 2), rng)
    except NoGoldenError:
        return []
    errors = []
    for call, results, truth in zip(narrow, theirs, truths, strict=True):
        scales = [scale_of(g, call, None, None, False) for g in truth]
        errors.append([errors_of(scale, r) for scale, r in zip(scales, results, strict=False)])
    return errors


def _compared(scale: Scale, operand: Operand, output: int) -> Assessment:
    """Return how one array compares."""
    if operand.shape != scale.golden.shape:
        told = f"It returned shape {operand.shape}, not {scale.golden.shape}."
        return Assessment(Ruling.WRONG, np.inf, output=output, sentence=told, wrong_kind=True)
    wider = not operand.shape and operand.dtype == "float64"
    if scale.dtypes and operand.dtype not in scale.dtypes and not wider:
        told = f"It returned dtype {operand.dtype}, not {scale.dtypes[0]}."
        return Assessment(Ruling.WRONG, np.inf, output=output, sentence=told, wrong_kind=True)
    if not scale.golden.size:
        return Assessment(Ruling.RIGHT, output=output)
    values = operand.values()
    units = scale.units_of(values)
    with np.errstate(all="ignore"):
        share = units / scale.right
    at = np.unravel_index(int(np.argmax(share)), share.shape) if share.ndim else ()
    element = tuple(int(i) for i in at)
    ruling = Ruling.RIGHT
    if (units > scale.wrong).any():
        ruling = Ruling.WRONG
        beyond = np.where(units > scale.wrong, share, -1.0)
        element = tuple(int(i) for i in np.unravel_index(int(np.argmax(beyond)), beyond.shape))
    elif (units > scale.right).any():
        ruling = Ruling.SUSPICIOUS
    elif not (scale.judged | scale.infinite).any():
        ruling = Ruling.NOT_DECIDED
    if ruling in (Ruling.RIGHT, Ruling.SUSPICIOUS) and scale.plain is not None:
        found = _biased(scale, operand, values, output)
        if found is not None and (found.ruling is Ruling.WRONG or ruling is Ruling.RIGHT):
            return found
    value, golden = float(values[element]), float(scale.golden[element])
    worst, limit = float(units[element]), float(scale.right[element])
    return Assessment(
        ruling,
        worst,
        limit,
        output,
        element,
        value,
        golden,
        sentence_of(element, value, golden, worst, limit),
        ruling is Ruling.WRONG and unwritten(operand),
    )


def _biased(scale: Scale, operand: Operand, values: Array, output: int) -> Assessment | None:
    """Return what errors that point the same way amount to, None if nothing."""
    if scale.plain is None or operand.dtype not in NARROW:
        return None
    mean = bias(values, scale.golden, scale.unit, scale.plain, operand.dtype)
    if mean <= scale.bias:
        return None
    told = (
        f"The errors of a row are {mean:.2g} units in the mean, all the same way; up to "
        f"{scale.bias:.2g} are usual."
    )
    ruling = Ruling.WRONG if mean > BIAS_WRONG * scale.bias else Ruling.SUSPICIOUS
    return Assessment(ruling, mean, scale.bias, output, sentence=told)


def sentence_of(
    element: tuple[int, ...], value: float, golden: float, units: float, limit: float
) -> str:
    """Return the worst element in a sentence.

    Examples
    --------
    >>> sentence_of((0, 3), 1.5, 1.25, 4194304.0, 8.0)
    'Element [0, 3] is 1.5; golden has 1.25. That is 4.19e+06 units; up to 8 are usual.'
    """
    where = f"Element {list(element)}" if element else "The result"
    if not np.isfinite(units):
        return f"{where} is {value:.7g}; golden has {golden:.7g}."
    return (
        f"{where} is {value:.7g}; golden has {golden:.7g}. That is {units:.3g} units; "
        f"up to {limit:.2g} are usual."
    )


def unwritten(operand: Operand) -> bool:
    """Whether a number of the result is the poison that lay in its memory before."""
    width = SIZES[operand.dtype]
    if width == 1 or not operand.size:
        return False
    bits = np.frombuffer(operand.raw, f"<u{width}")
    steps = tuple(step * width for step in operand.strides)
    seen = np.lib.stride_tricks.as_strided(bits, operand.shape, steps)
    patterns = [int.from_bytes(bytes([byte]) * width, "little") for byte in (POISON, POISON ^ 0xFF)]
    return bool(np.isin(seen, patterns).any())
