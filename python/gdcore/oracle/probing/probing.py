"""Call a function of yours with the data that find mistakes, and judge what it returns."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.diagnosis.match import causes_of
from gdcore.oracle.numbers.arithmetic import Arithmetic, arithmetic_of
from gdcore.oracle.numbers.intake import dtype_name, to_numpy
from gdcore.oracle.probing.probes import (
    GROUPS,
    LinearMaker,
    Maker,
    MatmulMaker,
    MseMaker,
    Operands,
    Probe,
    Shape,
)
from gdcore.oracle.probing.summary import Finding, summarize
from gdcore.oracle.references.linear import linear_mse
from gdcore.oracle.references.losses import check_reduction, mse
from gdcore.oracle.references.products import matmul
from gdcore.oracle.references.reference import SUSPICION, Reference
from gdcore.oracle.references.verdict import Status, Verdict

Array = NDArray[Any]
KINDS = ("linear_mse", "mse", "matmul")
EXTRA = ("intercept", "offset", "sample_weight")
_SHAPED = ("stacks", "targets")
_INEXACT = (
    "Within rounding, but not exact on whole numbers: a square root, a running mean, or a rounding "
    "of the operands?"
)
_POISON = 0xFF  # each byte of memory that a result may come to lie in: NaN in every format
_POISONED = 1 << 20  # bytes
_GARBAGE = 2.0**10  # times larger or smaller than the right result


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
    not_probed : tuple of str
        What no probe holds.
    """

    kind: str
    dtype: str
    rows: tuple[ProbeRow, ...]
    not_probed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        probes = f"{self.kind}, {self.dtype}, {len(self.rows)} probes"
        return f"<ProbeReport: {probes}, {self.worst_status.name}>"

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
        cells = [_HEADINGS, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        for line in cells:
            text = "  ".join(
                f"{cell:{'>' if i in _NUMBERS else '<'}{width}}"
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            lines.append(f"  {text}".rstrip())
        if self.not_probed:
            lines.append(f"Not probed: {', '.join(self.not_probed)}.")
        return "\n".join(lines)


_HEADINGS = ("probe", "shapes", "status", "error/bound", "ulps", "result")
_NUMBERS = (3, 4)


def _cells(row: ProbeRow) -> tuple[str, ...]:
    v = row.verdict
    far = f"{v.bounds:.2g}" if np.isfinite(v.bounds) else ""
    ulps = f"{v.ulps:.3g}" if np.isfinite(v.ulps) else ""
    return row.probe, row.shapes, str(v.worst_status), far, ulps, v.name


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
    skip: str | Sequence[str] = (),
    to: Callable[[Array], Any] | None = None,
    factor: float = SUSPICION,
    seed: int = 0,
    quiet: bool = False,
) -> ProbeReport:
    """Raise AssertionError, with the likely cause, if a function is proven wrong.

    First come whole numbers whose every partial sum is exact, so that only one result is right;
    then random, badly scaled, ill-conditioned, cancelling, zero, huge
    and tiny numbers, arrays that are not contiguous, NaN, infinity and odd sizes, judged by
    certified bounds; then stacks of matrices, whose batch dimensions broadcast, or several
    targets. The last line of the table names what is not probed.

    Parameters
    ----------
    fn : callable
        ``fn(X, y, weights)`` or ``fn(pred, target)``, returning the gradient with respect to the
        weights, or to pred, or ``(loss, gradient)``; ``fn(a, b)``, returning the product.
    kind : {"linear_mse", "mse", "matmul"}
    shapes : sequence of tuple, optional
        ``(n, d)`` or ``(n, d, t)`` for "linear_mse", any for "mse"; for "matmul" ``(m, k, n)``,
        ``(*batch, m, k, n)``, or ``(batch of a, batch of b, m, k, n)`` with two tuples.
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
    skip : str or sequence of {"stacks", "targets", "nan", "infinity", "subnormal"}
        What fn is not made for: probes that hold it are left out.
    to : callable, optional
        Applied to each argument, such as ``torch.from_numpy`` or ``jax.numpy.asarray``.
    factor : float
        Errors above this many times the typical one are SUSPECT; they do not fail.
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
        If kind, dtype, reduction, operands, skip or shapes are unknown or do not fit.

    Examples
    --------
    >>> from gdcore import oracle
    >>> def gradient(X, y, weights):
    ...     return X.T @ (X @ weights - y) / y.size
    >>> oracle.assert_grad(gradient, quiet=True)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    AssertionError: 1/n instead of 2/n (linear_mse, float32: wrong on ... 0.500 times the \
mean-loss gradient with n = ...: 1/n instead of 2/n...
    """
    groups = (skip,) if isinstance(skip, str) else tuple(skip)
    task = _Task(kind, dtype, accumulator, reduction, tuple(operands), grad_out, groups)
    call = _Call(fn, to, task)
    probes: list[Probe] = []
    rows: list[ProbeRow] = []
    wrong: list[Finding] = []
    stopped: _ContractViolation | None = None
    for probe in task.probes(shapes, seed):
        try:
            pairs = call(probe, again=probe.name == "random" or not rows)
        except _ContractViolation as error:
            stopped = error
            break
        verdicts = []
        for reference, actual in pairs:
            judged, verdict = _judge(probe, reference, actual, factor)
            verdicts.append(verdict)
            if not verdict.ok:
                wrong.append(Finding(probe, judged, actual, verdict, _unwritten(actual)))
        probes.append(probe)
        rows.append(ProbeRow(probe.name, probe.shapes, max(verdicts[::-1], key=_badness)))
    if stopped and (stopped.unsteady or not wrong):
        before = f" All {len(rows)} probes before it are OK." if rows and not wrong else ""
        raise AssertionError(f"{stopped}{before}{_advice([probe])}") from stopped.__cause__
    report = ProbeReport(
        task.kind, task.arithmetic.name, tuple(rows), task.not_probed(probes, call.returns_loss)
    )
    if not quiet:
        print(report)
    if wrong:
        bad = sum(not row.verdict.ok for row in rows)
        cause, summary = summarize(wrong, probes)
        of = f"{report.kind}, {report.dtype}: wrong on {bad} of {len(rows)} probes"
        end = f"\n  and then {stopped}" if stopped else ""
        advice = _advice([each.probe for each in wrong])
        raise AssertionError(f"{cause} ({of}). {summary}{advice}\n{report}{end}")
    return report


def _judge(
    probe: Probe, reference: Reference, actual: Any, factor: float
) -> tuple[Reference, Verdict]:
    """Return what a result was held against, and the verdict."""
    judged = reference.exactly() if probe.exact else reference
    verdict = judged.check(actual, factor=factor)
    if probe.exact and not verdict.ok and reference.check(actual, factor=factor).ok:
        return judged, _demoted(verdict, _INEXACT)
    if "subnormal" in probe.groups and not verdict.ok:
        causes = causes_of(actual, judged, verdict)
        if causes and "flushed" in causes[0].name:
            return judged, _demoted(verdict, causes[0].sentence)
    return judged, verdict


def _advice(probes: Sequence[Probe]) -> str:
    """Return how to leave out probes that belong to one group, if all of them do."""
    shared = [g for g in GROUPS if all(g in probe.groups for probe in probes)]
    if not shared:
        return ""
    return f" If fn is not made for {GROUPS[shared[0]]}, pass skip={shared[0]!r}."


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
        skip: tuple[str, ...],
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; choose one of {', '.join(map(repr, KINDS))}.")
        check_reduction(reduction)
        if unknown := [name for name in extra if name not in EXTRA]:
            raise ValueError(f"operands has {unknown[0]!r}; there are {', '.join(EXTRA)}.")
        if (extra and kind != "linear_mse") or (grad_out and kind != "matmul"):
            raise ValueError("operands are for kind='linear_mse', grad_out for kind='matmul'.")
        if unknown := [name for name in skip if name not in GROUPS]:
            raise ValueError(f"skip has {unknown[0]!r}; there are {', '.join(GROUPS)}.")
        self.kind, self.reduction, self.extra, self.grad_out = kind, reduction, extra, grad_out
        self.skip = skip
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
            return maker.default_probes(self.skip)
        if isinstance(shapes, tuple) and self.kind != "mse" and any(map(_is_size, shapes)):
            raise ValueError(f"shapes is {shapes}, one shape; pass a list of them: [{shapes}].")
        taken = [self._shape(shape) for shape in shapes]
        return maker.probes(taken, taken, self.skip)

    def _shape(self, shape: Any) -> Shape:
        known = {
            "matmul": "(m, k, n), (*batch, m, k, n) or (batch of a, batch of b, m, k, n)",
            "mse": "(n,)",
            "linear_mse": "(n, d) or (n, d, t)",
        }
        sizes = shape if isinstance(shape, tuple) else (shape,)
        axes = {"matmul": range(3, 9), "mse": range(1, 9), "linear_mse": range(2, 4)}[self.kind]
        batches: tuple[tuple[Any, ...], ...] = ()
        if self.kind == "matmul" and len(sizes) == 5 and not any(map(_is_size, sizes[:2])):
            batches, sizes = sizes[:2], sizes[2:]
        fits = len(sizes) in axes and all(map(_is_size, (*sizes, *(n for b in batches for n in b))))
        if fits and batches:
            try:
                np.broadcast_shapes(*batches)
            except ValueError:
                fits = False
        if not fits:
            raise ValueError(
                f"shapes has {shape!r}; for {self.kind} each is {known[self.kind]}, of positive "
                "whole numbers."
            )
        return (
            *(tuple(map(operator.index, batch)) for batch in batches),
            *map(operator.index, sizes),
        )

    def not_probed(self, probes: Sequence[Probe], loss: bool) -> tuple[str, ...]:
        """Return what none of the probes held, in words."""
        held = {group for probe in probes for group in probe.groups}
        own = {"matmul": "targets", "linear_mse": "stacks", "mse": ""}[self.kind]
        groups = [g for g in GROUPS if g != own and not (self.kind == "mse" and g in _SHAPED)]
        rest = [GROUPS[group] for group in groups if group not in held]
        if self.kind == "matmul":
            rest += [*([] if self.grad_out else ["gradients (grad_out)"]), "vectors"]
        elif not loss:
            rest.append("the loss (not returned)")
        if self.kind == "linear_mse":
            if missing := [name for name in EXTRA if name not in self.extra]:
                rest.append(f"{', '.join(missing)} (operands)")
            rest.append("stacks of problems")
        return (*rest, "other dtypes", "empty arrays", "negative strides")

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

    def pair(
        self, probe: Probe, references: tuple[Reference | None, list[Reference]], outputs: list[Any]
    ) -> list[tuple[Reference, Any]]:
        """Return each output beside its reference, their number and shapes being right."""
        loss, gradients = references
        wanted = gradients
        if loss is not None and len(outputs) == len(gradients) + 1:
            wanted = [loss, *gradients]
        if len(outputs) != len(wanted):
            names = ", ".join(reference.name for reference in gradients)
            raise _ContractViolation(
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
            raise _ContractViolation(f"fn returned no array: {error}") from None
        if shape != reference.value.shape:
            cause = _shape_cause(probe, reference, shape)
            raise _ContractViolation(
                f"{cause and f'{cause}: '}fn returned a {reference.name} of shape {shape} instead "
                f"of {reference.value.shape}; {where}"
            )
        name, store = dtype_name(output), self.arithmetic.name
        right = {"tf32": ("float32",), "bfloat16": ("bfloat16", "float32")}.get(store, (store,))
        if not loss and name and name not in right:
            raise _ContractViolation(
                f"fn returned a {reference.name} of dtype {name} for {store} arguments; {where}"
            )


def _shape_cause(probe: Probe, reference: Reference, shape: Shape) -> str:
    """Return what makes a result of a wrong shape, if that is known."""
    wanted, given = reference.value.shape, probe.operands
    if reference.name == "product":
        a, b = given["a"].shape, given["b"].shape
        if shape == (*a[:-1], *b[:-2], *b[-1:]):
            return "every matrix of a is multiplied by every matrix of b, as in numpy.dot"
        if a[:-2] != b[:-2] and shape[-2:] == wanted[-2:]:
            return "the batch dimensions are not broadcast"
    elif reference.name.startswith("gradient of ") and "grad_out" in given:
        if len(shape) >= len(wanted) and shape[-2:] == wanted[-2:]:
            return "no sum over the batch dimensions that broadcast"
    elif "targets" in probe.groups:
        if reference.name == "loss":
            return "one loss for each target, where it is one number"
        if shape == wanted[:-1]:
            return "the gradient of one target, or the sum of all"
    if sorted(shape) == sorted(wanted):
        return "the axes are in another order"
    return ""


def _is_size(n: Any) -> bool:
    return hasattr(n, "__index__") and operator.index(n) > 0


class _ContractViolation(AssertionError):
    """A function broke the rules of the check, so no result can be judged."""

    unsteady = False  # whether equal calls gave different results, so that no result says much


class _Call:
    """The function under test, and what it must not do."""

    def __init__(
        self, fn: Callable[..., Any], to: Callable[[Array], Any] | None, task: _Task
    ) -> None:
        if not callable(fn):
            raise TypeError(f"fn is {type(fn).__name__}, which cannot be called.")
        self.fn, self.to, self.task = fn, to, task

    returns_loss = False

    def __call__(self, probe: Probe, again: bool) -> list[tuple[Reference, Any]]:
        """Return the references and the results; of two equal calls if `again`."""
        references = self.task.references(probe.operands)
        sizes = [
            reference.value.size * next(iter(probe.operands.values())).itemsize
            for reference in references[1]
        ]
        outputs, given = self._run(probe, sizes)
        if again:
            first = self._copies(outputs)  # before a second call writes into the same memory
            outputs, given = self._run(probe, sizes)
            second = self._copies(outputs)
            if first is not None and second is not None and _bytes(first) != _bytes(second):
                error = _ContractViolation(self._unsteady(probe, references, first, second))
                error.unsteady = True
                raise error
        pairs = self.task.pair(probe, references, outputs)
        for name, argument in given.items():
            if any(_share_memory(output, argument) for _, output in pairs):
                raise _ContractViolation(
                    f"fn returned the memory of its argument {name}: a change of one changes the "
                    f"other; the probe was {probe.description}."
                )
        self.returns_loss = references[0] is not None and pairs[0][0] is references[0]
        return pairs

    def _unsteady(self, probe: Probe, references: Any, first: Any, second: Any) -> str:
        """Return why two calls with the same arguments gave different results."""
        wanted = [r for r in references[1] if r is not None][-len(second) :]
        for reference, *results in zip(
            wanted, first[-len(wanted) :], second[-len(wanted) :], strict=False
        ):
            if all(each.shape == reference.value.shape for each in results):
                differ = _bits(results[0]) != _bits(results[1])
                garbage = np.any([_is_garbage(each, reference.value) for each in results], axis=0)
                if (differ & garbage).any():
                    return (
                        f"uninitialised memory: fn returns {int(differ.sum())} of {differ.size} "
                        f"elements that nobody wrote, so that they differ from call to call; the "
                        f"probe was {probe.description}."
                    )
        return (
            "fn is random: called twice with the same arguments it returned different "
            f"results; the probe was {probe.description}."
        )

    def _run(self, probe: Probe, sizes: list[int]) -> tuple[list[Any], dict[str, Any]]:
        """Return the outputs, and the arguments that they were made of."""
        given = {
            name: array if self.to is None else self.to(array)
            for name, array in probe.operands.items()
        }
        before = {name: self._copies([x]) for name, x in given.items()}
        positional, keywords = self.task.arguments(given)
        silent = {"nan", "infinity", "subnormal"} & set(probe.groups)  # NumPy would warn of these
        _poison(sizes)
        try:
            with np.errstate(all="ignore") if silent else nullcontext():
                result = self.fn(*(given[k] for k in positional), **{k: given[k] for k in keywords})
        except (Exception, SystemExit) as error:
            raise _ContractViolation(
                f"fn raised {type(error).__name__}: {error}; the probe was {probe.description}."
            ) from error
        for name, old in before.items():
            now = self._copies([given[name]])
            if (
                old is not None and now is not None and _bytes(now) != _bytes(old)
            ):  # None: given away
                raise _ContractViolation(
                    f"fn changes its argument {name}; the probe was {probe.description}."
                )
        if isinstance(result, list) and any(getattr(each, "shape", ()) for each in result):
            raise _ContractViolation(
                "fn returned a list of arrays; return an array, or a tuple such as (loss, "
                f"gradient); the probe was {probe.description}."
            )
        return list(_leaves(result)), given

    @staticmethod
    def _copies(outputs: list[Any]) -> list[Array] | None:
        try:
            return [np.array(to_numpy("result", output), order="C") for output in outputs]
        except TypeError:
            return None  # reported when the result is judged


def _poison(sizes: list[int]) -> None:
    """Leave freed memory full of NaN, so that elements nobody writes show as NaN."""
    blocks = [np.full(size, _POISON, np.uint8) for size in sizes if size < _POISONED for _ in "123"]
    del blocks


def _bits(x: Array) -> Array:
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}").reshape(x.shape)


def _unwritten(actual: Array) -> Array:
    """Return which elements still hold what `_poison` left."""
    poisoned: Array = _bits(actual) == np.iinfo(f"u{actual.dtype.itemsize}").max
    return poisoned


def _is_garbage(actual: Array, value: Array) -> Array:
    """Return which elements have nothing to do with the right ones."""
    size, right = np.abs(actual, dtype=np.float64), np.abs(value)
    near = (size <= _GARBAGE * right) & (size * _GARBAGE >= right)
    garbage: Array = ~np.isfinite(size) | (~near & (size > 0) & (right > 0))
    return garbage


def _bytes(arrays: list[Array]) -> list[bytes]:
    return [array.tobytes() for array in arrays]


def _share_memory(output: Any, argument: Any) -> bool:
    """Whether a result lies in the memory of an argument that may be written."""
    try:
        x, y = to_numpy("result", output), to_numpy("argument", argument)
    except TypeError:
        return False
    return y.flags.writeable and np.may_share_memory(x, y) and np.shares_memory(x, y)


def _leaves(result: Any) -> Any:
    if isinstance(result, tuple):
        for each in result:
            yield from _leaves(each)
    elif result is not None:
        yield result


def _demoted(verdict: Verdict, cause: str) -> Verdict:
    """Return the verdict on what is unusual and may yet be right: SUSPECT at most."""
    status = np.minimum(verdict.status, np.uint8(Status.SUSPECT))
    return replace(verdict, status=status, cause=cause)


def _badness(verdict: Verdict) -> tuple[int, float]:
    return int(verdict.worst_status), np.nan_to_num(verdict.bounds)
