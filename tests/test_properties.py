"""Random shapes, strides, dtypes and values against the certified bounds, the same every run."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bounds
import gdcore as gd
from problems import DTYPES, LAYOUTS, REDUCTIONS, WIDE, Array, Linear, Shape, canonical

stable = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
dtypes = st.sampled_from(DTYPES)
sizes = st.one_of(st.integers(1, 9), st.integers(1, 70))
batches = st.lists(st.integers(1, 3), max_size=2).map(tuple)
layouts = st.sampled_from([np.ascontiguousarray, *LAYOUTS.values()])


@st.composite
def placed(draw: st.DrawFn, shape: Shape, dtype: Any, batch: Shape = ()) -> Array:
    """Draw an array in some layout: random magnitudes, or few elements chosen one by one.

    Some axes of the batch have size 1, or are missing.
    """
    batch = tuple(1 if draw(st.booleans()) else size for size in batch)
    batch = batch[draw(st.integers(0, len(batch))) :]
    shape = batch + shape
    count = int(np.prod(shape))
    if count <= 12:
        elements = st.floats(-1e4, 1e4, width=dtype.itemsize * 8)
        x = draw(hnp.arrays(dtype, shape, elements=elements))
    else:
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        spread = draw(st.sampled_from([0, 1, 4]))
        x = (rng.standard_normal(shape) * 10.0 ** rng.uniform(-spread, spread, shape)).astype(dtype)
    layout: Any = draw(layouts)
    return np.asarray(layout(x), dtype)


@stable
@given(st.data(), dtypes, sizes, sizes, sizes, batches)
def test_matmul(data: Any, dtype: Any, m: int, k: int, n: int, batch: Shape) -> None:
    a, b = data.draw(placed((m, k), dtype, batch)), data.draw(placed((k, n), dtype, batch))
    expected = a.astype(WIDE) @ b.astype(WIDE)
    got = gd.matmul(a, b)
    bounds.check(got, expected, bounds.against(bounds.matmul, a, b, dtype=dtype, other=WIDE))
    assert canonical(gd.matmul(a, b, out=got)) == canonical(gd.matmul(a.copy(), b.copy()))


@stable
@given(st.data(), dtypes, hnp.array_shapes(max_dims=4, max_side=20), st.sampled_from(REDUCTIONS))
def test_mse(data: Any, dtype: Any, shape: Shape, reduction: Any) -> None:
    pred, target = data.draw(placed(shape, dtype)), data.draw(placed(shape, dtype))
    r = pred.astype(WIDE) - target
    scale = (0.5 if "half" in reduction else 1) / WIDE.type(r.size if "mean" in reduction else 1)
    loss, grad = gd.mse_value_and_grad(pred, target, reduction=reduction)
    bound = bounds.against(bounds.mse, pred, target, reduction, dtype=dtype, other=WIDE)
    bounds.check(loss, scale * (r * r).sum(), bound[0])
    bounds.check(grad, 2 * scale * r, bound[1])


@stable
@given(
    st.data(),
    dtypes,
    sizes,
    sizes,
    st.none() | st.integers(1, 9),
    batches,
    st.sampled_from(REDUCTIONS),
)
def test_linear(
    data: Any, dtype: Any, n: int, d: int, t: int | None, batch: Shape, reduction: Any
) -> None:
    targets = () if t is None else (t,)
    # y decides between targets and problems by its axes, X's batch has them all.
    X = data.draw(placed((*batch, n, d), dtype))
    y = data.draw(placed((*batch, n, *targets), dtype))
    w = data.draw(placed((d, *targets), dtype, batch))
    b = data.draw(st.none() | placed(targets, dtype, batch))
    o = data.draw(st.none() | placed((n, *targets), dtype, batch))
    s = data.draw(st.none() | placed((n,), dtype, batch))
    s = None if s is None else np.abs(s) + dtype.type(0.125)
    problem = Linear(X, y, w, b, o, s, reduction)
    allowed = bounds.against(bounds.linear, problem, dtype=dtype, other=WIDE)
    for got, want, limit in zip(problem.outputs(), problem.exact(), allowed, strict=False):
        bounds.check(got, want, limit)


@stable
@given(st.data(), dtypes, st.integers(1, 40))
def test_sgd(data: Any, dtype: Any, size: int) -> None:
    rates = st.floats(0.0625, 1.5, width=32)
    nesterov = data.draw(st.booleans())
    sgd = gd.SGD(
        lr=data.draw(rates),
        momentum=data.draw(rates if nesterov else rates | st.just(0.0)),
        dampening=0.0 if nesterov else data.draw(rates | st.just(0.0)),
        weight_decay=data.draw(rates | st.just(0.0)),
        nesterov=nesterov,
        maximize=data.draw(st.booleans()),
    )
    ours, *grads = (data.draw(placed((size,), dtype)).copy() for _ in range(4))
    state, p, v = sgd.init(ours), ours.astype(WIDE), np.zeros(size, WIDE)
    matrix = np.abs(bounds.sgd_matrix(sgd, np.zeros((1, 1))))
    error = np.zeros((2, size))
    for step, g in enumerate(grads):
        at = np.abs(p) + error[0], g, np.abs(v) + error[1]  # no less than where the kernel stands
        local = sum(bounds.sgd_step(sgd, *at, step == 0, u) for u in (dtype, WIDE))
        error = bounds.up(matrix @ error + local, 4)
        slope = (-g if sgd.maximize else g).astype(WIDE) + WIDE.type(sgd.weight_decay) * p
        v = slope if step == 0 else sgd.momentum * v + (1 - WIDE.type(sgd.dampening)) * slope
        if sgd.momentum:
            slope = slope + sgd.momentum * v if sgd.nesterov else v
        p = p - sgd.lr * slope
        sgd.step(ours, g, state)
        bounds.check(ours, p, error[0])
