"""Second moments of groups from one pass over their shuffled rows: the bits of sorted rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gdcore as gd
from conftest import THREADS
from gdcore import Status
from gdcore.data import slices
from gdcore.data.labels import label_rows
from loops import each

# Problems end in every way there is; the warning has its own tests.
pytestmark = pytest.mark.filterwarnings("ignore:[0-9]+ problems?:gdcore.FitWarning")
FIELDS = ("weights", "intercept", "loss", "status", "rank", "epochs", "lr", "r2_lost", "rows")


def rows_of(rng: Any, sizes: Any, d: int) -> tuple[Any, Any, Any]:
    """Return X, y and labels of groups of these sizes, in a random order."""
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    X = rng.normal(size=(len(labels), d)).astype(np.float32)
    y = (X.sum(axis=1) + labels % 3 + rng.normal(size=len(labels))).astype(np.float32)
    return X, y, labels


@pytest.fixture
def sizes(rng: Any) -> Any:
    """Sizes about that of a segment, and of groups that need their rows, among others."""
    edges = [1, 2, 3, 7, 8, 9, 511, 512, 513, 1024, 1500]
    return np.concatenate([edges, rng.integers(1, 100, 200)])


def check(X: Any, y: Any, labels: Any, *given: Any, **how: Any) -> gd.Fits:
    """Fit groups; assert that rows sorted before the call have the same bits."""
    assert not label_rows(labels, len(y))[1].in_place
    fits = gd.fit_groups(X, y, labels, *given, **how)
    order = np.argsort(labels, kind="stable")
    want = gd.fit_groups(np.ascontiguousarray(X[order]), y[order], labels[order], *given, **how)
    for name in FIELDS:
        found, expected = getattr(fits, name), getattr(want, name)
        if found is not expected:  # None
            assert np.array_equal(found, expected, equal_nan=found.dtype.kind == "f"), name
    assert fits.groups.tolist() == want.groups.tolist()
    return fits


@each("threads", THREADS)
@each("d", range(1, 8))
def test_bits_of_sorted_rows(rng: Any, sizes: Any, d: int, threads: int) -> None:
    table = rows_of(rng, sizes, d)
    fits = check(*table, method="exact", n_threads=threads)
    assert set(fits.status) == {Status.CONVERGED, Status.SINGULAR}
    check(*table, gd.SGD(), epochs=30, n_threads=threads)
    check(*table, gd.SGD(lr=0.01), epochs=30, method="gram", fit_intercept=False, n_threads=threads)


def test_bits_on_each_instruction_set(rng: Any, sizes: Any, isa: str) -> None:
    for d in (1, 2, 3, 4, 5, 6):
        X, y, labels = rows_of(rng, sizes, d)
        sums = gd.fit_groups(X, y, labels, method="exact")
        gd._core.set_isa("reference")
        loops = gd.fit_groups(X, y, labels, method="exact")
        gd._core.set_isa(isa)
        assert sums.weights.tobytes() == loops.weights.tobytes()
        assert sums.loss.tobytes() == loops.loss.tobytes()


@each(
    "view",
    [np.asfortranarray, lambda X: np.repeat(X, 2, 1)[:, ::2], lambda X: X[::-1].copy()[::-1]],
)
def test_rows_with_any_strides(rng: Any, sizes: Any, view: Any) -> None:
    X, y, labels = rows_of(rng, sizes, 3)
    check(view(X), np.repeat(y, 3)[::3], labels, method="exact")


@each("threads", THREADS)
@each("columns", [False, True])
def test_a_table_larger_than_a_cache(rng: Any, threads: int, columns: bool) -> None:
    """Rows are dealt to parts of the table, in two lots."""
    d, n, count = 1, 3_000_000, 400_000
    labels = rng.integers(0, count, n)
    labels[rng.random(n) < 0.01] = 7  # one group has many segments
    X = rng.normal(size=(d, n)).astype(np.float32).T
    X = X if columns else np.ascontiguousarray(X)
    y = X[:, 0] + np.float32(1)
    y[::2] += rng.normal(size=len(y[::2])).astype(np.float32)
    check(X, y, labels, method="exact", n_threads=threads)


@each("count", [100, 400_000])
def test_a_pass_pauses(rng: Any, monkeypatch: Any, count: int) -> None:
    """Also where its rows are dealt: Python sees signals meanwhile, and the bits stay."""
    labels = rng.integers(0, count, 2_900_000)
    labels[rng.random(len(labels)) < 0.01] = 7
    X = rng.normal(size=(len(labels), 1)).astype(np.float32)
    y = X[:, 0] + rng.normal(size=len(labels)).astype(np.float32)
    want = gd.fit_groups(X, y, labels, method="exact")
    looks = []
    monkeypatch.setattr(slices, "SECONDS", 1e-9)
    monkeypatch.setattr(slices, "look", lambda: looks.append(1))
    found = gd.fit_groups(X, y, labels, method="exact")
    assert len(looks) >= 10 if count == 100 else looks
    assert found.weights.tobytes() == want.weights.tobytes()


def test_rows_are_sorted_where_moments_do_not_tell(rng: Any) -> None:
    """Perfect fits, whose loss is rounding errors, dependent columns, and numbers out of range."""
    X, y, labels = rows_of(rng, rng.integers(5, 40, 60), 2)
    y[labels % 5 == 0] = X[labels % 5 == 0, 0]
    X[labels % 5 == 1, 1] = 3
    X[labels % 5 == 2, 1] = X[labels % 5 == 2, 0] * np.float32(1 + 2**-12)
    X[labels == 3, 0] = np.nan
    X[labels == 8, 0] = np.inf
    X[labels == 13, 0] *= np.float32(1e30)
    decay = np.linspace(0, 1, 60)
    for how in (
        {"method": "exact"},
        {"method": "exact", "sgd": gd.SGD(weight_decay=decay)},
        {"method": "exact", "rcond": 1e-2},
        {"method": "gram", "sgd": gd.SGD(), "epochs": 20, "standardize": True},
        {"sgd": gd.SGD(momentum="auto"), "epochs": 20},
        {"method": "exact", "covariance": "hc1"},
    ):
        status = check(X, y, labels, **how).status
        assert status[3] == status[8] == Status.INVALID


def test_what_is_not_summed_so(rng: Any) -> None:
    X, y, labels = rows_of(rng, rng.integers(5, 40, 30), 2)
    n = len(y)
    order = np.argsort(labels, kind="stable")
    extra: dict[str, Any]
    for extra in (
        {"sample_weight": rng.random(n).astype(np.float32)},
        {"offset": rng.random(n).astype(np.float32)},
        {"missing": "drop"},
    ):
        if "missing" in extra:
            X[::7, 1] = np.nan
        by_row = {name: array[order] for name, array in extra.items() if name != "missing"}
        fits = gd.fit_groups(X, y, labels, method="exact", **extra)
        want = gd.fit_groups(X[order], y[order], labels[order], method="exact", **extra | by_row)
        assert fits.weights.tobytes() == want.weights.tobytes()
        assert fits.loss.tobytes() == want.loss.tobytes()
    X[::7, 1] = 0
    two = np.stack([y, -y], 1)
    fits = gd.fit_groups(X, two, labels, method="exact")
    assert (fits.weights[..., 0] == -fits.weights[..., 1]).all()
    for dtype in (np.float32, np.float64):
        check(X.astype(dtype), y.astype(dtype), labels, gd.SGD(), epochs=20)


def test_as_pandas_and_least_squares_find_it(rng: Any) -> None:
    pandas = pytest.importorskip("pandas")
    X, y, labels = rows_of(rng, rng.integers(10, 60, 80), 3)
    fits = gd.fit_groups(X, y, labels)
    frame = pandas.DataFrame(X, columns=list("abc")).assign(y=y, label=labels)
    for i, (label, part) in enumerate(frame.groupby("label")):
        A = np.column_stack([part[list("abc")], np.ones(len(part))]).astype(float)
        want, squares = np.linalg.lstsq(A, part["y"].astype(float), rcond=None)[:2]
        assert fits.groups[i] == label
        found = np.append(fits.weights[i], fits.intercept[i])
        np.testing.assert_allclose(found, want, rtol=0, atol=2e-7 * np.abs(want).max())
        np.testing.assert_allclose(fits.loss[i], squares[0] / len(part), rtol=1e-6)


@each("dtype", [np.int64, np.uint64, np.int32, ">i8", "datetime64[s]"])
@each("count", [1, 600, 40_000])
@each("rising", [False, True])
def test_labels_far_apart(rng: Any, rising: bool, count: int, dtype: Any) -> None:
    """A hash table numbers them; the labels come sorted, as NumPy's `unique` gives them."""
    keys = rng.integers(-(2**31), 2**31, count) if dtype == np.int32 else None
    keys = rng.integers(-(2**62), 2**62, count) if keys is None else keys
    keys = np.append(keys, [keys[0], -1, 0]).astype(np.int64).astype(dtype)
    given = keys[rng.integers(0, len(keys), 3 * count + 700)]
    given = np.sort(given) if rising else given
    labels, rows = label_rows(given, len(given))
    want, codes, counts = np.unique(given, return_inverse=True, return_counts=True)
    assert labels.dtype == want.dtype
    assert np.array_equal(labels, want)
    assert np.array_equal(np.diff(rows.starts), counts)
    order = rows.order(1)
    assert rows.in_place == (order is None) == rising
    by_label = np.argsort(codes, kind="stable")
    assert np.array_equal(by_label if order is None else order, by_label)
    assert np.array_equal(rows.first_rows(), by_label[rows.starts[:-1]])
    wanted = (rng.random(len(want)) < 0.3).astype(np.uint8)
    if not rows.in_place:
        some = rows.order_of_some(wanted)
        assert np.array_equal(some, by_label[np.repeat(wanted, counts) == 1])
