"""Correct digits on NIST's linear reference sets, beside NumPy, scikit-learn and statsmodels.

    python bench/nist.py

writes bench/results/nist.json and puts its table into docs/accuracy.md. A library that is not
installed is left out.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import gdcore as gd

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import nist  # noqa: E402

Array = nist.Array
MARK = re.compile(r"(<!-- nist -->\n).*?(<!-- end -->)", re.DOTALL)


def ones_and(X: Array) -> Array:
    return np.hstack([np.ones((len(X), 1)), X])


def of_gdcore(X: Array, y: Array) -> Array:
    fit = gd.fit(X, y, method="exact")
    return np.append(fit.intercept, fit.weights)


def of_numpy(X: Array, y: Array) -> Array:
    return np.linalg.lstsq(ones_and(X), y)[0]


def of_sklearn(X: Array, y: Array) -> Array:
    fit = import_module("sklearn.linear_model").LinearRegression().fit(X, y)
    return np.append(fit.intercept_, fit.coef_)


def of_statsmodels(X: Array, y: Array) -> Array:
    found: Array = import_module("statsmodels.api").OLS(y, ones_and(X)).fit().params
    return found


SOLVERS: dict[str, tuple[str, Callable[[Array, Array], Array]]] = {
    'gdcore `method="exact"`': ("gdcore", of_gdcore),
    "`numpy.linalg.lstsq`": ("numpy", of_numpy),
    "scikit-learn `LinearRegression`": ("scikit-learn", of_sklearn),
    "statsmodels `OLS`": ("statsmodels", of_statsmodels),
}


def measured(name: str) -> dict[str, Any]:
    """Digits of each solver, and how many the rounding of the set to float64 leaves."""
    reference = nist.read(name)
    X, y, certified = reference.X, reference.y, reference.certified
    digits = {}
    for label, (_, solve) in SOLVERS.items():
        try:
            digits[label] = nist.digits(solve(X, y), certified)
        except ModuleNotFoundError:
            continue
    A = ones_and(X)
    exact = np.array(nist.rounded(reference).coefficients, float)
    return {
        "name": name,
        "rows": len(y),
        "parameters": len(certified),
        "condition": float(np.linalg.cond(A / np.linalg.norm(A, axis=0))),
        "digits": digits,
        "digits_of_rounded_data": nist.digits(exact, certified),
    }


def table(sets: list[dict[str, Any]]) -> str:
    solvers = list(sets[0]["digits"])
    header = ["set", "n", "p", "condition", *solvers, "rounded data"]
    lines = [header, ["---"] * len(header)]
    for s in sets:
        cells = [f"{s['digits'][label]:.1f}" for label in solvers]
        sizes = [str(s["rows"]), str(s["parameters"]), f"{s['condition']:.0e}"]
        lines.append([s["name"], *sizes, *cells, f"{s['digits_of_rounded_data']:.1f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    sets = [measured(name) for name in nist.NAMES]
    ran = {package: version(package) for label, (package, _) in SOLVERS.items()
           if label in sets[0]["digits"] and package != "gdcore"}  # fmt: skip
    results = {"versions": {"gdcore": gd.__version__} | ran, "sets": sets}
    (ROOT / "bench/results/nist.json").write_text(json.dumps(results, indent=2) + "\n")
    page = ROOT / "docs/accuracy.md"
    page.write_text(MARK.sub(lambda m: m[1] + table(sets) + m[2], page.read_text()))
    print(table(sets), end="")


if __name__ == "__main__":
    main()
