"""JAX: compiled functions on the CPU. float64 and threads are set by the environment."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gdcore.bench.case import Array, Case
from gdcore.bench.libraries.base import Run, Unsupported, repeating
from gdcore.bench.suites.fit import FullBatch, MiniBatch
from gdcore.bench.suites.gradient import Gradient
from gdcore.bench.suites.many import Stack
from gdcore.bench.suites.matmul import Matmul
from gdcore.bench.suites.mse import Mse


class Jax:
    """`jax`, in full precision; the compilation is not timed."""

    def __init__(self, threads: int) -> None:
        self.jax: Any = import_module("jax")
        self.jnp: Any = import_module("jax.numpy")
        self.compiled: tuple[Any, Any] = (None, None)

    def describe(self) -> dict[str, Any]:
        """Return the versions."""
        return {"version": self.jax.__version__, "jaxlib": import_module("jaxlib").__version__}

    def matmul(self, case: Matmul, a: Array, b: Array) -> Run:
        """`jax.numpy.matmul`."""
        return self._compiled(case, lambda x, y: self.jnp.matmul(x, y, precision="highest"), a, b)

    def mse(self, case: Mse, pred: Array, target: Array) -> Run:
        """`jax.value_and_grad` of the mean of the squares."""
        loss = self.jax.value_and_grad(lambda p, t: self.jnp.mean((p - t) ** 2))
        return self._compiled(case, loss, pred, target)

    def gradient(self, case: Gradient, X: Array, y: Array, w: Array) -> Run:
        """`jax.value_and_grad` of the mean of the squares."""

        def loss(weights: Any, features: Any, target: Any) -> Any:
            product = self.jnp.matmul(features, weights, precision="highest")
            return self.jnp.mean((product - target) ** 2)

        return self._compiled(case, self.jax.value_and_grad(loss), w, X, y)

    def fit(self, case: FullBatch | MiniBatch, X: Array, y: Array) -> Run:
        """Descend by `jax.grad` in a loop under `jax.jit`."""
        if isinstance(case, MiniBatch):
            raise Unsupported("JAX has no loader of mini-batches")
        return self._compiled(case, self._descent(case.epochs), X, y, y.dtype.type(case.lr))

    def fit_stack(self, case: Stack, X: Array, y: Array, lr: Array) -> Run:
        """One problem's descent by `jax.grad`, under `jax.vmap` and `jax.jit`."""
        return self._compiled(case, self.jax.vmap(self._descent(case.epochs)), X, y, lr)

    def _descent(self, epochs: int) -> Any:
        jax, jnp = self.jax, self.jnp

        def loss(parameters: Any, features: Any, target: Any) -> Any:
            w, b = parameters
            r = jnp.matmul(features, w, precision="highest") + b - target
            return jnp.mean(r * r)

        def fit(features: Any, target: Any, rate: Any) -> Any:
            def epoch(_: Any, parameters: Any) -> Any:
                slopes = jax.grad(loss)(parameters, features, target)
                return tuple(p - rate * g for p, g in zip(parameters, slopes, strict=True))

            start = jnp.zeros(features.shape[1], target.dtype), jnp.zeros((), target.dtype)
            return jax.lax.fori_loop(0, epochs, epoch, start)

        return fit

    def _compiled(self, case: Case, function: Any, *inputs: Array) -> Run:
        """Return a run of a function that is compiled once for a case and dtype."""
        arrays = [self.jnp.asarray(each) for each in inputs]
        key = case, inputs[0].dtype
        if self.compiled[0] != key:
            self.compiled = key, self.jax.jit(function).lower(*arrays).compile()
        program = self.compiled[1]
        return repeating(lambda: self.jax.block_until_ready(program(*arrays)))
