"""Softmax, logsumexp, cross-entropy: exact values, bounds that right variants keep, causes."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

from gdcore import oracle
from gdcore.oracle import Status
from gdcore.oracle.diagnosis.match import causes_of
from gdcore.oracle.numbers.arithmetic import FORMATS
from gdcore.oracle.numbers.intake import to_numpy
from problems import Array
from softmaxes import (
    DTYPES,
    FAMILIES,
    cross_entropies,
    draw,
    log_softmaxes,
    logsumexps,
    softmaxes,
    summation,
)

torch = pytest.importorskip("torch")
KINDS = (oracle.softmax, oracle.log_softmax, oracle.logsumexp)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"reduction": "sum"},
    {"reduction": "none", "label_smoothing": 0.1},
    {"weight": True},
    {"weight": True, "label_smoothing": 0.25},
    {"weight": True, "label_smoothing": 0.25, "reduction": "sum"},
    {"ignore_index": 2},
    {"ignore_index": -100, "weight": True, "label_smoothing": 0.5, "reduction": "none"},
)


def worst(reference: oracle.Reference, result: Any) -> float:
    """Return the largest error over bound; infinite where NaN and infinities differ."""
    if reference.check(result).worst_status is Status.NONFINITE:
        return math.inf
    value = to_numpy("result", result).astype(np.float64)
    with np.errstate(all="ignore"):
        error = np.abs(value - reference.value - reference.tail)
        ratio = np.where(error > 0, error / reference.bound, 0.0)
    return float(ratio.max(initial=0.0, where=np.isfinite(reference.value)))


def gap(reference: oracle.Reference, value: Any) -> float:
    """Return how far the value is from one of mpmath, over the bound."""
    found = 0.0
    for index, exact in np.ndenumerate(value):
        own = mpmath.mpf(float(reference.value[index])) + mpmath.mpf(float(reference.tail[index]))
        found = max(found, float(abs(own - exact) / mpmath.mpf(float(reference.bound[index]))))
    return found


def exact_rows(x: Array) -> tuple[Array, Array, Array]:
    """Return softmax, its logarithm and logsumexp of rows, by mpmath."""
    e = np.vectorize(lambda v: mpmath.exp(mpmath.mpf(float(v))), otypes=[object])(x)
    total = e.sum(axis=1, keepdims=True)
    lse = np.vectorize(mpmath.log, otypes=[object])(total)
    return e / total, np.vectorize(mpmath.mpf, otypes=[object])(x) - lse, lse[:, 0]


def test_values_against_mpmath(rng: Any) -> None:
    with mpmath.workdps(60):
        for family in ("normal", "large", "offset", "tiny", "steps", "equal", "subnormal"):
            x = draw(rng, family, 2, 9, "float64").numpy()
            g = np.vectorize(mpmath.mpf, otypes=[object])(rng.standard_normal(x.shape))
            p, z, lse = exact_rows(x)
            kinds = {"p": oracle.softmax, "z": oracle.log_softmax}
            grads = {"p": p * (g - (g * p).sum(1, keepdims=True)), "z": g - p * g.sum(1)[:, None]}
            for name, value in (("p", p), ("z", z)):
                ref = kinds[name](x, grad_out=g.astype(np.float64))
                assert gap(ref, value) < 1e-6
                assert gap(ref.grad.x, grads[name]) < 1e-6
            ref = oracle.logsumexp(x, grad_out=g[:, 0].astype(np.float64))
            assert gap(ref, lse) < 1e-6
            assert gap(ref.grad.x, g[:, :1] * p) < 1e-6


def test_cross_entropy_against_mpmath(rng: Any) -> None:
    with mpmath.workdps(60):
        x, target = draw(rng, "offset", 4, 5, "float64").numpy(), np.array([0, 4, 2, 4])
        w, s = rng.uniform(0.5, 2, 5), 0.2
        p, z, _ = exact_rows(x)
        y = np.eye(5)[target] * (target != 2)[:, None]
        t = (y * (1 - mpmath.mpf(s)) + mpmath.mpf(s) / 5) * w * (target != 2)[:, None]
        d = mpmath.fsum(w[target[target != 2]])
        ref = oracle.cross_entropy(x, target, weight=w, label_smoothing=s, ignore_index=2)
        assert gap(ref, np.array(-(t * z).sum() / d)) < 1e-6
        assert gap(ref.grad.logits, (p * t.sum(1, keepdims=True) - t) / d) < 1e-6


@pytest.mark.parametrize("name", DTYPES)
def test_bounds_hold_for_right_variants(rng: Any, name: str) -> None:
    seen: set[str] = set()
    for i, family in enumerate(FAMILIES):
        for n in (1 + i % 3, (17, 30, 40)[i % 3]):
            x = draw(rng, family, 3, n, name)
            sum_, keywords = summation(rng, n), {"dtype": name}
            g = torch.from_numpy(rng.standard_normal(tuple(x.shape))).to(x.dtype)
            soft = oracle.softmax(x, grad_out=g, **keywords)
            log = oracle.log_softmax(x, grad_out=g, **keywords)
            lse = oracle.logsumexp(x, keepdims=True, grad_out=g[:, :1], **keywords)
            for variant, p in softmaxes(rng, x, sum_):
                seen.add(variant)
                assert worst(soft, p) <= 1, (variant, family, n)
                assert worst(soft.grad.x, p * (g - sum_(g * p))) <= 1, (variant, family, n)
                assert worst(log.grad.x, g - p * sum_(g)) <= 1, (variant, family, n)
                assert worst(lse.grad.x, g[:, :1] * p) <= 1, (variant, family, n)
            for variant, z in log_softmaxes(rng, x, sum_):
                assert worst(log, z) <= 1, (variant, family, n)
            for variant, total in logsumexps(rng, x, sum_):
                assert worst(lse, total) <= 1, (variant, family, n)
    assert len(seen) >= 10


@pytest.mark.parametrize("name", DTYPES)
def test_bounds_hold_for_right_cross_entropies(rng: Any, name: str) -> None:
    for i, family in enumerate(FAMILIES):
        for options in (OPTIONS[i % 8], OPTIONS[(3 * i + 1) % 8]):
            x = draw(rng, family, 4, 7, name)
            dense = options.get("ignore_index", -1) < 0 and bool(rng.integers(2))
            y = rng.dirichlet(np.ones(7), 4) if dense else rng.integers(0, 7, 4)
            y = torch.from_numpy(y).to(x.dtype if dense else torch.int64)
            keywords = dict(options)
            if keywords.get("weight"):
                keywords["weight"] = torch.from_numpy(rng.uniform(0.1, 2, 7)).to(x.dtype)
            ref = oracle.cross_entropy(x, y, dtype=name, **keywords)
            for variant, loss, grad in cross_entropies(rng, x, y, summation(rng, 7), **keywords):
                if loss is not None:
                    assert worst(ref, loss) <= 1, (variant, family, options)
                if grad is not None:
                    assert worst(ref.grad.logits, grad) <= 1, (variant, family, options)


def test_accumulators_and_long_rows(rng: Any) -> None:
    for name in ("float16", "bfloat16", "float32"):
        keywords = {"dtype": name, "accumulator": "float64" if name == "float32" else "float32"}
        for n in (33, 100_000 if name == "float32" else 5000):
            x = draw(rng, "normal", 1, n, name)
            wide = x.to(getattr(torch, keywords["accumulator"]))
            for f, kind in (
                (torch.softmax, oracle.softmax),
                (torch.log_softmax, oracle.log_softmax),
            ):
                assert worst(kind(x, **keywords), f(wide, -1).to(x.dtype)) <= 1
                assert worst(kind(x, **keywords), f(x, -1)) <= 1
            lse = oracle.logsumexp(x, **keywords)
            assert worst(lse, torch.logsumexp(wide, -1).to(x.dtype)) <= 1
            assert np.isfinite(lse.bound).all()


def test_values_and_gradients_are_torch_s(rng: Any) -> None:
    """Everything that torch's functions define, in float64."""
    for axis in (0, 1, 2, -1):
        x = torch.from_numpy(rng.standard_normal((3, 4, 5))).requires_grad_()
        for kind, f in zip(KINDS, (torch.softmax, torch.log_softmax, torch.logsumexp), strict=True):
            x.grad = None
            right = f(x, axis)
            g = torch.from_numpy(rng.standard_normal(tuple(right.shape)))
            right.backward(g)
            ref = kind(x, axis, grad_out=g)
            assert ref.value.shape == tuple(right.shape)
            assert worst(ref, right) <= 1
            assert worst(ref.grad.x, x.grad) <= 1
    kept = oracle.logsumexp(x, 1, keepdims=True, grad_out=np.ones((3, 1, 5)))
    assert kept.value.shape == (3, 1, 5)
    assert kept.grad.x.value.shape == (3, 4, 5)


@pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 6, 3), (2, 6, 2, 2), (0, 6)])
def test_cross_entropy_is_torch_s(rng: Any, shape: tuple[int, ...]) -> None:
    rest = shape[:1] + shape[2:] if len(shape) > 1 else ()
    for options in OPTIONS:
        keywords = dict(options)
        if keywords.get("weight"):
            keywords["weight"] = torch.from_numpy(rng.uniform(0.1, 2, 6))
        for dense in (False, True):
            if dense and keywords.get("ignore_index", -1) >= 0:
                continue
            y = torch.from_numpy(
                rng.uniform(0, 1, shape) if dense else np.asarray(rng.integers(0, 6, rest))
            )
            x = torch.from_numpy(rng.standard_normal(shape)).requires_grad_()
            loss = torch.nn.functional.cross_entropy(x, y, **keywords)
            g = torch.from_numpy(np.asarray(rng.standard_normal(tuple(loss.shape))))
            loss.backward(g)
            ref = oracle.cross_entropy(x, y, grad_out=g, **keywords)
            assert worst(ref, loss) <= 1
            assert worst(ref.grad.logits, x.grad) <= 1


def test_infinite_and_missing_numbers() -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[-inf] * 3, [1, 2, inf], [1, nan, 2], [0, 1, -inf]])
    t = torch.from_numpy(x)
    assert worst(oracle.softmax(x), torch.softmax(t, -1)) <= 1
    assert worst(oracle.log_softmax(x), torch.log_softmax(t, -1)) <= 1
    assert worst(oracle.logsumexp(x), torch.logsumexp(t, -1)) <= 1
    right = torch.softmax(t, -1).numpy()
    for wrong in (np.nan_to_num(right), np.where(np.isnan(right), 1 / 3, right)):
        verdict = oracle.softmax(x).check(wrong)
        assert verdict.worst_status is Status.NONFINITE
    leaked = right.copy()
    leaked[3, 2] = 1e-320  # of a masked element nothing may be left
    assert oracle.softmax(x).check(leaked).worst_status is Status.WRONG
    for target in (0, 2, [0.5, 0.5, 0.0]):
        z = torch.tensor([0.0, 1.0, -inf], dtype=torch.float64)
        y = torch.tensor(target, dtype=torch.float64 if isinstance(target, list) else torch.int64)
        loss = torch.nn.functional.cross_entropy(z, y)
        assert worst(oracle.cross_entropy(z, y), loss) <= 1
    empty = oracle.cross_entropy(np.zeros((0, 3)), np.zeros(0))
    assert np.isnan(empty.value)
    ignored = oracle.cross_entropy(np.zeros((2, 3)), [-100, -100])
    assert np.isnan(ignored.value)
    assert ignored.grad.logits.check(np.zeros((2, 3))).ok
    assert oracle.softmax(np.zeros((2, 0))).value.shape == (2, 0)
    assert oracle.softmax(np.zeros((0, 2))).check(np.zeros((0, 2))).ok
    assert np.array_equal(oracle.logsumexp(np.zeros((2, 0))).value, [-inf, -inf])


def test_subtraction_is_usual_and_logsumexp_suspect() -> None:
    rng = np.random.default_rng(3)
    x = torch.from_numpy(rng.standard_normal((8, 50)) + 3000).float()
    ref = oracle.softmax(x)
    assert ref.check(torch.softmax(x, -1)).worst_status is Status.OK
    other = ref.check(torch.exp(x - torch.logsumexp(x, -1, keepdim=True)))
    assert other.worst_status is Status.SUSPECT
    assert oracle.log_softmax(x).check(torch.log_softmax(x, -1)).worst_status is Status.OK


def test_long_sums_in_the_dtype_are_right(rng: Any) -> None:
    """One addition after the other in bfloat16: far off, as every such sum."""
    x = draw(rng, "normal", 1000, 3, "bfloat16")
    loss = -torch.log_softmax(x, -1)[:, 0]
    total = torch.zeros((), dtype=x.dtype)
    for one in loss:
        total = total + one
    ref = oracle.cross_entropy(x, np.zeros(1000), reduction="sum")
    assert abs(float(total) - float(ref.value)) > 0.2 * float(ref.value)
    assert worst(ref, total) <= 1
    assert (
        not oracle.cross_entropy(x, np.zeros(1000), reduction="sum", accumulator="float32")
        .check(total)
        .ok
    )


def test_flushed_exponentials_are_right() -> None:
    x = np.array([0.0, -95.0, -88.0], np.float32)
    right = np.exp(x.astype(np.float64))
    ref = oracle.softmax(x, grad_out=[0.0, 1.0, 1.0], dtype="float32")
    flushed = np.where(right < 2.0**-126, 0.0, right)
    assert flushed[1] == 0.0 < ref.value[1]
    assert ref.check(flushed).ok
    assert ref.grad.x.check([-flushed[2], 0.0, flushed[2]]).ok
    half = oracle.softmax([0.0, -12.0], dtype="float16")  # not in float16
    assert not half.check([1.0, 0.0]).ok


def test_bounds_are_not_idle(rng: Any) -> None:
    """A result that is off by twice the bound is WRONG, and bounds are small where data are."""
    x = rng.standard_normal((4, 30)).astype(np.float32)
    g = rng.standard_normal((4, 30)).astype(np.float32)
    ce = oracle.cross_entropy(x, [0, 1, 2, 3])
    for ref in (*(kind(x) for kind in KINDS), ce, oracle.softmax(x, grad_out=g).grad.x):
        assert ref.check(ref.value + 2 * ref.bound).count(Status.WRONG) == ref.value.size
        assert ref.check(ref.value).ok
    unit = FORMATS["float32"].unit
    assert np.all(oracle.softmax(x).bound <= 250 * unit * oracle.softmax(x).value)
    assert float(ce.bound) <= 400 * unit * float(ce.value)


def causes(reference: oracle.Reference, wrong: Any) -> list[str]:
    verdict = reference.check(wrong)
    assert not verdict.ok
    return [cause.name for cause in causes_of(wrong, reference, verdict)]


def shares(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    result: Array = e / e.sum(axis, keepdims=True)
    return result


def test_causes_of_wrong_softmaxes() -> None:
    rng = np.random.default_rng(1)
    x = (2 * rng.standard_normal((6, 37))).astype(np.float32)
    p, e = shares(x), np.exp(x - x.max(-1, keepdims=True))
    log = np.log(p)
    log_2 = np.log(np.float32(2))
    lse = np.log(np.exp(x).sum(-1))
    soft, logs, sums = oracle.softmax(x), oracle.log_softmax(x), oracle.logsumexp(x)
    half = x.astype(np.float16).astype(np.float32)
    running = np.maximum.accumulate(x, axis=1)[:, np.minimum(np.arange(37) // 8 * 8 + 7, 36)]
    for reference, wrong, cause in (
        (soft, shares(x, 0), "taken along axis 0 instead of axis 1"),
        (soft, e, "the division by the sum is missing"),
        (soft, shares(x * log_2), "powers of 2 in place of e"),
        (soft, log, "the logarithm of softmax, where softmax is asked for"),
        (soft, -p, "the sign is wrong"),
        (soft, e / e[:, :-1].sum(-1, keepdims=True), "the last element of a row"),
        (soft, e / e[:, :28].sum(-1, keepdims=True), "the last block of 9 of a row"),
        (soft, np.exp(x) / np.exp(x).sum(), "taken over all 222 elements"),
        (soft, e / np.exp(x - running).sum(-1, keepdims=True), "not rescaled"),
        (soft, shares(half), "x is rounded through float16"),
        (logs, p, "softmax, where its logarithm is asked for"),
        (logs, x - x.max(-1, keepdims=True), "the logarithm of the sum is not subtracted"),
        (logs, log / log_2, "the logarithm to base 2"),
        (sums, lse - x.max(-1), "the largest element is not added back"),
        (sums, x.max(-1), "the largest element alone"),
        (sums, np.log(np.exp(x[:, :32]).sum(-1)), "the last block of 5 of a row"),
    ):
        assert any(cause in name for name in causes(reference, wrong)), cause
    large = 40 * x
    with np.errstate(all="ignore"):
        naive = np.exp(large) / np.exp(large).sum(-1, keepdims=True)
        cause = "the largest element is not subtracted"
        assert cause in causes(oracle.softmax(large), naive)[0]
        other = np.exp(large - large.max(0))
        found = causes(oracle.softmax(large), other / other.sum(-1, keepdims=True))
        assert "the largest element along axis 0" in found[0]
        of_soft = causes(oracle.log_softmax(large), np.log(shares(large)))
    assert "the logarithm of softmax, which vanishes" in of_soft[0]


def test_causes_of_wrong_derivatives() -> None:
    rng = np.random.default_rng(2)
    x, g = rng.standard_normal((2, 6, 37)).astype(np.float32)
    p, dot = shares(x), (shares(x) * g).sum(-1, keepdims=True)
    soft, logs = (kind(x, grad_out=g).grad.x for kind in KINDS[:2])
    sums = oracle.logsumexp(x, grad_out=g[:, 0]).grad.x
    for reference, wrong, cause in (
        (soft, p * g, "the projection is missing"),
        (soft, p * (1 - p) * g, "the diagonal of the Jacobian alone"),
        (soft, p * (g - g.sum(-1, keepdims=True)), "sum(g) in place of sum(p g)"),
        (soft, p * (g + dot), "sum(p g) is added"),
        (soft, p * (g - (g * p).sum(0)), "sum(p g) runs along axis 0"),
        (soft, g - p * g.sum(-1, keepdims=True), "the derivative of log-softmax"),
        (logs, g, "the projection is missing"),
        (logs, g - p, "the sum of g is missing"),
        (logs, p * (g - dot), "the derivative of softmax"),
        (sums, p, "grad_out is missing"),
        (sums, g[:, :1] + 0 * x, "softmax is missing"),
    ):
        assert any(cause in name for name in causes(reference, wrong)), cause


def test_causes_of_wrong_cross_entropies() -> None:
    rng = np.random.default_rng(5)
    classes, t = 37, np.array([3, 5, -100, 8, 0, 36])
    x = 2 * rng.standard_normal((6, classes))
    w, kept = rng.uniform(0.2, 2, classes), t != -100
    x, w = x.astype(np.float32), w.astype(np.float32)
    y = np.eye(classes)[t % classes]
    z = np.log(shares(x.astype(np.float64)))

    def made(
        s: float = 0.1,
        weight: Any = w,
        keep: Any = kept,
        d: float = 0,
        spread: Any = None,
        y: Any = y,
    ) -> tuple[Array, Array]:
        spread = s / classes if spread is None else spread
        T = ((1 - s) * y + spread) * weight * keep[:, None]
        d = d or float((y * weight).sum(1)[keep].sum())
        loss = np.float32(-(T * z).sum() / d)
        return loss, ((np.exp(z) * T.sum(1, keepdims=True) - T) / d).astype(np.float32)

    ref = oracle.cross_entropy(x, t, weight=w, label_smoothing=0.1)
    assert ref.check(made()[0]).ok
    assert ref.grad.logits.check(made()[1]).ok
    for wrong, cause in (
        (made(s=0.0), "the label smoothing is missing"),
        (made(spread=0.1 / 36 * (1 - y)), "the other 36 classes alone"),
        (made(s=0.0, spread=0.1 / classes), "1 - s is missing"),
        (made(weight=np.ones(classes)), "the class weights are missing"),
        (made(d=5.0), "the mean is over the rows"),
        (made(d=6.0), "ignored rows are counted in the mean"),
        (made(keep=np.ones(6, bool)), "the ignored class is not ignored"),
        (made(d=1.0), "a sum, where the reduction is a mean"),
        (made(y=np.roll(y, 1, axis=1)), "classes are numbered"),
    ):
        assert any(cause in name for name in causes(ref, wrong[0])), cause
        assert any(cause in name for name in causes(ref.grad.logits, wrong[1])), cause
    ref, at, p = oracle.cross_entropy(x, t), (np.arange(6)[kept], t[kept]), shares(x)
    y = y * kept[:, None]
    for wrong, cause in (
        (-z[at].mean() / np.log(2), "the logarithm to base 2"),
        (z[at].mean(), "the sign is wrong"),
        (-x[at].mean(), "log-softmax is missing"),
        (-p[at].mean(), "the logarithm is missing"),
        (-np.log(shares(p))[at].mean(), "softmax is applied twice"),
        (-z[at][:-1].sum() / 5, "the last of the N = 6 rows is dropped"),
    ):
        assert any(cause in name for name in causes(ref, np.float32(wrong))), cause
    for wrong, cause in (
        (p * kept[:, None] / 5, "the target is not subtracted"),
        ((x * kept[:, None] - y) / 5, "softmax is missing"),
        (p * kept[:, None] - y, "a missing 1/5"),
        ((p - y) / 5, "the derivative of ignored rows is not 0"),
    ):
        assert any(cause in name for name in causes(ref.grad.logits, wrong)), cause
    large = 60 * x
    with np.errstate(all="ignore"):
        of_soft = -np.log(shares(large))[at].mean()
    assert any("which vanishes" in name for name in causes(oracle.cross_entropy(large, t), of_soft))


def test_what_is_refused() -> None:
    x = np.zeros((2, 3))
    for call, words in (
        (lambda: oracle.softmax(0.0), "a scalar"),
        (lambda: oracle.softmax(x, 2), "from -2 to 1"),
        (lambda: oracle.softmax(x, grad_out=[1.0]), "grad_out has shape"),
        (lambda: oracle.cross_entropy(x, [0, 3]), "is not a class from 0 to 2"),
        (lambda: oracle.cross_entropy(x, [0.0, 0.5]), "is not a class"),
        (lambda: oracle.cross_entropy(x, [0]), "the target has shape"),
        (lambda: oracle.cross_entropy(x, [0, 1], weight=[1.0]), "weight has shape"),
        (lambda: oracle.cross_entropy(x, [0, 1], reduction="all"), "choose one of"),
        (lambda: oracle.cross_entropy(x, [0, 1], label_smoothing=2), "from 0 to 1"),
        (lambda: oracle.cross_entropy(x, [0, 1], grad_out=[1.0]), "grad_out has shape"),
        (lambda: oracle.cross_entropy(x, x, ignore_index=1), "not for probabilities"),
        (lambda: oracle.cross_entropy(0.0, 0), "a scalar"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(TypeError, match="holds integers"):
        oracle.cross_entropy(x, np.zeros((2, 3), np.int64))
