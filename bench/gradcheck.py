"""Right and wrong gradients before gdcore's gradcheck, torch's, JAX's and SciPy's.

    python bench/gradcheck.py

writes bench/results/gradcheck.json and the tables of docs/oracle.md. Every library gets the same
function, the same gradient (as a custom backward, where it has such) and the same points, and its
default tolerances; SciPy, which gives a number and no verdict, passes below 1e-6 times the
gradient's norm, or 1e-3 times in float32. Times include that library's own overhead, not imports.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.test_util import check_grads
from scipy.optimize import check_grad

from gdcore import oracle

ROOT = Path(__file__).parent.parent
SIZE, SEEDS = 12, 5
MARK = re.compile(r"(<!-- gradcheck: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

jax.config.update("jax_enable_x64", True)
warnings.simplefilter("ignore")
np.seterr(all="ignore")


@dataclass(frozen=True)
class Case:
    """A function with its gradient, both of (xp, x), where xp is numpy, torch or jax.numpy."""

    group: str
    name: str
    f: Callable[..., Any]
    grad: Callable[..., Any]
    draw: Callable[[np.random.Generator], Any]
    kinks: tuple[int, ...] = ()  # elements of x where f has none


def normal(rng: np.random.Generator) -> Any:
    return rng.standard_normal(SIZE)


def positive(rng: np.random.Generator) -> Any:
    return rng.uniform(0.2, 3.0, SIZE)


def scaled(rng: np.random.Generator) -> Any:
    return rng.standard_normal(SIZE) * np.logspace(-6, 6, SIZE)


def with_zeros(rng: np.random.Generator) -> Any:
    x = rng.standard_normal(SIZE)
    x[:2] = 0
    return x


def linear(group: str, name: str, n: int, condition: float, shift: float, dtype: Any) -> Case:
    """Mean squared error of a linear model, the weights x."""
    rng = np.random.default_rng(n)
    A = rng.standard_normal((n, SIZE)) @ np.diag(np.logspace(0, -np.log10(condition), SIZE))
    y = A @ rng.standard_normal(SIZE) + 0.1 * rng.standard_normal(n) + shift
    A, y = A.astype(dtype), y.astype(dtype)

    def data(xp: Any, x: Any) -> Any:
        return tuple(xp.asarray(a, dtype=x.dtype) for a in (A, y))

    def f(xp: Any, x: Any) -> Any:
        B, z = data(xp, x)
        return ((B @ x - z) ** 2).mean()

    def grad(xp: Any, x: Any) -> Any:
        B, z = data(xp, x)
        return (2 / n) * (B.T @ (B @ x - z))

    return Case(group, name, f, grad, normal)


SPREAD = np.logspace(-6, 6, SIZE)
SMOOTH = [
    ("sin exp", lambda xp, x: (xp.sin(3 * x) * xp.exp(x)).sum(),
     lambda xp, x: xp.exp(x) * (xp.sin(3 * x) + 3 * xp.cos(3 * x)), normal),
    ("tanh", lambda xp, x: xp.tanh(x.sum() / 4) + (xp.tanh(x) ** 2).sum(),
     lambda xp, x: (1 - xp.tanh(x.sum() / 4) ** 2) / 4
     + 2 * xp.tanh(x) * (1 - xp.tanh(x) ** 2), normal),
    ("log-sum-exp", lambda xp, x: xp.log(xp.exp(x).sum()),
     lambda xp, x: xp.exp(x) / xp.exp(x).sum(), normal),
    ("rational", lambda xp, x: (1 / (1 + 25 * x * x)).sum(),
     lambda xp, x: -50 * x / (1 + 25 * x * x) ** 2, normal),
    ("quartic", lambda xp, x: (x**4).sum() + (x * x).sum() ** 2,
     lambda xp, x: 4 * x**3 + 4 * x * (x * x).sum(), normal),
    ("fast sine", lambda xp, x: xp.sin(200 * x).sum(),
     lambda xp, x: 200 * xp.cos(200 * x), normal),
]  # fmt: skip
CASES = [
    *(Case("smooth", *parts) for parts in SMOOTH),
    linear("quadratic", "200 rows", 200, 1, 0, np.float64),
    linear("quadratic", "condition 1e12", 200, 1e6, 0, np.float64),
    linear("quadratic", "targets at 1e6", 200, 1, 1e6, np.float64),
    Case("quadratic", "bowl", lambda xp, x: (x * x).sum(), lambda xp, x: 2 * x, with_zeros),
    Case("badly scaled", "logarithm", lambda xp, x: xp.log(abs(x)).sum(), lambda xp, x: 1 / x,
         scaled),
    Case("badly scaled", "sine", lambda xp, x: xp.sin(x / xp.asarray(SPREAD)).sum(),
         lambda xp, x: xp.cos(x / xp.asarray(SPREAD)) / xp.asarray(SPREAD), scaled),
    Case("badly scaled", "slopes", lambda xp, x: (xp.tanh(x) * xp.asarray(SPREAD)).sum(),
         lambda xp, x: (1 - xp.tanh(x) ** 2) * xp.asarray(SPREAD), normal),
    Case("badly scaled", "offset 1e6", lambda xp, x: 1e6 + xp.sin(x).sum(),
         lambda xp, x: xp.cos(x), normal),
    Case("not smooth", "relu", lambda xp, x: (x * (x > 0)).sum(), lambda xp, x: 1.0 * (x > 0),
         normal),
    Case("not smooth", "absolute", lambda xp, x: abs(x).sum(), lambda xp, x: xp.sign(x), normal),
    Case("not smooth", "at the kink", lambda xp, x: abs(x).sum(), lambda xp, x: xp.sign(x),
         with_zeros, (0, 1)),
    Case("not smooth", "huber", lambda xp, x: xp.where(abs(x) < 1, x * x / 2, abs(x) - 0.5).sum(),
         lambda xp, x: xp.clip(x, -1, 1), normal),
    *(Case("float32", name, f, grad, lambda rng, draw=draw: draw(rng).astype(np.float32))
      for name, f, grad, draw in SMOOTH),
    *(Case("float32", c.name, c.f, c.grad, lambda rng: normal(rng).astype(np.float32))
      for c in (linear("", "200 rows", 200, 1, 0, np.float32),
                linear("", "10 000 rows", 10_000, 1, 0, np.float32))),
]  # fmt: skip


def factors(name: str, x: Any, at: int) -> Any:
    """Return what a mistake multiplies the gradient by."""
    one = np.ones(len(x), x.dtype)
    if name in ("twice", "half"):
        return one * x.dtype.type(2 if name == "twice" else 0.5)
    one[at] = {"sign of one": -1, "one dropped": 0, "one 1 % off": 1.01, "one 0.1 % off": 1.001}[
        name
    ]
    return one


MISTAKES = ("twice", "half", "sign of one", "one dropped", "one 1 % off", "one 0.1 % off")


def by_gdcore(f: Any, grad: Any, x: Any) -> str:
    found = oracle.gradcheck(lambda x: f(np, x), lambda x: grad(np, x), x).verdict
    return {"RIGHT": "right", "WRONG": "wrong", "UNDECIDED": "undecided"}[str(found)]


def by_torch(f: Any, grad: Any, x: Any, fast: bool = False) -> str:
    class Custom(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            context.save_for_backward(x)
            return f(torch, x)

        @staticmethod
        def backward(context: Any, g: Any) -> Any:
            return g * grad(torch, context.saved_tensors[0])

    point = torch.tensor(x, requires_grad=True)
    right = torch.autograd.gradcheck(Custom.apply, (point,), raise_exception=False, fast_mode=fast)
    return "right" if right else "wrong"


def by_jax(f: Any, grad: Any, x: Any) -> str:
    custom = jax.custom_vjp(lambda x: f(jnp, x))
    custom.defvjp(lambda x: (f(jnp, x), x), lambda x, g: (g * grad(jnp, x),))
    try:
        check_grads(custom, (jnp.asarray(x),), order=1, modes=["rev"])
    except AssertionError:
        return "wrong"
    return "right"


def by_scipy(f: Any, grad: Any, x: Any) -> str:
    off = check_grad(lambda x: f(np, x), lambda x: grad(np, x), x)
    rate = 1e-6 if x.dtype == np.float64 else 1e-3
    return "right" if off <= rate * np.linalg.norm(grad(np, x)) else "wrong"


CHECKERS = {
    "gdcore": by_gdcore,
    "torch": by_torch,
    "torch, fast mode": lambda f, grad, x: by_torch(f, grad, x, True),
    "jax": by_jax,
    "scipy": by_scipy,
}


def measure() -> dict[str, Any]:
    """Return how often each library said what of right and of wrong gradients, by group."""
    said: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = defaultdict(list)
    slips: dict[str, Counter[str]] = defaultdict(Counter)
    for case in CASES:
        for seed in range(SEEDS):
            rng = np.random.default_rng([seed, len(case.name)])
            x = case.draw(rng)
            slope = np.abs(case.grad(np, x)) * (np.arange(SIZE) >= len(case.kinks))
            at = int(rng.choice(np.flatnonzero(slope > 1e-3 * np.median(slope))))
            for mistake in (None, *MISTAKES):
                factor = None if mistake is None else factors(mistake, x, at)

                def grad(xp: Any, x: Any, case: Case = case, factor: Any = factor) -> Any:
                    g = case.grad(xp, x)
                    return g if factor is None else g * xp.asarray(factor, dtype=g.dtype)

                for name, checker in CHECKERS.items():
                    begin = time.perf_counter()
                    verdict = checker(case.f, grad, x)
                    if mistake is None:
                        seconds[name].append(time.perf_counter() - begin)
                    kind = "right" if mistake is None else "wrong"
                    said[name][case.group][f"{kind}: {verdict}"] += 1
                    if verdict not in (kind, "undecided"):
                        slips[name][f"{case.group}, {case.name}: {mistake or 'false alarm'}"] += 1
    return {
        "machine": {"cpu": platform.machine(), "python": platform.python_version()},
        "versions": {p: version(p) for p in ("numpy", "torch", "jax", "scipy")},
        "said": {name: {g: dict(c) for g, c in groups.items()} for name, groups in said.items()},
        "slips": {name: dict(counts) for name, counts in slips.items()},
        "milliseconds": {name: 1e3 * statistics.median(times) for name, times in seconds.items()},
    }


def table(results: dict[str, Any]) -> str:
    """Return the summary as Markdown."""
    lines = ["| | false alarms | misses | undecided, right | undecided, wrong | median time |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for name, groups in results["said"].items():
        total: Counter[str] = Counter()
        for counts in groups.values():
            total.update(counts)
        right = sum(v for k, v in total.items() if k.startswith("right"))
        wrong = sum(v for k, v in total.items() if k.startswith("wrong"))
        cells = [
            f"{total['right: wrong']} of {right}", f"{total['wrong: right']} of {wrong}",
            str(total["right: undecided"]), str(total["wrong: undecided"]),
            f"{results['milliseconds'][name]:.1f} ms",
        ]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def groups_table(results: dict[str, Any]) -> str:
    """Return false alarms / misses / undecided of each group as Markdown."""
    names = list(results["said"])
    lines = [f"| false alarms / misses / undecided | {' | '.join(names)} |"]
    lines.append("| --- " * (len(names) + 1) + "|")
    for group in results["said"]["gdcore"]:
        cells = []
        for name in names:
            c = Counter(results["said"][name][group])
            undecided = c["right: undecided"] + c["wrong: undecided"]
            cells.append(f"{c['right: wrong']} / {c['wrong: right']} / {undecided}")
        lines.append(f"| {group} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    results = measure()
    (ROOT / "bench/results/gradcheck.json").write_text(json.dumps(results, indent=2) + "\n")
    tables = {"summary": table(results), "groups": groups_table(results)}
    page = ROOT / "docs/oracle.md"
    page.write_text(MARK.sub(lambda m: m[1] + tables[m[2]] + m[3], page.read_text()))
    print(tables["summary"], tables["groups"], sep="\n")


if __name__ == "__main__":
    main()
