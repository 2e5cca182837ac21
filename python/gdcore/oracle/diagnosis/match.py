"""Assertions that say what is wrong and why."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from gdcore.oracle.diagnosis.causes import find_causes
from gdcore.oracle.numbers.arithmetic import FORMATS
from gdcore.oracle.numbers.intake import dtype_name, to_numpy
from gdcore.oracle.references.mistakes import Cause
from gdcore.oracle.references.reference import SUSPICION, Reference
from gdcore.oracle.references.verdict import Status, Verdict


class OracleWarning(UserWarning):
    """A result is not proven wrong, and further off than rounding errors usually come to."""


def assert_matches(actual: Any, reference: Reference, *, factor: float = SUSPICION) -> Verdict:
    """Raise AssertionError, with the likely cause, unless a result may be right.

    Parameters
    ----------
    actual : array_like
        Of any library; the shape of the reference.
    reference : Reference
        From `matmul`, `mse` or `linear_mse`, or one of its ``grad``.
    factor : float
        Errors above this many times ``reference.typical`` give an OracleWarning.

    Returns
    -------
    Verdict

    Raises
    ------
    AssertionError
        If an element is beyond the certified bound, or not finite: where, how far, and why.
    TypeError
        If `actual` cannot be read as real numbers.

    Warns
    -----
    OracleWarning
        If an element is SUSPECT.

    Examples
    --------
    >>> from gdcore import oracle
    >>> X, y, w = [[1.0], [2.0], [3.0], [4.0]], [2.0, 4.0, 6.0, 8.0], [1.0]
    >>> ref = oracle.linear_mse(X, y, w)
    >>> print(oracle.assert_matches([-15.0], ref.grad.weights))
    gradient of the weights: OK, at most 0 ulps off
    """
    if not isinstance(reference, Reference):
        raise TypeError(
            f"reference is {type(reference).__name__}; pass what oracle.matmul, mse or linear_mse "
            "returned, or one of its grad."
        )
    try:
        verdict = reference.check(actual, factor=factor)
    except ValueError as error:
        if "shape" not in str(error):
            raise
        raise AssertionError(str(error)) from None
    if not verdict.ok:
        explanation = explained(verdict, causes_of(actual, reference, verdict))
        if narrow := _narrower(actual, reference):
            cause = f"{explanation.cause} {narrow}" if explanation.cause else narrow
            explanation = replace(explanation, cause=cause)
        raise AssertionError(str(explanation))
    if verdict.worst_status is Status.SUSPECT:
        warnings.warn(str(verdict), OracleWarning, stacklevel=2)
    return verdict


def _narrower(actual: Any, reference: Reference) -> str | None:
    """Return what is wrong with the question if a result has fewer bits than are asked for."""
    name, asked = dtype_name(actual), reference.arithmetic.name
    if name not in FORMATS or FORMATS[name].bits >= reference.arithmetic.store.bits:
        return None
    return f"The result is {name}, the reference is for {asked}; pass dtype={name!r}."


def causes_of(actual: Any, reference: Reference, verdict: Verdict) -> list[Cause]:
    """Return what explains a result that is proven wrong."""
    found = to_numpy("actual", actual).astype(np.float64, copy=False)
    return find_causes(found, reference, verdict)


def explained(verdict: Verdict, causes: list[Cause]) -> Verdict:
    """Return the verdict with the likeliest causes in words."""
    sentences = list(dict.fromkeys(cause.sentence for cause in causes))
    if len({cause.sentence.partition(":")[0] for cause in causes}) == 1:
        sentences = sentences[:1] if causes[0].sentence[0].isdigit() else sentences
    text = " Or: ".join(
        s.removeprefix("Likely cause: ") if i else s for i, s in enumerate(sentences)
    )
    return replace(verdict, cause=text or None)
