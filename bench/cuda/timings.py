"""Time gdcore's operations on a GPU against torch's, in one process, each checked before.

    python bench/cuda/timings.py OUT.jsonl [--seconds N] [--emulated]

Writes a line of JSON for each case as soon as it is known. Both libraries take turns; a figure is
the median over rounds, by CUDA events for what runs on torch's stream, by the clock for whole fits.
Inputs change from call to call, so that together they are larger than the L2 cache.
--emulated: tiny sizes against NumPy on the emulated driver, whose times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gdcore as gd

Array = Any
Call = Callable[[int], Any]  # takes the number of the call, by which inputs change


@dataclass
class Race:
    """Two ways to compute the same, and what the better one could reach."""

    name: str
    ours: Call
    theirs: Call | None
    check: Callable[[], float]  # the largest error in units of what is allowed
    target: str
    flops: float = 0.0
    bytes: float = 0.0
    least_ratio: float = 0.0  # of their time to ours
    least_share: float = 0.0  # of the bandwidth
    whole: bool = False  # it waits for its result: time it by the clock


class Torch:
    """torch on a GPU."""

    tiny = False

    def __init__(self) -> None:
        import torch

        self.torch = torch
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.manual_seed(0)

    def normal(self, *shape: int, dtype: str) -> Array:
        return self.torch.randn(*shape, dtype=getattr(self.torch, dtype), device="cuda")

    def wide(self, x: Array) -> Array:
        return x.double()

    def number(self, x: Array) -> float:
        return float(x)

    def numpy(self, x: Array) -> Any:
        return x.cpu().numpy()

    def wait(self) -> None:
        self.torch.cuda.synchronize()

    def milliseconds(self, run: Callable[[], None], whole: bool) -> float:
        """Time what a function asks for."""
        self.wait()
        if whole:
            began = time.perf_counter()
            run()
            self.wait()
            return 1e3 * (time.perf_counter() - began)
        before, after = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        run()
        after.record()
        after.synchronize()
        return float(before.elapsed_time(after))

    def bandwidth(self) -> float:
        """Return the bytes a second that a copy reads and writes."""
        x, y = (self.torch.empty(1 << 30, device="cuda") for _ in range(2))
        times = [self.milliseconds(lambda: y.copy_(x), False) for _ in range(8)]
        return 2 * 4 * 2**30 / (1e-3 * min(times))

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        return self.torch.matmul(a, b, out=out)

    def mse(self, x: Array, y: Array) -> Array:
        return self.torch.nn.functional.mse_loss(x, y)

    def mse_and_gradient(self, x: Array, y: Array) -> Array:
        difference = x - y
        return self.torch.dot(difference, difference) / x.numel(), difference * (2 / x.numel())

    def linear(self, X: Array, y: Array, w: Array) -> Array:
        residual = X @ w - y
        return self.torch.dot(residual, residual) / len(y), (residual @ X) * (2 / len(y))

    def gram(self, X: Array) -> Array:
        return X.T @ X

    def descents(self, X: Array, y: Array, lr: float, epochs: int) -> Callable[[], Array]:
        """Return a function that fits all problems at once by a graph of one epoch."""
        torch = self.torch
        n, w = X.shape[1], torch.zeros(len(X), X.shape[2], 1, dtype=X.dtype, device="cuda")
        b = torch.zeros(len(X), 1, 1, dtype=X.dtype, device="cuda")
        target, turned = y[:, :, None], X.transpose(1, 2)

        def epoch() -> None:
            residual = torch.bmm(X, w) + b - target
            w.sub_(torch.bmm(turned, residual), alpha=2 * lr / n)
            b.sub_(residual.sum(1, keepdim=True), alpha=2 * lr / n)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            epoch()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            epoch()

        def run() -> Array:
            w.zero_(), b.zero_()
            for _ in range(epochs):
                graph.replay()
            return w[:, :, 0]

        return run


class Emulated:
    """NumPy, and gdcore's arrays on the emulated driver."""

    tiny = True

    def __init__(self) -> None:
        import cuda_arrays

        self.arrays, self.rng = cuda_arrays, np.random.default_rng(0)

    def normal(self, *shape: int, dtype: str) -> Array:
        return self.arrays.asarray(self.rng.normal(size=shape).astype(dtype))

    def wide(self, x: Array) -> Array:
        return self.numpy(x).astype(np.float64)

    def number(self, x: Array) -> float:
        return float(self.numpy(x))

    def numpy(self, x: Array) -> Any:
        return self.arrays.asnumpy(x)

    def wait(self) -> None:
        pass

    def milliseconds(self, run: Callable[[], None], whole: bool) -> float:
        began = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - began)

    def bandwidth(self) -> float:
        return 1e10

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        return self.numpy(a) @ self.numpy(b)

    def mse(self, x: Array, y: Array) -> Array:
        return ((self.numpy(x) - self.numpy(y)) ** 2).mean()

    def mse_and_gradient(self, x: Array, y: Array) -> Array:
        difference = self.numpy(x) - self.numpy(y)
        return (difference**2).mean(), difference * (2 / difference.size)

    def linear(self, X: Array, y: Array, w: Array) -> Array:
        rows = self.numpy(X)
        residual = rows @ self.numpy(w) - self.numpy(y)
        return (residual**2).mean(), (residual @ rows) * (2 / len(rows))

    def gram(self, X: Array) -> Array:
        return self.numpy(X).T @ self.numpy(X)

    def descents(self, X: Array, y: Array, lr: float, epochs: int) -> Callable[[], Array]:
        rows, target = self.numpy(X), self.numpy(y)[:, :, None]

        def run() -> Array:
            w, b = np.zeros((len(rows), rows.shape[2], 1), rows.dtype), np.zeros((1, 1, 1))
            for _ in range(epochs):
                residual = rows @ w + b - target
                w = w - 2 * lr / rows.shape[1] * (rows.transpose(0, 2, 1) @ residual)
                b = b - 2 * lr / rows.shape[1] * residual.sum(1, keepdims=True)
            return w[:, :, 0]

        return run


L2_BYTES = 256 << 20  # more than any card's, several times
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}


def copies(bytes_of_one: float, tiny: bool) -> int:
    """Return how many inputs in turns are larger than the L2 cache."""
    return 2 if tiny else max(1, min(32, round(L2_BYTES / bytes_of_one)))


def worst(ours: Any, wanted: Any, k: int, size: float, dtype: str) -> float:
    """Return the largest error of sums of k products of numbers near 1, over what is allowed."""
    allowed = 8 * UNIT[dtype] * size * max(k, 16) ** 0.5
    return (
        float(np.max(np.abs(np.asarray(ours, np.float64) - np.asarray(wanted, np.float64))))
        / allowed
    )


def products(on: Any, dtype: str) -> Iterator[Race]:
    """Square products, and batches of small ones."""
    item = np.dtype(dtype).itemsize
    for n in (96,) if on.tiny else (2048, 4096, 8192):
        count = copies(3 * n * n * item, on.tiny)
        sets = [[on.normal(n, n, dtype=dtype) for _ in range(3)] for _ in range(count)]
        yield _product(on, f"matmul {n} {dtype}", sets, dtype, least_ratio=0.85)
    if dtype == "float64":
        return
    for n in (4, 8, 16, 32):
        batch = 40 if on.tiny else (1 << 25) // (n * n)
        sets = [[on.normal(batch, n, n, dtype=dtype) for _ in range(3)]]
        share = 0.8 if n <= 16 else 0.0
        name = f"{batch} products of {n} {dtype}"
        yield _product(on, name, sets, dtype, least_ratio=2.0, least_share=share)


def _product(on: Any, name: str, sets: list[list[Array]], dtype: str, **least: float) -> Race:
    a, b, _ = sets[0]
    batch, n = (a.shape[0] if a.ndim == 3 else 1), a.shape[-1]

    def check() -> float:
        x, y = (on.numpy(each)[0] if each.ndim == 3 else on.numpy(each)[:64] for each in (a, b))
        y = on.numpy(b)[0] if b.ndim == 3 else on.numpy(b)
        wanted = x.astype(np.float64) @ y.astype(np.float64)
        ours = on.numpy(gd.matmul(a, b))
        return worst(ours[0] if a.ndim == 3 else ours[:64], wanted, n, 4.0 * n**0.5, dtype)

    def ours(i: int) -> Any:
        x, y, out = sets[i % len(sets)]
        return gd.matmul(x, y, out=out) if not on.tiny else gd.matmul(x, y)

    return Race(
        name,
        ours,
        lambda i: on.matmul(*sets[i % len(sets)]),
        check,
        " and ".join(
            [f"{least['least_ratio']:g} of torch's speed"]
            + [f"{share:.0%} of the bandwidth" for share in [least.get("least_share")] if share]
        ),
        flops=2.0 * batch * n**3,
        bytes=3.0 * batch * n * n * np.dtype(dtype).itemsize,
        **least,
    )


def squared_errors(on: Any) -> Iterator[Race]:
    """Losses of 4 GB, and their gradients."""
    dtype, target = "float32", "90 % of the bandwidth"
    size = 5000 if on.tiny else 1 << 29
    x, y = (on.normal(size, dtype=dtype) for _ in range(2))

    def mse_error() -> float:
        wanted = ((on.wide(x) - on.wide(y)) ** 2).mean()
        return worst(on.number(gd.mse(x, y)), on.number(wanted), 16, 4.0, dtype)

    yield Race(
        "mse 4 GB",
        lambda i: gd.mse(x, y),
        lambda i: on.mse(x, y),
        mse_error,
        target,
        bytes=8.0 * size,
        least_share=0.9,
    )
    yield Race(
        "mse and gradient 6 GB",
        lambda i: gd.mse_value_and_grad(x, y),
        lambda i: on.mse_and_gradient(x, y),
        mse_error,
        target,
        bytes=12.0 * size,
        least_share=0.9,
    )


def gradients(on: Any) -> Iterator[Race]:
    """Linear gradients of 4 GB of rows."""
    dtype, target = "float32", "90 % of the bandwidth"
    for d in (1, 8, 64, 512):
        n = 1500 if on.tiny else (1 << 30) // d
        X, y, w = on.normal(n, d, dtype=dtype), on.normal(n, dtype=dtype), on.normal(d, dtype=dtype)

        def error(X: Array = X, y: Array = y, w: Array = w, d: int = d) -> float:
            few = slice(0, 1 << 16)
            ours = gd.linear_mse_value_and_grad(X[few], y[few], w)[1].weights
            wanted = on.linear(on.wide(X[few]), on.wide(y[few]), on.wide(w))[1]
            return worst(on.numpy(ours), on.numpy(wanted), d + 16, 8.0 * d**0.5, dtype)

        yield Race(
            f"linear gradient {4e-9 * n * d:.1f} GB, {d} features",
            lambda i, X=X, y=y, w=w: gd.linear_mse_value_and_grad(X, y, w),
            lambda i, X=X, y=y, w=w: on.linear(X, y, w),
            error,
            target,
            bytes=4.0 * n * (d + 1),
            least_share=0.9,
        )


def fits(on: Any) -> Iterator[Race]:
    """Whole fits: many small problems, and one by its second moments."""
    dtype = "float32"
    count, n, d, epochs = (30, 64, 4, 5) if on.tiny else (100_000, 64, 4, 100)
    X, y = on.normal(count, n, d, dtype=dtype), on.normal(count, n, dtype=dtype)
    sgd, stacked = gd.SGD(lr=0.1), on.descents(X, y, 0.1, epochs)

    def ours() -> Any:
        return gd.fit(X, y, sgd, epochs=epochs, tol=None).weights

    def error() -> float:
        return worst(on.numpy(ours()), on.numpy(stacked()), 4 * epochs, 4.0, dtype)

    yield Race(
        f"{count} fits of {n} x {d}, {epochs} epochs",
        lambda i: ours(),
        lambda i: stacked(),
        error,
        "20 times torch's stacked loop in a graph",
        bytes=4.0 * count * n * (d + 1),
        least_ratio=20.0,
        whole=True,
    )
    n, d, epochs = (2000, 8, 20) if on.tiny else (1_000_000, 64, 1000)
    X, y = on.normal(n, d, dtype=dtype), on.normal(n, dtype=dtype)

    def gram(epochs: int) -> Any:
        return gd.fit(X, y, gd.SGD(lr=0.1), epochs=epochs, tol=None, method="gram").weights

    def gram_error() -> float:
        rows, wanted = on.wide(X), on.wide(y)
        exact = np.linalg.lstsq(np.c_[on.numpy(rows), np.ones(n)], on.numpy(wanted), rcond=None)[0][
            :d
        ]
        return float(np.max(np.abs(on.numpy(gram(500)) - exact))) / 1e-4

    for steps in (1, epochs):
        yield Race(
            f"gram {n} x {d}, {steps} epochs, in passes over X",
            lambda i, steps=steps: gram(steps),
            lambda i: on.gram(X),
            gram_error,
            "1.5 passes with tensor cores, 2.3 without",
            bytes=4.0 * n * (d + 1),
            least_share=1 / 2.3,
            whole=True,
        )


def timed(on: Any, race: Race, seconds: float) -> dict[str, float]:
    """Return the median milliseconds of a call of each, which take turns."""
    calls = {"ours": race.ours, **({"theirs": race.theirs} if race.theirs else {})}
    repeats, times = {}, {name: [] for name in calls}
    for name, call in calls.items():
        call(0)
        once = on.milliseconds(lambda call=call: call(1), race.whole)
        repeats[name] = 1 if on.tiny else int(max(1, min(200, 30 / max(once, 1e-3))))
    began = time.monotonic()
    for number in range(3 if on.tiny else 15):
        if number >= 3 and time.monotonic() - began > seconds:
            break
        for name in sorted(calls, reverse=number % 2 == 1):

            def several(name: str = name) -> None:
                for i in range(repeats[name]):
                    calls[name](i)

            times[name].append(on.milliseconds(several, race.whole) / repeats[name])
    return {name: statistics.median(each) for name, each in times.items()}


def judged(race: Race, ms: dict[str, float], bandwidth: float) -> dict[str, Any]:
    """Return the figures of a race, and whether they reach its target."""
    share = race.bytes / bandwidth / (1e-3 * ms["ours"])
    ratio = ms["theirs"] / ms["ours"] if "theirs" in ms else None
    met = (not race.least_share or share >= race.least_share) and (
        not race.least_ratio or (ratio is not None and ratio >= race.least_ratio)
    )
    return {
        "ours_ms": ms["ours"],
        "theirs_ms": ms.get("theirs"),
        "ratio": ratio,
        "tflops": 1e-9 * race.flops / ms["ours"] if race.flops else None,
        "share_of_bandwidth": share,
        "target": race.target,
        "met": met,
    }


def races(on: Any) -> Iterator[Iterator[Race]]:
    """Return the groups of races, the targets of float32 first."""
    yield products(on, "float32")
    yield squared_errors(on)
    yield gradients(on)
    yield fits(on)
    yield products(on, "float64")


def main() -> None:
    """Read the command line, run all races, and write a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=140)
    parser.add_argument("--emulated", action="store_true")
    given = parser.parse_args()
    on = Emulated() if given.emulated else Torch()
    ends = time.monotonic() + given.seconds
    bandwidth = on.bandwidth()
    with given.out.open("w") as out:

        def write(line: dict[str, Any]) -> None:
            out.write(json.dumps(line) + "\n")
            out.flush()

        write({"name": "copy", "bandwidth": bandwidth})
        for group in races(on):
            try:
                for race in group:
                    left = ends - time.monotonic()
                    if left < 0:
                        write({"name": race.name, "why": "no time was left"})
                        continue
                    write(one(on, race, bandwidth, min(6.0, left / 4)))
            except Exception as error:  # a group that cannot begin costs itself alone
                write({"name": "a group", "why": f"{type(error).__name__}: {error}"})


def one(on: Any, race: Race, bandwidth: float, seconds: float) -> dict[str, Any]:
    """Check and time one race, whatever happens in it."""
    try:
        error = race.check()
        if not error <= 1:
            return {"name": race.name, "why": f"WRONG: {error:.3g} times the allowed error"}
        return {"name": race.name, **judged(race, timed(on, race, seconds), bandwidth)}
    except Exception as failure:
        return {"name": race.name, "why": f"{type(failure).__name__}: {failure}"}


if __name__ == "__main__":
    main()
