"""`oracle.like`: right variants pass, faults are found, and what cannot be asked is said."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gdcore.oracle import Likeness, like
from gdcore.oracle.trials.examine import Examination, examine
from gdcore.oracle.trials.findings import Ruling
from gdcore.oracle.trials.in_process import InProcess
from gdcore.oracle.trials.operand import Operand

SHAPE = (24, 40)
FEW = ("as given", "normal", "large", "cancelling", "transposed views", "zeros")


def softmax(x: Any) -> Any:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def matmul(a: Any, b: Any) -> Any:
    return a @ b


def layer_norm(x: Any, g: Any, b: Any) -> Any:
    d = x - x.mean(-1, keepdims=True)
    return d / np.sqrt((d * d).mean(-1, keepdims=True) + x.dtype.type(1e-5)) * g + b


def total(x: Any) -> Any:
    return x.sum(-1)


def tried(kernel: Any, golden: Any, *shapes: Any, **options: Any) -> Examination:
    """Examine in this process, which is quick."""
    dtype = options.pop("dtype", "float32")
    rng = np.random.default_rng(5)
    template = [Operand.of(rng.standard_normal(shape), dtype) for shape in shapes]
    runners = InProcess(kernel), InProcess(lambda *a: np.array(golden(*a)))
    return examine(*runners, None, template, **options)


def kinds(found: Examination | Likeness) -> set[str]:
    return {finding.kind for finding in found.findings}


# ---- right variants --------------------------------------------------------------------


def blocked_sum(x: Any) -> Any:
    parts = [x[..., i : i + 7].sum(-1) for i in range(0, x.shape[-1], 7)]
    return np.sum(parts, 0, dtype=x.dtype)


def online_softmax(x: Any) -> Any:
    top = np.full((*x.shape[:-1], 1), -np.inf, x.dtype)
    total = np.zeros_like(top)
    for i in range(0, x.shape[-1], 9):
        part = x[..., i : i + 9]
        new = np.maximum(top, part.max(-1, keepdims=True))
        safe = np.where(np.isinf(new), 0, new).astype(x.dtype)
        total = total * np.exp(top - safe) + np.exp(part - safe).sum(-1, keepdims=True)
        top = new
    return np.exp(x - top) / total


def outer_matmul(a: Any, b: Any) -> Any:
    c = np.zeros((a.shape[0], b.shape[1]), a.dtype)
    for k in range(a.shape[1]):
        c += a[:, k : k + 1] * b[k]
    return c


def one_multiplication(x: Any, g: Any, b: Any) -> Any:
    d = x - x.mean(-1, keepdims=True)
    return d * (1 / np.sqrt((d * d).mean(-1, keepdims=True) + x.dtype.type(1e-5))) * g + b


RIGHT = [
    (softmax, softmax, [SHAPE]),
    (online_softmax, softmax, [SHAPE]),
    (outer_matmul, matmul, [(24, 40), (40, 10)]),
    (lambda a, b: (b.T @ a.T).T, matmul, [(24, 40), (40, 10)]),
    (one_multiplication, layer_norm, [SHAPE, (40,), (40,)]),
    (blocked_sum, total, [SHAPE]),
    (lambda x: x[..., ::-1].sum(-1), total, [SHAPE]),
]


def test_right_variants_are_right() -> None:
    for dtype, (kernel, golden, shapes) in itertools.product(("float32", "float64"), RIGHT):
        found = tried(kernel, golden, *shapes, dtype=dtype, draws=4, sizes=["given", "odd"])
        graver = [f for f in found.findings if f.ruling is not Ruling.SUSPICIOUS]
        assert not graver, (dtype, kernel, found.why)
        assert len(found.findings) <= 2, (dtype, kernel, found.findings)
        assert found.calls >= 4 * len(found.tried) > 100


def test_sixteen_bits_with_sums_in_float32_are_right() -> None:
    def kernel(x: Any) -> Any:
        return softmax(x.astype(np.float32)).astype(x.dtype)

    found = tried(kernel, softmax, SHAPE, dtype="float16", draws=4, sizes=["given", "one"])
    assert found.ruling is Ruling.RIGHT, found.why
    options: dict[str, Any] = dict(dtype="float16", families=["normal"], draws=4)
    narrow = tried(lambda x: softmax(x).round(3), softmax, SHAPE, **options)
    assert narrow.ruling is Ruling.WRONG


# ---- mistakes --------------------------------------------------------------------------


def last_column_dropped(x: Any) -> Any:
    return x[..., :-1].sum(-1) if x.shape[-1] > 1 else x.sum(-1)


def small_bias(x: Any) -> Any:
    return x.sum(-1) + x.dtype.type(1e-6)


def unscaled(x: Any) -> Any:
    return (x.sum(-1) * x.dtype.type(0.5)).astype(x.dtype)


def rounded_operand(a: Any, b: Any) -> Any:
    return a.astype(np.float16).astype(a.dtype) @ b


def ignores_strides(x: Any) -> Any:
    flat = np.lib.stride_tricks.as_strided(x, (x.size,), (x.itemsize,))
    return flat.reshape(x.shape).sum(-1)


def only_even(x: Any) -> Any:
    return np.add.reduce(x[..., : x.shape[-1] // 2 * 2 or 1], -1)


def nan_for_inf(x: Any) -> Any:
    y = x.sum(-1)
    return np.where(np.isinf(y), np.nan, y).astype(x.dtype)


MISTAKES = [
    (lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True), softmax, [SHAPE], "NaN"),
    (last_column_dropped, total, [SHAPE], ""),
    (small_bias, total, [SHAPE], "1e-06 more than it should be everywhere"),
    (unscaled, total, [SHAPE], "0.5 times what it should be"),
    (lambda x: np.full_like(x.sum(-1), 0.5), total, [SHAPE], "all elements are 0.5"),
    (rounded_operand, matmul, [(24, 40), (40, 10)], "argument 0 rounded to float16"),
    (ignores_strides, total, [SHAPE], "views"),
    (only_even, total, [SHAPE], "odd"),
    (nan_for_inf, total, [SHAPE], "NaN where golden is infinite"),
    (lambda x: softmax(x).astype(np.float16).astype(x.dtype), softmax, [SHAPE], "rounded to"),
]


def test_mistakes_are_wrong_and_say_what_they_look_like() -> None:
    for kernel, golden, shapes, cause in MISTAKES:
        found = tried(kernel, golden, *shapes, draws=3, sizes=["given", "odd"])
        text = found.why + " ".join(f.sentence for f in found.findings)
        assert found.ruling is Ruling.WRONG, (kernel, found.why)
        assert cause in text, (kernel, text)
        worst = found.findings[0]
        assert worst.family
        assert worst.size
        assert worst.units > 8


# ---- behaviour -------------------------------------------------------------------------


class Caches:
    """Right, but for data that it takes for data it has seen."""

    def __init__(self, key: Any) -> None:
        self.key, self.seen = key, {}

    def __call__(self, x: Any) -> Any:
        key = self.key(x)
        if key not in self.seen:
            self.seen[key] = softmax(x)
        return self.seen[key].copy()


def test_results_of_other_calls_are_cheating_when_they_come_again() -> None:
    keys = (
        lambda x: (x.ctypes.data, x.shape),  # the address
        lambda x: x.shape,
        lambda x: (x.shape, x.flat[:4].tobytes()),  # a sample
    )
    for key in keys:
        found = tried(Caches(key), softmax, SHAPE, families=FEW)
        assert found.ruling is Ruling.CHEATING, found.why
        assert "result of another call" in kinds(found)
    buffers: dict[Any, Any] = {}

    def reused(x: Any) -> Any:
        out = buffers.setdefault(x.shape, np.empty(x.shape, x.dtype))
        out[...] = softmax(x)
        return out

    found = tried(reused, softmax, SHAPE, families=FEW)
    assert found.ruling is Ruling.WRONG
    assert "overwritten by a later call" in kinds(found)


def test_faults_beside_the_numbers_are_found() -> None:
    class Lazy(np.ndarray):
        pass

    def in_place(x: Any) -> Any:
        y = x.copy()
        x[...] = 0
        return y.sum(-1)

    def unwritten(x: Any) -> Any:
        y = np.empty(x.shape, x.dtype)
        y[:-1] = softmax(x)[:-1]
        return y

    def raises(x: Any) -> Any:
        raise RuntimeError("out of luck")

    def refuses(x: Any) -> Any:
        if x.shape != SHAPE:
            raise ValueError("only 24x40")
        return softmax(x)

    cases = [
        (in_place, total, "changes its inputs", Ruling.WRONG),
        (unwritten, softmax, "output not written", Ruling.WRONG),
        (raises, softmax, "raises", Ruling.WRONG),
        (refuses, softmax, "refuses these inputs", Ruling.SUSPICIOUS),
        (lambda x: softmax(x).view(Lazy), softmax, "wrong kind of result", Ruling.WRONG),
        (lambda x: softmax(x).T, softmax, "wrong kind of result", Ruling.WRONG),
        (lambda x: softmax(x).astype("f2"), softmax, "wrong kind of result", Ruling.WRONG),
        (lambda x: (softmax(x), x), softmax, "wrong kind of result", Ruling.WRONG),
    ]
    for kernel, golden, kind, ruling in cases:
        found = tried(kernel, golden, SHAPE, families=FEW, draws=3)
        assert kind in kinds(found), (kind, found.why)
        assert found.ruling is ruling, (kind, found.why)
    assert tried(refuses, softmax, SHAPE, families=FEW, sizes=["given"]).ruling is Ruling.RIGHT


def test_atomics_are_no_fault_and_noise_is() -> None:
    rng = np.random.default_rng(0)
    either = itertools.cycle([total, blocked_sum])
    found = tried(lambda x: next(either)(x), total, SHAPE, families=["normal"], sizes=["given"])
    assert found.ruling is Ruling.RIGHT, found.why
    calls = itertools.count()

    def varies(x: Any) -> Any:
        return x.sum(-1) if next(calls) % 4 else x[..., ::-1].sum(-1)

    found = tried(varies, total, SHAPE, families=["normal"], sizes=["given"])
    assert found.ruling is Ruling.RIGHT
    assert "Not repeatable" in found.notes[0]
    noise = tried(lambda x: total(x) + rng.normal(0, 1e-4), total, SHAPE, families=["normal"])
    assert "not repeatable" in kinds(noise)


# ---- what cannot be asked --------------------------------------------------------------


def test_what_the_reference_does_not_take_is_said() -> None:
    weights = np.random.default_rng(1).standard_normal((40, 6))

    def golden(x: Any) -> Any:
        return x @ weights.astype(x.dtype)

    found = tried(golden, golden, SHAPE, families=FEW)
    assert found.ruling is Ruling.RIGHT
    assert any("one (1x40)" in name for name in found.tried)  # the width is fixed
    assert any("long" in name for name in found.not_tried)

    def raises(x: Any) -> Any:
        raise ValueError("never")

    assert tried(total, raises, SHAPE).ruling is Ruling.NOT_DECIDED
    degenerate = tried(lambda x: x * 0, lambda x: x * 0, SHAPE, families=["normal"])
    assert degenerate.ruling is Ruling.NOT_DECIDED
    assert "No input moves" in degenerate.why


def test_inputs_stay_where_the_reference_is_defined() -> None:
    def root(x: Any) -> Any:
        return np.sqrt(x)

    def entropy(p: Any) -> Any:
        return (-p * np.log(p) - (1 - p) * np.log1p(-p)).sum(-1)

    rng = np.random.default_rng(2)
    for function in (root, entropy):
        inputs = [rng.uniform(0.1, 0.9, SHAPE).astype("f4")]
        found = like(function, function, inputs=inputs, sizes=["given"], families=FEW)
        assert found.ruling is Ruling.RIGHT, str(found)
        assert len(found.tried) >= 4


def test_labels_and_masks_are_recognised() -> None:
    seen: list[Any] = []

    def loss(x: Any, mask: Any, t: Any) -> Any:
        seen.append((x.shape, mask.copy(), t.copy()))
        p = x + mask
        top = p.max(-1)
        lse = np.log(np.exp(p - top[:, None]).sum(-1)) + top
        return lse - x[np.arange(len(x)), t]

    x = np.random.default_rng(3).standard_normal((20, 11)).astype("f4")
    mask = np.where(x < -1, -np.inf, 0).astype("f4")
    mask[:, 0] = 0
    t = np.arange(20)[::-1] % 10  # one class is not seen
    runner = InProcess(loss)
    template = [Operand.of(x, "float32"), Operand.of(mask, "float32"), Operand.of(t, "int64")]
    found = examine(runner, InProcess(loss), None, template, draws=3)
    assert found.ruling is Ruling.RIGHT, found.why
    for shape, mask, t in seen:
        assert 0 <= t.min() <= t.max() < shape[1]
        assert np.abs(mask[np.isfinite(mask)]).max(initial=0) < 1e-30
    assert max(t.max() for shape, _, t in seen if shape == (20, 11)) == 10


# ---- the public function ---------------------------------------------------------------


def test_like_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match="needs inputs"):
        like(total, total)
    with pytest.raises(TypeError, match="grads=True"):
        like(total, total, inputs=[SHAPE], grads=True)
    with pytest.raises(ValueError, match="families"):
        like(total, total, inputs=[SHAPE], families=["none such"])
    with pytest.raises(ValueError, match="dtype"):
        like(total, total, inputs=[SHAPE], dtype="float8")


def test_like_takes_shapes_and_constants_and_prints() -> None:
    def power(x: Any, exponent: int) -> Any:
        return x**exponent

    found = like(power, power, inputs=lambda: [SHAPE, 2], families=FEW, sizes=["given"])
    assert found, str(found)
    assert found.ruling is Ruling.RIGHT
    assert "right" in str(found)
    assert "Likeness" in repr(found)
    wrong = like(lambda x, n: x * n, power, inputs=[SHAPE, 2], families=FEW, sizes=["given"])
    assert not wrong
    assert "seed" in str(wrong)
    assert wrong.as_dict()["ruling"] == "wrong"


def test_time_is_bounded_and_what_is_left_is_said() -> None:
    found = like(total, total, inputs=[SHAPE], timeout=1e-6)
    assert found.ruling is Ruling.NOT_DECIDED
    assert any("the time was up" in text for text in found.not_tried)


def test_golden_lives_in_another_process() -> None:
    calls: list[int] = []

    def golden(x: Any) -> Any:
        calls.append(1)
        return x.sum(-1)

    like(total, golden, inputs=[SHAPE], families=["normal"], sizes=["given"])
    assert not calls


def test_gradients_of_torch_functions() -> None:
    torch = pytest.importorskip("torch")

    class Square(torch.autograd.Function):  # type: ignore[name-defined,misc]
        factor = 2.0

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return Square.factor * x * g

    inputs = [torch.randn(8, 12)]
    options: dict[str, Any] = dict(
        inputs=inputs, grads=True, families=["normal", "transposed views"]
    )
    found = like(Square.apply, lambda x: x * x, **options)
    assert found.ruling is Ruling.RIGHT, str(found)
    Square.factor = 2.001
    wrong = like(Square.apply, lambda x: x * x, **options)
    assert wrong.ruling is Ruling.WRONG
    assert "1.0005 times" in str(wrong)
    assert like(Square.apply, lambda x: x * x, **(options | {"grads": False})).ruling == "right"


def test_bfloat16_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(24, 40, dtype=torch.bfloat16)
    found = like(
        lambda x: torch.softmax(x.float(), -1).to(x.dtype),
        lambda x: torch.softmax(x, -1),
        inputs=[x],
        families=FEW,
        sizes=["given"],
    )
    assert found.ruling is Ruling.RIGHT, str(found)
    wrong = like(
        lambda x: (torch.softmax(x.float(), -1) * 1.02).to(x.dtype),
        lambda x: torch.softmax(x, -1),
        inputs=[x],
        families=["normal"],
        sizes=["given"],
    )
    assert wrong.ruling is Ruling.WRONG
