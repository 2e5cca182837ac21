"""Prove the contract on bits on this machine: frozen digests of results, on CPU and GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

import gdcore._core as _core
from gdcore.data.device import CPU, device_name, place_of, upload
from gdcore.data.problem import make_problem
from gdcore.data.sums import moments_of
from gdcore.fitting import fit
from gdcore.kernels import linear_mse_value_and_grad, matmul, mse, mse_value_and_grad
from gdcore.sgd import SGD
from gdcore.typing import Reduction

THREADS = (1, 2, 3, 7)
REDUCTIONS: tuple[Reduction, ...] = ("mean", "sum", "half_mean", "half_sum")
SPECIAL = (np.inf, -np.inf, np.nan, -0.0, 0.0, 5e-324, 1e-45, 1e38, -1e308)
Case = tuple[str, partial[Any]]


@dataclass(frozen=True)
class SelfTest:
    """Outcome of `selftest`.

    Attributes
    ----------
    cases : int
        Results compared, each with a frozen digest of its bytes.
    numerics : int
        Version of the contract on bits.
    isas : tuple of str
        Instruction sets run; none on a GPU.
    failures : tuple of str
        The results that differed; empty if the contract holds.
    device : str
        Where the results were computed: "cpu", "cuda:0", ...
    device_name : str
        The GPU's name; empty for the CPU.
    """

    cases: int
    isas: tuple[str, ...]
    failures: tuple[str, ...]
    numerics: int = _core.NUMERICS
    device: str = "cpu"
    device_name: str = ""

    @property
    def ok(self) -> bool:
        """Whether every result had the frozen bits."""
        return not self.failures

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        failed = f"{len(self.failures)} of {self.cases} results differ"
        return f"SelfTest({'ok' if self.ok else failed}, numerics={self.numerics}, {self.device})"

    def __str__(self) -> str:
        verdict = "same bits everywhere" if self.ok else f"{len(self.failures)} differ"
        if self.device == "cpu":
            where = f"{', '.join(self.isas)}, threads {THREADS}"
        else:
            where = f"{self.device} ({self.device_name})"
        lines = [f"numerics v{self.numerics}: {self.cases} results on {where}: {verdict}"]
        return "\n".join(lines + [f"  {failure}" for failure in self.failures])


def selftest(device: Any = None) -> SelfTest:
    """Compare every kernel and some whole fits with frozen digests of their bits.

    Runs the reference loops, and every instruction set this machine has under several thread
    counts, in a second or two. The digests were made once, on another machine: the same result
    here means the same bits there. Add its output to any report about wrong numbers.

    Parameters
    ----------
    device : {"cpu", "cuda", "cuda:1", ...}, optional
        Where to compute. A GPU has the digests of the CPU.

    Returns
    -------
    SelfTest
        True if the contract holds.

    Raises
    ------
    RuntimeError
        If there is no such GPU; the error says why.

    Examples
    --------
    >>> import gdcore as gd
    >>> bool(gd.selftest())
    True
    """
    cases, place = list(all_cases()), place_of(device)
    if place is None or place == CPU:
        return _on_cpu(cases)
    return _on_cuda(cases, place)


def _on_cpu(cases: list[Case]) -> SelfTest:
    frozen = frozen_digests()
    isa, threads = _core.get_isa(), _core.get_num_threads()
    if _core.threads_reason() != "set_num_threads":
        threads = 0  # as before any call of set_num_threads
    isas = _core.available_isas()
    runs = [("reference", 1), *product(isas, THREADS)]
    failures: list[str] = []
    everyone = _core.let_everyone_take_part(True)
    try:
        for name, count in runs:
            _core.set_isa(name)
            _core.set_num_threads(count)
            failures += [f"{what}, {name}, {count} threads" for what in _differing(cases, frozen)]
    finally:
        _core.set_isa(isa)
        _core.set_num_threads(threads)
        _core.let_everyone_take_part(everyone)
    return SelfTest(len(cases) * len(runs), tuple(isas), tuple(failures))


def _on_cuda(cases: list[Case], ordinal: int) -> SelfTest:
    name = device_name(ordinal)
    there = ((what, _placed(run, ordinal)) for what, run in cases)
    where, failures = f"cuda:{ordinal}", tuple(_differing(there, frozen_digests()))
    return SelfTest(len(cases), (), failures, device=where, device_name=name)


def _placed(run: partial[Any], ordinal: int) -> partial[Any]:
    """Return a call with its arrays on a device; they are copied once it is due."""

    def call() -> Any:
        def there(value: Any) -> Any:
            return upload(value, ordinal) if isinstance(value, np.ndarray) else value

        return run.func(*map(there, run.args), **{k: there(v) for k, v in run.keywords.items()})

    return partial(call)


def _differing(cases: Iterable[Case], frozen: dict[str, str]) -> list[str]:
    return [what for what, run in cases if digest(run()) != frozen[what]]


def frozen_digests() -> dict[str, str]:
    """Return the digest of each case, as committed (bench/freeze_numerics.py)."""
    import json
    from importlib import resources

    folder = resources.files("gdcore")
    versions = range(1, _core.NUMERICS + 1)
    texts = [folder.joinpath(f"numerics_v{version}.json").read_text() for version in versions]
    return {what: digest for text in texts for what, digest in json.loads(text).items()}


def digest(results: Any) -> str:
    """Return the SHA-256 of the bytes, with one bit pattern for every NaN."""
    import hashlib

    sha = hashlib.sha256()
    for result in results:
        array = np.array(result)
        array[np.isnan(array)] = np.nan
        sha.update(array.tobytes())
    return sha.hexdigest()[:32]


class _Data:
    """Random numbers from raw Philox words, which are the same in every release of NumPy."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._bits = np.random.Philox(key=2026)

    def __call__(self, *shape: int, spread: int = 20) -> Any:
        words = self._bits.random_raw(int(np.prod(shape))).reshape(shape)
        unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1
        exponents = (words & np.uint64(1023)).astype(np.int32) % (2 * spread + 1) - spread
        return np.ldexp(unit, exponents).astype(self.dtype)

    def special(self, *shape: int) -> Any:
        """Return numbers with a few infinities, NaN, zeros, subnormals and huge values."""
        array = self(*shape)
        with np.errstate(over="ignore", under="ignore"):
            values = np.array(SPECIAL).astype(self.dtype)
        places = slice(None, None, max(1, array.size // 5))
        array.flat[places] = np.resize(values, array.flat[places].size)
        return array


def all_cases() -> Iterator[Case]:
    """Yield a name and a call for each result to compare; sizes straddle every edge of a block."""
    for version in range(1, _core.NUMERICS + 1):
        yield from cases_of(version)


def cases_of(version: int) -> Iterator[Case]:
    """Yield the cases that came with a version; those before keep their bits."""
    first = (_matmuls, _errors, _gradients, _fits, _second_moments)
    for dtype in (np.float32, np.float64):
        name = np.dtype(dtype).name
        for kind in first if version == 1 else (_long_sums,):
            for what, run in kind(_Data(dtype), _core.SEGMENT[name]):
                yield f"{name} {what}", run


def _matmuls(data: _Data, segment: int) -> Iterator[Case]:
    shapes = [(m, k, n) for m, k, n in product((1, 7, 17), (1, 8, 19), (1, 2, 5, 33))]
    shapes += [
        (3, segment + 1, 4),
        (17, 2 * segment + 3, 33),
        (65, 30, 130),
        (101, 9, 201),
        (2, 40, 2100),
    ]
    shapes += [(0, 3, 2), (3, 0, 2), (70, segment, 1), (5, 3 * segment + 7, 1)]
    for m, k, n in shapes:
        a, b = data(m, k), data(k, n)
        yield f"matmul {m}x{k}x{n}", partial(_matmul, a, b)
        yield f"matmul {m}x{k}x{n} strided", partial(_matmul, a[::-1], b.T.copy().T)
    for k, n in ((3, 4), (20, 1), (segment + 2, 3)):
        yield f"matmul special {k}x{n}", partial(_matmul, data.special(9, k), data.special(k, n))
    yield "matmul batch", partial(_matmul, data(37, 4, 4), data(37, 4, 4))
    yield "matmul batch, one b", partial(_matmul, data(37, 3, 5), data(5, 7))


def _errors(data: _Data, segment: int) -> Iterator[Case]:
    for n, reduction in product((1, 15, 17, 2 * segment + 5), REDUCTIONS):
        pair = data(n), data(n)
        yield f"mse {n} {reduction}", partial(mse_value_and_grad, *pair, reduction=reduction)
    yield "mse 200003", partial(mse_value_and_grad, data(200_003), data(200_003))
    yield "mse none", partial(_mse_none, data(3, 7), data(3, 7))
    yield "mse special", partial(mse_value_and_grad, data.special(40), data.special(40))


def _gradients(data: _Data, segment: int) -> Iterator[Case]:
    sizes = [
        (n, d, 1) for n, d in product((1, 33, segment + 3), (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 40))
    ]
    sizes += [(3 * segment + 1, 6, 1), (600, 5, 3), (33, 40, 2), (2, 300, 1)]
    for i, (n, d, t) in enumerate(sizes):
        arrays = data(n, d), data(n, t), data(d, t), data(t)
        weight, reduction = (np.abs(data(n)), REDUCTIONS[i % 4])
        yield f"linear {n}x{d}x{t}", partial(_linear, *arrays, None, reduction)
        yield f"linear {n}x{d}x{t} weighted", partial(_linear, *arrays, weight, reduction)
    arrays = data.special(50, 6), data(50, 1), data(6, 1), data(1)
    yield "linear special", partial(_linear, *arrays, None, "sum")


def _fits(data: _Data, segment: int) -> Iterator[Case]:
    X, y = data(segment + 88, 5, spread=1), data(segment + 88, spread=1)
    options = (
        SGD(momentum=0.5),
        SGD(lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1),
        SGD(lr=0.01, momentum=0.5, dampening=0.2),
    )
    for (i, sgd), batch in product(enumerate(options), (None, 64)):
        yield f"fit {i} batch {batch}", partial(_fit, X, y, sgd, batch)
    targets = np.stack([y, y[::-1]], axis=1)
    yield "fit two targets", partial(_fit, X, targets, SGD(), None)


def _second_moments(data: _Data, segment: int) -> Iterator[Case]:
    sizes = [(70, d, t) for d, t in product((1, 6, 7, 8, 15, 33), (1, 2, 9))]
    sizes += [(2 * segment + 3, 5, 1), (2 * segment + 3, 66, 1), (segment + 1, 20, 17)]
    for n, d, t in sizes:
        X, y, offset = data(n, d, spread=2), data(n, t, spread=2), data(n, t, spread=2)
        for weight in (None, np.abs(data(n, spread=2))):
            what = f"moments {n}x{d}x{t}" + ("" if weight is None else " weighted")
            yield what, partial(_moments, X, y, offset, weight)
            yield f"{what}, fit", partial(_gram_fit, X, y, offset, weight)


def _long_sums(data: _Data, segment: int) -> Iterator[Case]:
    """Yield sums of more partials than one chain adds; in half the rows the squares alone are."""
    chain = segment * _core.FAN_IN
    n = chain + segment + 3
    pred, target, other = data(n), data(n), data(n)
    yield f"mse {n}", partial(_mse, pred, target)
    yield f"mse {chain + 1}", partial(_mse, pred[: chain + 1], target[: chain + 1])
    yield (
        f"linear {n}x1x1 weighted",
        partial(
            _linear, pred[:, None], target[:, None], data(1, 1), data(1), np.abs(other), "mean"
        ),
    )
    X, half = data(n, 6), chain // 2 + segment + 3
    yield (
        f"linear {n}x6x1",
        partial(_linear, X, target[:, None], data(6, 1), data(1), None, "half_sum"),
    )
    y = np.stack([target, other], axis=1)
    for rows in (half, n):
        yield (
            f"linear {rows}x1x2",
            partial(_linear, pred[:rows, None], y[:rows], data(1, 2), data(2), None, "mean"),
        )
    yield f"matmul 2x{n}x1", partial(_matmul, np.stack([pred, target]), other[:, None])
    yield f"matmul 2x{n}x2", partial(_matmul, np.stack([pred, other]), y)
    gentle = data(n, 2, spread=2)
    yield f"moments {n}x1x1", partial(_moments, gentle[:, :1], gentle[:, 1:], None, None)


def _mse(pred: Any, target: Any) -> Any:
    return (mse(pred, target),)


def _matmul(a: Any, b: Any) -> Any:
    with np.errstate(all="ignore"):
        return (matmul(a, b),)


def _mse_none(pred: Any, target: Any) -> Any:
    return (mse(pred, target, reduction="none"),)


def _linear(X: Any, y: Any, weights: Any, intercept: Any, weight: Any, reduction: Any) -> Any:
    loss, grad = linear_mse_value_and_grad(
        X, y, weights, intercept, sample_weight=weight, reduction=reduction
    )
    return loss, *grad


def _fit(X: Any, y: Any, sgd: SGD, batch_size: int | None) -> Any:
    result = fit(X, y, sgd, epochs=10, batch_size=batch_size, tol=None, method="stream")
    return result.weights, result.intercept, result.history.loss


def _moments(X: Any, y: Any, offset: Any, weight: Any) -> Any:
    sums = moments_of(make_problem(X, y, offset, weight, True, "mean").core, 0)
    return sums.hi, sums.lo


def _gram_fit(X: Any, y: Any, offset: Any, weight: Any) -> Any:
    fixed: Any = {"offset": offset, "sample_weight": weight, "method": "gram", "tol": None}
    result = fit(X, y, SGD(momentum=0.5), epochs=10, **fixed)
    return result.weights, result.intercept, result.history.loss
