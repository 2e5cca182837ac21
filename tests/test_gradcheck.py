"""oracle.gradcheck: it tells right from wrong gradients of any library, and names bad functions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

from fits import refused
from gdcore.oracle import GradVerdict, assert_gradcheck, compat, gradcheck
from problems import Array

RIGHT, WRONG, UNDECIDED = GradVerdict.RIGHT, GradVerdict.WRONG, GradVerdict.UNDECIDED

Pair = tuple[Callable[..., Any], Callable[..., Any]]
SMOOTH: dict[str, Pair] = {
    "exp": (np.exp, np.exp),
    "sin": (np.sin, np.cos),
    "fast sine": (lambda x: np.sin(1e4 * x), lambda x: 1e4 * np.cos(1e4 * x)),
    "log": (lambda x: np.log(np.abs(x)), lambda x: 1 / x),
    "inverse": (lambda x: 1 / x, lambda x: -1 / x**2),
    "quadratic": (lambda x: (x - 1) ** 2, lambda x: 2 * (x - 1)),
    "cubic": (lambda x: x**3 - x, lambda x: 3 * x**2 - 1),
    "bump": (lambda x: np.exp(-1e4 * x**2), lambda x: -2e4 * x * np.exp(-1e4 * x**2)),
    "runge": (lambda x: 1 / (1 + 1e4 * x**2), lambda x: -2e4 * x / (1 + 1e4 * x**2) ** 2),
    "huber": (lambda x: np.where(abs(x) < 1, x * x / 2, abs(x) - 0.5), lambda x: np.clip(x, -1, 1)),
    "relu": (lambda x: np.maximum(x - 0.3, 0), lambda x: np.where(x > 0.3, 1.0, 0.0)),
    "sawtooth": (lambda x: abs(np.mod(37 * x, 1) - 0.5),
                 lambda x: 37 * np.sign(np.mod(37 * x, 1) - 0.5)),
}  # fmt: skip
every_smooth = pytest.mark.parametrize("name", SMOOTH)


def points(rng: np.random.Generator, count: int = 14) -> Array:
    """Draw numbers from a thousandth to a hundred."""
    return np.asarray(rng.standard_normal(count) * 10.0 ** rng.uniform(-3, 2, count))


@every_smooth
def test_right_gradients_are_never_wrong(rng: Any, name: str) -> None:
    f, grad = SMOOTH[name]
    for k, x in enumerate(points(rng)):
        found = gradcheck(f, grad, x, seed=k)
        assert found.verdict is not WRONG, found
        if name != "bump":  # beyond its foot, f is 0 and says nothing of its derivative
            assert found.verdict is RIGHT, found


@every_smooth
def test_the_error_is_known(rng: Any, name: str) -> None:
    """The derivative lies within its estimate and its own rounding, whatever precision is asked."""
    f, grad = SMOOTH[name]
    for k, x in enumerate(points(rng)):
        found = gradcheck(f, grad, x, seed=k, rtol=1e-15, method="differences")
        expected = grad(x)
        nearby = abs(grad(x * (1 + 2.0**-51)) - expected) + 2.0**-51 * abs(expected)
        if name == "bump" and abs(x) > 0.25:
            continue
        assert abs(found.expected - expected) <= found.error + nearby, (x, found)


@every_smooth
def test_wrong_gradients_are_never_right(rng: Any, name: str) -> None:
    f, grad = SMOOTH[name]
    drawn = points(rng)
    least = 1e-6 * (abs(f(drawn)) + abs(f(drawn) / drawn)) + 1e-200
    drawn = drawn[abs(grad(drawn)) > least]  # else it hardly matters
    for mistake in (2.0, -1.0, 1.001, 0.0):
        verdicts = []
        for k, x in enumerate(drawn[:7]):
            found = gradcheck(f, lambda x, m=mistake: m * grad(x), x, seed=k)
            assert found.verdict is not RIGHT, found
            verdicts.append(found.verdict)
        assert verdicts.count(WRONG) >= 0.8 * len(verdicts) > 0, mistake


def test_a_millionth_is_seen(rng: Any) -> None:
    for name in ("log", "inverse", "cubic", "huber"):
        f, grad = SMOOTH[name]
        for k, x in enumerate(points(rng)):
            found = gradcheck(f, lambda x, g=grad: g(x) * (1 + 1e-6), x, seed=k)
            assert found.verdict is WRONG, (name, x)


def test_quadratics_are_exact(rng: Any) -> None:
    """Three steps as large as x itself suffice, for a loss with any number of rows."""
    X, y, w = rng.standard_normal((50, 5)), rng.standard_normal(50), rng.standard_normal(5)
    found = gradcheck(lambda w: np.mean((X @ w - y) ** 2), lambda w: 2 / 50 * X.T @ (X @ w - y), w)
    assert found
    assert found.calls <= 18 + 6 * 5
    assert np.all(found.error <= 1e-12)
    assert "quadratic" in found.message


def test_at_the_minimum(rng: Any) -> None:
    """Where all is rounding, the gradient may be too."""
    X, y = rng.standard_normal((50, 5)), rng.standard_normal(50)
    w = np.linalg.lstsq(X, y)[0]
    assert_gradcheck(lambda w: np.mean((X @ w - y) ** 2), lambda w: 2 / 50 * X.T @ (X @ w - y), w)


def test_zero_but_for_rounding() -> None:
    """Such a derivative has no digits: the Jacobian's own size tells what is rounding."""
    x = np.array([0.7, -1.3])

    def jacobian(*rows: Any) -> Any:
        return lambda x: np.array(rows)

    right: list[tuple[Any, Any]] = [
        (lambda x: np.array([x[0], 0.0]), jacobian([1.0, 1e-16], [1e-16, -2e-16])),
        (lambda x: np.array([1e9 * x[0], 0.0]), jacobian([1e9, 1e-8], [0.0, 1e-7])),
        (lambda x: np.sin(x[0]) ** 2 + np.cos(x[0]) ** 2, jacobian(1e-16, 0.0)),
        (lambda x: x[0] / x[0], jacobian(2e-16, 0.0)),
        (lambda x: 1e6 * (x[0] - x[1]) + 0.0, jacobian(1e6, -1e6)),
        (lambda x: (x + 1e3).sum() - x.sum(), jacobian(1e-13, -1e-13)),
        (lambda x: 1 / (1 + np.exp(-60 - x)), lambda x: np.diag(np.exp(-60 - x))),
    ]
    for f, grad in right:
        assert_gradcheck(f, grad, x)
        assert gradcheck(f, lambda x, g=grad: g(x) + 1e3, x).verdict is WRONG
    seen = gradcheck(lambda x: np.array([x[0], 0.0]), jacobian([1.0, 1e-16], [1e-12, 0.0]), x)
    assert [str(v) for v in seen.verdicts.ravel()].count("RIGHT") == 3
    assert not seen


def test_scales_of_values_are_kept_apart() -> None:
    """A value of f whose derivatives are known is judged by its own size, not by another's."""
    scales = 10.0 ** np.arange(-12, 13, 3)
    x = np.linspace(0.3, 2.0, len(scales))

    def f(x: Array) -> Any:
        return scales * np.sin(x)

    assert_gradcheck(f, lambda x: np.diag(scales * np.cos(x)), x)
    for k in range(len(scales)):
        off = np.where(np.arange(len(scales)) == k, 1.0001, 1.0)
        found = gradcheck(f, lambda x, off=off: np.diag(off * scales * np.cos(x)), x)
        assert np.argwhere(found.verdicts == WRONG).tolist() == [[k, k]]


def test_rounding_errors_of_a_gradient() -> None:
    """Where its terms cancel in float32, it is not called WRONG, however exact its function is."""
    x = np.array([8.5, 4.0, -9.0, 0.5], np.float32)

    def slope(x: Array) -> Any:
        return np.diag(1 - np.tanh(x) ** 2)

    found = gradcheck(np.tanh, slope, x)
    assert not (found.verdicts == WRONG).any(), found
    wrong = gradcheck(np.tanh, lambda x: slope(x) * np.float32(1.01), x)
    assert wrong.verdict is WRONG
    for at in (3e15, 1e16):  # where neighbours of x are wavelengths away
        point = np.array([at])
        found = gradcheck(np.sin, lambda x: np.diag(np.cos(x)), point, method="differences")
        assert found.verdict is not WRONG, found


def test_a_saturated_log_softmax() -> None:
    """1 - p is off by a rounding of 1, where the differences or the complex step see less."""

    def f(x: Array) -> Any:
        x = x - x.real.max()
        return x - np.log(np.exp(x).sum())

    def jacobian(x: Array) -> Any:
        e = np.exp(x - x.max())
        return np.eye(len(x)) - e / e.sum()

    for seed in (4, 6, 8, *range(10, 14)):
        x = 20 * np.random.default_rng(seed).standard_normal(5)
        for method in ("auto", "differences"):
            found = gradcheck(f, jacobian, x, method=method)  # type: ignore[arg-type]
            assert found.verdict is not WRONG, found
        assert gradcheck(f, lambda x: 1.001 * jacobian(x), x).verdict is WRONG


def test_what_float32_cannot_hold_is_no_mistake() -> None:
    """exp(-120) is 0 there, and so is the slope where 1 - exp(-20) is 1."""
    assert_gradcheck(np.exp, np.exp, np.float32(-120))
    assert_gradcheck(
        lambda x: 1 / (1 + np.exp(-x)),
        lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2 * x.dtype.type(0),
        np.float32(20),
    )
    assert not gradcheck(lambda x: 1 / (1 + np.exp(-x)), lambda x: 0 * x, np.float32(10))


def test_stairs_of_a_cancellation_are_no_slope() -> None:
    """1 + tanh(x) moves in stairs, and x times it has another slope on each."""
    x = np.float32(-11.5)

    def f(x: Any) -> Any:
        return x * (1 + np.tanh(x))

    def slope(x: Any) -> Any:
        return (1 + np.tanh(x)) + x * (1 - np.tanh(x) ** 2)

    for seed in range(5):
        found = gradcheck(f, slope, x, seed=seed, method="differences")
        assert found.verdict is not WRONG, found


def test_one_wrong_element_of_many(rng: Any) -> None:
    x = rng.standard_normal(100)

    def wrong(x: Array) -> Array:
        g = np.cos(x)
        g[37] *= 1.01
        return np.asarray(g)

    for directions in (None, "all", 40):
        found = gradcheck(lambda x: np.sin(x).sum(), wrong, x, directions=directions)
        assert found.verdict is WRONG
    assert np.flatnonzero(gradcheck(lambda x: np.sin(x).sum(), wrong, x).verdicts == WRONG) == [37]
    assert gradcheck(lambda x: np.sin(x).sum(), np.cos, x, directions=40)


def test_badly_scaled() -> None:
    """Each element has its own step and its own tolerance."""
    x = np.array([1e-8, 1.0, 1e8])
    assert_gradcheck(lambda x: np.log(x).sum(), lambda x: 1 / x, x)
    assert not gradcheck(lambda x: np.log(x).sum(), lambda x: [1, 1, 1.0001] / x, x)


@pytest.mark.parametrize("size", [1e-160, 1e150, 1e300, 1.7e308])
@pytest.mark.parametrize("count", [2, 300])
@pytest.mark.filterwarnings("error")
def test_huge_and_tiny(size: float, count: int) -> None:
    """Sizes whose squares overflow or underflow; beyond 256 elements along directions."""
    x = np.full(count, size)
    power = 1 if size > 1e154 else 2  # that of 1e154 is infinite

    def f(x: Array) -> Any:
        return (x / count) @ (x / size) ** (power - 1)

    def grad(x: Array) -> Array:
        return np.full(count, power / count) * (x / size) ** (power - 1)

    assert_gradcheck(f, grad, x)
    assert gradcheck(f, lambda x: 1.01 * grad(x), x).verdict is WRONG


def test_steps_that_jump_over() -> None:
    """From steps as large as the other elements, a narrow peak looks flat, except at x itself."""
    x = np.array([7e-4, 1.0, 2.0])

    def f(x: Array) -> Any:
        return np.exp(-((1e3 * x[0]) ** 2)) + np.square(x[1:]).sum()

    def grad(x: Array) -> Array:
        peak = -2e6 * x[0] * np.exp(-((1e3 * x[0]) ** 2))
        return np.array([peak, 2 * x[1], 2 * x[2]])

    assert_gradcheck(f, grad, x)
    assert gradcheck(f, lambda x: grad(x) * [0, 1, 1], x).verdict is WRONG


def test_a_fast_oscillation_is_never_wrong() -> None:
    """Large steps may agree by chance, and rounding errors hide at x where f has a peak."""

    def f(x: Any) -> Any:
        return np.sin(1e9 * x)

    def grad(x: Any) -> Any:
        return 1e9 * np.cos(1e9 * x)

    chosen = {143: 1.7133657362383088, 166: -20.28359386566904, 532: -0.7807124543784271}
    drawn = {seed: 30 * np.random.default_rng(seed).standard_normal() for seed in range(20)}
    for seed, x in (chosen | drawn).items():
        for method in ("auto", "differences"):
            found = gradcheck(f, grad, x, seed=seed, method=method)  # type: ignore[arg-type]
            assert found.verdict is not WRONG, found


@pytest.mark.parametrize("steps", [1e5, 1e6])
def test_stairs_are_not_decided(steps: float) -> None:
    """A staircase looks like a line to every step that spans stairs, and is flat to others.

    At the edge of a stair one side alone is flat.
    """
    places = product((0.3, 0.700001, -0.3, 0.5 + 2.0**-30), (np.floor, np.ceil))
    for (x, edge), seed in product(places, range(3)):
        stairs = gradcheck(lambda x, r=edge: r(steps * x) / steps, lambda x: 0.0 * x, x, seed=seed)
        assert stairs.verdict is UNDECIDED, stairs


def test_a_value_that_returns_is_not_still() -> None:
    """Behind its minimum a parabola has the value that it has at x, and not half way."""
    x = 1 - 2.0**-24
    for seed in range(5):
        found = gradcheck(lambda x: 1.9 + (x - 1) ** 2, lambda x: 0.0 * x, x, seed=seed)
        assert found.verdict is WRONG, found


def test_kinks_are_not_decided() -> None:
    def f(x: Array) -> Any:
        return np.abs(x).sum()

    x = np.array([1e-3, 0.0, -2.0])
    found = gradcheck(f, np.sign, x)
    assert [str(v) for v in found.verdicts] == ["RIGHT", "UNDECIDED", "RIGHT"]
    assert "kink" in found.message
    assert not found
    assert gradcheck(f, lambda x: np.sign(x) + 5 * (x == 0), x).verdict is WRONG
    with pytest.raises(AssertionError, match="UNDECIDED"):
        assert_gradcheck(f, np.sign, x)


KINKS: dict[str, tuple[Callable[..., Any], float, float, float]] = {
    "relu": (lambda x: np.maximum(x, 0), 0.0, 0.0, 1.0),
    "leaky relu": (lambda x: np.where(x > 0, x, 0.01 * x), 0.0, 0.01, 1.0),
    "relu6": (lambda x: np.clip(x, 0, 6), 6.0, 0.0, 1.0),
    "beside others": (lambda x: np.abs(x - 1) + 7 * x * x, 1.0, 13.0, 15.0),
    "small": (lambda x: np.abs(x) + 1000 * x, 0.0, 999.0, 1001.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_no_slope_at_a_kink_is_decided(name: str) -> None:
    """Neither that of a side nor their mean is right or wrong; one beyond both is wrong."""
    f, x, left, right = KINKS[name]
    for seed, dtype in enumerate((np.float32, np.float64) * 2):
        for slope in (left, right, (left + right) / 2):
            found = gradcheck(f, dtype(slope), dtype(x), seed=seed, rtol=1e-6)
            assert found.verdict is UNDECIDED, found
            assert "f has a kink" in found.message
        beyond = dtype(right + (right - left))
        assert gradcheck(f, beyond, dtype(x), seed=seed, rtol=1e-6).verdict is WRONG


def test_ties() -> None:
    x = np.array([1.0, 1.0, 0.0])
    found = gradcheck(np.max, lambda x: 1.0 * (np.arange(3) == np.argmax(x)), x)
    assert [str(v) for v in found.verdicts] == ["UNDECIDED", "UNDECIDED", "RIGHT"]


def test_a_kink_beside_x_does_not_count() -> None:
    """Large steps see it, small ones do not."""
    for near in (0.3000001, 0.2999999):
        x = np.array([0.3, 1.7])
        assert_gradcheck(lambda x, c=near: np.maximum(x - c, 0).sum(), 1.0 * (x > near), x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("x", [[0.0, 1.0, -1.0], [0.0, 0.0]])
def test_where_the_gradient_is_even(x: Any, dtype: Any) -> None:
    """Its change from one side of x to the other is 0, yet not its size around x."""
    point = np.array(x, dtype)
    assert_gradcheck(lambda x: (x**3).sum(), lambda x: 3 * x**2, point)
    assert_gradcheck(
        lambda x: (np.tanh(x) ** 3).sum(), lambda x: 3 * np.tanh(x) ** 2 / np.cosh(x) ** 2, point
    )
    wrong = gradcheck(lambda x: (x**3).sum(), lambda x: 3 * x**2 + (x == 0) * dtype(1e-3), point)
    assert wrong.verdict is WRONG


def test_a_coarse_estimate_is_not_decided() -> None:
    """f in float32 cannot vouch for a gradient in float64; atol says what does not matter."""

    def f(x: Array) -> Any:
        return np.float64(np.sin(np.asarray(x).astype(np.float32)).sum())

    x = np.array([0.5, 1.5])
    assert gradcheck(f, np.cos, x).verdict is UNDECIDED
    assert "rounding errors" in gradcheck(f, np.cos, x).message
    assert gradcheck(f, np.cos, x, atol=1e-3)
    assert gradcheck(f, lambda x: 2 * np.cos(x), x).verdict is WRONG


def test_complex_step() -> None:
    """It sees past a constant that drowns the differences, and is not believed by itself."""
    x = np.array([0.3, 2.0])

    def f(x: Array) -> Any:
        return 1e8 + np.sin(x).sum()

    assert gradcheck(f, np.cos, x, method="differences").verdict is UNDECIDED
    found = gradcheck(f, np.cos, x)
    assert found, found
    assert "complex step" in found.message
    assert gradcheck(f, lambda x: np.cos(x) * (1 + 1e-6), x).verdict is WRONG
    refused(lambda: gradcheck(lambda x: np.abs(x) ** 2, lambda x: 2 * x, 1.0, method="complex"),
            "imaginary", TypeError)  # fmt: skip


def test_float32_is_evaluated_in_float64(rng: Any) -> None:
    x = rng.standard_normal(6).astype(np.float32)
    seen = set()

    def f(x: Array) -> Any:
        seen.add(x.dtype.name)
        return np.exp(x).sum()

    assert_gradcheck(f, np.exp, x)
    assert seen == {"float32", "float64"}
    assert not gradcheck(f, lambda x: np.exp(x) * np.float32(1.001), x)


def test_jacobians_and_several_arguments(rng: Any) -> None:
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 2))

    def jacobian(a: Array, b: Array) -> tuple[Array, Array]:
        return (
            np.einsum("ij,lk->iljk", np.eye(2), b.T).reshape(2, 2, 2, 3),
            np.einsum("ij,kl->ilkj", a, np.eye(2)).transpose(0, 1, 3, 2),
        )

    found = gradcheck(np.matmul, jacobian, (a, b))
    assert found, found
    assert [v.shape for v in found.expected] == [(2, 2, 2, 3), (2, 2, 3, 2)]
    wrong = gradcheck(np.matmul, lambda a, b: (jacobian(a, b)[0], 2 * jacobian(a, b)[1]), (a, b))
    assert wrong.verdict is WRONG
    assert "x[1][" in wrong.message
    assert "2 times" in wrong.message


def test_a_gradient_as_array_and_with_the_value() -> None:
    x = np.array([1.0, 2.0])
    assert gradcheck(lambda x: (x**2).sum(), 2 * x, x)
    assert not gradcheck(lambda x: (x**2).sum(), 2.001 * x, x)
    assert gradcheck(lambda x: ((x**2).sum(), 2 * x), None, x)
    refused(lambda: gradcheck(lambda x: (x**2).sum(), None, x), "value, gradient")


def test_a_factor_near_one() -> None:
    found = gradcheck(lambda x: (x**2).sum(), lambda x: 2 * x * (1 + 1e-6), np.ones(2))
    assert "1.000001 times the derivative" in found.message


def test_nan_gradient() -> None:
    found = gradcheck(np.sum, lambda x: np.array([1.0, np.nan]), np.ones(2))
    assert found.verdict is WRONG
    assert "not finite" in found.message


def test_the_same_seed_finds_the_same(rng: Any) -> None:
    x = rng.standard_normal(300)
    a, b, c = (gradcheck(lambda x: np.exp(x).sum(), np.exp, x, seed=s) for s in (1, 1, 2))
    assert a.expected.shape == (64,)
    assert a.expected.tobytes() == b.expected.tobytes() != c.expected.tobytes()


@pytest.mark.parametrize("x", [2.0, np.float32(2), [1.0, 2.0], np.zeros((0,)), np.zeros((2, 0))])
def test_any_shape(x: Any) -> None:
    assert gradcheck(lambda x: np.sum(np.square(x)), lambda x: np.multiply(2, x), x)


# Functions that do what they should not: each has its own sentence.


def scribble(x: Array) -> Any:
    x[0] = 0.0
    return x.sum()


def fail(x: Array) -> Any:
    raise ZeroDivisionError("by zero")


def test_a_sum_in_another_order_is_not_random() -> None:
    """Threads and addresses may change the last bits of a value, and of a gradient."""
    order = np.random.default_rng(1)

    def f(x: Array) -> Any:
        return sum(order.permutation(np.exp(x)))

    x = np.linspace(0.1, 2, 9)
    assert_gradcheck(f, lambda x: np.exp(x) * (1 + 1e-16 * order.integers(0, 3, 9)), x)
    refused(lambda: gradcheck(lambda x: f(x) * (1 + 1e-12 * order.random()), np.exp, x), "random")


NOISE = np.random.default_rng(1)


@pytest.mark.parametrize(("f", "grad", "error", "match"), [
    (fail, np.ones_like, RuntimeError, "f raised ZeroDivisionError at x: by zero"),
    (np.sum, fail, RuntimeError, "grad raised ZeroDivisionError"),
    (scribble, np.ones_like, ValueError, "f changed its argument x in place"),
    (np.sum, lambda x: scribble(x) * x, ValueError, "grad changed its argument x in place"),
    (lambda x: NOISE.random(), np.ones_like, ValueError, "f is random: two calls"),
    (np.sum, lambda x: NOISE.random(x.shape), ValueError, "grad is random: two calls"),
    (lambda x: np.nan, np.ones_like, ValueError, "f returned nan at x"),
    (lambda x: 1j * x.sum(), np.ones_like, TypeError, "complex"),
    (lambda x: "one", np.ones_like, TypeError, "number or an array"),
    (np.sum, lambda x: 1.0, ValueError, r"shape \(\); it must be \(2,\)"),
    (np.sum, lambda x: np.ones((1, 2)), ValueError, r"shape \(1, 2\); it must be \(2,\)"),
    (np.exp, lambda x: np.exp(x), ValueError, r"must be \(2, 2\), x's shape \(2,\) after f's"),
    (np.sum, lambda x: np.ones(2, np.float32), TypeError, "returned float32; return float64"),
    (np.sum, lambda x: np.ones(2, int), TypeError, "returned int64; return float64"),
    (np.sum, lambda x: None, TypeError, "grad returned"),
    (3, np.ones_like, TypeError, "f is int"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_functions(f: Any, grad: Any, error: Any, match: str) -> None:
    refused(lambda: gradcheck(f, grad, np.array([1.0, 2.0])), match, error)


@pytest.mark.parametrize(("x", "options", "error", "match"), [
    (np.array([1 + 1j]), {}, TypeError, "complex"),
    (np.array(["a"]), {}, TypeError, "x"),
    (np.array([np.nan]), {}, ValueError, "NaN or infinity"),
    (np.ones(1), {"rtol": -1}, ValueError, "0 or larger"),
    (np.ones(1), {"atol": np.nan}, ValueError, "0 or larger"),
    (np.ones(1), {"method": "newton"}, ValueError, "method"),
    (np.ones(1), {"directions": 0}, ValueError, "directions"),
    (np.ones(1), {"dtype": "int8"}, TypeError, "dtype"),
])  # fmt: skip
def test_bad_arguments(x: Any, options: Any, error: Any, match: str) -> None:
    refused(lambda: gradcheck(np.sum, np.ones_like, x, **options), match, error)


def test_functions_may_fail_beside_x() -> None:
    """Outside of its domain f raises, returns NaN or warns: steps that lead there are skipped."""

    def f(x: Array) -> Any:
        if (x > 2).any():
            raise ValueError("outside")
        return np.sqrt(x).sum()

    assert_gradcheck(f, lambda x: 0.5 / np.sqrt(x), np.array([1.999, 1e-3]))


# Other libraries, and their calling conventions.


@pytest.mark.torch
def test_torch(torch: Any) -> None:
    x = torch.tensor([0.5, -1.5])
    for kind in (torch.float32, torch.float64):
        point = x.to(kind)
        assert_gradcheck(lambda x: torch.tanh(x).sum(), lambda x: 1 - torch.tanh(x) ** 2, point)
        assert not gradcheck(lambda x: torch.tanh(x).sum(), lambda x: 1 + 0 * x, point)
    narrow = torch.tensor([0.5, -1.5], dtype=torch.bfloat16)
    assert_gradcheck(lambda x: (x**2).sum(), lambda x: 2 * x, narrow)
    assert not gradcheck(lambda x: (x**2).sum(), lambda x: 3 * x, narrow)


@pytest.mark.torch
def test_torch_calling_convention(torch: Any) -> None:
    x = torch.tensor([[0.5, -1.5]], requires_grad=True)
    w = torch.tensor([[0.3], [0.7]], dtype=torch.float32, requires_grad=True)
    assert compat.gradcheck(lambda x, w: torch.tanh(x @ w), (x, w))
    assert compat.gradcheck(lambda x, w: (x.sum(), (x @ w.double().to(x.dtype))), (x, w))

    class Double(torch.autograd.Function):  # type: ignore[name-defined, misc]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def backward(context: Any, g: Any) -> Any:
            return g

    error = sys.modules["torch.autograd.gradcheck"].GradcheckError
    with pytest.raises(error, match=r"0\.5 times"):
        compat.gradcheck(Double.apply, (x,))
    assert not compat.gradcheck(Double.apply, x, raise_exception=False, fast_mode=True)
    with pytest.raises(NotImplementedError, match="check_forward_ad"):
        compat.gradcheck(torch.sin, x, check_forward_ad=True)
    refused(lambda: compat.gradcheck(torch.sin, x.detach()), "requires_grad")
    zeros = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    assert compat.gradcheck(lambda x: x**3, zeros)
    with pytest.raises(error, match="kink"):
        compat.gradcheck(torch.relu, zeros)


@pytest.mark.torch
def test_torch_compares_all_of_backward(torch: Any) -> None:
    """What torch's own tests of its gradcheck expect, right and wrong."""
    error = sys.modules["torch.autograd.gradcheck"].GradcheckError
    x = torch.tensor([0.5, -1.5, 2.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1.0, 3.0, -0.7], dtype=torch.float64, requires_grad=True)
    z = torch.tensor([1 + 2j, 0.3 - 1j], dtype=torch.complex128, requires_grad=True)

    def function(forward: Any, backward: Any, *, zeros: bool = True) -> Any:
        """Make a function of its two derivatives."""

        def remember(context: Any, *given: Any) -> Any:
            context.set_materialize_grads(zeros)
            context.save_for_backward(*given)
            return forward(*given)

        methods = {
            "forward": staticmethod(remember),
            "backward": staticmethod(lambda context, *g: backward(*context.saved_tensors, *g)),
        }
        return type("Custom", (torch.autograd.Function,), methods).apply

    def hooked(hook: Any) -> Any:
        def call(x: Any) -> Any:
            y = x.clone()
            y.register_hook(hook)
            return y

        return call

    def fails(g: Any) -> None:
        if g is None:
            raise RuntimeError("there is no gradient")

    def longer(x: Any) -> Any:
        return torch.cat([x, x]) if (x >= 0.5).any() else x

    right = {
        "detached beside": (lambda x: (2 * x, (3 * x).detach()), x),
        "integers beside": (lambda x: x.sort(), x),
        "constant": (lambda x: torch.ones(3), x),
        "nothing": (lambda x: (), x),
        "no elements": (lambda x: 2 * x, torch.zeros(0, requires_grad=True)),
        "unused": (lambda x, y: 2 * x, (x, y)),
        "not a tensor": (lambda x, k: k * x, [x, 3]),
        "None for a constant": (function(torch.mul, lambda a, b, g: (g * b, None)),
                                (x, y.detach())),
        "None from outside": (function(lambda a: (2 * a, 3 * a), lambda a, g, h: (
            None if g is None and h is None else (0 if g is None else 2 * g) + (
                0 if h is None else 3 * h)), zeros=False), x),
        "complex in": (lambda z: (z * z.conj()).real, z),
        "complex out": (lambda z: z**2 * z.conj(), z),
        "derivative inside": (lambda x: torch.autograd.grad((x**3).sum(), x, create_graph=True)[0],
                              x),
        "a constant in all but rounding": (lambda x: x[0] / (x[0] * x[0]).sqrt(), x),
        "the sum of a softmax": (lambda x: (3 * x).softmax(0).sum(), x),
        "structural zeros": (torch.linalg.qr, torch.tensor(
            [[0.3, -1.2, 0.8], [1.1, 0.4, -0.5]], dtype=torch.float64, requires_grad=True)),
    }  # fmt: skip
    wrong = {
        "backward not multiplied by grad_output": (
            function(lambda p: (p**2).mean(), lambda p, g: 2 * p / p.numel()), x),
        "backward not multiplied by grad_output: .* other": (
            function(lambda p: p.clone(), lambda p, g: g.sign()), x),
        "for output 0 with respect to input 0.*WRONG": (hooked(lambda g: g + 1e-2), x),
        "for output 1 with respect to input 0": (
            function(lambda p: (2 * p, 3 * p), lambda p, g, h: 2 * g), x),
        "for output 0 with respect to input 1": (
            function(torch.mul, lambda a, b, g: (g * b, None)), (x, y)),
        "expected to be zero": (lambda x: x.detach(), x),
        "not reentrant": (hooked(lambda g: g * (1 + 1e-9 * torch.rand_like(g))), x),
        "undefined output grads, and it raised there is no gradient": (hooked(fails), x),
        "output 0 with": (function(lambda z: z * z, lambda z, g: 2 * z * g), z),
        "f is random": (lambda x: x * torch.rand_like(x), x),
        "f returned inf": (lambda x: x.abs() / (x - x), x),
    }  # fmt: skip
    for fast in (False, True):
        for name, (f, inputs) in right.items():
            assert compat.gradcheck(f, inputs, fast_mode=fast), name
        for match, (f, inputs) in wrong.items():
            with pytest.raises(error, match=None if fast else match):
                compat.gradcheck(f, inputs, fast_mode=fast)
            assert compat.gradcheck(f, inputs, fast_mode=fast, raise_exception=False) is False
    assert compat.gradcheck(hooked(fails), x, check_undefined_grad=False)
    jitter = hooked(lambda g: g if g is None else g * (1 + 1e-6 * torch.rand_like(g)))
    assert not compat.gradcheck(jitter, x, raise_exception=False)
    assert compat.gradcheck(jitter, x, nondet_tol=1e-5)
    assert not compat.gradcheck(hooked(lambda g: g + 1e-2), x, atol=0.1, raise_exception=False)
    assert compat.gradcheck(torch.sin, x, check_batched_grad=True)
    alone = function(lambda a: 2 * a, lambda a, g: torch.tensor(g.tolist(), dtype=g.dtype) * 2)
    assert compat.gradcheck(alone, x)
    with pytest.raises(error, match="batched"):
        compat.gradcheck(alone, x, check_batched_grad=True)
    with pytest.raises(AssertionError, match="same shape"):
        compat.gradcheck(longer, x[:1].detach().requires_grad_())
    with pytest.raises(RuntimeError, match="dimension with stride 0"):
        compat.gradcheck(lambda x: x, x.sum().expand(2, 2), raise_exception=False)
    with pytest.raises(ValueError, match=r"to_dense\(\)"):
        compat.gradcheck(lambda x: x.to_sparse(), x, raise_exception=False)
    with pytest.raises(NotImplementedError, match="layout"):
        compat.gradcheck(lambda x: x.to_dense(), x.detach().to_sparse().requires_grad_())
    with pytest.raises(AssertionError, match="check_backward_ad"):
        compat.gradcheck(torch.sin, x, check_backward_ad=False)


def test_scipy_calling_convention() -> None:
    def f(x: Array, power: int) -> Any:
        return np.sum(x**power)

    x = np.array([1.0, 2.0])
    state = np.random.RandomState(3)
    assert compat.check_grad(f, lambda x, p: p * x ** (p - 1), x, 3) < 1e-6
    for how in ({}, {"direction": "random", "seed": 3}, {"direction": "random", "rng": NOISE},
                {"direction": "random", "rng": state}):  # fmt: skip
        assert compat.check_grad(f, lambda x, p: x ** (p - 1), x, 3, **how) > 0.1
    assert compat.check_grad(f, lambda x, p: p * x ** (p - 1), x, 3, epsilon=1e-8) < 1e-6
    refused(lambda: compat.check_grad(f, f, x, 3, direction="some"), "direction")  # type: ignore[arg-type]
    refused(lambda: compat.check_grad(np.sin, np.cos, x, direction="random"), "one number")


def test_scipy_takes_one_element() -> None:
    """func and grad may be of arrays with one element, or of numbers, as in SciPy's own tests."""

    def logistic(x: Any) -> Any:
        return 1 / (1 + np.exp(-x))

    def slope(x: Any) -> Any:
        return np.exp(-x) / (1 + np.exp(-x)) ** 2

    for x in (np.array([1.5]), 1.5, [1]):
        for how in ({}, {"direction": "random", "seed": 1234}):
            assert compat.check_grad(logistic, slope, x, **how) < 1e-8
            assert compat.check_grad(logistic, slope, x, epsilon=1e-6, **how) < 1e-6
            assert compat.check_grad(logistic, slope, x, epsilon=0.1, **how) > 1e-7
            assert isinstance(compat.check_grad(np.sin, np.cos, x, **how), float)
    lists = compat.check_grad(
        lambda x: x[0] ** 2 - 0.5 * x[1] ** 3, lambda x: [2 * x[0], -1.5 * x[1] ** 2], [1.5, -1.5]
    )
    assert lists < 1e-8
    assert compat.check_grad(lambda x: x[0] + x[1], lambda x: [1, 1], [1, 2]) < 1e-12
