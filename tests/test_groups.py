"""One model a group, with the bits of its own fit: labels of any kind, arrays, data frames."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow
import pytest

import gdcore as gd
from conftest import THREADS
from fits import alone
from gdcore import Status
from gdcore.data import row_ids
from loops import each

N, D, COUNT = 500, 3, 23

# Problems end in every way there is; the warning has its own tests.
pytestmark = pytest.mark.filterwarnings("ignore:[0-9]+ problems?:gdcore.FitWarning")


@pytest.fixture
def table(rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """X, y and the group of each row, in no order; one group has a single row."""
    codes = rng.integers(0, COUNT - 1, N)
    codes[250] = COUNT - 1
    X = rng.normal(size=(N, D))
    return X, X @ np.arange(1.0, D + 1) + codes + 0.1 * rng.normal(size=N), codes


def check(fits: gd.Fits, table: tuple[Any, Any, Any], **options: Any) -> None:
    """Assert that every group has the bits of a fit of its rows."""
    X, y, codes = table
    assert len(fits) == len(np.unique(codes))
    for i, code in enumerate(np.unique(codes)):
        rows = codes == code
        one = alone(X[rows], y[rows], gd.SGD(), **options)
        assert fits.rows[i] == rows.sum()
        assert fits.weights[i].tobytes() == one.weights.tobytes(), i
        assert fits.intercept[i] == one.intercept
        assert fits.loss[i] == one.loss
        assert fits.epochs[i] == one.epochs
        assert np.broadcast_to(fits.r2_lost, len(fits))[i] == pytest.approx(one.r2_lost, 0, 0, True)


@each("threads", THREADS)
@each("method", ["gram", "stream", "exact"])
def test_each_group_is_as_if_alone(table: Any, threads: int, dtype: Any, method: str) -> None:
    gd.set_num_threads(threads)
    X, y, codes = table
    table = X.astype(dtype), y.astype(dtype), codes
    fits = gd.fit_groups(*table, sgd=gd.SGD(), epochs=50, method=method)  # type: ignore[arg-type]
    assert fits.groups.tolist() == sorted(set(codes.tolist()))
    check(fits, table, epochs=50, method=method)


@each("threads", THREADS)
@each("count", [1, 2, 1023, 50_000, 150_000])
@each("n", [1, 2, 1000, 200_001])
def test_rows_in_the_order_of_their_groups(rng: Any, threads: int, n: int, count: int) -> None:
    codes = rng.integers(0, count, n)
    occur, rows = gd._core.rows_by_label(codes - 7, -7, count)
    want = np.argsort(codes, kind="stable")
    present = np.unique(codes)
    assert np.array_equal(np.arange(count) if occur is None else occur, present)
    starts, order = rows.starts, rows.order(threads)
    assert np.array_equal(starts, np.append(np.searchsorted(codes[want], present), n))
    assert rows.in_place == (order is None)
    if order is None:
        order = np.arange(n)
        assert (np.diff(codes) >= 0).all()
    assert np.array_equal(order, want)


@each("label", [-1, 3, -(2**63), 2**63 - 1])
@each("rising", [False, True])
def test_rows_of_no_group(label: int, rising: bool) -> None:
    labels = np.array([2, label, 0])
    with pytest.raises(ValueError, match="not one of the groups"):
        gd._core.rows_by_label(np.sort(labels) if rising else labels, 0, 3)


@each("threads", [0, 1.5, 2**40, "all"])
@each("missing", ["error", "drop"])
def test_numbers_of_threads_are_checked_before_labels_are_sorted(
    threads: Any, missing: Any
) -> None:
    X, labels = np.ones((5, 1)), [1.0, np.nan if missing == "drop" else 2.0, 1.0, 2.0, 1.0]
    how: dict[str, Any] = {"n_threads": threads, "missing": missing}
    for fit in (
        lambda: gd.fit_groups(X, X[:, 0], labels, **how),
        lambda: gd.fit_rolling(X, X[:, 0], 2, groups=labels, **how),
    ):
        with pytest.raises(ValueError, match="it must be a whole number from 1 to 1024"):
            fit()


@each("width", [1, 3, 4, 8, 9, 16, 52])
@each("count", [1, 2, 600, 40_000])
@each("n", [0, 1, 64, 65, 90_000])
def test_ids_of_rows(rng: Any, n: int, count: int, width: int) -> None:
    """They count up in the order in which the rows of bytes first come."""
    kinds = rng.integers(0, 2, (count, width), np.uint8)  # few bits, so that hashes have to work
    codes = rng.integers(0, count, n)
    ids = gd._core.row_ids(kinds[codes])
    known: dict[bytes, int] = {}
    assert ids.tolist() == [known.setdefault(kinds[code].tobytes(), len(known)) for code in codes]


def test_rows_whose_hashes_nearly_agree() -> None:
    """They have one slot and one tag of the hash table, and bytes that differ."""
    odd, seed, mask = 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15, 2**64 - 1
    inverse = pow(odd, -1, 2**64)

    def row(hash_: int) -> int:
        """Return the eight bytes with this hash, which the core finds by two rounds."""
        for _ in range(2):
            hash_ = (hash_ ^ hash_ >> 32) * inverse & mask
        return hash_ ^ seed

    rows = np.array([row(0x0123456700000000 + (i << 20)) for i in range(100)], np.uint64)
    both = np.concatenate([rows, rows[::-1]])
    ids = gd._core.row_ids(both.view(np.uint8).reshape(-1, 8))
    assert ids.tolist() == [*range(100), *reversed(range(100))]


def test_ids_of_texts(rng: Any) -> None:
    """Texts of every width of a letter; those of other letters but the same bytes differ."""
    alphabets = ["ab", "a\xe9", "a\u3042", "a\U0001f600", "\0a", "ab\u6162"]
    for letters in alphabets:
        kinds = ["".join(rng.choice(list(letters), n)) for n in rng.integers(0, 40, 300)]
        texts = [kinds[i] for i in rng.integers(0, len(kinds), 5000)]
        known: dict[str, int] = {}
        want = [known.setdefault(text, len(known)) for text in texts]
        for shared in (texts, [text[:1] + text[1:] for text in texts]):
            array = np.array(shared, object)
            assert gd._core.holds_text(array)
            assert gd._core.text_ids(array).tolist() == want
    assert gd._core.text_ids(np.array(["ba", "\u6162", "b", "ba"], object)).tolist() == [0, 1, 2, 0]
    assert gd._core.text_ids(np.array([], object)).tolist() == []


def test_ids_of_anything_but_texts() -> None:
    class Loud(str):
        """A text with an equality of its own."""

        def __eq__(self, other: object) -> bool:
            return isinstance(other, str) and self.lower() == other.lower()

        __hash__ = str.__hash__

    for other in (None, 1, b"a", Loud("a"), np.str_("a"), float("nan")):
        array = np.array(["a", other], object)
        assert not gd._core.holds_text(array)
        assert gd._core.text_ids(array) is None
    for array in (np.array(["a"]), np.array([["a"]], object), np.array(["a"] * 4, object)[::2]):
        with pytest.raises(TypeError, match="contiguous array of objects"):
            gd._core.text_ids(array)
        with pytest.raises(TypeError, match="contiguous array of objects"):
            gd._core.holds_text(array)


LABELS: dict[str, Any] = {
    "int": lambda c: c,
    "far apart": lambda c: c * 10**12 - 5,
    "with gaps": lambda c: c * 3 - 40,
    "extreme": lambda c: c + np.iinfo(np.int64).min,
    "unsigned": lambda c: c.astype(np.uint64) + np.uint64(2**63),
    "of other bytes": lambda c: (c.astype(np.uint64) + np.uint64(2**63)).astype(">u8"),
    "small": lambda c: c.astype(np.int8),
    "bool": lambda c: c % 2 == 0,
    "float": lambda c: c * 0.5,
    "string": lambda c: np.array([f"s{i:02}" for i in c]),
    "every second string": lambda c: np.repeat([f"s{i:02}" for i in c], 2)[::2],
    "bytes": lambda c: np.array([b"x" * i for i in c]),
    "list of strings": lambda c: [f"s{i:02}" for i in c],
    "dates": lambda c: np.datetime64("2020-01-01") + c,
    "tuples": lambda c: [(int(i), "x") for i in c],
    "tuples of lengths": lambda c: [(int(i),) * (1 + i % 2) for i in c],
    "objects": lambda c: np.array([int(i) for i in c], object),
}


@each("few", [1, 10**6])  # rows that are sorted and not hashed
@each("labels", LABELS.values())
def test_labels(monkeypatch: Any, table: Any, labels: Any, few: int) -> None:
    monkeypatch.setattr(row_ids, "FEW", few)
    X, y, codes = table
    given = labels(codes)
    fits = gd.fit_groups(X, y, given, gd.SGD(), epochs=20)
    listed = given if isinstance(given, list) else given.tolist()
    assert fits.groups.tolist() == sorted(set(listed))
    for i, label in enumerate(fits.groups.tolist()):
        rows = [j for j, one in enumerate(listed) if one == label]
        one = alone(X[rows], y[rows], gd.SGD(), epochs=20)
        assert fits.weights[i].tobytes() == one.weights.tobytes()


def test_labels_of_several_types_come_in_their_order(table: Any) -> None:
    X, y, codes = table
    labels = [int(c) if c % 2 else f"s{c}" for c in codes]
    fits = gd.fit_groups(X, y, labels, gd.SGD(), epochs=5)
    assert fits.groups.tolist() == list(dict.fromkeys(labels))


def test_rows_grouped_already(table: Any) -> None:
    X, y, codes = table
    order = np.argsort(codes, kind="stable")
    shuffled = gd.fit_groups(X, y, codes, gd.SGD(), epochs=20)
    together = gd.fit_groups(X[order], y[order], codes[order], gd.SGD(), epochs=20)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(codes))])
    cut = gd.fit_groups(X[order], y[order], sgd=gd.SGD(), offsets=offsets, epochs=20)
    for other in (together, cut):
        assert other.weights.tobytes() == shuffled.weights.tobytes()
        assert other.loss.tobytes() == shuffled.loss.tobytes()


def test_empty_groups_and_no_groups() -> None:
    X, y = np.ones((4, 1)), np.ones(4)
    fits = gd.fit_groups(X, y, sgd=gd.SGD(), offsets=[0, 2, 2, 4], epochs=5)
    assert fits.status[1] == Status.EMPTY
    assert fits.rows.tolist() == [2, 0, 2]
    assert len(gd.fit_groups(X[:0], y[:0], np.empty(0, int), gd.SGD())) == 0


def test_fewer_rows_than_parameters(table: Any) -> None:
    """The least norm, in closed form and from zeros, or ridge regression: as asked."""
    X, y, codes = table
    with pytest.warns(gd.FitWarning, match="1 SINGULAR.*the first is group 22") as log:
        exact = gd.fit_groups(X, y, codes)
    assert len(log) == 1
    assert exact.method == "exact"
    fits = gd.fit_groups(X, y, codes, gd.SGD(), epochs=5000, tol=1e-12)
    i = COUNT - 1
    assert exact.status[i] == Status.SINGULAR
    assert exact.rank[i] == 1
    assert exact[i].message.startswith("Rank 1 of 4: ")
    assert fits.status[i] == Status.CONVERGED
    Z = np.append(X[250], 1.0)
    least = Z * y[250] / (Z @ Z)
    # Descent stops at 1e-12 of the first gradient; the solution is as far off as that and rounding.
    assert np.abs(np.append(fits.weights[i], fits.intercept[i]) - least).max() <= 1e-10
    assert np.abs(np.append(exact.weights[i], exact.intercept[i]) - least).max() <= 1e-13
    ridge = gd.fit_groups(X, y, codes, gd.SGD(weight_decay=0.1), epochs=5000, tol=1e-12)
    assert ridge.status[i] == Status.CONVERGED
    want = np.linalg.solve(2 * np.outer(Z, Z) + 0.1 * np.eye(4), 2 * Z * y[250])
    assert np.abs(np.append(ridge.weights[i], ridge.intercept[i]) - want).max() <= 1e-10


def test_several_targets_offset_and_weights(table: Any, rng: Any) -> None:
    X, y, codes = table
    both = np.stack([y, -y], axis=1)
    offset, weight = rng.normal(size=(N, 2)), rng.integers(1, 3, N).astype(float)
    fits = gd.fit_groups(X, both, codes, gd.SGD(), offset=offset, sample_weight=weight, epochs=20)
    for i in (0, 5, COUNT - 1):
        rows = codes == i
        how = {"offset": offset[rows], "sample_weight": weight[rows], "epochs": 20}
        one = alone(X[rows], both[rows], gd.SGD(), **how)
        assert fits.weights[i].tobytes() == one.weights.tobytes()
        assert fits.loss[i] == one.loss


def test_settings_of_each_group(table: Any, rng: Any) -> None:
    X, y, codes = table
    lr = rng.uniform(0.01, 0.1, COUNT)
    fits = gd.fit_groups(X, y, codes, gd.SGD(lr=lr), epochs=20)
    for i in (0, 7):
        one = alone(X[codes == i], y[codes == i], gd.SGD(lr=float(lr[i])), epochs=20)
        assert fits.weights[i].tobytes() == one.weights.tobytes()


def test_predictions(table: Any) -> None:
    X, y, codes = table
    fits = gd.fit_groups(X, y, codes, gd.SGD())
    predicted = fits.predict(X, groups=codes)
    for i in (0, 9):
        rows = codes == i
        assert predicted[rows].tobytes() == fits[i].predict(X[rows]).tobytes()
    with pytest.raises(ValueError, match="group 77 was not fitted"):
        fits.predict(X[:1], groups=[77])
    with pytest.raises(ValueError, match="groups has shape"):
        fits.predict(X, groups=codes[:-1])
    with pytest.raises(TypeError, match="cannot be hashed"):
        fits.predict(X[:1], groups=[{}])


@each("library", ["pandas", "polars", "pyarrow"])
@each("by", ["name", ["half", "name"]])
def test_frames(table: Any, library: str, by: Any) -> None:
    """Fits come back whatever came in: with the bits and labels of arrays, and the names."""
    pytest.importorskip("narwhals")
    module = pytest.importorskip(library)
    X, y, codes = table
    columns = {
        "y": y, "a": X[:, 0], "b": X[:, 1].astype(np.float32), "c": X[:, 2],
        "name": np.array([f"s{i:02}" for i in codes]), "half": codes % 2,
    }  # fmt: skip
    make = module.table if library == "pyarrow" else module.DataFrame
    fits = gd.fit_groups(
        make(columns), sgd=gd.SGD(), target="y", features=["a", "b", "c"], by=by, epochs=20
    )
    keys = [by] if isinstance(by, str) else by
    labels = columns["name"].tolist()
    if len(keys) > 1:
        labels = list(zip(columns["half"].tolist(), labels, strict=True))
    wide = np.stack([X[:, 0], X[:, 1].astype(np.float32), X[:, 2]], axis=1)
    want = gd.fit_groups(wide, y, labels, gd.SGD(), epochs=20)
    assert fits.groups.tolist() == want.groups.tolist() == sorted(set(labels))
    assert fits.groups.ndim == 1
    assert fits.group_names == tuple(keys)
    assert fits.feature_names == ("a", "b", "c")
    assert fits.target_name == "y"
    assert isinstance(fits.group_keys, type(make(columns)))
    for name in ("weights", "intercept", "loss", "rows"):
        assert getattr(fits, name).tobytes() == getattr(want, name).tobytes(), name


def test_who_expects_a_frame_hears_of_to_frame() -> None:
    pytest.importorskip("narwhals")
    frame = pyarrow.table({"y": [1.0, 2.0, 4.0], "a": [1.0, 2.0, 3.0], "s": ["u", "u", "u"]})
    fits = gd.fit_groups(frame, target="y", features="a", by="s")
    with pytest.raises(AttributeError, match=r"no attribute 'columns'.*call fits.to_frame\(\)"):
        fits.columns  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(fits, "_repr_png_")
    with pytest.raises(AttributeError, match=r"no attribute 'columns'$"):
        gd.fit_groups([[1.0], [2.0]], [1.0, 3.0], [0, 0]).columns  # type: ignore[attr-defined]  # noqa: B018


def bad_frames() -> dict[str, tuple[dict[str, Any], str]]:
    return {
        "no column": (
            {"features": ["q"]},
            "the frame has no column 'q'; it needs .* and has 'y', 'a', 's'",
        ),
        "text": ({"features": ["s"], "by": "a"}, "'s' holds"),
        "gaps": ({"target": "gap"}, "'gap' has 1 missing"),
        "gaps in by": ({"by": "hole"}, "'hole' of by has 1 missing"),
        "not all": ({"by": None}, "by names no column; .* this one has 'y', 'a', 's', 'gap'"),
        "none": ({"features": []}, "features names no column"),
        "arrays too": ({"y": [1.0]}, "leave out y, groups and offsets"),
    }


@each("change, message", bad_frames().values())
def test_bad_frames(change: dict[str, Any], message: str) -> None:
    pytest.importorskip("narwhals")
    frame = pyarrow.table({
        "y": [1.0, 2.0], "a": [1.0, 3.0], "s": ["u", "v"], "gap": [1.0, None],
        "hole": ["u", None],
    })  # fmt: skip
    arguments: dict[str, Any] = {"target": "y", "features": ["a"], "by": "s"} | change
    with pytest.raises(ValueError, match=message):
        gd.fit_groups(frame, **arguments)


def test_tables_that_are_not_frames() -> None:
    pytest.importorskip("narwhals")
    with pytest.raises(TypeError, match="list, which is not a data frame"):
        gd.fit_groups([[1.0]], sgd=gd.SGD(), target="y", features=["a"], by="s")


def test_without_narwhals() -> None:
    """The error names the extra, and arrays need none of it."""
    code = """
import sys
sys.modules["narwhals"] = None
import gdcore as gd
print(len(gd.fit_groups([[1.0], [2.0]], [1.0, 2.0], [0, 1], epochs=2)))
try:
    gd.fit_groups({"y": [1.0]}, target="y", features="a", by="s")
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[0] == "2"
    assert "pip install 'gdcore[frames]'" in run.stdout


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "short": ({"groups": [0, 1]}, r"groups has shape \(2,\); it must be \(4,\)"),
    "none": ({"groups": None}, "pass either groups"),
    "both": ({"offsets": [0, 4]}, "pass either groups"),
    "no y": ({"y": None}, "y is missing"),
    "NaN": ({"groups": [0.0, np.nan, 1.0, np.nan]}, "2 missing labels, the first in row 1"),
    "None": ({"groups": ["a", None, "b", "b"]}, "1 missing label, the first in row 1"),
    "NaT": ({"groups": np.array(["2020", "NaT", "2021", "2021"], "M8[Y]")}, "1 missing label"),
    "offsets fall": ({"groups": None, "offsets": [0, 3, 2, 4]}, "falls after entry 1"),
    "offsets wrap": (
        {"groups": None, "offsets": [0, 2**63 - 1, -(2**63), 4]},
        "falls after entry 1",
    ),
    "offsets end": ({"groups": None, "offsets": [0, 3]}, "ends at 3; it must rise from 0 to the 4"),
    "float offsets": ({"groups": None, "offsets": [0.0, 4.0]}, "whole numbers"),
    "rate": ({"sgd": gd.SGD(lr=[0.1])}, "with 2 problems"),  # type: ignore[arg-type]
}


@each("change, message", BAD.values())
def test_bad_arguments(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"X": np.ones((4, 1)), "y": np.ones(4), "groups": [0, 0, 1, 1]}
    with pytest.raises(ValueError, match=message):
        gd.fit_groups(**(arguments | change))


def test_numbers_that_numpy_would_round_stay_apart() -> None:
    X, y = np.ones((8, 1)), np.arange(8.0)
    for labels in ([2**63, 2**63 + 1, -1, -2] * 2, [2**53, 2**53 + 1, 0.5, 0.25] * 2):
        assert len(gd.fit_groups(X, y, labels, gd.SGD(), epochs=2)) == 4


def test_masked_labels_are_refused() -> None:
    labels = np.ma.masked_array([0, 0, 1, 1], [0, 0, 0, 1])
    with pytest.raises(TypeError, match="mask would be lost"):
        gd.fit_groups(np.ones((4, 1)), np.ones(4), labels, gd.SGD())


def test_fits_of_other_groups_cannot_be_starts() -> None:
    X, y = np.ones((4, 1)), np.ones(4)
    first = gd.fit_groups(X, y, ["a", "a", "b", "b"], gd.SGD(), epochs=2)
    with pytest.raises(ValueError, match="fits of other groups"):
        gd.fit_groups(X, y, ["b", "b", "c", "c"], gd.SGD(), epochs=2, init=first)


def test_predictions_of_labels_that_are_objects() -> None:
    X, y = np.arange(8.0)[:, None], np.arange(8.0)
    labels = [(i % 2, "x") for i in range(8)]
    fits = gd.fit_groups(X, y, labels, gd.SGD())
    assert fits.predict(X[:2], groups=labels[:2]).shape == (2,)
    days = np.datetime64("2020-01-01") + np.arange(8) % 2
    dated = gd.fit_groups(X, y, days, gd.SGD())
    assert dated.predict(X, groups=days.astype("M8[s]")).shape == (8,)


def test_labels_that_cannot_be_hashed() -> None:
    with pytest.raises(TypeError, match="cannot be hashed"):
        gd.fit_groups(np.ones((2, 1)), np.ones(2), [{}, {}], gd.SGD())
