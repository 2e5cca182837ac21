"""The usual checks on the same corpus: false alarms on right code, misses on wrong code, time.

Each has its documented defaults. `torch.testing.assert_close` compares with torch's own result in
float32; `torch.autograd.gradcheck` gets float64, as it asks for; `jax.test_util.check_grads` gets
float32, the dtype under test, and float64; `scipy.optimize.check_grad` returns a number and no
verdict: it is taken to reject where that exceeds 1e-6 of the gradient's norm. A matmul is checked
through the derivatives of its sum with random factors, whose gradients are right; the large
products are left out, since differences take one product for each of thousands of entries.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from oracle_misses import judged
from oracle_mutants import Mutant, all_mutants, gradient
from oracle_variants import CONDITIONS, blocked, forward, libraries, shaped

from gdcore import oracle

Array = NDArray[Any]


class Task:
    """One function on one set of data, as a scalar loss with a gradient that may be wrong."""

    def __init__(self, mutant: Mutant, condition: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.kind, self.fn = mutant.kind, mutant.fn
        shape = mutant.shapes[-1]
        sizes: Any
        if self.kind == "matmul":
            m, k, n = shape
            sizes = ((m, k), (k, n), (m, n))
        elif self.kind == "mse":
            sizes = (shape, shape)
        else:
            sizes = (shape, shape[:1], shape[1:])
        self.data = [shaped(rng, rng.standard_normal(s), condition) for s in sizes]
        self.terms = {}
        if "intercept" in mutant.operands:
            self.terms["intercept"] = np.asarray(0.5)
        if "offset" in mutant.operands:
            self.terms["offset"] = rng.standard_normal(shape[0])

    def cast(self, dtype: Any) -> tuple[list[Array], dict[str, Array]]:
        terms = {name: x.astype(dtype) for name, x in self.terms.items()}
        return [x.astype(dtype) for x in self.data], terms

    def result(self, data: list[Array], terms: dict[str, Array]) -> Array:
        """Return what the function under test gives."""
        if self.kind == "matmul":
            return np.asarray(self.fn(data[0], data[1]))
        got = self.fn(*data, **terms)
        return np.asarray(got[0] if isinstance(got, tuple) else got)

    def at(self) -> int:
        """Return which of the data is differentiated."""
        return 0 if self.kind in ("mse", "matmul") else 2

    def loss(self, xp: Any, data: list[Any], terms: dict[str, Any]) -> Any:
        """Return the loss in some array library."""
        if self.kind == "matmul":
            return ((data[0] @ data[1]) * data[2]).sum()
        if self.kind == "mse":
            return ((data[0] - data[1]) ** 2).mean()
        r = data[0] @ data[2] - data[1]
        for term in terms.values():
            r = r + term
        return (r**2).mean()


def assert_close(task: Task) -> bool:
    torch, _ = libraries()
    data, terms = task.cast(np.float32)
    tensors = [torch.from_numpy(x.copy()) for x in data]
    others = {name: torch.from_numpy(np.array(x)) for name, x in terms.items()}
    if task.kind == "matmul":
        expected = tensors[0] @ tensors[1]
    else:
        x = tensors[task.at()].requires_grad_()
        task.loss(torch, tensors, others).backward()
        expected = x.grad
    try:
        torch.testing.assert_close(torch.from_numpy(task.result(data, terms).copy()), expected)
    except AssertionError:
        return False
    return True


def gradcheck(task: Task) -> bool:
    torch, _ = libraries()
    data, terms = task.cast(np.float64)
    others = {name: torch.from_numpy(np.array(x)) for name, x in terms.items()}
    tensors = [torch.from_numpy(x.copy()) for x in data]

    class Function(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            if task.kind == "matmul":
                product = task.result([x.numpy(), data[1]], {})
                return (torch.from_numpy(product.copy()) * tensors[2]).sum()
            return task.loss(
                torch, [x if i == task.at() else t for i, t in enumerate(tensors)], others
            )

        @staticmethod
        def backward(ctx: Any, grad: Any) -> Any:
            (x,) = ctx.saved_tensors
            if task.kind == "matmul":
                return grad * (tensors[2] @ tensors[1].T)
            moved = [x.numpy() if i == task.at() else d for i, d in enumerate(data)]
            return grad * torch.from_numpy(task.result(moved, terms).copy())

    x = tensors[task.at()].clone().requires_grad_()
    return bool(torch.autograd.gradcheck(Function.apply, (x,), raise_exception=False))


def check_grads(task: Task, dtype: Any) -> bool:
    _, jax = libraries()
    from jax.test_util import check_grads as check

    data, terms = task.cast(dtype)
    shape = jax.ShapeDtypeStruct(data[task.at()].shape, dtype)

    def at(x: Any) -> list[Any]:
        return [np.asarray(x) if i == task.at() else d for i, d in enumerate(data)]

    @jax.custom_vjp
    def function(x: Any) -> Any:
        if task.kind == "matmul":
            whole = jax.ShapeDtypeStruct(data[2].shape, dtype)
            product = jax.pure_callback(lambda v: task.result(at(v), {}), whole, x)
            return (product * data[2]).sum()
        return task.loss(jax.numpy, [x if i == task.at() else d for i, d in enumerate(data)], terms)

    def back(x: Any, g: Any) -> Any:
        if task.kind == "matmul":
            return (g * (data[2] @ data[1].T),)
        return (g * jax.pure_callback(lambda v: task.result(at(v), terms), shape, x),)

    function.defvjp(lambda x: (function(x), x), back)
    try:
        check(function, (jax.numpy.asarray(data[task.at()]),), order=1, modes=["rev"])
    except AssertionError:
        return False
    return True


def scipy_check(task: Task) -> bool:
    from scipy.optimize import check_grad

    data, terms = task.cast(np.float64)
    shape = data[task.at()].shape

    def moved(x: Array) -> list[Array]:
        return [x.reshape(shape) if i == task.at() else d for i, d in enumerate(data)]

    def f(x: Array) -> float:
        if task.kind == "matmul":
            return float((task.result(moved(x)[:2], {}) * data[2]).sum())
        return float(task.loss(np, moved(x), terms))

    def g(x: Array) -> Array:
        if task.kind == "matmul":
            return (data[2] @ data[1].T).ravel()
        return task.result(moved(x), terms).ravel()

    x = data[task.at()].ravel()
    return bool(check_grad(f, g, x) <= 1e-6 * np.linalg.norm(g(x)))


PEERS: dict[str, Callable[[Task], bool]] = {
    "torch.testing.assert_close": assert_close,
    "torch.autograd.gradcheck": gradcheck,
    "jax check_grads, float32": lambda task: check_grads(task, np.float32),
    "jax check_grads, float64": lambda task: check_grads(task, np.float64),
    "scipy check_grad": scipy_check,
}


def right_functions() -> list[Mutant]:
    """Return right functions, that round differently, of the mutants' sizes."""

    def slow(X: Array, y: Array, w: Array) -> Array:
        r = forward(X * w) - y
        return forward((X * r[:, None]).T) * X.dtype.type(2 / len(X))

    def in_blocks(a: Array, b: Array) -> Array:
        return blocked(a[:, None, :] * b.T[None])

    linear, mse, matmul = ((37, 7), (1001, 33)), ((33,), (1001,)), ((17, 33, 9), (5, 31, 7))
    found = []
    for shape in linear:
        found.append(Mutant("numpy", "linear_mse", "", gradient, (shape,)))
        found.append(Mutant("forward", "linear_mse", "", slow, (shape,)))
    for shape in mse:
        found.append(
            Mutant("numpy", "mse", "", lambda p, y: 2 * (p - y) / p.dtype.type(p.size), (shape,))
        )
    for shape in matmul:
        found.append(Mutant("numpy", "matmul", "", lambda a, b: a @ b, (shape,)))
        found.append(Mutant("blocks", "matmul", "", in_blocks, (shape,)))
    return found


def run() -> list[dict[str, Any]]:
    """Return for each check its false alarms, misses and time."""
    mutants = [m for m in all_mutants() if (m.kind, m.name.split()[-1]) != ("matmul", "large")]
    right = [(f, c, seed) for seed, c in enumerate(CONDITIONS) for f in right_functions()]
    rows = []
    for name, check in PEERS.items():
        alarms = misses = failed = 0
        start = time.perf_counter()
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for mutant in mutants:
                try:
                    misses += check(Task(mutant, "random", 3))
                except Exception:  # it cannot be asked, which catches nothing
                    failed += 1
            for function, condition, seed in right:
                alarms += not check(Task(function, condition, seed))
        spent = (time.perf_counter() - start) / (len(mutants) + len(right))
        rows.append({"check": name, "alarms": alarms, "misses": misses + failed, "seconds": spent})
    alarms = misses = 0
    start = time.perf_counter()
    for mutant in mutants:
        misses += not judged(mutant)[0]
    for function in right_functions():
        alarms += judged(function)[0]
    for function, condition, seed in right:
        alarms += not reference_holds(Task(function, condition, seed))
    spent = (time.perf_counter() - start) / (len(mutants) + len(right) + len(right_functions()))
    rows.append({"check": "gdcore.oracle", "alarms": alarms, "misses": misses, "seconds": spent})
    return [{**row, "mutants": len(mutants), "right": len(right)} for row in rows]


def reference_holds(task: Task) -> bool:
    """Whether `Reference.check` accepts a right result."""
    data, terms = task.cast(np.float32)
    actual = task.result(data, terms)
    if task.kind == "matmul":
        return oracle.matmul(*data[:2]).check(actual).ok
    if task.kind == "mse":
        return oracle.mse(*data).grad.pred.check(actual).ok
    return oracle.linear_mse(*data, **terms).grad.weights.check(actual).ok


if __name__ == "__main__":
    for row in run():
        print(row)
