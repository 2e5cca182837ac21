"""Labels come back from a fit, and from a file, as they were given."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import gdcore as gd
from fits import refused
from gdcore.data.labels import factorize
from saved_files import rewrite, stored

PARIS = ZoneInfo("Europe/Paris")
SUMMER = datetime(2020, 10, 25, 2, 30, tzinfo=PARIS)  # an hour before WINTER, and equal to it
WINTER = SUMMER.replace(fold=1)
X, Y = np.arange(8.0)[:, None] ** 1.5, np.arange(8.0)


def lists() -> list[Any]:
    """Return two labels each, of what Python has."""
    return [
        ["a", "b"], ["a", "a\0"], ["a", "b" * 300], ["\udc80", "b"], [b"a", b"a\0"], [1, 2],
        [2**63, 2**63 + 1], [2**63, -1], [2**100, -1], [2**53, 2**53 + 1], [0.1, 0.25],
        [1, 0.5], [True, False], [(1, "a"), (1, b"b\0")], [(1, (2, "x")), (1, (3, "x"))],
        [(1,), (1, 2)], [1, "a"], [date(2020, 1, 1), date(2021, 1, 1)],
        [datetime(2020, 1, 1), datetime(2020, 1, 1, 0, 0, 0, 1)],
        [SUMMER, WINTER], [datetime(2020, 1, 1, tzinfo=timezone(timedelta(hours=3))),
                           datetime(2020, 1, 1, tzinfo=UTC)],
        [time(1), time(2, 3, 4, 5)], [timedelta(1), timedelta(microseconds=1)],
        [Decimal("1.10"), Decimal(2)], [Fraction(1, 3), Fraction(1, 2)], [UUID(int=1), UUID(int=2)],
    ]  # fmt: skip


def arrays() -> Iterator[Any]:
    """Yield arrays of two labels each."""
    for kind in "bBhHiIlL":
        yield np.array([np.iinfo(kind).min, np.iinfo(kind).max], kind)
    yield np.array([2**64 - 1, 7], ">u8")
    yield np.array([1.5, 2.0], np.float32)
    yield np.array(["a", "bc"])
    yield np.array([b"a", b"bc"])
    yield np.array(["a", "a\0"], np.dtypes.StringDType())
    yield np.array(["a", "a\0"], object)
    yield np.array([np.int8(1), np.float32(0.1)], object)
    yield np.array([1, 2], "M8[ns]")
    yield np.array([1, 2], "m8[us]")


def labels_of(given: Any) -> list[Any]:
    for way in ("to_pylist", "to_list", "tolist"):
        if hasattr(given, way):
            return list(getattr(given, way)())
    return list(given)


def check(given: Any, path: Path) -> gd.Fits:
    """Assert that labels come back, from a file too, and that each one finds its group."""
    fits: gd.Fits = gd.fit_groups(X, Y, given, method="exact")
    want = set(map(repr, labels_of(given)))
    assert len(want) == 2
    assert set(map(repr, fits.groups.tolist())) == want
    fits.save(path)
    assert all(array.dtype.kind != "O" for array in stored(path).values())
    loaded = gd.load(path)
    assert isinstance(loaded, gd.Fits)
    assert loaded.groups.dtype == fits.groups.dtype
    assert list(map(repr, loaded.groups.tolist())) == list(map(repr, fits.groups.tolist()))
    rows = [fits[list(map(repr, fits.groups.tolist())).index(repr(g))] for g in labels_of(given)]
    want_here = [fit.predict(X[i : i + 1])[0] for i, fit in enumerate(rows)]
    for one in (fits, loaded):
        assert one.predict(X, groups=given).tolist() == want_here
    return fits


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_of_python_and_numpy(tmp_path: Path) -> None:
    for two in lists():
        check(two * 4, tmp_path / "fits")
    for two in arrays():
        fits = check(np.tile(two, 4), tmp_path / "fits")
        assert fits.groups.dtype.name == two.dtype.name


def test_of_pandas(tmp_path: Path) -> None:
    pd = pytest.importorskip("pandas")
    stamps = pd.Series([SUMMER, WINTER])
    for two in [
        pd.Series(["a", "a\0"]), pd.Series(["a", "b"], dtype="string"),
        pd.Series(["a", "b"], dtype="category"), pd.Series([1, 2], dtype="category"),
        pd.Series([1, 2**53 + 1], dtype="Int64"), pd.Series([2**64 - 1, 1], dtype="UInt64"),
        pd.Series([-1, 2], dtype="int8"), pd.Series([True, False], dtype="boolean"),
        stamps, stamps.astype("category"),
        pd.Series([pd.Timestamp(1, tz=PARIS), pd.Timestamp(2, tz=PARIS)]),
        pd.Series(pd.period_range("2020", periods=2, freq="M")),
        pd.Series(pd.interval_range(0, 2)), pd.Series([b"a", b"a\0"]),
        pd.Series([pd.Timedelta(1), pd.Timedelta(2)], dtype=object),
    ]:  # fmt: skip
        check(pd.concat([two] * 4), tmp_path / "fits")
    index = pd.MultiIndex.from_tuples([(1, "a"), (2, "b")])
    check(index.append([index] * 3), tmp_path / "fits")


def test_of_arrow(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    for two in [
        pa.array(["a", "a\0"]), pa.array(["a", "b"]).dictionary_encode(),
        pa.array([b"a", b"a\0"]), pa.array(["a", "b"], pa.large_string()),
        pa.array([SUMMER, WINTER]), pa.array([2**64 - 1, 2], pa.uint64()),
        pa.array([-1, 2], pa.int8()), pa.array([True, False]),
        pa.array([date(2020, 1, 1), date(2021, 1, 1)]), pa.array([Decimal("1.5"), Decimal("2.0")]),
        pa.array([0.5, 0.1]), pa.array([time(1), time(2)]),
    ]:  # fmt: skip
        check(pa.chunked_array([two] * 4), tmp_path / "fits")
    fits = gd.fit_groups(X, Y, pa.array([1, 1, 1, 1, 2, 2, 2, 2]), method="exact")
    assert fits.groups.tolist() == [1, 2]


def test_of_polars(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    for two in [
        pl.Series(["a", "a\0"]), pl.Series(["a", "b"], dtype=pl.Categorical),
        pl.Series(["a", "b"], dtype=pl.Enum(["b", "a"])), pl.Series([SUMMER, WINTER]),
        pl.Series([2**100, 1], dtype=pl.Int128), pl.Series([2**64 - 1, 2], dtype=pl.UInt64),
        pl.Series([-1, 2], dtype=pl.Int8), pl.Series([Decimal("1.5"), Decimal("2.0")]),
        pl.Series([b"a", b"a\0"]), pl.Series([time(1), time(2)]), pl.Series([True, False]),
        pl.Series([date(2020, 1, 1), date(2021, 1, 1)]),
    ]:  # fmt: skip
        check(pl.concat([two] * 4), tmp_path / "fits")


def test_nanoseconds_of_a_zone() -> None:
    """Python's datetimes have no nanoseconds: labels that differ by one stay apart."""
    pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    groups = pl.Series([1, 2] * 4, dtype=pl.Datetime("ns", "Europe/Paris"))
    fits = gd.fit_groups(X, Y, groups, method="exact")
    assert [label.value for label in fits.groups.tolist()] == [1, 2]


def test_missing() -> None:
    pd, pl, pa = map(pytest.importorskip, ("pandas", "polars", "pyarrow"))
    nan = float("nan")
    for given in [
        [0.5, nan], ["a", None], [(1, "a"), (1, nan)], [("a", 1), (None, 1)],
        np.array(["2020", "NaT"], "M8[D]"),
        np.array(["a", nan], np.dtypes.StringDType(na_object=nan)),
        pd.Series(["a", None], dtype="string"), pd.Series(["a", None]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series(["a", None], dtype="category"), pd.Series([True, None], dtype="boolean"),
        pd.Series([SUMMER, None]), [pd.Timestamp(0), pd.NaT], [1, pd.NA],
        pl.Series(["a", None]), pl.Series([1, None]), pl.Series([SUMMER, None]),
        pa.array(["a", None]), pa.array([1, None]), pa.array([SUMMER, None]),
        pa.array(["a", None]).dictionary_encode(),
    ]:  # fmt: skip
        call = lambda given=given: gd.fit_groups(X[:2], Y[:2], given)  # noqa: E731
        refused(call, "groups has 1 missing label, the first in row 1")


@pytest.mark.parametrize("letters", ["ab", "a\xff", "a\u0100", "a\U0001f600"])
def test_texts_come_in_the_order_of_python(letters: str) -> None:
    """Long ones and short ones, of letters that take a byte and of others."""
    rng = np.random.default_rng(0)
    for longest in (1, 8, 9, 32, 40):
        made = {"".join(rng.choice(list(letters), n)) for n in rng.integers(0, longest + 1, 900)}
        texts = rng.permutation(sorted(made)).tolist()
        for given in (texts, np.array(texts), np.array(texts, object)):
            labels, codes = factorize(given, len(texts))
            assert labels.tolist() == sorted(texts)
            assert [labels[code] for code in codes] == texts


class Colour(Enum):
    RED = 1
    BLUE = 2


class Level(IntEnum):
    LOW = 1
    HIGH = 2


def test_what_a_file_cannot_keep(tmp_path: Path) -> None:
    """It comes back from the fit; saving it names the label."""
    path = tmp_path / "fits"
    kinds: list[Any] = [Colour, Level]
    for kind in kinds:
        fits = gd.fit_groups(X, Y, list(kind) * 4, method="exact")
        assert fits.groups.tolist() == list(kind)
        refused(
            lambda fits=fits: fits.save(path), f"{kind(1)!r} is a {kind.__name__}, which a file"
        )
    assert not path.exists()


def test_files_of_earlier_versions_and_later_ones(tmp_path: Path) -> None:
    """Labels that NumPy saves are in files that an earlier gdcore reads; text needs this one."""
    path = tmp_path / "fits"
    for groups, version in (([1, 2] * 4, 1), (["a", "b"] * 4, 1), (["a", "a\0"] * 4, 2)):
        gd.fit_groups(X, Y, groups, method="exact").save(path)
        assert f'"version": {version}' in str(stored(path)["meta"])
    assert gd.load(path).groups.tolist() == ["a", "a\0"]  # type: ignore[attr-defined]
    rewrite(path, version=3)
    refused(lambda: gd.load(path), "has version 3; this gdcore reads version 2 and older ones")


def test_damaged_labels(tmp_path: Path) -> None:
    path = tmp_path / "fits"
    gd.fit_groups(X, Y, ["a", "a\0"] * 4, method="exact").save(path)
    for text in ("{", "[]", '{"kind": "O"}', '{"kind": "O", "labels": [{"Trap": 1}, 2]}'):
        entries = stored(path) | {"groups_text": np.frombuffer(text.encode(), np.uint8)}
        with path.open("wb") as file:
            np.savez(file, **entries)
        refused(lambda: gd.load(path), "labels of the groups in this file are damaged")


@pytest.mark.filterwarnings("ignore::gdcore.FitWarning")
def test_messages_name_labels() -> None:
    bad = np.where(np.arange(8) == 5, np.inf, Y)
    for groups, name in (
        (["s01"] * 4 + ["s02"] * 4, "group 's02'"),
        ([3] * 4 + [7] * 4, "group 7"),
        (np.repeat(np.array(["2020-01", "2020-02"], "M8[M]"), 4), "group 2020-02"),
    ):
        fits = gd.fit_groups(X, bad, groups, gd.SGD())
        assert f"INVALID (the first is {name}):" in fits.message
    stack = gd.fit(X[None] + np.zeros((2, 1, 1)), np.stack([Y, bad]), gd.SGD())
    assert "INVALID (the first is problem 1):" in stack.message
