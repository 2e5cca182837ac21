"""SGD.init and SGD.step against torch.optim.SGD, step by step for a hundred steps."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import bounds
import gdcore as gd
import problems
from loops import each
from problems import LAYOUTS, Array, canonical, integers, normal

STEPS = 100
OPTIONS = [
    {"momentum": m, "dampening": d, "nesterov": n, "weight_decay": w, "maximize": x}
    for m, d, n, w, x in product([0.0, 0.9], [0.0, 0.3], [False, True], [0.0, 0.1], [False, True])
    if not n or (m and not d)
]


every_option = each("options", OPTIONS)
# Each combination either uphill or downhill, in turn.
HALF = [o for i, o in enumerate(OPTIONS) if i % 4 in ((0, 3), (1, 2))[i // 4 % 2]]
half_of_the_options = each("options", HALF)


class Torch:
    """torch.optim.SGD on one vector, with the velocity in view."""

    def __init__(self, torch: Any, start: Array, sgd: gd.SGD, options: dict[str, Any]) -> None:
        self.torch = torch
        self.param = torch.nn.Parameter(torch.tensor(start))
        self.sgd = torch.optim.SGD([self.param], lr=sgd.lr, **options)

    def step(self, grad: Array) -> None:
        self.param.grad = self.torch.tensor(grad)
        self.sgd.step()

    @property
    def value(self) -> Array:
        return np.array(self.param.detach().numpy())

    @property
    def velocity(self) -> Array:
        buffer = self.sgd.state[self.param].get("momentum_buffer")
        return np.zeros_like(self.value) if buffer is None else np.array(buffer.numpy())


@pytest.mark.torch
@half_of_the_options
def test_torch_with_given_gradients(
    torch: Any, rng: Any, dtype: Any, options: dict[str, Any]
) -> None:
    """Both runs stay within the path bound of the exact one, so within two of each other.

    (2.01, since each step's share is taken along torch's path and ours is a few ulps beside it.)
    """
    sgd = gd.SGD(lr=0.05, **options)
    start = normal(rng, (7,), dtype)
    ours, theirs = start.copy(), Torch(torch, start, sgd, options)
    state, local, difference = sgd.init(ours), [], []
    for step in range(STEPS):
        grad = normal(rng, (7,), dtype)
        before = theirs.value, grad, theirs.velocity
        local.append(bounds.sgd_step(sgd, *before, step == 0, dtype))
        sgd.step(ours, grad, state)
        theirs.step(grad)
        difference.append(np.abs(ours.astype(float) - theirs.value))
    path = bounds.sgd_path(bounds.sgd_matrix(sgd, np.zeros((7, 7))), local)
    bounds.check(np.array(difference), np.zeros((STEPS, 7)), 2.01 * path[:, :7])


@pytest.mark.torch
@half_of_the_options
def test_torch_training_loop(torch: Any, rng: Any, dtype: Any, options: dict[str, Any]) -> None:
    """100 steps of a regression: our gradients and steps against autograd's and torch's."""
    sgd, sign = gd.SGD(lr=0.05, **options), -1 if options["maximize"] else 1
    problem = problems.linear(rng, 40, 4, dtype=dtype)
    X, y = problem.X, problem.y
    start = normal(rng, (4,), dtype)
    ours, theirs = start.copy(), Torch(torch, start, sgd, options)
    tX, ty = torch.tensor(X), torch.tensor(y)
    hessian = 2 / 40 * X.T.astype(float) @ X.astype(float)
    state, local, difference = sgd.init(ours), [], []
    for step in range(STEPS):
        leaf = torch.tensor(theirs.value, requires_grad=True)
        (sign * ((tX @ leaf - ty) ** 2).mean()).backward()
        grad = leaf.grad.numpy()
        inexact = bounds.linear(problems.Linear(X, y, theirs.value), dtype).weights
        rho = bounds.sgd_step(sgd, theirs.value, grad, theirs.velocity, step == 0, dtype)
        local.append(rho + bounds.sgd_grad(sgd, inexact, step == 0))
        sgd.step(ours, sign * gd.linear_mse_value_and_grad(X, y, ours)[1].weights, state)
        theirs.step(grad)
        difference.append(np.abs(ours.astype(float) - theirs.value))
    path = bounds.sgd_path(bounds.sgd_matrix(sgd, sign * hessian), local)
    bounds.check(np.array(difference), np.zeros((STEPS, 4)), 2.01 * path[:, :4])


@pytest.mark.torch
@every_option
def test_exact_steps(torch: Any, rng: Any, isa: str, dtype: Any, options: dict[str, Any]) -> None:
    """Options that are powers of two and whole gradients: no step rounds, so nothing may differ."""
    halves = {k: v if isinstance(v, bool) else 0.5 * bool(v) for k, v in options.items()}
    sgd = gd.SGD(lr=0.5, **halves)  # type: ignore[arg-type]
    start = integers(rng, (37,), dtype, 9)
    ours, theirs = start.copy(), Torch(torch, start, sgd, halves)
    state = sgd.init(ours)
    for _ in range(4 if dtype == np.float32 else 10):
        grad = integers(rng, (37,), dtype, 9)
        sgd.step(ours, grad, state)
        theirs.step(grad)
        np.testing.assert_array_equal(ours, theirs.value)


@every_option
def test_several_parameters_step_alone(rng: Any, dtype: Any, options: dict[str, Any]) -> None:
    sgd = gd.SGD(lr=0.1, **options)
    together = [normal(rng, shape, dtype) for shape in ((3, 5), (5,), (), (0,))]
    alone = [p.copy() for p in together]
    state, states = sgd.init(together), [sgd.init(p) for p in alone]
    for _ in range(3):
        grads = [normal(rng, p.shape, dtype) for p in together]
        sgd.step(together, grads, state)
        for p, g, s in zip(alone, grads, states, strict=True):
            sgd.step(p, g, s)
    assert canonical(*together) == canonical(*alone)


@each("layout", LAYOUTS)
def test_layouts(rng: Any, dtype: Any, layout: str) -> None:
    sgd = gd.SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1)
    plain = normal(rng, (3, 4, 5), dtype)
    placed = LAYOUTS[layout](plain)
    state, placed_state = sgd.init(plain), sgd.init(placed)
    for _ in range(3):
        grad = normal(rng, plain.shape, dtype)
        sgd.step(plain, grad, state)
        sgd.step(placed, LAYOUTS[layout](grad), placed_state)
    assert canonical(placed) == canonical(plain)


def test_a_step_leaves_the_neighbours_and_the_gradient_alone(dtype: Any) -> None:
    wide, grad = np.full((6, 6), 7, dtype), np.ones((3, 2), dtype)
    sgd = gd.SGD(lr=1.0, maximize=True, weight_decay=1.0)
    sgd.step(wide[::2, 1:5:2], grad, sgd.init(wide[::2, 1:5:2]))
    assert (wide == 1).sum() == 6
    assert (wide == 7).sum() == 30
    assert (grad == 1).all()


def test_the_first_velocity_is_the_gradient(dtype: Any) -> None:
    """As in torch, dampening does not touch the first step."""
    sgd, p = gd.SGD(lr=1.0, momentum=0.5, dampening=0.75), np.zeros(1, dtype)
    state = sgd.init(p)
    sgd.step(p, np.full(1, 8, dtype), state)
    assert p == -8
    sgd.step(p, np.full(1, 8, dtype), state)
    assert p == -8 - (4 + 2)


def test_a_schedule_sets_the_rate_of_each_step(dtype: Any) -> None:
    sgd, p = gd.SGD(lr=lambda epoch: 2.0**-epoch), np.zeros(1, dtype)
    state = sgd.init(p)
    for _ in range(4):
        sgd.step(p, np.full(1, 1, dtype), state)
    assert p == -(1 + 0.5 + 0.25 + 0.125)


def test_options_are_frozen_and_comparable() -> None:
    sgd = gd.SGD(lr=0.1)
    assert sgd == gd.SGD(lr=0.1)
    assert gd.SGD().lr == "auto"
    with pytest.raises(AttributeError):
        sgd.lr = 0.2  # type: ignore[misc]


@pytest.mark.torch
@each("options", [
    {"momentum": -0.1},
    {"weight_decay": -0.1},
    {"nesterov": True},
    {"nesterov": True, "momentum": 0.9, "dampening": 0.1},
    {"lr": -1.0},
])  # fmt: skip
def test_invalid_combinations_raise_as_torchs_do(torch: Any, options: dict[str, Any]) -> None:
    options = {"lr": 0.1, **options}
    with pytest.raises(ValueError):  # noqa: PT011
        torch.optim.SGD([torch.zeros(1)], **options)
    with pytest.raises(ValueError, match="(?i)" + "|".join(options)):
        gd.SGD(**options)


@each("name", ["lr", "momentum", "dampening", "weight_decay"])
@each("value", [np.nan, np.inf, -np.inf])
def test_options_are_finite(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        gd.SGD(**{"lr": 0.1, name: value})  # type: ignore[arg-type]


@each("lr", [0.0, -0.0, "fast"])
def test_the_rate_is_positive_or_auto(lr: Any) -> None:
    with pytest.raises(ValueError, match="lr"):
        gd.SGD(lr=lr)


@each("shift", [0, 1, -1])
def test_the_gradient_may_overlap_the_parameter(rng: Any, dtype: Any, shift: int) -> None:
    memory, sgd = normal(rng, (1002,), dtype), gd.SGD(lr=0.5, momentum=0.5, nesterov=True)
    param, grad = memory[1:1001], memory[1 + shift : 1001 + shift]
    apart, copy = param.copy(), grad.copy()
    sgd.step(apart, copy, sgd.init(apart))
    sgd.step(param, grad, sgd.init(param))
    assert canonical(param) == canonical(apart)


def test_gradients_may_be_lists_and_other_dtypes(dtype: Any) -> None:
    sgd, p = gd.SGD(lr=0.5), np.zeros(2, dtype)
    for grad in ([1, 2], *(np.array([1, 2], t) for t in ("f4", "f8", "i8"))):
        sgd.step(p, grad, sgd.init(p))
    np.testing.assert_array_equal(p, [-2, -4])
    assert p.dtype == dtype


@each("change, error, words", [
    ({"grads": np.ones((3, 2))}, ValueError, [r"\(3, 2\)", r"\(2, 3\)"]),
    ({"grads": np.ones((2, 3), complex)}, TypeError, ["complex"]),
    ({"params": np.ones((2, 3), int)}, TypeError, ["int64", "float32"]),
    ({"params": np.broadcast_to(1.0, (2, 3))}, ValueError, ["read-only"]),
    ({"params": [[1.0, 2.0, 3.0]] * 2}, TypeError, ["list"]),
    ({"lr": "auto"}, ValueError, ["auto"]),
    ({"state": gd.SGD().init([np.ones(2)] * 5)}, ValueError, ["5"]),
])  # fmt: skip
def test_bad_steps_change_nothing(change: Any, error: Any, words: list[str]) -> None:
    """The first of two parameters is fine, and stays as it was."""
    good, bad = np.ones((2, 3)), change.get("params", np.ones((2, 3)))
    sgd = gd.SGD(lr=change.get("lr", 0.1))
    state = change.get("state", sgd.init([good, np.ones((2, 3))]))
    with pytest.raises(error, match=".*".join(words)):
        sgd.step([good, bad], [good, change.get("grads", good)], state)
    assert (good == 1).all()
    assert state.step == 0


def scalars(value: float) -> list[Any]:
    """Return a number as arrays and tensors without dimensions."""
    found: list[Any] = [np.array(value), np.float64(value), np.array(value, object)[()]]
    try:
        import torch

        found += [torch.tensor(value, dtype=torch.float64)]
        found += [torch.tensor(value, dtype=torch.float64, requires_grad=True)]
    except ImportError:
        pass
    return found


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")  # of so few epochs
def test_options_are_numbers_in_whatever_holds_one() -> None:
    want = {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.3}
    for name, value in want.items():
        for given in scalars(value):
            sgd = gd.SGD(**{name: given})
            assert sgd == gd.SGD(**{name: value})
            assert type(getattr(sgd, name)) is float
    X, y = np.arange(6.0)[:, None], np.arange(6.0) ** 2
    fit = gd.fit(X, y, gd.SGD(lr=np.array(0.01)), epochs=np.array(7), tol=np.array(1e-3))
    same = gd.fit(X, y, gd.SGD(lr=0.01), epochs=7, tol=1e-3)
    np.testing.assert_array_equal(fit.weights, same.weights)
    many = gd.fit(X[None], y[None], gd.SGD(lr=np.array(0.01)), epochs=7, tol=np.array(1e-3))
    np.testing.assert_array_equal(many.weights[0], same.weights)


def test_options_that_are_not_numbers_are_refused() -> None:
    for bad in (np.array("0.1"), np.array(True), np.array(None), np.array(1j), True):
        for name in ("lr", "momentum", "dampening", "weight_decay"):
            with pytest.raises((TypeError, ValueError), match=f"{name} is"):
                gd.SGD(**{name: bad})


def test_a_parameter_is_passed_once() -> None:
    """A step would change it twice, with momentum and without."""
    w, table = np.ones(4), np.ones((6, 2))
    twice = [
        [w, w], [w, w[:]], [w, np.ones(1), w[3:]], [table, table[0]], [table[:3], table[2:]],
        [table.T, table], [table[::2], table[::3]],
    ]  # fmt: skip
    for params in twice:
        sgd = gd.SGD(lr=0.1, momentum=0.9)
        grads, state = [np.ones(p.shape) for p in params], sgd.init(params)
        with pytest.raises(ValueError, match=r"parameters \d and \d share memory.*pass it once"):
            sgd.step(params, grads, state)
        assert (w == 1).all()
        assert (table == 1).all()
        assert state == sgd.init(params)
    apart = [table[:, 0], table[:, 1], w[::2], w[1::2], np.ones(0), np.ones(0)]
    gd.SGD(lr=0.1).step(apart, [np.ones(p.shape) for p in apart], gd.SGD().init(apart))
    assert np.allclose(table, 0.9)
