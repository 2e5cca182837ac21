"""Rows with missing values: a fit that drops them is the fit of the rows that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gdcore as gd
from conftest import THREADS
from gdcore import Status
from gdcore.data.missing import known_entries
from loops import each

Array = np.ndarray[Any, Any]
N, D, COUNT = 600, 3, 12  # more rows than a segment of 512
WAYS: dict[str, dict[str, Any]] = {
    "exact": {},
    "gram": {"sgd": gd.SGD(), "method": "gram"},
    "stream": {"sgd": gd.SGD(), "method": "stream"},
    "momentum": {"sgd": gd.SGD(momentum=0.5), "standardize": True},
    "batches": {"sgd": gd.SGD(lr=0.01), "batch_size": 16, "epochs": 3, "tol": None},
}
every_way = each("way", WAYS.values())

pytestmark = pytest.mark.filterwarnings("ignore::gdcore.FitWarning")


def draw(dtype: Any, t: int | None = None) -> dict[str, Array]:
    """Draw rows of which X, y, the weight and the offset are all missing somewhere."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    y = X @ rng.standard_normal((D, t or 1)) + rng.standard_normal((N, t or 1))
    rows = {
        "X": X,
        "y": y if t else y[:, 0],
        "sample_weight": rng.random(N) + 0.1,
        "offset": rng.standard_normal((N, t) if t else N),
    }
    for array in rows.values():
        array[rng.integers(0, N, 12)] = np.nan
    rows["X"][rng.integers(0, N, 12), 1] = np.nan
    rows["X"][100:120] = np.nan
    return {name: array.astype(dtype) for name, array in rows.items()}


def known(rows: dict[str, Array], j: int | None = None) -> Array:
    """Return which rows count, for target j if there are several."""
    gaps = np.isnan(rows["X"]).any(axis=-1) | np.isnan(rows["sample_weight"])
    for name in ("y", "offset"):
        gaps |= np.isnan(rows[name] if j is None else rows[name][..., j])
    return ~gaps


def kept(rows: dict[str, Array], at: Any, j: int | None = None) -> dict[str, Array]:
    """Return the rows at some places, with one target."""
    return {
        name: array[at] if j is None or array.ndim == 1 else array[at][:, j]
        for name, array in rows.items()
        if name != "X"
    } | {"X": rows["X"][at]}


def same(one: Any, other: Any, *, everything: bool = True) -> None:
    """Assert that fits have the same bits."""
    names = ["weights", "intercept"] + ["loss", "epochs", "lr"] * everything
    for name in names:
        a, b = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert a.shape == b.shape, name
        assert a.tobytes() == b.tobytes(), name
    if everything:
        assert np.array_equal(one.status, other.status)
        assert np.array_equal(one.rows, other.rows)


def settings() -> Iterator[int]:
    """Force each number of threads."""
    for threads in THREADS:
        gd.set_num_threads(threads)
        yield threads


@every_way
def test_rows(dtype: np.dtype[Any], way: dict[str, Any]) -> None:
    rows = draw(dtype)
    at = known(rows)
    for _ in settings():
        found = gd.fit(**rows, **way, missing="drop")
        same(found, gd.fit(**kept(rows, at), **way))
        assert found.rows == at.sum()
        assert found.dropped == N - at.sum()


@every_way
def test_groups(dtype: np.dtype[Any], way: dict[str, Any]) -> None:
    rows, groups = draw(dtype), np.random.default_rng(1).integers(0, COUNT, N)
    at = known(rows)
    for _ in settings():
        found = gd.fit_groups(**rows, groups=groups, **way, missing="drop")
        same(found, gd.fit_groups(**kept(rows, at), groups=groups[at], **way))
        assert found.dropped.tolist() == np.bincount(groups[~at], minlength=COUNT).tolist()
    order = np.argsort(groups, kind="stable")
    offsets = np.searchsorted(groups[order], np.arange(COUNT + 1))
    ordered = gd.fit_groups(**kept(rows, order), offsets=offsets, **way, missing="drop")
    same(ordered, found)


@every_way
def test_stacks(dtype: np.dtype[Any], way: dict[str, Any]) -> None:
    """Each problem drops its own rows, so that the problems have different numbers of rows."""
    rows = draw(dtype)
    stack = {name: a.reshape(COUNT, -1, *a.shape[1:]) for name, a in rows.items()}
    at = known(stack)
    at[3] = False
    stack["y"][3] = np.nan  # a problem without rows
    want = []
    for i in range(COUNT):
        one = kept({name: array[i] for name, array in stack.items()}, at[i])
        smaller = {"batch_size": min(way["batch_size"], at[i].sum())} if "batch_size" in way else {}
        want.append(gd.fit(**one, **(way | smaller)) if at[i].any() else None)
    for _ in settings():
        found = gd.fit(**stack, **way, missing="drop")
        assert found.rows.tolist() == at.sum(axis=1).tolist()
        for i, alone in enumerate(want):
            if alone is None:
                assert found[i].status is Status.EMPTY
                assert not found[i].weights.any()
            else:
                same(found[i], alone, everything="batch_size" not in way)
    assert found.predict(np.nan_to_num(stack["X"])).shape == stack["y"].shape


def test_a_stack_that_shares_X() -> None:
    """X of one design, repeated without a copy, with other gaps in every y."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 2)), rng.standard_normal((50, 30))
    y[rng.random(y.shape) < 0.2] = np.nan
    X[4] = np.nan
    fits = gd.fit(np.broadcast_to(X, (50, 30, 2)), y, missing="drop")
    for i in range(50):
        at = ~np.isnan(y[i]) & ~np.isnan(X).any(axis=1)
        same(fits[i], gd.fit(X[at], y[i][at]))


@every_way
def test_targets_with_the_same_gaps(dtype: np.dtype[Any], way: dict[str, Any]) -> None:
    """They are fitted side by side, as without gaps."""
    rows = draw(dtype, 3)
    at = known(rows, 0) & known(rows, 1) & known(rows, 2)
    rows["y"][~at] = np.nan
    found = gd.fit(**rows, **way, missing="drop")
    want = kept(rows, at)
    same(found, gd.fit(**want, **way))
    assert found.rows == at.sum()


@every_way
def test_targets_with_gaps_of_their_own(dtype: np.dtype[Any], way: dict[str, Any]) -> None:
    rows = draw(dtype, 3)
    rng = np.random.default_rng(2)
    rows["y"][rng.integers(0, N, 90), rng.integers(0, 3, 90)] = np.nan
    groups, ones, each_group = rng.integers(0, COUNT, N), [], []
    for j in range(3):
        one = kept(rows, at := known(rows, j), j)
        ones.append(gd.fit(**one, **way))
        each_group.append(gd.fit_groups(**one, groups=groups[at], **way))
    for _ in settings():
        both = {
            "one": (gd.fit(**rows, **way, missing="drop"), ones),
            "groups": (gd.fit_groups(**rows, groups=groups, **way, missing="drop"), each_group),
        }
        for fit, alone in both.values():
            assert fit.rows.tolist() == np.stack([a.rows for a in alone], axis=-1).tolist()
            for j in range(3):
                for name in ("weights", "intercept"):
                    mine = np.ascontiguousarray(getattr(fit, name)[..., j])
                    assert mine.tobytes() == np.asarray(getattr(alone[j], name)).tobytes(), name
            assert np.array_equal(fit.epochs, np.max([a.epochs for a in alone], axis=0))
            assert fit.state is None
            assert not len(fit.history.epoch)


@pytest.mark.parametrize("reduction", ["mean", "sum", "half_mean", "half_sum"])
def test_the_loss_of_targets_with_gaps_of_their_own(reduction: Any) -> None:
    """It is over all entries of y that count: a mean for some reductions, a sum for others."""
    rows = draw(float, 3)
    rows["y"][5:90, 1] = np.nan
    fit = gd.fit(**rows, missing="drop", reduction=reduction)
    total = weight = 0.0
    for j in range(3):
        one = kept(rows, known(rows, j), j)
        errors = one["X"] @ fit.weights[:, j] + fit.intercept[j] + one["offset"] - one["y"]
        total += one["sample_weight"] @ errors**2
        weight += one["sample_weight"].sum()
    total /= (weight if "mean" in reduction else 1) * (2 if "half" in reduction else 1)
    assert abs(fit.loss - total) <= 1e-12 * total


def test_stacks_of_targets_with_gaps_of_their_own() -> None:
    rows = draw(float, 2)
    rows["y"][5:90, 1] = np.nan
    stack = {name: a.reshape(COUNT, -1, *a.shape[1:]) for name, a in rows.items()}
    fits = gd.fit(**stack, missing="drop", reduction="sum")
    for i in range(COUNT):
        mine = {name: array[i] for name, array in stack.items()}
        ones = [gd.fit(**kept(mine, known(mine, j), j), reduction="sum") for j in range(2)]
        same(fits[i], gd.fit(**mine, missing="drop", reduction="sum"), everything=False)
        assert fits.weights[i].T.tolist() == [one.weights.tolist() for one in ones]
        losses = [one.loss for one in ones if one.rows]
        assert np.isnan(fits.loss[i]) if not losses else fits.loss[i] == np.sum(losses)
        worst = Status.EMPTY if any(one.status is Status.EMPTY for one in ones) else ones[0].status
        assert fits.status[i] is worst


def test_parts_of_fits_with_gaps() -> None:
    """Rows and rows left out stay with their problem, and are columns of a frame."""
    rows = draw(float, 2)
    rows["y"][5:90, 1] = np.nan
    stack = {name: a.reshape(COUNT, -1, *a.shape[1:]) for name, a in rows.items()}
    for y, offset in ((stack["y"], stack["offset"]), (stack["y"][..., 0], stack["offset"][..., 0])):
        fits = gd.fit(**stack | {"y": y, "offset": offset}, missing="drop")
        assert fits.rows.shape == (COUNT, 2)[: y.ndim - 1]
        for at in (slice(2, 5), np.array([7, 1]), fits.rows.reshape(COUNT, -1)[:, 0] > 40):
            assert fits[at].rows.tolist() == fits.rows[at].tolist()
            assert fits[at].dropped.tolist() == fits.dropped[at].tolist()
        assert np.array_equal(fits[4].dropped, fits.dropped[4])
        assert "have missing values and do not count." in fits[4].message
        pytest.importorskip("narwhals")
        pytest.importorskip("pandas")
        frame = fits.to_frame()
        columns = ["rows_0", "rows_1"] if y.ndim == 3 else ["rows"]
        assert frame[columns].to_numpy().tolist() == fits.rows.reshape(COUNT, -1).tolist()


def test_a_target_without_rows() -> None:
    """The targets beside it are fitted; the status and the message say that it was not."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 2)), rng.standard_normal((40, 3))
    y[:, 1] = np.nan
    with pytest.warns(gd.FitWarning, match=r"3 targets: 2 CONVERGED, 1 EMPTY\. .*is target 1"):
        fit = gd.fit(X, y, missing="drop")
    assert fit.status is Status.EMPTY
    assert fit.rows.tolist() == [40, 0, 40]
    assert "40 of 120 rows, target by target, have missing values" in fit.message
    assert not fit.weights[:, 1].any()
    assert fit.weights[:, 2].tolist() == gd.fit(X, y[:, 2]).weights.tolist()


def test_what_several_targets_with_gaps_do_not_take(tmp_path: Any) -> None:
    X, y = np.eye(5), np.ones((5, 2))
    y[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"takes the same rows for all targets.* one by one"):
        gd.fit(X, y, missing="drop", checkpoint=tmp_path / "c")


def test_warm_starts_of_targets_with_gaps_of_their_own() -> None:
    rows = draw(float, 2)
    rows["y"][5:90, 1] = np.nan
    way: dict[str, Any] = {"sgd": gd.SGD(lr=0.01), "tol": None, "missing": "drop"}
    want = gd.fit(**rows, **way, epochs=30)
    first = gd.fit(**rows, **way, epochs=10)
    same(gd.fit(**rows, **way, epochs=20, init=first), want)
    stack = {name: a.reshape(4, -1, *a.shape[1:]) for name, a in rows.items()}
    many = gd.fit(**stack, **way, epochs=30)
    same(gd.fit(**stack, **way, epochs=20, init=gd.fit(**stack, **way, epochs=10)), many)


def test_ctrl_c_keeps_the_targets_that_are_done() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 3)), rng.standard_normal((50, 3))
    y[4, 0] = y[5, 1] = np.nan
    calls = 0

    def stop(done: int, *_: Any) -> None:
        nonlocal calls
        calls += 1
        if seen and done and calls >= seen:
            raise KeyboardInterrupt

    seen = 0
    way: dict[str, Any] = {"sgd": gd.SGD(), "method": "gram", "missing": "drop"}
    want = gd.fit(X, y, **way, progress=stop)
    seen, calls = calls - 1, 0  # in the second target
    with pytest.raises(gd.FitInterrupted) as caught:
        gd.fit(X, y, **way, progress=stop)
    fit = caught.value.fit
    assert fit.weights[:, 0].tolist() == want.weights[:, 0].tolist()
    assert not fit.weights[:, 2].any()
    assert fit.status is Status.MAX_EPOCHS
    seen, calls = 1, 0  # in the first one
    with pytest.raises(gd.FitInterrupted) as caught:
        gd.fit(X[None], y[None], **way, progress=stop)
    assert caught.value.fit.weights.shape == (1, 3, 3)
    assert not caught.value.fit.weights[..., 2].any()


def test_gaps_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block's gaps are found in its own rows, in the columns and beside them."""
    monkeypatch.setattr("gdcore.data.missing.BLOCK", 8)
    rng = np.random.default_rng(0)
    X, y, weight = rng.normal(size=(23, 3)), rng.normal(size=23), rng.random(23)
    X[[2, 9, 22], [0, 2, 1]] = y[[9, 15]] = weight[20] = np.nan
    known = known_entries(X, y, None, weight)
    assert known is not None
    assert np.flatnonzero(~known).tolist() == [2, 9, 15, 20, 22]


def test_nothing_missing() -> None:
    """The bits are those of the default, and no array is copied."""
    rng = np.random.default_rng(0)
    X, y, weight = rng.standard_normal((N, D)), rng.standard_normal((N, 2)), rng.random(N)
    groups = rng.integers(0, COUNT, N)
    for way in WAYS.values():
        for how in (way, way | {"sample_weight": weight, "offset": y[:, ::-1]}):
            same(gd.fit(X, y, **how, missing="drop"), gd.fit(X, y, **how))
            dropped = gd.fit_groups(X, y, groups, **how, missing="drop")
            same(dropped, gd.fit_groups(X, y, groups, **how))
            assert not dropped.dropped.any()
    problem = gd.data.problem.make_problem(X, y, None, weight, True, "mean", missing="drop")
    assert problem.rows.X is X
    assert np.shares_memory(problem.rows.y, y)


def test_no_row_is_left() -> None:
    X, y = np.ones((9, 2)), np.arange(9.0)
    X[:, 1] = np.nan  # a column without a value
    for way in WAYS.values():
        for function in (
            lambda **how: gd.fit(X, y, **how),
            lambda **how: gd.fit(X[None], y[None], **how),
            lambda **how: gd.fit_groups(X, y, np.zeros(9, int), **how),
        ):
            with pytest.warns(gd.FitWarning, match="9 of 9 rows have missing values"):
                fit = function(**way, missing="drop")
            assert np.all(fit.status == Status.EMPTY)
            assert not fit.weights.any()
    with pytest.raises(ValueError, match="from 1 to the 3 rows of X that have no missing value"):
        gd.fit(np.arange(4.0)[:, None], [1, 2, np.nan, 4], batch_size=4, missing="drop")


def test_a_group_whose_rows_all_have_gaps_is_empty() -> None:
    X, y = np.arange(6.0)[:, None], np.array([1.0, 2.0, np.nan, np.nan, 5.0, 7.0])
    with pytest.warns(gd.FitWarning, match=r"1 EMPTY.*group 'b'.* 2 of 6 rows have missing"):
        fits = gd.fit_groups(X, y, list("aabbcc"), missing="drop")
    assert fits.groups.tolist() == ["a", "b", "c"]
    assert fits.rows.tolist() == [2, 0, 2]
    assert [s.name for s in fits.status] == ["CONVERGED", "EMPTY", "CONVERGED"]


def test_infinity_is_an_error() -> None:
    X, y = np.random.default_rng(0).standard_normal((9, 2)), np.arange(9.0)
    X[2, 1], X[5, 0], y[7] = np.nan, np.inf, np.nan
    for way in WAYS.values():
        how = way | ({"batch_size": 3} if "batch_size" in way else {})
        with pytest.raises(ValueError, match=r"X holds inf at row 5, column 0 .* fitting\.$"):
            gd.fit(X, y, **how, missing="drop")
        assert gd.fit(X[None], y[None], **how, missing="drop").status == [Status.INVALID]
    X[5, 0], weight = 1.0, np.ones(9)
    weight[8] = np.inf
    with pytest.raises(ValueError, match=r"sample_weight\[8\] is inf"):
        gd.fit(X, y, sample_weight=weight, missing="drop")
    weight[2], weight[8] = -1, 1  # of a row that does not count
    assert gd.fit(X, y, sample_weight=weight, missing="drop").rows == 7
    with pytest.raises(ValueError, match=r"sample_weight\[2\] is -1"):
        gd.fit(X[:, :1], y, sample_weight=weight, missing="drop")


def test_the_choices_are_named() -> None:
    X, y = np.eye(3), np.ones(3)
    for call in (
        lambda **how: gd.fit(X, y, **how),
        lambda **how: gd.fit(X[None], y[None], **how),
        lambda **how: gd.fit_groups(X, y, [0, 0, 1], **how),
    ):
        for word in ("skip", None, True):
            with pytest.raises(ValueError, match=r"missing is .*; choose one of 'error', 'drop'"):
                call(missing=word)


def test_rows_are_kept_in_files(tmp_path: Any) -> None:
    X, y = np.arange(6.0)[:, None], np.array([1.0, 2.0, np.nan, 4.0, 5.0, 7.0])
    both = np.stack([y, y], axis=1)
    both[0, 1] = np.nan
    for given in (y, both):
        for fit in (
            gd.fit(X, given, missing="drop"),
            gd.fit(X[None], given[None], missing="drop"),
        ):
            fit.save(tmp_path / "fit.npz")
            loaded = gd.load(tmp_path / "fit.npz")
            assert np.array_equal(loaded.rows, fit.rows)
            assert np.array_equal(loaded.dropped, fit.dropped)
            assert loaded.message == fit.message


@pytest.mark.parametrize("kind", ["masked", "objects", "lists"])
def test_numpy_arrays_with_nulls(kind: str) -> None:
    """Masked entries and None do not count, whatever is behind a mask; numbers are floats."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 9, (60, 2)), rng.integers(0, 99, 60)
    holes, hole = rng.random((60, 2)) < 0.1, rng.random(60) < 0.1

    def make(array: Array, at: Array) -> Any:
        if kind == "masked":
            return np.ma.masked_array(np.where(at, -(2**31), array), at)
        objects = array.astype(object)
        objects[at] = None
        return objects if kind == "objects" else objects.tolist()

    given = make(X, holes), make(y, hole)
    at = ~(holes.any(axis=1) | hole)
    same(gd.fit(*given, missing="drop"), gd.fit(X[at], y[at]))
    groups = rng.integers(0, 3, 60)
    same(
        gd.fit_groups(*given, groups, missing="drop"),
        gd.fit_groups(X[at], y[at], groups[at]),
    )
    stack = gd.fit(make(X[None], holes[None]), make(y[None], hole[None]), missing="drop")
    same(stack[0], gd.fit(X[at], y[at]))
    for call in (
        lambda: gd.fit(*given),
        lambda: gd.fit_groups(*given, groups),
        lambda: gd.fit(make(X[None], holes[None]), y[None]),
    ):
        with pytest.raises(TypeError, match=r"^X .*, or pass missing='drop'\.$"):
            call()


def test_masked_floats_keep_their_dtype() -> None:
    X = np.random.default_rng(0).standard_normal((20, 2)).astype(np.float32)
    masked = np.ma.masked_array(X, np.zeros_like(X, bool))
    masked[3, 1] = np.ma.masked
    masked.data[3, 1] = np.inf
    fit = gd.fit(masked, X[:, 0], missing="drop")
    assert fit.weights.dtype == np.float32
    assert fit.rows == 19
    assert np.isinf(masked.data[3, 1])  # the caller's array is not written to
    assert gd.fit(np.ma.masked_array(X[4:]), X[4:, 0], missing="drop").rows == 16


def test_words_are_not_missing_values() -> None:
    X = np.array([[1.0, None], [2.0, "red"], [3.0, 4.0]], object)
    for missing in ("error", "drop"):
        with pytest.raises(TypeError, match="X has dtype object and holds"):
            gd.fit(X, np.ones(3), missing=missing)
    with pytest.raises(TypeError, match="X has dtype object"):
        gd.fit(np.array([[1.0], ["nan"]], object), np.ones(2), missing="drop")


NAMES = "X", "y", "sample_weight", "offset"


def cut(rows: dict[str, Array], size: int = 70) -> list[tuple[Array, ...]]:
    """Return rows as chunks."""
    return [tuple(rows[name][i : i + size] for name in NAMES) for i in range(0, N, size)]


def cut_and_kept(
    rows: dict[str, Array], size: int = 70, j: int | None = None
) -> list[tuple[Array, ...]]:
    """Return what is left of chunks of rows."""
    parts = (kept(rows, slice(i, i + size)) for i in range(0, N, size))
    left = [kept(part, known(part, j), j) for part in parts]
    return [tuple(part[name] for name in NAMES) for part in left]


@every_way
def test_chunks(dtype: np.dtype[Any], way: dict[str, Any]) -> None:
    """Also if all rows of a chunk have gaps; but for shuffled chunks, however rows are cut."""
    rows = draw(dtype)
    rows["y"][210:280] = np.nan
    left = known(rows).sum()
    for _ in settings():
        for size in (70, N):
            found = gd.fit(cut(rows, size), **way, missing="drop")
            same(found, gd.fit(cut_and_kept(rows, size if "batch_size" in way else 90), **way))
            assert (found.rows, found.dropped) == (left, N - left)
    if "sgd" not in way:
        same(gd.fit(iter(cut(rows)), **way, missing="drop"), found)


@every_way
def test_chunks_of_targets_with_gaps_of_their_own(way: dict[str, Any]) -> None:
    rows = draw(float, 3)
    rows["y"][300:390, 1] = np.nan
    found = gd.fit(cut(rows), **way, missing="drop")
    for j in range(3):
        one = gd.fit(cut_and_kept(rows, j=j), **way)
        assert found.weights[:, j].tolist() == one.weights.tolist()
        assert found.intercept[j] == one.intercept
        assert found.rows[j] == one.rows
    if "batch_size" not in way:
        alone = gd.fit(**rows, missing="drop")
        assert abs(found.loss - alone.loss) <= 1e-6 * alone.loss
    if "sgd" not in way:
        with pytest.raises(ValueError, match=r"can be read once only: pass a list .* one target"):
            gd.fit(iter(cut(rows)), missing="drop")


def test_chunks_that_fail() -> None:
    """The error names the row of the chunk as it was given."""
    rows = draw(float)
    rows["X"][130, 2] = np.inf
    assert not np.isnan(rows["X"][130]).any()
    with pytest.raises(gd.ChunkError, match=r"^chunk 1 \(from row 70\): X holds inf at row 60,"):
        gd.fit(cut(rows), missing="drop")
    with pytest.raises(gd.ChunkError, match=r"chunk 0 .* or pass missing='drop'"):
        gd.fit(cut(rows))
    with pytest.raises(ValueError, match="missing is 'skip'"):
        gd.fit(cut(rows), missing="skip")
    empty = [(np.full((5, 2), np.nan), np.ones(5))] * 2
    with pytest.warns(gd.FitWarning, match="10 of 10 rows have missing values"):
        assert gd.fit(empty, missing="drop").status is Status.EMPTY


def test_moments(dtype: np.dtype[Any]) -> None:
    rows = draw(dtype)
    at = known(rows)
    want = gd.Moments(D, dtype=dtype).update(**kept(rows, at))
    found = gd.Moments(D, dtype=dtype)
    for i in range(0, N, 70):
        assert found.update(**kept(rows, slice(i, i + 70)), missing="drop") is found
    assert found == want
    assert found.n == at.sum()
    same(found.fit(), want.fit())
    part = kept(rows, slice(0, 70))
    assert found.downdate(**part, missing="drop") == want.downdate(**kept(part, known(part)))
    with pytest.raises(ValueError, match="or pass missing='drop'"):
        found.update(rows["X"], np.zeros(N, dtype))
    with pytest.raises(ValueError, match="missing is 'skip'; choose"):
        found.update(rows["X"], np.zeros(N, dtype), missing="skip")


def test_moments_of_several_targets() -> None:
    X, y = np.arange(6.0)[:, None], np.ones((6, 2))
    y[3] = np.nan
    assert gd.Moments(1, 2).update(X, y, missing="drop").n == 5
    y[4, 1] = np.nan
    with pytest.raises(ValueError, match=r"share the sums of X.* make Moments for each target"):
        gd.Moments(1, 2).update(X, y, missing="drop")


def test_files(tmp_path: Any) -> None:
    """Nulls and NaN of a file do not count, whoever is asked to leave them out."""
    lines = [
        "x,y,w,o",
        "1,3,1,0",
        ",5,1,0",
        "3,NA,1,0",
        "4,9,,0",
        "5,10,2,nan",
        "6,13,1,1",
        "7,15,2,0",
    ]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    kept_rows = [[[1.0], [6.0], [7.0]], [3.0, 13.0, 15.0]]
    weight, offset = [1.0, 1.0, 2.0], [0.0, 1.0, 0.0]
    want = gd.fit([tuple(map(np.array, (*kept_rows, weight, offset)))])
    columns: dict[str, Any] = {"features": ["x"], "sample_weight": "w", "offset": "o"}
    plain = gd.read_chunks(path, "y", **columns)
    for dropping in ({"missing": "drop"}, {"nulls": "drop"}):
        chunks = gd.read_chunks(path, "y", **columns, **dropping)
        assert [a.tolist() for a in next(iter(chunks))] == [*kept_rows, weight, offset]
        for missing in ("error", "drop"):
            same(gd.fit(chunks, missing=missing), want)
    found = gd.fit(plain, missing="drop")
    same(found, want)
    assert (found.rows, found.dropped, found.feature_names) == (3, 4, ("x",))
    with pytest.raises(gd.ChunkError, match=r"no number in .*line 3.* or pass missing='drop'"):
        gd.fit(plain)
    with pytest.raises(ValueError, match=r"nulls and missing are two names of one option"):
        gd.read_chunks(path, "y", nulls="drop", missing="error")
    with pytest.raises(ValueError, match="missing is 'skip'; choose"):
        gd.read_chunks(path, "y", missing="skip")


def test_files_of_several_kinds(tmp_path: Any) -> None:
    pa, feather = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.feather")
    parquet = pytest.importorskip("pyarrow.parquet")
    x = [1, None, 3, 4, 2**53 + 1]
    y = [1.0, 2.0, float("nan"), None, 3.0]
    table = pa.table({"x": pa.array(x, pa.int64()), "y": pa.array(y)})
    parquet.write_table(table, tmp_path / "t.parquet")
    feather.write_feather(table, tmp_path / "t.feather")
    np.savez(tmp_path / "t.npz", x=np.array([1, np.nan, 3, 4, 2**53]), y=np.array(y, float))
    for name in ("t.parquet", "t.feather", "t.npz"):
        X, target = next(iter(gd.read_chunks(tmp_path / name, "y", missing="drop")))
        assert (X[:, 0].tolist(), target.tolist()) == ([1.0, float(2**53)], [1.0, 3.0]), name
        fit = gd.fit(gd.read_chunks(tmp_path / name, "y"), missing="drop")
        assert (fit.rows, fit.dropped) == (2, 3), name
    infinite = table.set_column(0, "x", pa.array([1.0, None, 3, 4, float("inf")]))
    parquet.write_table(infinite, tmp_path / "i.parquet")
    for chunks, missing in (
        (gd.read_chunks(tmp_path / "i.parquet", "y", missing="drop"), "error"),
        (gd.read_chunks(tmp_path / "i.parquet", "y"), "drop"),
    ):
        with pytest.raises(gd.ChunkError, match="an infinite number in row 5"):
            gd.fit(chunks, missing=missing)
    with pytest.raises(gd.ChunkError, match=r"no number in row 3 .*nan; .*or pass missing='drop'"):
        gd.fit(lambda: (part for part in [read_one(tmp_path / "n.parquet", parquet, pa)]))


def read_one(path: Any, parquet: Any, pa: Any) -> Any:
    """Return the chunk of a file whose third value is NaN, or the error of reading it."""
    parquet.write_table(pa.table({"x": [1.0, 2.0, float("nan")], "y": [1.0, 2.0, 3.0]}), path)
    return next(iter(gd.read_chunks(path, "y")))
