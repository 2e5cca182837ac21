"""Right functions of every kind pass, values and gradients; mistakes fail by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gdcore import oracle
from gdcore.oracle.numbers.arithmetic import arithmetic_of
from gdcore.oracle.probing.families import FAMILIES, large_in
from gdcore.oracle.probing.kind import Settings
from gdcore.oracle.probing.kinds import KINDS, kind_of

NEW = [name for name in KINDS if name not in ("linear_mse", "mse", "matmul")]
FEW: dict[str, Any] = {
    "linear": [(4, 8, 2), (2, 3, 5, 4)],
    "attention": [(1, 1, 3, 4, 4), (1, 2, 5, 7, 4)],
}


def few(kind: str) -> Any:
    """Return shapes so few that a test of all kinds takes seconds."""
    return FEW.get(kind, [(4, 8), (3, 9)])


def check(fn: Any, kind: str, **keywords: Any) -> oracle.ProbeReport:
    return oracle.assert_grad(fn, kind, **({"quiet": True, "shapes": few(kind)} | keywords))


@pytest.fixture(scope="module")
def functions(torch: Any) -> dict[str, Callable[..., Any]]:
    F = torch.nn.functional
    return {
        "sum": lambda x: x.sum(-1),
        "mean": lambda x: x.mean(-1),
        "var": lambda x: x.var(-1, correction=0),
        "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1),
        "logsumexp": lambda x: torch.logsumexp(x, -1),
        "cross_entropy": F.cross_entropy,
        "layer_norm": lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b),
        "rms_norm": lambda x, w: F.rms_norm(x, x.shape[-1:], w),
        "linear": F.linear,
        "gelu": F.gelu,
        "attention": F.scaled_dot_product_attention,
    }


def gradients_of(torch: Any, fn: Any) -> Any:
    """Return torch's own derivatives of a function, as ``fn(*operands, grad_out)``."""

    def backward(*given: Any, **more: Any) -> Any:
        *operands, grad_out = given
        leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in operands]
        wanted = [x for x in leaves if x.requires_grad]
        found = torch.autograd.grad(fn(*leaves, **more), wanted, grad_out)
        return found if len(found) > 1 else found[0]

    return backward


def as_bfloat16(torch: Any) -> Any:
    def to(x: Any) -> Any:
        tensor = torch.from_numpy(np.ascontiguousarray(x)).reshape(x.shape)
        return tensor.bfloat16() if tensor.is_floating_point() else tensor

    return to


def test_every_kind_has_a_right_function(functions: Any) -> None:
    assert sorted(functions) == sorted(NEW)


def test_right_functions_pass(torch: Any, functions: Any) -> None:
    for number, (kind, fn) in enumerate(functions.items()):
        dtypes = ("float32", "float64")[:: 1 - 2 * (number % 2)]
        report = check(fn, kind, dtype=dtypes[0], to=torch.from_numpy)
        assert report.worst_status is oracle.Status.OK, f"{kind} {dtypes[0]}\n{report}"
        backward = gradients_of(torch, fn)
        report = check(backward, kind, dtype=dtypes[1], to=torch.from_numpy, grad_out=True)
        assert report.worst_status is oracle.Status.OK, f"{kind} {dtypes[1]} gradients\n{report}"
        assert "gradients" not in report.not_probed


def test_right_functions_pass_in_bfloat16(torch: Any, functions: Any) -> None:
    for number, (kind, fn) in enumerate(functions.items()):
        options: Any = {"dtype": "bfloat16", "accumulator": "float32", "to": as_bfloat16(torch)}
        called = gradients_of(torch, fn) if number % 2 else fn
        report = check(called, kind, shapes=few(kind)[1:], grad_out=bool(number % 2), **options)
        assert report.ok, f"{kind}\n{report}"


def test_the_usual_probes_of_every_kind(torch: Any, functions: Any) -> None:
    """Of the default shapes, the long ones included."""
    for kind, fn in functions.items():
        report = oracle.assert_grad(fn, kind, to=torch.from_numpy, quiet=True)
        assert report.ok, f"{kind}\n{report}"
        probes = {row.probe for row in report.rows}
        assert len(report.rows) > 40, kind
        assert {"random", "every second", "columns first", "subnormal"} <= probes, kind
        assert any(name.startswith("NaN") for name in probes), kind
        assert any("inf" in name for name in probes) or kind == "gelu", kind
        families = set(FAMILIES) if kind != "linear" else {"cancelling", "zero", "huge", "tiny"}
        assert families <= probes, kind


def test_exact_probes() -> None:
    """On them a rounding more is seen."""
    exact = {"sum", "mean", "softmax", "linear", "attention", "gelu"}
    for kind in exact:
        names = [probe.name for probe in kind_of(kind, Settings()).probes(None, 0) if probe.exact]
        assert len(names) > 3, kind
    for kind in ("sum", "mean", "softmax", "log_softmax", "logsumexp", "linear"):
        settings = Settings(grad_out=True)
        assert any(probe.exact for probe in kind_of(kind, settings).probes(None, 0)), kind


def test_probes_are_repeatable_and_held_by_the_dtype() -> None:
    for kind in NEW:
        for dtype in ("float16", "bfloat16", "float64"):
            settings = Settings(dtype=dtype)
            first, second, third = (
                list(kind_of(kind, settings).probes(few(kind), seed)) for seed in (3, 3, 4)
            )
            assert len(first) == len(second) == len(third)
            same = [
                all(np.array_equal(x, y, equal_nan=True) for x, y in zip(
                    a.operands.values(), b.operands.values(), strict=True
                ))
                for a, b in zip(first, second, strict=True)
            ]  # fmt: skip
            assert all(same)
            assert any(
                not np.array_equal(next(iter(a.operands.values())), next(iter(b.operands.values())))
                for a, b in zip(first, third, strict=True)
            )
            for probe in first:
                for x in probe.operands.values():
                    finite = x.dtype.kind != "f" or not (
                        np.isinf(x).any() and "infinity" not in probe.groups
                    )
                    assert finite, f"{kind} {dtype} {probe.description}"


def test_families_of_data() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("float64", "float16"):
        store = arithmetic_of(dtype).store
        for name, draw in FAMILIES.items():
            for shape in ((), (1,), (5, 7), (2, 3, 4)):
                x = draw(rng, shape, large_in(store))
                assert x.shape == shape, name
                assert np.abs(x).max(initial=0) < store.largest, name


# Mistakes, each with the words that the message begins with.


def soft(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def normed(x: Any, w: Any, b: Any, eps: float = 1e-5, ddof: int = 0) -> Any:
    d = x - x.mean(-1, keepdims=True)
    v = (d * d).sum(-1, keepdims=True) / x.dtype.type(max(x.shape[-1] - ddof, 1))
    return d / np.sqrt(v + x.dtype.type(eps)) * w + b


def rms(x: Any, w: Any) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.finfo(x.dtype).eps) * w


def attend(q: Any, k: Any, v: Any) -> Any:
    return soft(q @ np.swapaxes(k, -1, -2) / np.sqrt(q.dtype.type(q.shape[-1]))) @ v


def picked(x: Any, target: Any) -> Any:
    top = x.max(-1)
    lse = top + np.log(np.exp(x - top[:, None]).sum(-1))
    kept = target != -100
    return (lse - x[np.arange(len(x)), np.where(kept, target, 0)]) * kept, kept


def half(x: Any) -> Any:
    return x.astype(np.float16).astype(x.dtype)


def tail_of(x: Any) -> Any:
    return x[..., : x.shape[-1] - x.shape[-1] % 4]


def rooted(x: Any, w: Any) -> Any:
    """RMS norm with eps outside the root."""
    return x / (np.sqrt((x * x).mean(-1, keepdims=True)) + np.finfo(x.dtype).eps) * w


def with_tanh(x: Any) -> Any:
    t = x.dtype.type
    return t(0.5) * x * (1 + np.tanh(t(np.sqrt(2 / np.pi)) * (x + t(0.044715) * x**3)))


def unbiased(x: Any) -> Any:
    return x.var(-1, ddof=min(1, x.shape[-1] - 1))


def unshifted(x: Any) -> Any:
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def powers(x: Any) -> Any:
    return np.exp(x - x.max(-1, keepdims=True))


MISTAKES: dict[str, list[tuple[str, Any]]] = {
    "softmax": [
        ("the largest element is not subtracted", unshifted),
        ("taken along axis 0 instead of axis 1", lambda x: soft(x.swapaxes(0, 1)).swapaxes(0, 1)),
        ("the division by the sum is missing", powers),
        ("the result is rounded through float16", lambda x: half(soft(x))),
    ],
    "log_softmax": [
        ("the sign is wrong", lambda x: np.log(powers(x).sum(-1)[:, None]) - np.log(powers(x)))
    ],
    "logsumexp": [("the largest element is not subtracted", lambda x: np.log(np.exp(x).sum(-1)))],
    "cross_entropy": [
        ("a sum, where the reduction is a mean", lambda x, t: picked(x, t)[0].sum()),
        ("ignored rows are counted in the mean", lambda x, t: picked(x, t)[0].mean()),
    ],
    "layer_norm": [
        ("the variance is divided by n - 1", lambda x, w, b: normed(x, w, b, ddof=1)),
        ("eps is 0.001 instead of 1e-05", lambda x, w, b: normed(x, w, b, eps=1e-3)),
        ("the bias is missing", lambda x, w, b: normed(x, w, 0)),
    ],
    "rms_norm": [("eps is outside the root", rooted)],
    "sum": [("the last of the n = ", lambda x: x[..., :-1].sum(-1))],
    "mean": [
        ("a sum, where it is a mean", lambda x: x.sum(-1)),
        ("taken along axis 0 instead of axis 1", lambda x: x.mean(0)),
    ],
    "var": [
        ("the variance is unbiased", unbiased),
        ("a variance in one pass", lambda x: (x * x).mean(-1) - x.mean(-1) ** 2),
    ],
    "linear": [
        ("the bias is missing", lambda x, w, b: x @ w.T),
        ("x is rounded through float16", lambda x, w, b: half(x) @ w.T + b),
    ],
    "gelu": [
        ("x * sigmoid(1.702 x)", lambda x: x / (1 + np.exp(-x.dtype.type(1.702) * x))),
        ("the approximation with tanh", with_tanh),
    ],
    "attention": [
        ("the scale 1/sqrt(4) is missing", lambda q, k, v: soft(q @ k.swapaxes(-1, -2)) @ v),
        ("the last key is dropped", lambda q, k, v: attend(q, k[..., :-1, :], v[..., :-1, :])),
    ],
}


def test_the_formulas_that_mistakes_are_made_of_are_right() -> None:
    for kind, fn in {
        "softmax": soft,
        "layer_norm": normed,
        "rms_norm": rms,
        "attention": attend,
        "cross_entropy": lambda x, t: picked(x, t)[0].sum() / x.dtype.type(picked(x, t)[1].sum()),
    }.items():
        with np.errstate(all="ignore"):
            assert check(fn, kind).ok, kind


def test_mistakes_fail_by_name() -> None:
    shapes: dict[str, Any] = {"linear": [(4, 8, 2)], "attention": [(1, 2, 5, 8, 4)]}
    for kind, mistakes in MISTAKES.items():
        for words, fn in mistakes:
            with np.errstate(all="ignore"), pytest.raises(AssertionError) as error:
                check(fn, kind, shapes=shapes.get(kind, [(4, 33)]))
            first = str(error.value).splitlines()[0]
            assert words in first.partition(" (")[0].partition(": fn")[0], f"{kind}: {first}"


def test_mistakes_of_gradients_fail_by_name() -> None:
    with pytest.raises(AssertionError, match=r"^the projection is missing"):
        check(lambda x, g: soft(x) * g, "softmax", grad_out=True, shapes=[(4, 33)])


def test_settings_that_make_no_sense() -> None:
    for kind, options in (
        ("softmax", {"operands": ("weight",)}),
        ("softmax", {"options": {"eps": 1e-5}}),
        ("layer_norm", {"operands": ("offset",)}),
        ("cross_entropy", {"reduction": "half_mean"}),
        ("linear", {"shapes": [(3, 4)]}),
        ("attention", {"shapes": (1, 2, 3, 4)}),
        ("cross_entropy", {"shapes": [(3,)]}),
        ("mse", {"grad_out": True}),
        ("conv", {}),
    ):
        with pytest.raises(ValueError, match=r"\.$"):
            oracle.assert_grad(lambda *a: a[0], kind, **options)


def test_the_command_knows_every_kind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from gdcore import cli
    from gdcore.cli.check import Kind

    assert {kind.value for kind in Kind} == set(KINDS)
    (tmp_path / "norms.py").write_text(
        "import numpy as np\n"
        "def norm(x, weight):\n"
        "    root = np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(1e-3))\n"
        "    return x / root * weight\n"
    )
    monkeypatch.chdir(tmp_path)
    common = ["check", "norms.py:norm", "--kind", "rms_norm", "--shapes", "3x8"]
    run = CliRunner().invoke
    done = run(cli.build_app(), [*common, "--option", "eps=1e-3"])
    assert done.exit_code == 0, done.output
    assert "rms_norm, float32" in done.stdout
    done = run(cli.build_app(), common)
    assert done.exit_code == 1
    assert done.stdout.startswith("eps is 0.001")
    for wrong in (["--option", "eps"], ["--option", "axis=0"], ["--operands", "bias"]):
        assert run(cli.build_app(), [*common, *wrong]).exit_code == 2, wrong


def test_the_fixture_takes_kinds() -> None:
    from pytest_gdcore import GradientOracle

    fixture = GradientOracle({"shapes": [(4, 8)]})
    assert fixture(soft, kind="softmax").ok
    assert fixture.counts["functions"] == 1
    with pytest.raises(AssertionError, match=r"^the division by the sum is missing"):
        fixture(powers, kind="softmax")


def test_options_and_operands(torch: Any) -> None:
    F = torch.nn.functional
    to = torch.from_numpy
    check(lambda x: torch.softmax(x, 0), "softmax", to=to, options={"axis": 0})
    check(lambda x: x.var(0), "var", to=to, options={"axis": 0, "correction": 1})
    check(lambda x: F.layer_norm(x, x.shape[-1:]), "layer_norm", to=to, operands=())
    check(lambda x: F.gelu(x, approximate="tanh"), "gelu", to=to, options={"approximate": "tanh"})
    check(
        lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask),
        "attention", to=to, operands=("mask",), skip=("nan", "infinity"),
    )  # fmt: skip
    check(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True),
        "attention", to=to, options={"causal": True}, skip=("nan", "infinity"),
    )  # fmt: skip
    for reduction in ("sum", "none"):
        check(
            lambda x, t, weight, r=reduction: F.cross_entropy(
                x, t, weight, reduction=r, label_smoothing=0.1
            ),
            "cross_entropy", to=to, reduction=reduction, operands=("weight",),
            options={"label_smoothing": 0.1},
        )  # fmt: skip
    check(F.cross_entropy, "cross_entropy", to=to, options={"probabilities": True})
