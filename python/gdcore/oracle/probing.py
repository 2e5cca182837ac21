"""Call a function of yours with the data that find mistakes, and judge what it returns."""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.arithmetic import Arithmetic, arithmetic_of
from gdcore.oracle.causes import Cause
from gdcore.oracle.intake import dtype_name, to_numpy
from gdcore.oracle.linear import linear_mse
from gdcore.oracle.losses import check_reduction, mse
from gdcore.oracle.match import causes_of, explained
from gdcore.oracle.probes import LinearMaker, Maker, MatmulMaker, MseMaker, Operands, Probe, Shape
from gdcore.oracle.products import matmul
from gdcore.oracle.reference import SUSPICION, Reference
from gdcore.oracle.verdict import Status, Verdict

Array = NDArray[Any]
KINDS = ("linear_mse", "mse", "matmul")
EXTRA = ("intercept", "offset", "sample_weight")
_UNKNOWN = "No known mistake explains it."
_WEAK = ("a wrong factor", "an uninitialised tail", "all zero", "NaN")
_INEXACT = (
    "Within rounding, but not exact on whole numbers: a square root, a running mean, or a rounding "
    "of the operands?"
)
_EXPLAINED = 12  # wrong probes whose causes are looked for


@dataclass(frozen=True)
class ProbeRow:
    """One line of the table: a probe, and the worst that was found of it."""

    probe: str
    shapes: str
    verdict: Verdict


@dataclass(frozen=True)
class ProbeReport:
    """What `assert_grad` found; its text is a table.

    Attributes
    ----------
    kind, dtype : str
    rows : tuple of ProbeRow
        One for each probe, in the order they were run.
    """

    kind: str
    dtype: str
    rows: tuple[ProbeRow, ...]

    @property
    def worst_status(self) -> Status:
        """The worst status of any probe."""
        return max((row.verdict.worst_status for row in self.rows), default=Status.OK)

    @property
    def ok(self) -> bool:
        """Whether nothing is proven wrong."""
        return self.worst_status <= Status.SUSPECT

    def __bool__(self) -> bool:
        return self.ok

    def count(self, status: Status) -> int:
        """Return how many probes have a status."""
        return sum(row.verdict.worst_status is status for row in self.rows)

    def __str__(self) -> str:
        found = ", ".join(f"{self.count(s)} {s}" for s in Status if self.count(s))
        lines = [f"{self.kind}, {self.dtype}: {len(self.rows)} probes, {found}"]
        wide = max((len(row.shapes) for row in self.rows), default=0)
        for row in self.rows:
            v = row.verdict
            far = f"{v.bounds:9.2g}" if np.isfinite(v.bounds) else "         "
            status = str(v.worst_status)
            text = f"  {row.probe:<15} {row.shapes:<{wide}}  {status:<9} {far} bounds"
            lines.append(f"{text} {v.ulps:9.3g} ulps  {v.name}")
        return "\n".join(lines)


def assert_grad(
    fn: Callable[..., Any],
    kind: str = "linear_mse",
    *,
    shapes: Sequence[Shape] | None = None,
    dtype: Any = "float32",
    accumulator: Any = None,
    reduction: str = "mean",
    operands: Sequence[str] = (),
    grad_out: bool = False,
    to: Callable[[Array], Any] | None = None,
    factor: float = SUSPICION,
    seed: int = 0,
    quiet: bool = False,
) -> ProbeReport:
    """Raise AssertionError, with the likely cause, if a function is proven wrong.

    First come whole numbers whose every partial sum is exact, so that only one result is right
    (`gdcore.oracle.probes`); then random, badly scaled, ill-conditioned, cancelling, zero, huge
    and tiny numbers, arrays that are not contiguous, and odd sizes, judged by certified bounds.

    Parameters
    ----------
    fn : callable
        ``fn(X, y, weights)`` or ``fn(pred, target)``, returning the gradient with respect to the
        weights, or to pred, or ``(loss, gradient)``; ``fn(a, b)``, returning the product.
    kind : {"linear_mse", "mse", "matmul"}
    shapes : sequence of tuple, optional
        ``(n, d)`` or ``(n, d, t)`` for "linear_mse", any for "mse", ``(m, k, n)`` for "matmul".
    dtype : {"float32", "float64", "float16", "bfloat16", "tf32"}
        The dtype under test. Arguments are NumPy arrays of it; for "bfloat16" float32 arrays
        whose numbers bfloat16 holds, which `to` can convert.
    accumulator : {"float32", "float64"}, optional
        Where sums are kept, if in more precision than the dtype's.
    reduction : {"mean", "sum", "half_mean", "half_sum"}
        Of the loss.
    operands : sequence of {"intercept", "offset", "sample_weight"}
        For "linear_mse", also passed, by keyword. With an intercept the gradient is a pair.
    grad_out : bool
        For "matmul": call ``fn(a, b, grad_out)``, which returns the gradients of a and b.
    to : callable, optional
        Applied to each argument, such as ``torch.from_numpy`` or ``jax.numpy.asarray``.
    factor : float
        Errors above so many times what is typical are SUSPECT; they do not fail.
    seed : int
        The same seed, the same probes.
    quiet : bool
        Print no table.

    Returns
    -------
    ProbeReport
        Its text is the table that is printed.

    Raises
    ------
    AssertionError
        If a result is proven wrong, of another shape or dtype or not finite; if fn raises,
        changes its arguments, or returns something else when it is called again.
    ValueError
        If kind, dtype, reduction, operands or shapes are unknown or do not fit.

    Examples
    --------
    >>> from gdcore import oracle
    >>> def gradient(X, y, weights):
    ...     return X.T @ (X @ weights - y) / len(y)
    >>> oracle.assert_grad(gradient, quiet=True)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: linear_mse, float32: ... 0.500 times the mean-loss gradient with n = ...: \
1/n instead of 2/n...
    """
    task = _Task(kind, dtype, accumulator, reduction, tuple(operands), grad_out)
    call = _Call(fn, to, task)
    rows: list[ProbeRow] = []
    wrong: list[Any] = []
    for probe in task.probes(shapes, seed):
        again = probe.name == "random" or not rows
        outputs = call(probe, again)
        verdicts = []
        for reference, actual in task.pair(probe, outputs):
            judged = reference.exactly() if probe.exact else reference
            verdict = judged.check(actual, factor=factor)
            if probe.exact and not verdict.ok and reference.check(actual, factor=factor).ok:
                verdict = _inexact(verdict)
            verdicts.append(verdict)
            if not verdict.ok:
                wrong.append((judged, actual, verdict))
        rows.append(ProbeRow(probe.name, probe.shapes, max(verdicts[::-1], key=_badness)))
    report = ProbeReport(task.kind, task.arithmetic.name, tuple(rows))
    if not quiet:
        print(report)
    if wrong:
        raise AssertionError(f"{_summary(report, wrong)}\n{report}")
    return report


class _Task:
    """What is under test: its operands, its references, the forms of its result."""

    def __init__(
        self,
        kind: str,
        dtype: Any,
        accumulator: Any,
        reduction: str,
        extra: tuple[str, ...],
        grad_out: bool,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; choose one of {', '.join(map(repr, KINDS))}.")
        check_reduction(reduction)
        if unknown := [name for name in extra if name not in EXTRA]:
            raise ValueError(f"operands has {unknown[0]!r}; there are {', '.join(EXTRA)}.")
        if (extra and kind != "linear_mse") or (grad_out and kind != "matmul"):
            raise ValueError("operands are for kind='linear_mse', grad_out for kind='matmul'.")
        self.kind, self.reduction, self.extra, self.grad_out = kind, reduction, extra, grad_out
        self.arithmetic: Arithmetic = arithmetic_of(dtype, accumulator)
        self.options: dict[str, Any] = {"dtype": dtype, "accumulator": accumulator}

    def probes(self, shapes: Sequence[Shape] | None, seed: int) -> Any:
        """Return the probes, those of the given shapes or the usual ones."""
        if seed < 0:
            raise ValueError(f"seed is {seed}; it must be a whole number of at least 0.")
        maker: Maker
        if self.kind == "matmul":
            maker = MatmulMaker(self.arithmetic, seed, self.grad_out)
        elif self.kind == "mse":
            maker = MseMaker(self.arithmetic, seed, self.reduction)
        else:
            maker = LinearMaker(self.arithmetic, seed, self.reduction, self.extra)
        if shapes is None:
            return maker.probes(list(maker.default_shapes), list(maker.hard_shapes))
        if isinstance(shapes, tuple) and self.kind != "mse" and np.ndim(shapes) == 1:
            raise ValueError(f"shapes is {shapes}, one shape; pass a list of them: [{shapes}].")
        taken = [self._shape(shape) for shape in shapes]
        return maker.probes(taken, taken)

    def _shape(self, shape: Any) -> Shape:
        known = {"matmul": "(m, k, n)", "mse": "(n,)", "linear_mse": "(n, d) or (n, d, t)"}
        sizes = shape if isinstance(shape, tuple) else (shape,)
        axes = {"matmul": range(3, 9), "mse": range(1, 9), "linear_mse": range(2, 4)}[self.kind]
        whole = all(hasattr(n, "__index__") and operator.index(n) > 0 for n in sizes)
        if len(sizes) not in axes or not whole:
            raise ValueError(
                f"shapes has {shape!r}; for {self.kind} each is {known[self.kind]}, of positive "
                "whole numbers."
            )
        return tuple(operator.index(n) for n in sizes)

    def arguments(self, operands: Operands) -> tuple[list[str], list[str]]:
        """Return the operands passed by position, and those by keyword."""
        names = list(operands)
        by_position = len(names) if self.kind != "linear_mse" else 3
        return names[:by_position], names[by_position:]

    def references(self, operands: Operands) -> tuple[Reference | None, list[Reference]]:
        """Return the references of the loss, if there is one, and of the gradients."""
        if self.kind == "matmul":
            whole = matmul(**operands, **self.options)
            return None, [whole.grad.a, whole.grad.b] if self.grad_out else [whole]
        if self.kind == "mse":
            loss = mse(**operands, reduction=self.reduction, **self.options)
            return loss, [loss.grad.pred]
        loss = linear_mse(**operands, reduction=self.reduction, **self.options)
        gradients = [loss.grad.weights]
        return loss, gradients + ([loss.grad.intercept] if "intercept" in self.extra else [])

    def pair(self, probe: Probe, outputs: list[Any]) -> list[tuple[Reference, Any]]:
        """Return each output beside its reference, their number and shapes being right."""
        loss, gradients = self.references(probe.operands)
        wanted = gradients
        if loss is not None and len(outputs) == len(gradients) + 1:
            wanted = [loss, *gradients]
        if len(outputs) != len(wanted):
            names = ", ".join(reference.name for reference in gradients)
            raise AssertionError(
                f"fn returned {len(outputs)} arrays where the {names} is expected, or (loss, "
                f"gradient); the probe was {probe.name}: {probe.shapes}."
            )
        for reference, output in zip(wanted, outputs, strict=True):
            self._check_form(probe, reference, output, reference is loss)
        return list(zip(wanted, (to_numpy("the result", o) for o in outputs), strict=True))

    def _check_form(self, probe: Probe, reference: Reference, output: Any, loss: bool) -> None:
        where = f"the probe was {probe.name}: {probe.shapes}."
        try:
            shape = to_numpy(f"the {reference.name}", output).shape
        except TypeError as error:
            raise AssertionError(f"fn returned no array: {error}") from None
        if shape != reference.value.shape:
            raise AssertionError(
                f"fn returned a {reference.name} of shape {shape} instead of "
                f"{reference.value.shape}; {where}"
            )
        name, store = dtype_name(output), self.arithmetic.name
        right = {"tf32": ("float32",), "bfloat16": ("bfloat16", "float32")}.get(store, (store,))
        if not loss and name and name not in right:
            raise AssertionError(
                f"fn returned a {reference.name} of dtype {name} for {store} arguments; {where}"
            )


class _Call:
    """The function under test, and what it must not do."""

    def __init__(
        self, fn: Callable[..., Any], to: Callable[[Array], Any] | None, task: _Task
    ) -> None:
        if not callable(fn):
            raise TypeError(f"fn is {type(fn).__name__}, which cannot be called.")
        self.fn, self.to, self.task = fn, to, task

    def __call__(self, probe: Probe, again: bool) -> list[Any]:
        """Return the outputs; of two equal calls if `again`."""
        outputs = self._run(probe)
        if again:
            first = self._bytes(outputs)  # before a second call writes into the same memory
            outputs = self._run(probe)
            if first != self._bytes(outputs):
                raise AssertionError(
                    "fn is random: called twice with the same arguments it returned different "
                    f"results; the probe was {probe.name}: {probe.shapes}."
                )
        return outputs

    def _run(self, probe: Probe) -> list[Any]:
        given = {
            name: array if self.to is None else self.to(array)
            for name, array in probe.operands.items()
        }
        before = {name: self._bytes([x]) for name, x in given.items()}
        positional, keywords = self.task.arguments(given)
        try:
            result = self.fn(*(given[k] for k in positional), **{k: given[k] for k in keywords})
        except (Exception, SystemExit) as error:
            raise AssertionError(
                f"fn raised {type(error).__name__}: {error}; the probe was {probe.name}: "
                f"{probe.shapes}."
            ) from error
        for name, old in before.items():
            now = self._bytes([given[name]])
            if now is not None and now != old:  # None: it was given away
                raise AssertionError(
                    f"fn changes its argument {name}; the probe was {probe.name}: {probe.shapes}."
                )
        if isinstance(result, list) and any(getattr(each, "shape", ()) for each in result):
            raise AssertionError(
                "fn returned a list of arrays; return an array, or a tuple such as (loss, "
                f"gradient); the probe was {probe.name}: {probe.shapes}."
            )
        return list(_leaves(result))

    @staticmethod
    def _bytes(outputs: list[Any]) -> list[bytes] | None:
        try:
            return [to_numpy("result", output).tobytes() for output in outputs]
        except TypeError:
            return None  # told of when the result is judged


def _leaves(result: Any) -> Any:
    if isinstance(result, tuple):
        for each in result:
            yield from _leaves(each)
    elif result is not None:
        yield result


def _inexact(verdict: Verdict) -> Verdict:
    """Return the verdict on what is within the certified bound, and one result alone is exact."""
    status = np.minimum(verdict.status, np.uint8(Status.SUSPECT))
    return replace(verdict, status=status, cause=_INEXACT)


def _badness(verdict: Verdict) -> tuple[int, float]:
    return int(verdict.worst_status), np.nan_to_num(verdict.bounds)


def _summary(report: ProbeReport, wrong: list[Any]) -> str:
    """Tell the mistake that explains most of the wrong results."""
    of_gradients = [each for each in wrong if each[0].name != "loss"] or wrong
    found = [
        (verdict, causes_of(actual, reference, verdict))
        for reference, actual, verdict in of_gradients[:_EXPLAINED]
    ]
    votes = Counter(
        name for _, causes in found for name in dict.fromkeys(_same(cause) for cause in causes)
    )
    half = [name for name in votes if 2 * votes[name] >= len(found)]
    likeliest = max(half, key=lambda name: (name not in _WEAK, votes[name]), default=None)
    if likeliest is None:
        found = [(replace(verdict, cause=_UNKNOWN), []) for verdict, _ in found]
    # Told of where the fewest other mistakes give the same numbers.
    telling = [each for each in found if any(_same(c) == likeliest for c in each[1])] or found[:1]
    verdict, causes = min(telling, key=lambda each: len(each[1]))
    chosen = [cause for cause in causes if _same(cause) == likeliest]
    bad = sum(not row.verdict.ok for row in report.rows)
    head = f"{report.kind}, {report.dtype}: wrong on {bad} of {len(report.rows)} probes. "
    return head + str(explained(verdict, chosen) if chosen else verdict)


def _same(cause: Cause) -> str:
    """Return a cause without the numbers that differ from probe to probe."""
    return re.sub(r"\d+", "#", cause.name)
