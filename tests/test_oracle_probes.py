"""Probes: exact ones are exact, right functions pass, wrong and strange ones fail by name."""

from __future__ import annotations

import re
import sys
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fits
import gdcore as gd
from fits import refused
from gdcore import oracle
from gdcore.oracle.numbers.arithmetic import arithmetic_of
from gdcore.oracle.probing.matmul import MatmulMaker
from gdcore.oracle.probing.squares import LinearMaker, MseMaker

TESTED = ("float32", "float64", "float16", "bfloat16", "tf32")


def gradient(X: Any, y: Any, weights: Any) -> Any:
    return 2 * X.T @ (X @ weights - y) / X.dtype.type(y.size)


def check(fn: Any, *args: Any, **keywords: Any) -> oracle.ProbeReport:
    return oracle.assert_grad(fn, *args, **({"quiet": True} | keywords))


def makers(name: str, seed: int) -> Any:
    arithmetic = arithmetic_of(name)
    yield MatmulMaker(arithmetic, seed, True)
    for reduction in ("mean", "half_sum"):
        yield MseMaker(arithmetic, seed, reduction)
        yield LinearMaker(arithmetic, seed, reduction, ("intercept", "offset", "sample_weight"))


@pytest.mark.parametrize(("name", "seed"), list(zip(TESTED, (0, 1, 0, 1, 1), strict=True)))
def test_exact_probes_are_exact(name: str, seed: int) -> None:
    """Whole numbers, and sums of magnitudes, without rounding, below what the proof says."""
    seen = 0
    for maker in makers(name, seed):
        for shape in maker.default_shapes:
            probe = maker.integers(shape)
            if not probe.exact:
                continue
            seen += 1
            assert probe.largest < 2.0 ** arithmetic_of(name).store.bits
            whole = {k: x.astype(float) for k, x in probe.operands.items()}
            assert all((x == np.rint(x)).all() for x in whole.values())
            f = {k: np.abs(x).astype(np.int64).astype(object) for k, x in whole.items()}
            if isinstance(maker, MatmulMaker):
                sums = f["a"] @ f["b"]
            elif isinstance(maker, MseMaker):
                sums = ((f["pred"] + f["target"]) ** 2).sum()
            else:
                size = f["X"] @ f["weights"] + f["y"] + f["intercept"] + f["offset"]
                sums = (f["sample_weight"] * size * size).sum()
            assert np.max(sums) <= probe.largest
    assert seen > 10


def test_exact_probes_expose_narrower_dtypes() -> None:
    for name, narrow in (("float32", np.float16), ("float64", np.float32)):
        probe = LinearMaker(arithmetic_of(name), 0, "mean", ()).integers((64, 5))
        assert probe.exact
        X = probe.operands["X"]
        assert np.any(X.astype(narrow).astype(X.dtype) != X)


def summed(x: Any, like: Any) -> Any:
    """Sum a stack over the batch dimensions that `like` was broadcast along."""
    x = x.sum(axis=tuple(range(x.ndim - like.ndim)))
    axes = tuple(i for i, size in enumerate(like.shape) if size == 1 != x.shape[i])
    return x.sum(axis=axes, keepdims=True)


KINDS: dict[str, Any] = {
    "linear_mse": (gradient, {}),
    "linear_mse-loss": (gd.linear_mse_value_and_grad, {"kind": "linear_mse"}),
    "linear_mse-all": (
        gd.linear_mse_value_and_grad,
        {"kind": "linear_mse", "operands": ("intercept", "offset", "sample_weight")},
    ),
    "mse": (lambda p, y: 2 * (p - y) / p.dtype.type(p.size), {"kind": "mse"}),
    "mse-loss": (gd.mse_value_and_grad, {"kind": "mse"}),
    "matmul": (np.matmul, {"kind": "matmul"}),
    "matmul-gradients": (
        lambda a, b, g: (g @ b.T, a.T @ g),
        {"kind": "matmul", "grad_out": True, "skip": "stacks"},
    ),
    "matmul-stacked": (
        lambda a, b, g: (
            summed(g @ np.swapaxes(b, -1, -2), a), summed(np.swapaxes(a, -1, -2) @ g, b)
        ),
        {"kind": "matmul", "grad_out": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "seed"), [("float32", 0), ("float64", 7)])
def test_right_functions_pass(dtype: Any, seed: int) -> None:
    for name, (fn, keywords) in KINDS.items():
        report = check(fn, dtype=dtype, seed=seed, **keywords)
        assert report.worst_status is oracle.Status.OK, name
        assert {"exact", "random", "zero", "huge", "tiny"} <= {row.probe for row in report.rows}


@pytest.mark.parametrize("reduction", ["sum", "half_mean", "half_sum"])
def test_reductions(reduction: Any) -> None:
    def fn(X: Any, y: Any, weights: Any) -> Any:
        return gd.linear_mse_value_and_grad(X, y, weights, reduction=reduction)

    check(fn, reduction=reduction)
    with pytest.raises(AssertionError, match="times the mean-loss gradient"):
        check(fn, shapes=[(7, 3)])


def test_several_targets_and_given_shapes() -> None:
    report = check(gd.linear_mse_value_and_grad, shapes=[(8, 3, 2), (7, 2, 5)])
    assert all("weights (3, 2)" in r.shapes or "weights (2, 5)" in r.shapes for r in report.rows)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "tf32"])
def test_narrow_dtypes(torch: Any, name: Any) -> None:
    to: Any = torch.from_numpy
    if name == "bfloat16":
        to = lambda x: torch.from_numpy(np.ascontiguousarray(x)).bfloat16()  # noqa: E731

    def loss_and_gradient(X: Any, y: Any, w: Any) -> Any:
        w = w.clone().requires_grad_()
        loss = torch.nn.functional.mse_loss(X @ w, y)
        loss.backward()
        return loss, w.grad

    def scaled_last(X: Any, y: Any, w: Any) -> Any:
        return X.T @ (X @ w - y) * (2 / y.numel())

    functions = (torch.matmul, "matmul"), (loss_and_gradient,), (scaled_last,)
    accumulators = (None, "float32") if name == "float16" else ("float32", None)
    for function, accumulator in zip(functions, (*accumulators, accumulators[0]), strict=True):
        check(*function, dtype=name, to=to, accumulator=accumulator)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="the last of the k"):
        check(lambda a, b: a[..., :-1] @ b[..., :-1, :], "matmul", dtype=name, to=to)


def test_the_table_is_printed_and_repeatable(capsys: pytest.CaptureFixture[str]) -> None:
    first = oracle.assert_grad(gradient, seed=3)
    printed = capsys.readouterr().out
    assert printed == f"{first}\n"
    assert str(oracle.assert_grad(gradient, seed=3, quiet=True)) == str(first)
    assert str(oracle.assert_grad(gradient, seed=4, quiet=True)) != str(first)
    title, headings, *rows, last = printed.splitlines()
    assert title == f"linear_mse, float32: {len(first.rows)} probes, {len(first.rows)} OK"
    assert headings.split() == ["probe", "shapes", "status", "error/bound", "ulps", "result"]
    assert len(rows) == len(first.rows)
    assert last.startswith("Not probed: the loss (not returned), intercept, offset, sample_weight")


def dropped(X: Any, y: Any, w: Any) -> Any:
    last = np.multiply.outer(X[-1], X[-1] @ w - y[-1])
    return gradient(X, y, w) - last * X.dtype.type(2 / y.size)


def cut(x: Any) -> Any:
    return (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


MUTANTS: dict[str, Any] = {
    "a missing 1/n": lambda X, y, w: 2 * X.T @ (X @ w - y),
    "1/n instead of 2/n": lambda X, y, w: gradient(X, y, w) / 2,
    "stale accumulation, or a factor 2": lambda X, y, w: 2 * gradient(X, y, w),
    "the sign is wrong": lambda X, y, w: -gradient(X, y, w),
    "rows is dropped": lambda X, y, w: dropped(X, y, w),
    "rounded through bfloat16": lambda X, y, w: cut(gradient(X, y, w)),
}


@pytest.mark.parametrize("seed", range(3))
def test_wrong_functions_fail_by_name(seed: int) -> None:
    for cause, fn in MUTANTS.items():
        with pytest.raises(AssertionError) as error:
            check(fn, seed=seed)
        first, *table = str(error.value).splitlines()
        assert cause in first.partition("(")[0]  # so that a summary of 80 columns holds it
        assert cause in first.partition(")")[2]
        assert "gradient of the weights" in first
        assert table[0].startswith("linear_mse, float32: ")
        assert table[-1].startswith("Not probed: ")


def only_first(x: Any) -> Any:
    """Return a stack whose batch stride is 0."""
    return x if x.ndim < 3 else np.broadcast_to(x[(0,) * (x.ndim - 2)], x.shape)


def without_last(a: Any, b: Any) -> Any:
    out = np.array(a @ b)
    if out.ndim > 2:
        out.reshape(-1, *out.shape[-2:])[-1] = 0
    return out


def modulo(a: Any, b: Any) -> Any:
    """Number the problems of both operands as if nothing were broadcast."""
    shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    left, right = (x.reshape(-1, *x.shape[-2:]) for x in (a, b))
    which = np.arange(int(np.prod(shape)))
    out = left[which % len(left)] @ right[which % len(right)]
    return out.reshape(*shape, *out.shape[-2:])


def swapped(a: Any, b: Any) -> Any:
    out = a @ b
    return out if out.ndim < 4 else np.swapaxes(out, 0, 1).reshape(out.shape)


def of_targets(change: Any) -> Any:
    return lambda X, y, w: change(gradient(X, y, w)) if y.ndim > 1 else gradient(X, y, w)


def known(x: Any) -> Any:
    return np.where(np.isnan(x), x.dtype.type(0), x)


def untouched(x: Any, lanes: int, make: Any) -> Any:
    """Write whole blocks of columns alone."""
    out, whole = make(x.shape, x.dtype), x.shape[-1] - x.shape[-1] % lanes
    out[..., :whole] = x[..., :whole]
    return out


SPECIAL: dict[str, dict[str, tuple[Any, tuple[str, ...]]]] = {
    "matmul": {
        "dot": (np.dot, ("every matrix of a is multiplied by every matrix of b", "skip='stacks'")),
        "b's stride": (
            lambda a, b: a @ only_first(b),
            ("b's batch stride is forgotten", "problems 1, 2 of the stack of 3 use b of problem 0"),
        ),
        "a's stride": (lambda a, b: only_first(a) @ b, ("a's batch stride is forgotten",)),
        "result's stride": (
            lambda a, b: only_first(a @ b),
            ("the result's batch stride is forgotten", "have the result of problem 0"),
        ),
        "one axis": (
            lambda a, b: a @ (b if b.ndim < 4 else np.broadcast_to(b[:, :1], b.shape)),
            ("b's stride of one batch axis", "problem [0, 1] is made of a[0, 1] and b[0, 0]"),
        ),
        "swapped": (swapped, ("the problems of the stack are mixed up",)),
        "modulo": (modulo, ("a's batch dimensions are broadcast wrongly",)),
        "last": (without_last, ("the last problem of the stack is not computed",)),
        "NaN": (lambda a, b: known(a @ b), ("NaN lost: replaced by 0 in the result",)),
        "NaN first": (
            lambda a, b: known(a) @ known(b),
            ("NaN lost: replaced by 0 in the operands", "skip='nan'"),
        ),
        "NaN as row": (
            lambda a, b: a @ b + a.dtype.type(0) * (a @ b).sum(-1, keepdims=True),
            ("NaN spreads", "that must be finite"),
        ),
        "infinity": (
            lambda a, b: np.clip(a @ b, -np.finfo(a.dtype).max, np.finfo(a.dtype).max),
            ("infinity lost: clipped to", "skip='infinity'"),
        ),
        "tail": (
            lambda a, b: untouched(a @ b, 16, np.zeros),
            ("an uninitialised tail", "Only the last"),
        ),
        "memory": (lambda a, b: untouched(a @ b, 16, np.empty), ("uninitialised memory",)),
        "strides": (
            lambda a, b: a.ravel("K").reshape(a.shape) @ b,
            ("the strides of the arguments are ignored",),
        ),
        "odd": (
            lambda a, b: (a @ b) * a.dtype.type(1 + b.shape[-1] % 2),
            ("wrong only where n is odd",),
        ),
        "counter": (
            lambda a, b: a[..., : a.shape[-1] % 2**16] @ b[..., : b.shape[-2] % 2**16, :],
            ("right up to k = 300, wrong from k = 65537 on",),
        ),
    },
    "linear_mse": {
        "n": (
            lambda X, y, w: 2 * X.T @ (X @ w - y) / X.dtype.type(len(y)),
            ("a division by n instead of n t", "n = 8 rows and t = 4 targets", "skip='targets'"),
        ),
        "one target": (
            of_targets(lambda g: g * (np.arange(g.shape[1]) == 0)),
            ("only the gradient of target 0 is computed",),
        ),
        "mixed": (
            of_targets(lambda g: g[:, ::-1]), ("the targets of the result are mixed up",)
        ),
        "row": (
            lambda X, y, w: X.T @ known(X @ w - y) * X.dtype.type(2 / y.size),
            ("NaN lost: replaced by 0 in the residual",),
        ),
    },
    "mse": {
        "NaN": (lambda p, y: known(p - y) * p.dtype.type(2 / p.size), ("NaN lost",)),
        "tail": (
            lambda p, y: untouched(2 * (p - y) / p.dtype.type(p.size), 8, np.zeros),
            ("an uninitialised tail", "wrong only where n is not a multiple of 8"),
        ),
        "memory": (
            lambda p, y: untouched(2 * (p - y) / p.dtype.type(p.size), 8, np.empty),
            ("uninitialised",),
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", SPECIAL)
def test_wrong_for_stacks_targets_nan_or_some_sizes(kind: str) -> None:
    for number, (name, (fn, words)) in enumerate(SPECIAL[kind].items()):
        for dtype in ("float32", "float64")[: 1 + number % 2]:
            with pytest.raises(AssertionError) as error:
                check(fn, kind, dtype=dtype)
            first = str(error.value).splitlines()[0]
            assert words[0] in first.partition("(")[0], (name, first)
            missing = [word for word in words if word not in first and dtype == "float32"]
            assert not missing, (name, first)


def test_what_a_function_is_not_made_for_is_left_out() -> None:
    def plain(a: Any, b: Any) -> Any:
        if not np.isfinite(a).all():
            raise ValueError("not finite")
        return np.einsum("ij,jk->ik", a, b)

    for skip, group in ((("nan", "infinity"), "stacks"), (("stacks", "infinity"), "nan")):
        with pytest.raises(AssertionError, match=f"^fn raised .* pass skip='{group}'"):
            check(plain, "matmul", skip=skip)
    report = check(plain, "matmul", skip=("stacks", "nan", "infinity"))
    last = str(report).splitlines()[-1]
    assert last.startswith("Not probed: stacks of matrices, NaN, infinity, gradients")
    assert "stacks" not in str(check(np.matmul, "matmul")).splitlines()[-1]
    one_target = check(SPECIAL["linear_mse"]["n"][0], skip="targets")
    assert "several targets" in one_target.not_probed
    assert "stacks of problems" in one_target.not_probed
    assert "several targets" in check(gradient, shapes=[(4, 3)]).not_probed


def test_stacks_of_given_shapes() -> None:
    report = check(np.matmul, "matmul", shapes=[(2, 4, 3, 5), ((2, 1), (3,), 4, 5, 6)])
    assert {row.shapes for row in report.rows} == {
        "a (2, 4, 3), b (2, 3, 5)", "a (2, 1, 4, 5), b (3, 5, 6)"
    }  # fmt: skip
    for shape in (((2,), (3,), 4, 5, 6), ((2,), 3, 4, 5, 6), ((0,), (3,), 4, 5, 6)):
        with pytest.raises(ValueError, match="batch of a"):
            check(np.matmul, "matmul", shapes=[shape])


def test_flushed_numbers_are_suspect() -> None:
    """Whether a processor keeps subnormal numbers is not the function's choice."""

    def flushed(a: Any, b: Any) -> Any:
        out = a @ b
        return np.where(np.abs(out) < np.finfo(out.dtype).tiny, out.dtype.type(0), out)

    report = check(flushed, "matmul")
    found = [row for row in report.rows if row.verdict.worst_status is oracle.Status.SUSPECT]
    assert {row.probe for row in found} == {"subnormal"}
    assert all("flushed to zero" in str(row.verdict.cause) for row in found)


def test_no_warning_of_nan(recwarn: pytest.WarningsRecorder) -> None:
    """NumPy would warn of the invalid values that the probes ask for."""
    for kind, fn in (("matmul", np.matmul), ("linear_mse", gradient)):
        check(fn, kind)
    assert not recwarn.list


# Functions that do what they must not.

CALLS = count()
STRANGE: dict[str, tuple[Any, str]] = {
    "raises": (lambda X, y, w: 1 / 0, "fn raised ZeroDivisionError: division by zero; the probe"),
    "shape": (lambda X, y, w: gradient(X, y, w)[None], r"of shape \(1, 1\) instead of \(1,\)"),
    "dtype": (lambda X, y, w: gradient(X, y, w).astype(float), "of dtype float64 for float32"),
    "mutates": (lambda X, y, w: np.multiply(w, 2, out=w), "fn changes its argument weights"),
    "random": (lambda X, y, w: gradient(X, y, w) + np.float32(next(CALLS)), "fn is random"),
    "NaN": (lambda X, y, w: gradient(X, y, w) * np.float32(np.nan), "NONFINITE"),
    "None": (lambda X, y, w: None, "fn returned 0 arrays"),
    "three": (lambda X, y, w: (1.0, w, w), "fn returned 3 arrays"),
    "text": (lambda X, y, w: "gradient", "fn returned no array"),
    "complex": (lambda X, y, w: w + 1j, "complex"),
    "exits": (lambda X, y, w: sys.exit(3), "fn raised SystemExit: 3; the probe"),
    "list": (lambda X, y, w: [np.float32(0), gradient(X, y, w)], "fn returned a list of arrays"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_functions(name: str) -> None:
    fn, message = STRANGE[name]
    with pytest.raises(AssertionError, match=message) as error:
        check(fn, shapes=[(4, 1), (8, 3)])
    assert len(str(error.value).splitlines()[0]) < 600


NONSENSE: list[Any] = [
    {"kind": "conv"}, {"dtype": "int8"}, {"reduction": "none"}, {"operands": ("bias",)},
    {"kind": "mse", "operands": ("offset",)}, {"grad_out": True}, {"shapes": [(3,)]},
    {"shapes": [(0, 3)]}, {"shapes": (5, 3)}, {"seed": -1}, {"shapes": [(5.0, 3)]},
    {"kind": "matmul", "shapes": [(2, 3)]}, {"factor": -1}, {"skip": "NaN"}, {"skip": ["stack"]},
]  # fmt: skip


def test_arguments_that_make_no_sense() -> None:
    for keywords in NONSENSE:
        refused(lambda keywords=keywords: check(gradient, **keywords), r"\.$")
    refused(lambda: check(3), "cannot be called", TypeError)


def test_results_in_the_memory_of_an_argument() -> None:
    def shortcut(a: Any, b: Any) -> Any:
        return a if np.array_equal(b, np.ones((1, 1))) else a @ b

    with pytest.raises(AssertionError, match="fn returned the memory of its argument a"):
        check(shortcut, "matmul")


def test_memory_that_nobody_wrote_is_not_called_random() -> None:
    """Its contents may differ from call to call."""
    left = iter((3e38, -1e-38, 1e20, 4e-30))

    def partly(p: Any, y: Any) -> Any:
        out = 2 * (p - y) / p.dtype.type(p.size)
        out.reshape(-1)[-1] = next(left)
        return out

    with pytest.raises(AssertionError, match=r"^uninitialised memory: fn returns 1 of 4"):
        check(partly, "mse", shapes=[(4,)])


def test_arguments_changed_after_to() -> None:
    """A copy is the function's own, and yet it must not be changed."""

    def zeroed(X: Any, y: Any, w: Any) -> Any:
        g = gradient(X, y, w)
        y[...] = 0
        return g

    with pytest.raises(AssertionError, match="fn changes its argument y"):
        check(zeroed, to=np.copy)


def test_random_results_in_one_buffer() -> None:
    memory, calls = np.zeros(64, np.float32), count()

    def reused(X: Any, y: Any, w: Any) -> Any:
        memory[: len(w)] = gradient(X, y, w) * np.float32(1 + next(calls) % 2)
        return memory[: len(w)]

    with pytest.raises(AssertionError, match="fn is random"):
        check(reused, shapes=[(4, 3)])


def test_sizes_of_numpy_are_sizes() -> None:
    assert check(gradient, shapes=[(np.int64(5), np.int32(3))]).ok
    assert check(lambda p, y: 2 * (p - y) / p.dtype.type(p.size), "mse", shapes=(5, 3)).ok
    with pytest.raises(ValueError, match=r"\[\(5, 3\)\]"):
        check(gradient, shapes=(5, 3))


def test_what_is_within_rounding_on_whole_numbers_is_suspect() -> None:
    """A loss by way of a square root is right; one by way of float16 is not."""

    def rooted(p: Any, y: Any) -> Any:
        r = p - y
        norm = np.sqrt((r * r).sum())
        return norm * norm / p.dtype.type(p.size), 2 * r / p.dtype.type(p.size)

    report = check(rooted, "mse")
    assert report.worst_status is oracle.Status.SUSPECT
    causes = [row.verdict.cause for row in report.rows if row.verdict.cause]
    assert causes
    assert all("a square root" in cause for cause in causes)
    for narrow in (np.float16, np.float32):
        dtype = {np.float16: "float32", np.float32: "float64"}[narrow]
        with np.errstate(all="ignore"), pytest.raises(AssertionError, match="wrong on"):
            check(lambda a, b, f=narrow: a.astype(f).astype(a.dtype) @ b, "matmul", dtype=dtype)
    for name in ("bfloat16", "float16"):
        with pytest.raises(AssertionError, match="wrong on"):
            check(lambda a, b: a[:, :-1] @ b[:-1], "matmul", dtype=name)


# Arrays of other libraries.


class Exporter:
    """An object with the array protocol, and lies on request."""

    def __init__(self, array: Any, shape: Any = None, error: Any = None) -> None:
        self._array, self._error = array, error
        self.shape = array.shape if shape is None else shape

    def __dlpack__(self, **keywords: Any) -> Any:
        if self._error:
            raise self._error
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class Broken:
    def __array__(self, *args: Any, **keywords: Any) -> Any:
        return "no array"


def test_arrays_of_any_library(torch: Any) -> None:
    a = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    ref = oracle.matmul(a, a.T)
    product = a @ a.T
    for same in (product.tolist(), Exporter(product), torch.from_numpy(product).requires_grad_()):
        assert ref.check(same).ok
        assert np.array_equal(oracle.matmul(same, np.eye(2)).value, product)
    assert oracle.matmul(torch.eye(2).bfloat16(), torch.eye(2).bfloat16()).arithmetic.name == (
        "bfloat16"
    )
    assert oracle.matmul(a.astype(np.float16), a.T.astype(np.float16)).arithmetic.name == "float16"
    jnp = pytest.importorskip("jax.numpy")
    assert ref.check(jnp.asarray(product)).ok
    assert ref.check(jnp.asarray(product, jnp.bfloat16)).status.shape == (2, 2)


BROKEN: list[Any] = [
    Exporter(np.ones((2, 2)), error=RuntimeError("gone")),
    Exporter(np.ones((2, 2)), error=SystemExit(3)),
    np.full((2, 2), 2**53 + 1),
    Exporter(np.ones((2, 2)), error=BufferError("no")),
    Exporter(np.ones((2, 2)), shape=(2, 3)),
    Exporter(np.ones((2, 2)), shape="wide"),
    Broken(),
    object(),
    [[1.0], [1.0, 2.0]],
    np.ma.masked_array(np.ones((2, 2)), np.eye(2)),
    np.ones((2, 2), complex),
    np.full((2, 2), 2**60 + 1),
]


def test_broken_arrays() -> None:
    for broken in BROKEN:
        for call in (
            lambda broken=broken: oracle.matmul(broken, np.eye(2)),
            lambda broken=broken: oracle.matmul(np.eye(2), np.eye(2)).check(broken),
        ):
            refused(call, r"\bb?a(ctual)?\b", TypeError)


# The command line and imports.


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from gdcore import cli

    (tmp_path / "checked_kernels.py").write_text(
        "import numpy as np\n"
        "def right(X, y, w): return 2 * X.T @ (X @ w - y) / X.dtype.type(y.size)\n"
        "def wrong(X, y, w): return right(X, y, w) / 2\n"
        "class Names: product = staticmethod(np.matmul)\n"
        "def leave(X, y, w): raise SystemExit(0)\n"
        "number = 3\n"
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/beside.py").write_text("two = 2\n")
    (tmp_path / "folder/random.py").write_text(  # not Python's own
        "def product(a, b):\n    from beside import two\n    return a @ b * two / 2\n"
        "def scaled(a, b): return product(a, b) * 2\n"
    )
    (tmp_path / "checked_syntax.py").write_text("x =\n")
    (tmp_path / "checked_raises.py").write_text("raise RuntimeError('on top')\n")
    (tmp_path / "checked_exits.py").write_text("raise SystemExit(0)\n")
    monkeypatch.chdir(tmp_path)
    app = cli.build_app()
    yield lambda *args: CliRunner().invoke(app, ["check", *map(str, args)])
    sys.modules.pop("checked_kernels", None)


def test_the_command(command: Any) -> None:
    before = list(sys.path)
    done = command("checked_kernels:right", "--kind", "linear_mse")
    assert done.exit_code == 0, done.output
    assert re.search(r"(\d+) probes, \1 OK", done.stdout)
    assert command("checked_kernels:Names.product", "--kind", "matmul").exit_code == 0
    failed = command("checked_kernels:wrong", "--dtype", "float64", "--seed", 5)
    assert failed.exit_code == 1
    assert "1/n instead of 2/n" in failed.stdout
    assert sys.path == before


def test_the_command_and_files(command: Any, tmp_path: Path) -> None:
    before = list(sys.path)
    for name in ("folder/random.py:product", "./folder/random.py::product"):
        done = command(name, "--kind", "matmul")
        assert done.exit_code == 0, done.output
    done = command(
        tmp_path / "folder/random.py:scaled", "--kind", "matmul", "--skip", "stacks, nan"
    )
    assert done.exit_code == 1
    assert done.stdout.startswith("stale accumulation, or a factor 2 (matmul")
    assert "Not probed: stacks of matrices, NaN" in done.stdout
    assert sys.path == before
    for name in ("folder/nothing.py:f", "folder:f", "folder/random.py:f", "checked_raises.py:f"):
        done = command(name)
        assert done.exit_code == 2
        assert done.stderr.startswith("Error: ")
    assert "there is no file" in command("nothing.py:f").stderr


def test_the_command_and_names_of_nothing(command: Any) -> None:
    for name in (
        "checked_kernels", "nowhere:f", "checked_kernels:nothing", "checked_kernels:number",
        "checked_syntax:f", "checked_raises:f", "checked_exits:f",
    ):  # fmt: skip
        done = command(name)
        assert done.exit_code == 2, name
        assert done.stderr.startswith("Error: "), name
    assert command("checked_kernels:right", "--dtype", "int8").exit_code == 2


def test_the_command_and_functions_that_exit(command: Any) -> None:
    """Leaving with 0 would say that nothing is wrong."""
    done = command("checked_kernels:leave")
    assert done.exit_code == 1
    assert "checked_kernels:leave called exit(0)" in done.stdout
    for convert in ("sys:exit", "math:sqrt"):
        done = command("checked_kernels:right", "--to", convert)
        assert done.exit_code == 2
        assert f"--to {convert} raised" in " ".join(done.stderr.split())


def test_the_command_and_shapes(command: Any) -> None:
    done = command("checked_kernels:right", "--shapes", "33x7,5x1")
    assert done.exit_code == 0, done.output
    assert "(33, 7)" in done.stdout
    assert "(5, 1)" in done.stdout
    assert "SUSPECT" in command("checked_kernels:right", "--factor", 1e-9).stdout
    for words in ("33by7", "33", "0x7", ""):
        assert command("checked_kernels:right", "--shapes", words).exit_code == 2
    assert command("checked_kernels:right", "--factor", -1).exit_code == 2


def test_the_oracle_imports_only_numpy() -> None:
    source = (
        "import sys, gdcore; print('gdcore.oracle' in sys.modules); "
        "from gdcore import oracle; oracle.matmul([[1.0]], [[1.0]]).check([[1.0]]); "
        "oracle.gradcheck(lambda x: x * x, lambda x: 2 * x, 1.0); "
        "print(sorted({n.partition('.')[0] for n in sys.modules} & "
        "{'torch', 'jax', 'scipy', 'pytest', 'typer', 'hypothesis'}))"
    )
    assert fits.python(source).stdout == "False\n[]\n"


def test_zeros_do_not_hide_what_is_not_finite():
    """0 times NaN or infinity is NaN, and so is infinity minus infinity."""

    def without_zeros_of_X(X, y, w):
        r = (X @ w - y).reshape(len(y), -1)
        terms = np.where(X[:, :, None] == 0, 0, X[:, :, None] * r[:, None])
        return (2 / y.dtype.type(y.size) * terms.sum(0)).reshape(w.shape)

    def without_zero_weights(X, y, w):
        kept = w.reshape(len(w), -1).any(1)
        return X.T @ (X[:, kept] @ w[kept] - y) * X.dtype.type(2 / y.size)

    def nothing_where_equal(pred, target):
        return np.where(pred == target, 0, (pred - target) * pred.dtype.type(2 / pred.size))

    shapes = {"linear_mse": [(7, 3), (7, 3, 2)], "mse": [(5, 33)]}
    for kind, wrong in (
        ("linear_mse", without_zeros_of_X),
        ("linear_mse", without_zero_weights),
        ("mse", nothing_where_equal),
    ):
        with np.errstate(invalid="ignore"), pytest.raises(AssertionError, match="NaN lost"):
            oracle.assert_grad(wrong, kind=kind, shapes=shapes[kind], quiet=True)
        skip = ["nan", "infinity"]
        oracle.assert_grad(wrong, kind=kind, shapes=shapes[kind], quiet=True, skip=skip)
