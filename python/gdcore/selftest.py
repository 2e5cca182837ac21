"""Prove the contract on bits on this machine: every instruction set against the reference loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gdcore import _core
from gdcore.fitting import fit
from gdcore.kernels import linear_mse_value_and_grad, matmul, mse_value_and_grad
from gdcore.sgd import SGD

THREADS = (1, 2, 3, 7)


@dataclass(frozen=True)
class SelfTest:
    """Outcome of `selftest`.

    Attributes
    ----------
    cases : int
        Results compared, each with the reference loops' bytes.
    isas : tuple of str
        Instruction sets run.
    failures : tuple of str
        What differed; empty if the contract holds.
    """

    cases: int
    isas: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every result had the reference's bits."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        verdict = "same bits everywhere" if self.ok else f"{len(self.failures)} differ"
        lines = [f"{self.cases} results on {', '.join(self.isas)}, threads {THREADS}: {verdict}"]
        return "\n".join(lines + [f"  {failure}" for failure in self.failures])


def selftest() -> SelfTest:
    """Compare every kernel and some whole fits with the reference loops, byte for byte.

    Runs under every instruction set this machine has and under several thread counts, in about a
    second. Send the printed result along with any report about wrong numbers.

    Returns
    -------
    SelfTest
        True if the contract holds.

    Examples
    --------
    >>> import gdcore as gd
    >>> bool(gd.selftest())
    True
    """
    isa, threads = _core.get_isa(), _core.get_num_threads()
    failures: list[str] = []
    compared = 0
    try:
        cases = list(_cases())
        _core.set_isa("reference")
        expected = [_digest(run()) for _, run in cases]
        for name in _core.available_isas():
            _core.set_isa(name)
            for count in THREADS:
                _core.set_num_threads(count)
                for (what, run), digest in zip(cases, expected, strict=True):
                    compared += 1
                    if _digest(run()) != digest:
                        failures.append(f"{what}, {name}, {count} threads")
    finally:
        _core.set_isa(isa)
        _core.set_num_threads(threads)
    return SelfTest(compared, tuple(_core.available_isas()), tuple(failures))


def _digest(results: Any) -> str:
    """SHA-256 of the bytes, every NaN made the same."""
    import hashlib

    digest = hashlib.sha256()
    for result in results:
        array = np.array(result)
        array[np.isnan(array)] = np.nan
        digest.update(array.tobytes())
    return digest.hexdigest()


def _cases() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a name and a call for each result to compare; sizes straddle every edge of a block."""
    rng = np.random.Generator(np.random.Philox(2026))
    for dtype in (np.float32, np.float64):
        name = np.dtype(dtype).name
        chunk = _core.CHUNK[name]

        def draw(*shape: int, dtype: Any = dtype) -> Any:
            scale = np.exp2(rng.integers(-20, 20, shape))
            return (rng.standard_normal(shape) * scale).astype(dtype)

        for m, k, n in ((1, 1, 1), (3, 5, 7), (17, chunk + 1, 33), (40, 9, 1), (65, 30, 130)):
            a, b = draw(m, k), draw(k, n)
            yield f"matmul {name} {m}x{k}x{n}", partial(_matmul, a, b)
            yield f"matmul {name} {m}x{k}x{n} strided", partial(_matmul, a[::-1], b.T.copy().T)
        for n in (1, 15, 2 * chunk + 5, 200_003):
            yield f"mse {name} {n}", partial(mse_value_and_grad, draw(n), draw(n))
        for n, d, t in ((1, 1, 1), (chunk + 3, 2, 1), (777, 7, 1), (600, 17, 1), (600, 5, 3)):
            arrays = draw(n, d), draw(n, t), draw(d, t), draw(t)
            yield f"linear {name} {n}x{d}x{t}", partial(_linear, *arrays, np.abs(draw(n)))
        X = rng.standard_normal((600, 5)).astype(dtype)
        for batch in (None, 64):
            yield f"fit {name} batch {batch}", partial(_fit, X, X.sum(axis=1) + 1, batch)


def _matmul(a: Any, b: Any) -> Any:
    return (matmul(a, b),)


def _linear(X: Any, y: Any, weights: Any, intercept: Any, sample_weight: Any) -> Any:
    loss, grad = linear_mse_value_and_grad(X, y, weights, intercept, sample_weight=sample_weight)
    return loss, *grad


def _fit(X: Any, y: Any, batch_size: int | None) -> Any:
    result = fit(X, y, SGD(momentum=0.5), epochs=10, batch_size=batch_size, tol=None)
    return result.weights, result.intercept, result.history.loss
