"""Tests of kernels, for pytest and for any other runner."""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Callable
from typing import Any

from gdcore.oracle.diagnosis.match import OracleWarning
from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.like import Likeness, like
from gdcore.referee.judging import judge
from gdcore.referee.problem import Source, UsageError
from gdcore.referee.verdict import Verdict

Function = Callable[..., Any]


def assert_kernel(kernel: Source, reference: Source, **options: Any) -> Likeness | Verdict:
    """Raise AssertionError unless a kernel is right or suspicious.

    Two functions are compared in this process, by `like`; as soon as one of the two is a file, the
    kernel runs in a process of its own, by `judge` without a race, as times have no place in a
    test.

    Parameters
    ----------
    kernel, reference : str, path or callable
    **options
        Those of `like`, such as ``inputs``, which two functions need; or those of `judge`. The
        seed is 0, so that a test does not depend on chance.

    Returns
    -------
    Likeness or Verdict

    Raises
    ------
    AssertionError
        If the kernel is wrong or cheating, or nothing could be decided; the text is the report.
    TypeError, ValueError
        If an option has no meaning, or there is no such file or function.

    Warns
    -----
    OracleWarning
        If the kernel is suspicious.

    Examples
    --------
    >>> import numpy as np
    >>> from gdcore import referee
    >>> mean = lambda x: x.sum(-1) / x.shape[-1]
    >>> found = referee.assert_kernel(mean, np.mean, inputs=[(32,)], sizes=["given"])
    >>> print(found.ruling)
    right
    """
    __tracebackhide__ = True
    verdict: Likeness | Verdict
    if _is_function(kernel) and _is_function(reference):
        verdict = like(kernel, reference, **options)  # type: ignore[arg-type]
    else:
        verdict = judge(kernel, reference, **({"seed": 0, "race": False} | options))
    if verdict.ruling is Ruling.SUSPICIOUS:
        warnings.warn(str(verdict), OracleWarning, stacklevel=2)
    elif verdict.ruling is not Ruling.RIGHT:
        raise AssertionError(str(verdict))
    return verdict


def kernel_test(reference: Source, **options: Any) -> Callable[[Function], Callable[[], None]]:
    """Make a test of a kernel, or of a function that returns one.

    Parameters
    ----------
    reference : callable, str or path
        The right function, or the file that has it.
    **options
        Those of `assert_kernel`.

    Returns
    -------
    callable
        A decorator. It makes a test without arguments of a function. If the function has
        parameters, it is the kernel; otherwise it is called, and returns the kernel or its file.

    Raises
    ------
    ValueError
        If a function is the kernel itself, and the reference a file: another process would find
        the test in its place.

    Examples
    --------
    >>> from gdcore import referee
    >>> import numpy as np
    >>> @referee.kernel_test(np.mean, inputs=[(32,)], sizes=["given"])
    ... def test_mean(x):
    ...     return x.sum() / x.dtype.type(x.size)
    >>> test_mean()
    """

    def decorate(function: Function) -> Callable[[], None]:
        is_kernel = bool(inspect.signature(function).parameters)
        if is_kernel and not _is_function(reference):
            raise UsageError(
                f"{function.__name__} is the kernel itself, and its reference a file; write a test "
                "without parameters that returns the kernel or its file."
            )

        @functools.wraps(function)
        def test() -> None:
            __tracebackhide__ = True
            assert_kernel(function if is_kernel else function(), reference, **options)

        del test.__wrapped__  # pytest would ask for its parameters
        return test

    return decorate


def _is_function(source: Source) -> bool:
    return callable(source) and not isinstance(source, str | os.PathLike)
