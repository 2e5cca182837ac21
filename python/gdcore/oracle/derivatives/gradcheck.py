"""Is a gradient the derivative of its function? RIGHT, WRONG, or UNDECIDED."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from gdcore.oracle.derivatives.differences import Slope, Vector
from gdcore.oracle.derivatives.functions import Array, BadValue, Function, read_gradient
from gdcore.oracle.derivatives.points import Direction, norm, point_of
from gdcore.oracle.derivatives.slopes import Method, Slopes

FULL = 256  # elements of x up to which every one is checked by default
DIRECTIONS = 64  # and how many directions beyond
UNITS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-126, "float32": 2.0**-126}  # not flushed to 0
ROUNDINGS = 32.0  # of the Jacobian's own size that an element of it may be off
OF_VALUE = 8.0  # roundings of f, in the gradient's dtype, that an element may be off
SPREADS = 4.0  # times the measured rounding errors of a gradient that it may be off
NOISES = 64.0  # rounding errors of f that a derivative may be off where none is seen
NEGLIGIBLE = 2.0**-36  # share of the Jacobian's own size that f's rounding errors may hide
TINY = 2.0**-30  # steps of this size or less say nothing of a function that they do not change


class GradVerdict(enum.Enum):
    """What became of the comparison."""

    RIGHT = "right"
    """Every derivative agrees, and is known well enough to say so."""
    WRONG = "wrong"
    """At least one differs by more than its tolerance and the estimate's own error."""
    UNDECIDED = "undecided"
    """Neither: the estimate is too coarse to tell."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class GradCheck:
    """The outcome of `gradcheck`; true only if the gradient is RIGHT.

    Arrays have f's shape followed by x's; with directions, f's shape followed by their number. Of
    several arguments x they are tuples, one array for each.

    Attributes
    ----------
    verdict : GradVerdict
    actual : ndarray or tuple of ndarray
        The gradient that was checked.
    expected : ndarray or tuple of ndarray
        The estimate of the derivative.
    error : ndarray or tuple of ndarray
        The estimate of the error of `expected`.
    tolerance : ndarray or tuple of ndarray
        How far `actual` may be from the derivative.
    verdicts : ndarray or tuple of ndarray, of GradVerdict
        The verdict on each.
    message : str
        What was found, in sentences; ``str()`` of the whole gives it.
    calls : int
        Evaluations of f.
    """

    verdict: GradVerdict
    actual: Any
    expected: Any
    error: Any
    tolerance: Any
    verdicts: Any
    message: str
    calls: int

    def __bool__(self) -> bool:
        return self.verdict is GradVerdict.RIGHT

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"<GradCheck {self.message}>"


def gradcheck(
    f: Callable[..., Any],
    grad: Callable[..., Any] | npt.ArrayLike | None,
    x: Any,
    *,
    rtol: float | None = None,
    atol: float = 0.0,
    dtype: Any = None,
    directions: int | Literal["all"] | None = None,
    method: Method = "auto",
    seed: int = 0,
) -> GradCheck:
    """Hold a gradient against derivatives found by differences that know their own error.

    f is evaluated in float64 if it takes that, whatever the dtype of x. Its rounding errors are
    measured. Along each element of x, central differences are taken at steps that begin as large as
    x and are halved: on a quadratic the first three agree, and are exact; otherwise Richardson's
    extrapolation gives the derivative and an estimate of its error. Where that is too coarse, and f
    takes complex numbers, the complex step ``imag(f(x + ih)) / h`` refines it (Squire and Trapp
    1998), if the differences confirm it to a tenth.

    With g the gradient, D the derivative as estimated and E its error, the verdict is RIGHT where
    ``|g - D| + E <= tolerance``, WRONG where ``|g - D| - E > tolerance``, else UNDECIDED. The
    tolerance is ``rtol * |g| + rtol**1.25 * c + atol``, where c is how much g changes when x does
    by its own size: the terms of g are that large, even where they cancel. (With f in float32 it
    is ``rtol * c``.)

    A derivative that is zero but for rounding has no digits, so the Jacobian's own size counts: s,
    the most that the same value of f changes, to first order, when an element of x changes by its
    own size, over that size. (Of all of f, where this value has no derivative that is not zero.)
    The tolerance is 32 roundings of s at least. Where E is below ``2**-36 * s``, g is RIGHT within
    E of D. Where D is zero within E, g may change f by 64 of f's rounding errors.
    A g is UNDECIDED, not WRONG, as far as 32 roundings of the largest derivative by the same
    element, or four times its own rounding errors as measured, explain what it is off.

    Parameters
    ----------
    f : callable
        ``f(x)`` returns a number or an array.
    grad : callable, array_like or None
        ``grad(x)`` returns the gradient, of x's shape; for f of an array the Jacobian, of f's shape
        followed by x's. An array is the gradient at x itself. None: f returns (value, gradient).
    x : array_like or tuple of array_like
        Where to check. NumPy, torch, JAX, CuPy or anything that becomes an array; f and grad get
        the same kind. A tuple stands for several arguments, ``f(*x)``; grad then returns a tuple.
    rtol : float, optional
        Half the digits of the gradient's dtype by default: 1.1e-8 for float64, 2.4e-4 for float32.
    atol : float
        Derivatives below it do not matter.
    dtype : dtype, optional
        What grad returns; x's dtype by default.
    directions : int or "all", optional
        "all" checks each element of x, and is the default up to 256 of them. A number checks that
        many random directions instead, which is 64 beyond.
    method : {"auto", "differences", "complex"}
        "complex" demands the complex step.
    seed : int
        For steps and directions.

    Returns
    -------
    GradCheck

    Raises
    ------
    ValueError
        If f or grad is random, changes its argument, or returns the wrong shape, or f is NaN at x.
    TypeError
        If a dtype is not the expected one, or not real.
    RuntimeError
        If f or grad raises an error at x.

    Examples
    --------
    >>> import numpy as np
    >>> from gdcore.oracle import gradcheck
    >>> def loss(w):
    ...     return np.sum((w - 1.0) ** 2)
    >>> print(gradcheck(loss, lambda w: 2 * (w - 1.0), np.array([0.5, 3.0])).verdict)
    RIGHT
    >>> wrong = gradcheck(loss, lambda w: w - 1.0, np.array([0.5, 3.0]))
    >>> print(wrong.verdict, wrong.actual, wrong.expected)
    WRONG [-0.5  2. ] [-1.  4.]
    >>> print(wrong.message.partition("tolerance")[2].partition(". ")[2])
    The gradient is 0.5 times the derivative wherever it is wrong.
    """
    point = point_of(x)
    if not (atol >= 0 and (rtol is None or rtol >= 0)):
        raise ValueError(f"rtol is {rtol} and atol is {atol}; they must be 0 or larger.")
    if method not in ("auto", "differences", "complex"):
        raise ValueError(f"method is {method!r}; choose 'auto', 'differences' or 'complex'.")
    count = _count(directions, point.flat.size)
    rng = np.random.default_rng(seed)
    if grad is None:
        f, grad = _returns_both(f, 0), _returns_both(f, 1)
    slopes = Slopes(f, point, method, rng)
    gradient = _Gradient(grad, slopes, dtype, rtol, rng)
    lines = point.elements() if count is None else point.directions(count, rng)
    rows = [_judge(gradient, slopes, line, atol) for line in lines]
    return _result(
        _scaled(rows, np.abs(slopes.value), slopes.noise.least), slopes, count is not None
    )


def assert_gradcheck(f: Any, grad: Any, x: Any, **options: Any) -> None:
    """Assert that `gradcheck`, with the same arguments, finds the gradient RIGHT.

    Raises
    ------
    AssertionError
        If it is WRONG or UNDECIDED, with what was found.

    Examples
    --------
    >>> import numpy as np
    >>> from gdcore.oracle import assert_gradcheck
    >>> assert_gradcheck(np.sin, lambda x: np.diag(np.cos(x)), np.array([0.1, 2.0]))
    """
    __tracebackhide__ = True
    found = gradcheck(f, grad, x, **options)
    if not found:
        raise AssertionError(found.message)


def _count(directions: Any, n: int) -> int | None:
    """Return the number of directions, None for each element of x."""
    if directions is None:
        return None if n <= FULL else DIRECTIONS
    if directions == "all":
        return None
    if isinstance(directions, bool) or not isinstance(directions, int) or directions < 1:
        raise ValueError(f"directions is {directions!r}; pass a whole number from 1, or 'all'.")
    return directions


@dataclass(frozen=True)
class _Row:
    """The derivatives of f's m values along one direction, each array (m,)."""

    direction: Direction
    actual: Vector
    slope: Slope
    tolerance: Vector
    spread: Vector  # how far rounding errors take the gradient
    unit: float  # unit roundoff of its dtype

    @property
    def where(self) -> str:
        """The name of the direction."""
        return self.direction.name

    @property
    def off(self) -> Vector:
        """How far the gradient is from the derivative; NaN where it is NaN."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.abs(self.actual - self.slope.value))

    @property
    def verdicts(self) -> npt.NDArray[Any]:
        """One for each value of f. A NaN is wrong where a derivative is known."""
        error, known = self.slope.error, np.isfinite(self.slope.error)
        with np.errstate(invalid="ignore"):
            right = self.off + error <= self.tolerance
            right |= self.slope.flat & (self.actual == 0)
            wrong = known & ~(self.off - error - SPREADS * self.spread <= self.tolerance)
        result = np.full(right.shape, GradVerdict.UNDECIDED)
        result[wrong] = GradVerdict.WRONG
        result[right] = GradVerdict.RIGHT
        return result


class _Gradient:
    """The gradient that is checked, at a point.

    Attributes
    ----------
    value : ndarray, shape (m, n)
    allowed : ndarray, shape (m, n)
        What each element may be off.
    terms_rate : ndarray, shape (n,)
        Relative tolerance for the terms of which each element is the sum.
    spread : ndarray, shape (m, n)
        How much each element changes when x does by some roundings.
    units : ndarray, shape (n,)
        Unit roundoff of each element's dtype.
    changes : ndarray, shape (m,)
        The most that f changes, to first order, when an element of x does by its own size.
    """

    def __init__(
        self, grad: Any, slopes: Slopes, dtype: Any, rtol: float | None, rng: np.random.Generator
    ) -> None:
        self.point, self.shape = slopes.point, slopes.shape
        parts = self.point.parts
        self.dtypes = [part.dtype if dtype is None else _dtype_of(dtype) for part in parts]
        if callable(grad):
            function = Function(grad, "grad", self.point)
            self.value = function.twice(self.point.flat, False, self._read)
            change = self._change(function, rng)
            self.spread = self._rounding(function, slopes.unit, rng)
        else:
            self.value = self._read(grad)
            change = self.spread = np.zeros_like(self.value)
        sizes = [part.size for part in parts]
        rates = [math.sqrt(UNITS[d]) if rtol is None else rtol for d in self.dtypes]
        self.units = np.repeat([UNITS[d] for d in self.dtypes], sizes)
        smallest = np.repeat([SMALLEST.get(d, 0.0) for d in self.dtypes], sizes)
        rate = np.repeat(rates, sizes)
        self.terms_rate = rate**1.25 if slopes.exact else rate
        size = np.where(np.isfinite(self.value), np.abs(self.value), 0)
        with np.errstate(over="ignore"):
            changes = np.max(size * self.point.reach, axis=1, initial=0)
        self.changes = np.where(np.isfinite(changes), changes, 0)
        self.allowed = rate * size + self.terms_rate * change + smallest

    def _read(self, value: Any) -> Array:
        return read_gradient(value, self.point, self.shape, self.dtypes)

    def _change(self, function: Function, rng: np.random.Generator) -> Vector:
        """Return how much the gradient changes when x does by as much as its size."""
        point, step = self.point, 2.0**-6
        moves = step * point.reach * rng.choice([-1.0, 1.0], (3, point.flat.size))
        return self._apart(function, moves) / step

    def _rounding(self, function: Function, unit: float, rng: np.random.Generator) -> Vector:
        """Return how far rounding errors take the gradient, as far as that is seen.

        They differ where x differs by so little that the gradient itself hardly does (an element
        that is 0 stays, as many functions have a kink there), and from those in float64.
        """
        narrowest = max([unit, *(UNITS[part.dtype] for part in self.point.parts)])
        size = self.point.flat.size
        share = rng.uniform(0.25, 1, (3, size)) * rng.choice([-1.0, 1.0], (3, size))
        spread = self._apart(function, narrowest**0.625 / 8 * share * np.abs(self.point.flat))
        names = ["float64"] * len(self.dtypes)
        if self.dtypes == names:
            return spread
        wide = function.probe(
            self.point.flat, True, lambda v: read_gradient(v, self.point, self.shape, names)
        )
        return spread if wide is None else np.fmax(spread, np.abs(wide - self.value))

    def _apart(self, function: Function, moves: Vector) -> Vector:
        """Return the largest change of the gradient when x moves so, to either side."""
        changes = [np.zeros_like(self.value)]
        for move in (*moves, *-moves):
            found = function.probe(self.point.flat + move, False, self._read)
            if found is not None:
                changes.append(np.abs(found - self.value))
        return np.asarray(np.max(np.where(np.isfinite(changes), changes, 0), axis=0))

    def along(self, direction: Direction) -> tuple[Vector, Vector, Vector]:
        """Return its derivatives along a direction, their tolerances and spread, each (m,)."""
        v, at = direction.vector, direction.element
        if at is not None:
            return self.value[:, at], self.allowed[:, at], self.spread[:, at]
        return self.value @ v, norm(self.allowed * v), norm(self.spread * v)


def _judge(gradient: _Gradient, slopes: Slopes, direction: Direction, atol: float) -> _Row:
    """Compare gradient and differences along a direction."""
    actual, terms, spread = gradient.along(direction)
    moved = direction.vector != 0
    rate = float(gradient.terms_rate[moved].max())
    floor = atol * direction.length if atol else 0.0  # a length may be infinite

    def tolerance(bend: Vector) -> Vector:
        """Return the tolerance, given how f bends: a gradient given as an array tells no change."""
        bent = np.where(np.isfinite(bend), bend, 0) * direction.own_size
        return np.asarray(np.fmax(terms, rate * bent) + floor)

    unit = float(gradient.units[moved].max())
    own = _roundings(unit) * gradient.changes / direction.unit
    slope = slopes.along(direction, lambda bend: np.fmax(tolerance(bend), own), actual)
    return _Row(direction, actual, slope, tolerance(slope.bend), spread, unit)


def _scaled(rows: list[_Row], value: Vector, noise: Vector) -> list[_Row]:
    """Widen the tolerances where a derivative is zero, or small, beside the Jacobian's own size.

    Rounding errors of a gradient are those of its terms, which may cancel; and the differences
    see nothing below the rounding errors of f. Both are zero for a value of f that is zero, but
    those of its terms are as large as others'.
    """
    if not rows:
        return rows
    own = np.max([_seen(row) * row.direction.own_size for row in rows], axis=0)
    most = float(np.max(own, initial=0))
    own, value, noise = (
        np.where(own > 0, each, np.max(each, initial=0)) for each in (own, value, noise)
    )
    return [_widened(row, own, value, noise, most) for row in rows]


def _roundings(unit: float) -> float:
    """Return the share of the Jacobian's own size that an element of it may be off."""
    return float(min(ROUNDINGS * unit, unit**0.625))  # bfloat16 has few digits


def _seen(row: _Row) -> Vector:
    """Return the size of each derivative; 0 where it cannot be distinguished from 0."""
    size = np.abs(row.slope.value)
    with np.errstate(invalid="ignore"):
        return np.where((size > row.slope.error) & np.isfinite(size), size, 0)


def _widened(row: _Row, own: Vector, value: Vector, noise: Vector, most: float) -> _Row:
    """Return the row, given the largest first-order change, size and rounding errors of f.

    `most` is the largest change of any value of f: where no derivative is seen, rounding errors
    of that size are possible; elsewhere those of the derivatives of other values in this direction.
    """
    error, unit = row.slope.error, row.direction.unit
    roundings = _roundings(row.unit)
    tolerance = np.fmax(row.tolerance, roundings * own / unit)
    unseen = np.abs(row.slope.value) <= error
    terms = np.where(unseen, most / unit, np.max(_seen(row), initial=0))
    spread = np.fmax(row.spread, roundings / SPREADS * terms)
    if np.abs(row.direction.vector).max() >= TINY:
        tolerance = np.fmax(tolerance, roundings * OF_VALUE / ROUNDINGS * value / unit)
        tolerance = np.where(unseen, np.fmax(tolerance, NOISES * noise / unit), tolerance)
    near = (error <= NEGLIGIBLE * own / unit) & (row.off <= np.fmax(error, tolerance))
    tolerance = np.where(near, np.fmax(tolerance, row.off + error), tolerance)
    return replace(row, tolerance=tolerance, spread=spread)


def _result(rows: list[_Row], slopes: Slopes, directions: bool) -> GradCheck:
    """Gather the rows."""
    verdicts = _table([row.verdicts for row in rows], slopes)
    if (verdicts == GradVerdict.WRONG).any():
        verdict = GradVerdict.WRONG
    elif (verdicts == GradVerdict.UNDECIDED).any():
        verdict = GradVerdict.UNDECIDED
    else:
        verdict = GradVerdict.RIGHT

    def shaped(columns: list[Any]) -> Any:
        table = _table(columns, slopes).reshape(*slopes.shape, len(rows))
        if directions:
            return table
        pieces = slopes.point.split(table)
        return tuple(pieces) if slopes.point.several else pieces[0]

    return GradCheck(
        verdict=verdict,
        actual=shaped([row.actual for row in rows]),
        expected=shaped([row.slope.value for row in rows]),
        error=shaped([row.slope.error for row in rows]),
        tolerance=shaped([row.tolerance for row in rows]),
        verdicts=shaped([row.verdicts for row in rows]),
        message=_message(verdict, verdicts, rows, slopes),
        calls=slopes.f.calls,
    )


def _table(columns: list[Any], slopes: Slopes) -> npt.NDArray[Any]:
    """Return what was found along each direction as an array (m, directions)."""
    return np.array(columns).T.reshape(len(slopes.value), len(columns))


def _message(
    verdict: GradVerdict, verdicts: npt.NDArray[Any], rows: list[_Row], slopes: Slopes
) -> str:
    """Say what was found: how many, the worst, and what may be the cause."""
    if not verdicts.size:
        return f"{verdict}: there is no derivative to check."
    with np.errstate(all="ignore"):
        found = [(row.off + row.slope.error) / row.tolerance for row in rows]
        excess = np.nan_to_num(_table(found, slopes), nan=np.inf)
    excess[verdicts != verdict] = -1
    m, k = (int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
    row = rows[k]
    value = ""
    if slopes.shape:
        at = ", ".join(str(int(i)) for i in np.unravel_index(m, slopes.shape))
        value = f" of f[{at}]"
    count = f"{np.count_nonzero(verdicts == verdict)} of {verdicts.size} derivatives"
    known = f"known to {row.slope.error[m]:.1g}, the tolerance {row.tolerance[m]:.1g}"
    compared = (
        f"{row.where}{value}: the gradient is {row.actual[m]:.7g}, the derivative "
        f"{row.slope.value[m]:.7g} ({known})."
    )
    if verdict is GradVerdict.RIGHT:
        methods = ", ".join(dict.fromkeys(r.slope.method for r in rows))
        return f"{verdict}: {verdicts.size} derivatives ({methods}). Least sure {compared}"
    if verdict is GradVerdict.WRONG:
        return f"{verdict}: {count}. Worst at {compared}{_cause(rows, verdicts)}"
    return f"{verdict}: {count}. {_doubt(row, m, compared)}"


def _cause(rows: list[_Row], verdicts: npt.NDArray[Any]) -> str:
    """Name the factor by which all that is wrong is off, if there is one."""
    wrong = verdicts.T == GradVerdict.WRONG
    actual = np.array([r.actual for r in rows])[wrong]
    expected = np.array([r.slope.value for r in rows])[wrong]
    fuzz = np.array([r.slope.error + r.tolerance for r in rows])[wrong]
    if not np.isfinite(actual).all():
        return " The gradient is not finite there."
    size = np.abs(expected).max()
    if size == 0:
        return ""
    unit = expected / size
    factor = float((actual / size) @ unit / (unit @ unit))
    if len(actual) < 2 or not np.all(
        np.abs(actual - factor * expected) <= (1 + abs(factor)) * fuzz
    ):
        return ""
    if abs(factor) <= 1e-9:
        return " The gradient is 0 wherever it is wrong."
    digits = 4 if abs(factor - 1) > 1e-3 else 3 - math.floor(math.log10(abs(factor - 1) + 1e-16))
    return f" The gradient is {factor:.{digits}g} times the derivative wherever it is wrong."


def _doubt(row: _Row, m: int, compared: str) -> str:
    """Say why a derivative could not be decided, and what would."""
    left, right = row.slope.sides[:, m]
    if not np.isnan(left):
        return (
            f"f has a kink or a jump along {row.where}: its slope is {left:.5g} on one side and "
            f"{right:.5g} on the other, and the gradient is {row.actual[m]:.5g}; check beside it."
        )
    if not np.isfinite(row.slope.error[m]):
        return (
            f"f has no derivative along {row.where} that differences could find: it is undefined "
            "or rough around x; check at another x."
        )
    whose = "f"
    if row.off[m] - row.slope.error[m] > row.tolerance[m]:
        whose = "the gradient"
    return (
        f"At {compared} The rounding errors of {whose} are too large to tell: evaluate {whose} in "
        f"float64, or pass atol={2 * (row.slope.error[m] + row.off[m]):.1g} if derivatives below "
        "that do not matter."
    )


def _dtype_of(dtype: Any) -> str:
    """Return the name of a dtype given as NumPy, torch or a string would name it."""
    name = str(dtype).rpartition(".")[2]
    if name not in UNITS:
        name = np.dtype(dtype).name
    if name not in UNITS:
        raise TypeError(f"dtype is {dtype!r}; choose one of {', '.join(UNITS)}.")
    return name


def _returns_both(f: Any, index: int) -> Callable[..., Any]:
    """Return the function that takes one of f's two results, (value, gradient)."""
    if not callable(f):
        raise TypeError(f"f is {type(f).__name__}; pass a function of x.")

    def one(*x: Any) -> Any:
        both = f(*x)
        if not (isinstance(both, tuple | list) and len(both) == 2):
            raise BadValue(
                f"without grad, f must return (value, gradient); it returned {type(both).__name__}."
            )
        return both[index]

    return one
