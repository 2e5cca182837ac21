"""Call a function of yours with the data that find mistakes, and judge what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gdcore.oracle.diagnosis.match import causes_of
from gdcore.oracle.probing.call import Call, unwritten
from gdcore.oracle.probing.kind import ContractViolation, Settings
from gdcore.oracle.probing.kinds import kind_of
from gdcore.oracle.probing.probe import GROUPS, Probe, Shape
from gdcore.oracle.probing.report import ProbeReport, ProbeRow
from gdcore.oracle.probing.summary import Finding, summarize
from gdcore.oracle.references.reference import SUSPICION, Reference
from gdcore.oracle.references.verdict import Status, Verdict

Array = NDArray[Any]
_INEXACT = (
    "Within rounding, but not exact on whole numbers: a square root, a running mean, or a rounding "
    "of the operands?"
)


def assert_grad(
    fn: Callable[..., Any],
    kind: str = "linear_mse",
    *,
    shapes: Sequence[Shape] | None = None,
    dtype: Any = "float32",
    accumulator: Any = None,
    reduction: str = "mean",
    operands: Sequence[str] | None = None,
    grad_out: bool = False,
    options: Mapping[str, Any] | None = None,
    skip: str | Sequence[str] = (),
    to: Callable[[Array], Any] | None = None,
    factor: float = SUSPICION,
    seed: int = 0,
    quiet: bool = False,
) -> ProbeReport:
    """Raise AssertionError, with the likely cause, if a function is proven wrong.

    First come numbers whose every partial sum is exact, so that only one result is right; then
    random, badly scaled, ill-conditioned, cancelling, zero, huge and tiny numbers, masks, arrays
    that are not contiguous, NaN, infinity and odd sizes, judged by certified bounds; then stacks of
    matrices, whose batch dimensions broadcast, or several targets. The last line of the table
    names what is not probed.

    Parameters
    ----------
    fn : callable
        ``fn(X, y, weights)`` of "linear_mse" or ``fn(pred, target)`` of "mse", returning the
        gradient with respect to the weights, or to pred, or ``(loss, gradient)``. The others
        return the value: ``fn(a, b)`` of "matmul", ``fn(x, weight, bias)`` of "linear" and
        "layer_norm", ``fn(x, weight)`` of "rms_norm", ``fn(logits, target)`` of "cross_entropy",
        ``fn(q, k, v)`` of "attention", and ``fn(x)``.
    kind : {"linear_mse", "mse", "matmul", "linear", "sum", "mean", "var", "softmax", \
            "log_softmax", "logsumexp", "cross_entropy", "layer_norm", "rms_norm", "gelu", \
            "attention"}
    shapes : sequence of tuple, optional
        ``(n, d)`` or ``(n, d, t)`` for "linear_mse", any for "mse"; for "matmul" ``(m, k, n)``,
        ``(*batch, m, k, n)``, or ``(batch of a, batch of b, m, k, n)`` with two tuples; for
        "linear" ``(*batch, m, k, n)``, for "attention" ``(*batch, m, n, d)`` of m queries and n
        keys, for "cross_entropy" ``(rows, classes)``; for the others ``(*batch, n)``.
    dtype : {"float32", "float64", "float16", "bfloat16", "tf32"}
        The dtype under test. Arguments are NumPy arrays of it; for "bfloat16" float32 arrays
        whose numbers bfloat16 holds, which `to` can convert.
    accumulator : {"float32", "float64"}, optional
        Where sums are kept, if in more precision than the dtype's.
    reduction : {"mean", "sum", "half_mean", "half_sum"}
        Of the loss; for "cross_entropy" "mean", "sum" or "none".
    operands : sequence of str, optional
        For "linear_mse", "intercept", "offset" and "sample_weight" are also passed, by keyword;
        with an intercept the gradient is a pair. For "cross_entropy" "weight", and for "attention"
        "mask" (-inf and 0), are passed by keyword. For "linear", "layer_norm" and "rms_norm" those
        of "weight" and "bias" that fn takes, if not all.
    grad_out : bool
        Call fn with one operand more, by position, ``fn(a, b, grad_out)``, ``fn(x, grad_out)``; it
        returns the vector-Jacobian products of its floating operands, a tuple if there are
        several. Not for "linear_mse" and "mse".
    options : mapping, optional
        What fn computes, by the names that the reference of the kind has, such as ``{"eps":
        1e-6}``, ``{"axis": 0}``, ``{"causal": True}``, ``{"approximate": "tanh"}``; for
        "cross_entropy" also ``{"probabilities": True}``, where targets are not labels.
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
        If kind, dtype, reduction, operands, options, skip or shapes are unknown or do not fit.

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
    extra = None if operands is None else tuple(operands)
    settings = Settings(dtype, accumulator, reduction, extra, grad_out, groups, options or {})
    task = kind_of(kind, settings)
    call = Call(fn, to, task)
    probes: list[Probe] = []
    rows: list[ProbeRow] = []
    wrong: list[Finding] = []
    stopped: ContractViolation | None = None
    for probe in task.probes(shapes, seed):
        try:
            pairs = call(probe, again=probe.name == "random" or not rows)
        except ContractViolation as error:
            stopped = error
            break
        verdicts = []
        for reference, actual in pairs:
            judged, verdict = _judge(probe, reference, actual, factor)
            verdicts.append(verdict)
            if not verdict.ok:
                wrong.append(Finding(probe, judged, actual, verdict, unwritten(actual)))
        probes.append(probe)
        rows.append(ProbeRow(probe.name, probe.shapes, max(verdicts[::-1], key=_badness)))
    if stopped and (stopped.unsteady or not wrong):
        before = f" All {len(rows)} probes before it are OK." if rows and not wrong else ""
        raise AssertionError(f"{stopped}{before}{_advice([probe])}") from stopped.__cause__
    report = ProbeReport(
        task.name, task.arithmetic.name, tuple(rows), task.not_probed(probes, call.returns_loss)
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


def _demoted(verdict: Verdict, cause: str) -> Verdict:
    """Return the verdict on what is unusual and may yet be right: SUSPECT at most."""
    status = np.minimum(verdict.status, np.uint8(Status.SUSPECT))
    return replace(verdict, status=status, cause=cause)


def _badness(verdict: Verdict) -> tuple[int, float]:
    return int(verdict.worst_status), np.nan_to_num(verdict.bounds)
