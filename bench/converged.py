"""CONVERGED is a claim: how far descents that make it are from least squares, on random sets.

    python bench/converged.py [sets]        writes bench/results/converged.json

Half of the sets are wild: columns in units from 1e-6 to 1e5, offsets of up to 1e7 deviations. Each
is fitted in both dtypes, plain, standardised, with momentum="auto", and with both, in every way in.
R^2 lost is measured in long double on centred columns. float32 columns that vary in their last bits
alone are constant by the rank rule of `exact` (docs/numerics.md): those sets are counted apart.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gdcore as gd

RESULTS = Path(__file__).parent / "results" / "converged.json"
EPOCHS = 10_000
BLOCK = 8  # sets of one shape, which share a stack and a table of groups
HOW = {
    "plain": (gd.SGD(), False),
    "standardize": (gd.SGD(), True),
    "momentum": (gd.SGD(momentum="auto"), False),
    "both": (gd.SGD(momentum="auto"), True),
}


def draw(rng: np.random.Generator, n: int, d: int, wild: bool) -> tuple[Any, Any]:
    """Return X and y in float64: correlated, heavy-tailed, near-collinear or binary columns."""
    X = rng.normal(size=(n, d))
    kind = rng.integers(5)
    if kind == 1:
        X = X @ rng.normal(size=(d, d))
    elif kind == 2:
        X = np.exp(X)
    elif kind == 3:
        X = rng.normal(size=(n, 1)) + 10 ** -rng.uniform(0, 2) * X
    elif kind == 4:
        X = (X > 1).astype(float)
    signal = (X - X.mean(0)) / np.maximum(X.std(0), 1e-300) @ rng.normal(size=d)
    X = X * 10.0 ** (rng.integers(-6, 6, d) if wild else rng.integers(-3, 4, d))
    X = X + X.std(0) * 10 ** rng.uniform(-2, 7 if wild else 3, d) * (rng.random(d) < 0.5)
    y = signal + 10 ** rng.uniform(-3, 1.5) * rng.normal(size=n)
    y = y * 10.0 ** rng.integers(-6, 6)
    return X, y + y.std() * 10 ** rng.uniform(-2, 7 if wild else 3) * (rng.random() < 0.5)


def best_residual(X: Any, y: Any) -> tuple[Any, Any]:
    """Return the residual of least squares and y about its mean, in long double."""
    wide = np.longdouble
    A = X.astype(wide) - X.astype(wide).mean(axis=0)
    size = np.sqrt((A**2).mean(axis=0))
    A = A[:, size > 0] / size[size > 0]
    target = y.astype(wide) - y.astype(wide).mean()
    inverse = np.linalg.pinv(A.astype(np.float64))
    best = np.zeros(A.shape[1], wide)
    for _ in range(5):  # refinement
        best += inverse @ (target - A @ best).astype(np.float64)
    return target - A @ best, target


def r2_lost(X: Any, y: Any, residual: Any, target: Any, weights: Any, intercept: Any) -> float:
    """Return how far the R^2 of a prediction is below that of least squares."""
    wide = np.longdouble
    prediction = X.astype(wide) @ weights.astype(wide) + wide(intercept)
    off = prediction - (y.astype(wide) - residual)
    return float(np.sum(off**2) / np.sum(target**2))


def constant(y: Any) -> bool:
    """Whether y is constant by the rule of docs/numerics.md."""
    wide = y.astype(np.longdouble)
    return bool(wide.var() <= (2 * np.finfo(y.dtype).eps) ** 2 * np.mean(wide**2))


def answers(sets: list[tuple[Any, Any]], how: str, chunks: bool) -> Iterator[tuple[str, int, Any]]:
    """Yield the way in, the set's number and its fit."""
    sgd, standardize = HOW[how]
    options: dict[str, Any] = {"standardize": standardize, "epochs": EPOCHS}
    one = options | {"history": 0}
    X, y = np.stack([X for X, _ in sets]), np.stack([y for _, y in sets])
    count, n, d = X.shape
    stack = gd.fit(X, y, sgd, **one)
    labels = np.arange(count * n) % count  # rows of all groups mixed
    table = X.transpose(1, 0, 2).reshape(-1, d), y.T.ravel()
    groups = gd.fit_groups(*table, labels, sgd, **one)
    for i, (X_i, y_i) in enumerate(sets):
        yield "fit", i, gd.fit(X_i, y_i, sgd, **one)
        yield "gram", i, gd.fit(X_i, y_i, sgd, method="gram", **one)
        yield "stream", i, gd.fit(X_i, y_i, sgd, method="stream", **one)
        yield "stack", i, stack[i]
        yield "groups", i, groups[i]
        moments = gd.Moments(d, dtype=X_i.dtype).update(X_i, y_i)
        yield "moments", i, moments.fit(sgd, history=0, **options)
        halves = [(X_i[: n // 2], y_i[: n // 2]), (X_i[n // 2 :], y_i[n // 2 :])]
        yield "chunks", i, gd.fit(halves, None, sgd, **one)
        if chunks and standardize and i == 0:
            yield "streamed chunks", i, gd.fit(halves, None, sgd, method="stream", **one)


def predicted(X: Any, y: Any, how: str) -> int | None:
    """Return the epochs that the core says it takes."""
    from gdcore.data.problem import make_problem
    from gdcore.data.sums import moments_of
    from gdcore.results.state import FitState
    from gdcore.solvers.options import Options
    from gdcore.solvers.plan import make_plan

    sgd, standardize = HOW[how]
    problem = make_problem(X, y, None, None, True, "mean")
    options = Options(EPOCHS, None, False, 0, 1e-6, "gradient", "gram", 0, None, standardize)
    start = FitState(params=np.zeros(problem.shape.size, X.dtype))
    moments = moments_of(problem.core, 0)
    plan = make_plan(problem, sgd, options, start, moments)
    if plan.outlook is None or not plan.outlook.spectrum:
        return None
    return plan.outlook.epochs(float(plan.rate), plan.sgd.momentum, 0.0, False)


def main(count: int) -> None:
    warnings.simplefilter("ignore")
    rng = np.random.default_rng(5)
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    worst: dict[str, float] = defaultdict(float)
    reported: dict[str, float] = defaultdict(float)
    ratios: dict[str, list[float]] = defaultdict(list)
    wrong: list[Any] = []
    apart = differ = unequal = constants = 0
    for block in range(count // BLOCK):
        n, d, wild = int(rng.integers(5, 300)), int(rng.integers(1, 8)), block % 2 == 1
        drawn = [draw(rng, n, d, wild) for _ in range(BLOCK)]
        for dtype in (np.float64, np.float32):
            name = np.dtype(dtype).name
            sets = [(X.astype(dtype), y.astype(dtype)) for X, y in drawn]
            truths = [best_residual(X, y) for X, y in sets]
            ranks = [gd.fit(X, y).status for X, y in sets]
            for how in HOW:
                seen: dict[int, dict[str, Any]] = defaultdict(dict)
                for way, i, fit in answers(sets, how, block % 8 == 0):
                    seen[i][way] = fit
                    X, y = sets[i]
                    key = f"{'wild' if wild else 'ordinary'} {name} {how}"
                    statuses[key][str(fit.status)] += 1
                    if constant(y):
                        constants += 1
                        continue
                    lost = r2_lost(X, y, *truths[i], fit.weights, fit.intercept)
                    far, arrived = lost > 1e-3, fit.status == "CONVERGED"
                    if dtype == np.float32 and ranks[i] == "SINGULAR":
                        apart += far and arrived
                        continue
                    if arrived:
                        worst[key] = max(worst[key], lost)
                    if far and arrived:
                        wrong.append([block, i, key, way, lost, fit.r2_lost])
                    if not np.isnan(fit.r2_lost):
                        reported[key] = max(reported[key], abs(fit.r2_lost - lost) / (lost + 1e-6))
                for i, fits in seen.items():
                    first = fits["gram"]
                    for way in ("chunks", "moments"):
                        same = np.array_equal(first.weights, fits[way].weights)
                        unequal += not (same and first.status == fits[way].status)
                    for way in ("stack", "groups"):
                        same = np.array_equal(fits["fit"].weights, fits[way].weights)
                        same &= fits["fit"].status == fits[way].status
                        same &= fits["fit"].epochs == fits[way].epochs
                        unequal += not same
                    if len({str(f.status) for f in fits.values()}) > 1:
                        differ += 1
                        if "-v" in sys.argv:
                            ends = {w: (str(f.status), f.epochs) for w, f in fits.items()}
                            print(block, i, (n, d), name, how, ends)
                    if first.status == "CONVERGED":
                        said = predicted(*sets[i], how)
                        if said is not None:
                            ratios[f"{name} {how}"].append((first.epochs + 1) / (said + 1))
    result = {
        "sets": count // BLOCK * BLOCK,
        "epochs": EPOCHS,
        "statuses": {k: dict(v) for k, v in sorted(statuses.items())},
        "converged with more than 1e-3 of R^2 lost": len(wrong),
        "the same of float32 sets that are SINGULAR by exact": apart,
        "constant y": constants,
        "worst R^2 lost of CONVERGED": {k: float(f"{v:.2g}") for k, v in sorted(worst.items())},
        "R^2 lost as reported, largest error relative to it + 1e-6": {
            k: float(f"{v:.2g}") for k, v in sorted(reported.items())
        },
        "epochs taken / predicted: 1 %, median, 99 %": {
            k: [float(f"{q:.4g}") for q in np.quantile(v, [0.01, 0.5, 0.99])]
            for k, v in sorted(ratios.items())
        },
        "sets with statuses that differ by way in": differ,
        "bits that differ between ways that share them": unequal,
    }
    print(json.dumps(result, indent=1))
    for case in wrong[:20]:
        print(case)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    main(numbers[0] if numbers else 512)
