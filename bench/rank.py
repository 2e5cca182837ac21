"""How often the closed form misjudges whether columns are dependent: random sets of many kinds.

Usage: python bench/rank.py [--sets 100000] [--out bench/results/rank.json]

Every set of a kind has its own sizes; sets of one number of features are the groups of one call.
Dependent sets are dependent before they are rounded to the dtype, as data are; the condition number
of independent ones, of columns of unit norm, is at most 1e12 (float64) and 1e5 (float32).
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import gdcore as gd

BATCH = 20_000  # sets in memory at a time
MOST_ROWS = 120  # of most sets; one in fifty has up to 1000


def rows(r: Any, least: int = 3) -> int:
    return int(r.integers(least, 1001 if r.random() < 0.02 else MOST_ROWS))


def rounded(r: Any, n: int) -> Any:
    return np.round(r.normal(size=n) * 10.0 ** r.integers(0, 3), 2)


def constant(r: Any) -> Any:
    return np.full((rows(r, 2), 1), np.round(r.uniform(-90, 90), 3))


def multiple(r: Any) -> Any:
    x = rounded(r, rows(r))
    return np.c_[x, np.round(r.uniform(-9, 9), 1) * x]


def shifted(r: Any) -> Any:
    x = rounded(r, rows(r))
    return np.c_[x, x + np.round(r.uniform(-9, 9), 1)]


def shares(r: Any) -> Any:
    part = r.random((rows(r), int(r.integers(2, 9))))
    return part / part.sum(1, keepdims=True)


def dummies(r: Any) -> Any:
    levels = int(r.integers(2, 4))
    return np.eye(levels)[r.integers(0, levels, rows(r))]


def with_constant(r: Any) -> Any:
    n = rows(r)
    return np.c_[r.normal(size=n), np.full(n, np.round(r.uniform(1, 50), 2))]


def equal_rows(r: Any) -> Any:
    return np.tile(np.round(r.uniform(1, 30, int(r.integers(1, 9))), 2), (rows(r, 2), 1))


def zero_column(r: Any) -> Any:
    n = rows(r)
    return np.c_[r.normal(size=n), np.zeros(n)]


def duplicate_rows(r: Any) -> Any:
    d = int(r.integers(1, 9))
    return np.repeat(r.normal(size=(int(r.integers(1, d + 1)), d)), int(r.integers(1, 50)), axis=0)


def years(r: Any) -> Any:
    n = rows(r)
    age, now = r.integers(18, 90, n), r.integers(1990, 2025, n)
    return np.c_[age, now, now - age].astype(float)


def prices(r: Any) -> Any:
    net = np.round(r.uniform(1, 999, rows(r)), 2)
    return np.c_[net, net * 0.19, net * 1.19]


def temperatures(r: Any) -> Any:
    c = np.round(r.normal(15, 8, rows(r)), 1)
    return np.c_[c, c * 1.8 + 32, c + 273.15]


def combination(r: Any) -> Any:
    d = int(r.integers(2, 8))
    X = r.normal(size=(rows(r, d + 2), d)) * 10.0 ** r.integers(-3, 4, d)
    return np.c_[X, X @ r.normal(size=d)]


def seconds(r: Any) -> Any:
    n = rows(r)
    t = 1.7e9 + np.round(r.uniform(0, 3e7, n))
    return np.c_[t, t / 86400.0, r.normal(size=n)]


def few_rows(r: Any) -> Any:
    d = int(r.integers(1, 9))
    return r.normal(size=(int(r.integers(1, d + 1)), d))


DEPENDENT = [
    constant, multiple, shifted, shares, dummies, with_constant, equal_rows, zero_column,
    duplicate_rows, years, prices, temperatures, combination, seconds, few_rows,
]  # fmt: skip


def conditioned(r: Any, top: float) -> Any:
    """Of a condition number up to 10**top: one small singular value, or falling ones."""
    d = int(r.integers(1, 9))
    n = rows(r, d + 2)
    Q, _ = np.linalg.qr(r.normal(size=(n, d)))
    V, _ = np.linalg.qr(r.normal(size=(d, d)))
    size = r.uniform(0, top)
    fall = np.logspace(0, -size, d) if r.random() < 0.5 else np.r_[np.ones(d - 1), 10.0**-size]
    return (Q * fall) @ V.T * 10.0 ** r.integers(-6, 7, d)


def nearly_alike(r: Any, top: float) -> Any:
    x = r.normal(size=rows(r, 4))
    return np.c_[x, x + 10.0 ** -r.uniform(0, top - 1) * r.normal(size=len(x))]


def calendar(r: Any, top: float) -> Any:
    first = int(r.integers(1900, 2000))
    return np.arange(first, first + rows(r, 3), dtype=float)[:, None]


def cubic(r: Any, top: float) -> Any:
    x = np.linspace(0, 12, rows(r, 5))
    return np.c_[x, x**2, x**3]


def unix(r: Any, top: float) -> Any:
    if top < 9:
        return np.round(r.uniform(0, 1e5, rows(r, 4)))[:, None] + 1e5
    return 1.7e9 + np.round(r.uniform(0, 10 ** r.uniform(3, 7.5), rows(r, 4)))[:, None]


INDEPENDENT = [conditioned, conditioned, conditioned, nearly_alike, calendar, cubic, unix]


def drawn(r: Any, count: int, dtype: Any, dependent: bool) -> list[tuple[str, Any, Any]]:
    """Draw sets: their kind, X, and the sample weights of one in five."""
    top = 12.0 if dtype == np.float64 else 5.0
    sets = []
    for i in range(count):
        kinds = DEPENDENT if dependent else INDEPENDENT
        kind = kinds[i % len(kinds)]
        X = (kind(r) if dependent else kind(r, top)).astype(dtype)
        weight = r.uniform(0.1, 3, len(X)) if r.random() < 0.2 else np.ones(len(X))
        sets.append((kind.__name__, X, weight.astype(dtype)))
    return sets


def in_scope(X: Any, weight: Any, top: float) -> bool:
    """Whether the columns are independent within the promise after weighting and rounding."""
    A = np.c_[X, np.ones(len(X))].astype(float) * np.sqrt(weight.astype(float))[:, None]
    values = np.linalg.svd(A / np.linalg.norm(A, axis=0), compute_uv=False)
    return bool(values[-1] * 10**top * 1.01 >= values[0])


def wrong(sets: list[Any], dependent: bool, dtype: Any) -> tuple[int, Counter[str]]:
    """Return how many sets were judged, and of which kinds those judged wrongly are."""
    groups = defaultdict(list)
    for one in sets:
        groups[one[1].shape[1]].append(one)
    judged, errors = 0, Counter()
    for some in groups.values():
        starts = np.r_[0, np.cumsum([len(X) for _, X, _ in some])]
        X, weight = (np.concatenate([one[k] for one in some]) for k in (1, 2))
        fits = gd.fit_groups(X, X[:, 0], offsets=starts, sample_weight=weight, method="exact")
        judged += len(some)
        expected = gd.Status.SINGULAR if dependent else gd.Status.CONVERGED
        for i in np.flatnonzero(fits.status != expected):
            top = 12.0 if dtype == np.float64 else 5.0
            if not dependent and not in_scope(some[i][1], some[i][2], top):
                judged -= 1  # beyond the condition number promised
                continue
            errors[some[i][0]] += 1
    return judged, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=100_000, help="of float64; float32: a fifth")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/rank.json")
    args = parser.parse_args()
    warnings.simplefilter("ignore", gd.FitWarning)
    r, report = np.random.default_rng(13), {"gdcore": gd.__version__, "seed": 13}
    for dtype, count in ((np.float64, args.sets), (np.float32, args.sets // 5)):
        for dependent in (True, False):
            begin, judged, errors = time.perf_counter(), 0, Counter()
            goal = count
            while judged < goal:
                sets = drawn(r, min(BATCH, max(1000, goal - judged)), dtype, dependent)
                more, bad = wrong(sets, dependent, dtype)
                judged, errors = judged + more, errors + bad
            name = f"{np.dtype(dtype)} {'dependent' if dependent else 'independent'}"
            said = "called CONVERGED" if dependent else "called SINGULAR"
            report[name] = {"sets": judged, said: sum(errors.values()), "kinds": dict(errors)}
            print(name, report[name], f"{time.perf_counter() - begin:.0f} s", flush=True)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
