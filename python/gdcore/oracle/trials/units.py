"""How far a result may be from the golden one: each element has a unit and limits of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.golden import (
    ROUNDING,
    SMALLEST,
    Golden,
    NoGoldenError,
    golden_results,
    is_exact,
    results_of,
)
from gdcore.oracle.trials.operand import SIZES, Operand
from gdcore.oracle.trials.runner import POISON, Returned, Runner

Array = NDArray[Any]
Call = tuple[Operand, ...]

LARGEST = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": 65504.0,
    "bfloat16": float(np.finfo(np.float32).max),
}
FLOOR, SLACK, SUSPICIOUS = 8.0, 4.0, 16.0
NARROW_FLOOR, NARROW_SLACK, NARROW_SUSPICIOUS = 2.0, 2.0, 2.0
OCTAVES = 2  # of the golden result: eager's errors there are its neighbours' errors


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
class Scale:
    """One golden result with the unit and the limits of each element.

    Attributes
    ----------
    golden, unit : ndarray
    right, wrong : ndarray
        Units up to which an element is right, and beyond which it is wrong.
    judged : ndarray of bool
        Elements whose finite value is judged.
    infinite : ndarray of bool
        Elements that must be infinite.
    dtypes : tuple of str
        That the result may have; empty: any.
    """

    golden: Array
    unit: Array
    right: Array
    wrong: Array
    judged: Array
    infinite: Array
    dtypes: tuple[str, ...] = ()

    def units_of(self, values: Array) -> Array:
        """Return how far values are off: inf where they are not finite, 0 where not judged."""
        with np.errstate(all="ignore"):
            error = np.abs(values.astype(np.float64) - self.golden) / self.unit
            error = np.where(np.isnan(error), np.inf, error)
            error = np.where(self.judged, error, 0.0)
            return np.where(self.infinite & (values != self.golden), np.inf, error)


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
                scale = _scale(result, operands, theirs, errors, eager is not None)
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
        order = (Ruling.WRONG, Ruling.SUSPICIOUS, Ruling.RIGHT, Ruling.NOT_DECIDED)
        return min(found, key=lambda a: (order.index(a.ruling), -a.share))


def precision(operands: Sequence[Operand], result: str | None = None) -> str:
    """Return the dtype that counts: the coarsest of the inputs', else the result's."""
    dtypes = [x.dtype for x in operands if x.is_float]
    return max(dtypes, key=lambda d: ROUNDING[d], default=result or "float32")


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
        scales = [_scale(g, call, None, None, False) for g in truth]
        errors.append([_usual(scale, r) for scale, r in zip(scales, results, strict=False)])
    return errors


def _usual(scale: Scale, result: Operand) -> Array:
    """Return the errors of an implementation in units, 0 where it is not finite."""
    if result.shape != scale.golden.shape:
        return np.zeros(scale.golden.shape)
    units = scale.units_of(result.values())
    return np.where(np.isfinite(units), units, 0.0)


def _scale(
    result: Golden,
    operands: Sequence[Operand],
    theirs: Operand | None,
    own: Array | None,
    named: bool,
) -> Scale:
    values = result.values
    shape = values.shape
    if values.dtype.kind != "f":
        judged = result.steady
        if theirs is not None and theirs.shape == shape:
            judged = judged & (theirs.values() == values)
        exact, none = np.ones(shape), np.zeros(shape, bool)
        return Scale(values, exact, exact * 0.5, exact * 0.5, judged, none)
    dtype = precision(operands, theirs.dtype if theirs is not None else None)
    with np.errstate(all="ignore"):
        judged = np.isfinite(values) & (np.abs(values) < LARGEST[dtype] * 0.5)
        infinite = np.isinf(values)
        size = np.where(judged, np.abs(values), 0.0)
    unit = np.maximum(np.maximum(result.spread, ROUNDING[dtype] * size), SMALLEST[dtype])
    scale = Scale(values, unit, unit, unit, judged, infinite)
    usual = np.zeros(shape)
    dtypes: tuple[str, ...] = ()
    if theirs is not None and theirs.shape == shape:
        got = theirs.values()
        with np.errstate(all="ignore"):
            judged = judged & np.isfinite(got)
            infinite = infinite & (got == values)
        scale = Scale(values, unit, unit, unit, judged, infinite)
        usual = _local(_usual(scale, theirs), size)
        dtypes = (theirs.dtype,) if named else (theirs.dtype, precision(operands, theirs.dtype))
    if own is not None and own.shape == shape:
        usual = np.maximum(usual, _local(own, size))
    right, wrong = _limits(usual, dtype, _longest(operands, values.size))
    if own is not None:  # golden's own errors come on top
        right = right + _local(own, size)
    return Scale(values, unit, right, np.maximum(right, wrong), judged, infinite, dtypes)


def _longest(operands: Sequence[Operand], outputs: int) -> float:
    """Return about how many numbers a result is made of."""
    lengths = [n for x in operands for n in x.shape]
    inputs = sum(x.size for x in operands if x.is_float)
    return max(*lengths, inputs / max(1, outputs), 1.0) if lengths else 1.0


def _limits(usual: Array, dtype: str, longest: float) -> tuple[Array, Array]:
    if dtype in ("float16", "bfloat16"):
        right = np.maximum(NARROW_FLOOR, NARROW_SLACK * usual)
        return right, right * NARROW_SUSPICIOUS
    right = np.maximum(FLOOR, SLACK * usual)
    return right, right * max(SUSPICIOUS, 2 * longest**0.5)


def _local(errors: Array, size: Array) -> Array:
    """Return the largest error among elements of about the same size.

    A formula that cancels for small results, such as 1 + erf(x), has large errors there and
    nowhere else, so that one number for all elements would hide mistakes.
    """
    if not errors.size:
        return errors
    with np.errstate(divide="ignore"):
        octave = np.where(size > 0, np.log2(np.where(size > 0, size, 1.0)), -2000.0)
    bins = np.floor(octave / OCTAVES).astype(np.int64).reshape(-1)
    bins -= bins.min()
    most = np.zeros(int(bins.max()) + 3)
    np.maximum.at(most, bins + 1, errors.reshape(-1))
    near = np.maximum(np.maximum(most[:-2], most[1:-1]), most[2:])
    return near[bins].reshape(errors.shape)


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
