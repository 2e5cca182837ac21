"""Groups of a data frame: from every library, with the bits, labels and order that arrays give."""

from __future__ import annotations

import builtins
import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

import gdcore as gd
from fits import refused
from gdcore.data import row_ids
from gdcore.data.labels import factorize
from loops import each

pytest.importorskip("narwhals")

N = 240
RNG = np.random.default_rng(8)
A, B, NOISE = RNG.normal(size=(3, N))
X = np.stack([A, B], 1)
CODES = RNG.permutation(np.arange(N) % 11)  # groups of 21 or 22 rows, in no order
HALF = np.arange(N) % 2
Y = 2 * A - 3 * B + CODES + 0.1 * NOISE
W = np.abs(NOISE) + 0.1
COLUMNS = {"y": Y, "a": A, "b": B, "unused": [None] * N}
CALL: dict[str, Any] = {"target": "y", "features": ["a", "b"]}
LIBRARIES = ["pandas", "polars", "pyarrow"]

DAY = datetime.date(2024, 2, 27)
AUTUMN = datetime.datetime(2024, 10, 26, 23, 30, tzinfo=datetime.UTC)  # then 2:30 comes twice


def berlin(code: int) -> datetime.datetime:
    moment = AUTUMN + datetime.timedelta(minutes=30 * code)
    return moment.astimezone(ZoneInfo("Europe/Berlin"))


KEYS: dict[str, Callable[[int], Any]] = {
    "int": lambda c: 3 * c - 7,
    "far apart": lambda c: 10**15 * c - 5,
    "bool": lambda c: c % 2 == 0,
    "float": lambda c: c * 0.5,
    "text": lambda c: f"s{c:02}",
    "letters": lambda c: "öäü€𝄞zZaA é"[c],
    "empty text": lambda c: "x" * c,
    "date": lambda c: DAY + datetime.timedelta(days=c),
    "datetime": lambda c: datetime.datetime(2024, 1, 1, c, 30),
    "time zone": berlin,
    "duration": lambda c: datetime.timedelta(hours=c),
    "bytes": lambda c: b"\x00" * c + b"k",
    "decimal": lambda c: Decimal(c) / 4,
}


@pytest.fixture(autouse=True)
def hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let hash tables find the labels of arrays of few rows too."""
    monkeypatch.setattr(row_ids, "FEW", 1)


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


def frame(library: str, **columns: Any) -> Any:
    module = pytest.importorskip(library)
    return module.table(columns) if library == "pyarrow" else module.DataFrame(columns)


def values(frame: Any, name: str) -> list[Any]:
    column = frame[name]
    return column.to_pylist() if hasattr(column, "to_pylist") else column.to_list()


def same(found: gd.Fits, want: gd.Fits) -> None:
    """Assert that two fits have the same labels in the same order, and the same bits."""
    assert found.groups.tolist() == want.groups.tolist()
    for name in ("weights", "intercept", "loss", "rows"):
        assert getattr(found, name).tobytes() == getattr(want, name).tobytes(), name


@each("key", KEYS.values())
def test_keys_of_every_type(library: str, key: Callable[[int], Any]) -> None:
    labels = [key(int(code)) for code in CODES]
    table = frame(library, k=labels, h=HALF, **COLUMNS)
    found, want = gd.fit_groups(table, by="k", **CALL), gd.fit_groups(X, Y, labels)
    same(found, want)
    assert found.groups.dtype == gd.fit_groups(X, Y, table["k"]).groups.dtype
    assert (found.group_names, found.feature_names, found.target_name) == (("k",), ("a", "b"), "y")
    assert type(found.group_keys) is type(table)
    assert values(found.group_keys, "k") == want.groups.tolist()
    pairs = list(zip(HALF.tolist(), labels, strict=True))
    found, want = gd.fit_groups(table, by=["h", "k"], **CALL), gd.fit_groups(X, Y, pairs)
    same(found, want)
    assert found.group_names == ("h", "k")
    assert [*zip(values(found.group_keys, "h"), values(found.group_keys, "k"), strict=True)] == [
        *map(tuple, want.groups.tolist())
    ]


def typed(library: str) -> Iterator[tuple[str, Any, list[Any]]]:
    """Yield columns of types that only a library has, and the labels of their rows."""
    module: Any = pytest.importorskip(library)
    texts = [f"s{code:02}" for code in CODES]
    orders = list(reversed(sorted(set(texts)))), [*sorted(set(texts)), "unused"]
    if library == "pandas":
        for order in orders:
            yield "category", module.Categorical(texts, order, ordered=True), texts
        mixed = [int(code) if code % 2 else f"s{code}" for code in CODES]
        yield "category of several types", module.Categorical(mixed, {*mixed, "unused"}), mixed
        yield "category of numbers", module.Categorical(CODES * 2.5), (CODES * 2.5).tolist()
        yield "nullable", module.array(CODES, "Int8"), CODES.tolist()
        yield "string", module.array(texts, "string"), texts
        yield "objects", np.array(texts, object), texts
        yield "period", module.PeriodIndex.from_ordinals(CODES, freq="M").array, CODES.tolist()
    elif library == "polars":
        yield "category", module.Series(texts, dtype=module.Categorical), texts
        for order in orders:
            yield "enum", module.Series(texts, dtype=module.Enum(order)), texts
        yield "small", module.Series(CODES, dtype=module.UInt8), CODES.tolist()
    else:
        for order in orders:
            codes = module.array([order.index(text) for text in texts], module.int8())
            yield "dictionary", module.DictionaryArray.from_arrays(codes, order), texts
        twice = module.DictionaryArray.from_arrays([c % 2 for c in CODES], ["same", "same"])
        yield "a dictionary with a value twice", twice, ["same"] * N
        halves = [module.array(part).dictionary_encode() for part in (texts[:99], texts[99:])]
        yield "two dictionaries", module.chunked_array(halves), texts
        yield "chunks", module.chunked_array([texts[:99], [], texts[99:]]), texts
        yield "large", module.array(texts, module.large_string()), texts
        yield "view", module.array(texts, module.string_view()), texts


def test_keys_of_types_of_one_library(library: str) -> None:
    for name, column, labels in typed(library):
        table = frame(library, k=column, **COLUMNS)
        found, want = gd.fit_groups(table, by="k", **CALL), gd.fit_groups(X, Y, labels)
        assert found.weights.tobytes() == want.weights.tobytes(), name
        assert found.groups.dtype == gd.fit_groups(X, Y, table["k"]).groups.dtype, name
        again = gd.fit_groups(X, Y, table["k"])
        assert again.groups.tolist() == found.groups.tolist()
        if name != "period":
            assert found.groups.tolist() == want.groups.tolist(), name
        assert len(found.group_keys) == len(found)


def test_a_null_in_a_dictionary() -> None:
    """Arrow's count of nulls leaves it out."""
    pyarrow = pytest.importorskip("pyarrow")
    codes = pyarrow.array(np.where(CODES == 7, 0, 1))
    column = pyarrow.DictionaryArray.from_arrays(codes, [None, 2.0])
    texts = pyarrow.DictionaryArray.from_arrays(codes, [None, "two"])
    table, kept = pyarrow.table({"k": texts, "x": column, **COLUMNS}), CODES != 7
    first = int(np.argmax(~kept))
    refused(lambda: gd.fit_groups(table, by="k", **CALL), f"the first in row {first}")
    refused(lambda: gd.fit_groups(X, Y, texts), f"the first in row {first}")
    refused(lambda: gd.fit(table.select(["x"]), Y), f"the first in row {first}")
    want = gd.fit_groups(X[kept], Y[kept], ["two"] * int(kept.sum()))
    same(gd.fit_groups(table, by="k", missing="drop", **CALL), want)
    same(gd.fit_groups(X, Y, texts, missing="drop"), want)
    sizes = gd.fit(table.select(["x"]), Y, missing="drop", fit_intercept=False)
    assert (sizes.rows, sizes.dropped) == (kept.sum(), (~kept).sum())


def test_the_keys_keep_their_types(library: str) -> None:
    table = frame(library, k=CODES.astype(np.int16), **COLUMNS)
    keys = gd.fit_groups(table, by="k", **CALL).group_keys
    types = (lambda t: t.schema.field("k").type) if library == "pyarrow" else lambda t: t["k"].dtype
    assert types(keys) == types(table)
    if library == "pandas":
        assert keys.index.tolist() == list(range(11))


@each("given", [list, "array", "objects", "strings"])
@each("few", [1, 10**6])
@each("names", [0, 0xE0, 0x3B0, 0x1F600])
def test_text_in_arrays(monkeypatch: Any, given: Any, few: int, names: int) -> None:
    """The hash table of the core and that of Python give the same labels and codes."""
    monkeypatch.setattr(row_ids, "FEW", few)
    texts = [f"s{code:02}" + (chr(names + code) if names else "") for code in CODES.tolist()]
    made = {list: list, "array": np.array, "objects": lambda t: np.array(t, object),
            "strings": lambda t: np.array(t, np.dtypes.StringDType())}[given](texts)  # fmt: skip
    assert (row_ids.array_ids(np.asarray(made, object)) is not None) == (few == 1)
    labels, codes = factorize(made, N)
    assert labels.tolist() == sorted(set(texts))
    assert [labels[code] for code in codes] == texts
    same(gd.fit_groups(X, Y, made), gd.fit_groups(X, Y, texts))


def test_texts_of_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    polars = pytest.importorskip("polars")
    table = polars.DataFrame({"k": [f"s{code:02}" for code in CODES], **COLUMNS})
    want, real = gd.fit_groups(table, by="k", **CALL), polars.Series.hash
    monkeypatch.setattr(polars.Series, "hash", lambda texts: real(texts.str.slice(0, 2)))
    same(gd.fit_groups(table, by="k", **CALL), want)


def test_other_objects_keep_the_rules_of_python() -> None:
    """Labels of several types come in their order; True is 1, as in a dict; NaN is missing."""
    pytest.importorskip("pandas")
    mixed = np.array(["b", 1, "a", True, 1.0], object)
    labels, codes = factorize(mixed, 5)
    assert labels.tolist() == ["b", 1, "a"]
    assert codes.tolist() == [0, 1, 2, 1, 1]
    for hole in (None, np.nan):
        refused(
            lambda hole=hole: factorize(np.array(["b", "b", hole, "a"], object), 4),
            "groups has 1 missing label, the first in row 2",
        )


def test_rows_in_order_and_no_rows(library: str) -> None:
    order = np.argsort(CODES, kind="stable")
    columns = {name: column[order] for name, column in {"k": CODES, "y": Y, "a": A, "b": B}.items()}
    found = gd.fit_groups(frame(library, **columns), by="k", **CALL)
    same(found, gd.fit_groups(X, Y, CODES))
    assert values(found.group_keys, "k") == list(range(11))
    none = {name: column[:0] for name, column in columns.items()}
    for by in ("k", ["k", "y2"]):
        nothing = gd.fit_groups(frame(library, y2=Y[:0], **none), by=by, **CALL)
        assert len(nothing) == 0
        assert nothing.groups.shape == (0,)
        assert nothing.weights.shape == (0, 2)


@pytest.mark.filterwarnings("ignore:240 problems:gdcore.FitWarning")
def test_many_columns_of_keys(library: str) -> None:
    """Even if there are more combinations than 64-bit integers."""
    count = 11
    columns = {f"k{j}": RNG.permutation(N) for j in range(count)}
    table = frame(library, **columns, **COLUMNS)
    found = gd.fit_groups(table, by=list(columns), **CALL)
    labels = [*map(tuple, np.stack([*columns.values()], 1).tolist())]
    same(found, gd.fit_groups(X, Y, labels))


def test_columns_of_weights_and_offsets(library: str) -> None:
    table = frame(library, k=CODES, w=W, o=NOISE, **COLUMNS)
    found = gd.fit_groups(table, by="k", sample_weight="w", offset="o", **CALL)
    want = gd.fit_groups(X, Y, CODES, sample_weight=W, offset=NOISE)
    same(found, want)
    same(gd.fit_groups(table, by="k", sample_weight=W, offset=NOISE, **CALL), want)
    for name in ("sample_weight", "offset"):
        message = "the frame has no column 'q'; it needs 'y', 'a', 'b', 'k', 'q' and has 'k', 'w'"
        refused(lambda name=name: gd.fit_groups(table, by="k", **{name: "q"}, **CALL), message)
    refused(
        lambda: gd.fit_groups(table, by="k", sample_weight="unused", **CALL), "the column 'unused'"
    )
    for name in ("sample_weight", "offset"):
        message = f"{name} names the column 'y' and so does target"
        refused(lambda name=name: gd.fit_groups(table, by="k", **{name: "y"}, **CALL), message)


def test_names_without_a_frame() -> None:
    for change in ({"y": "y"}, {"groups": "k"}, {"sample_weight": "w"}, {"offset": "o"}):
        ((name, value),) = change.items()
        refused(
            lambda change=change: gd.fit_groups(**({"X": X, "y": Y, "groups": CODES} | change)),
            f"{name} is '{value}'; .* name all columns of a data frame: target=, features= and by=",
            TypeError,
        )


def test_a_label_in_the_index() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(COLUMNS).set_index(pandas.Index(CODES, name="k"))
    refused(lambda: gd.fit_groups(table, by="k", **CALL), "'k' is in the index.*reset_index")
    same(gd.fit_groups(table.reset_index(), by="k", **CALL), gd.fit_groups(X, Y, CODES))


def test_a_warm_start_and_files(library: str, tmp_path: Any) -> None:
    table = frame(library, k=[f"s{code:02}" for code in CODES], **COLUMNS)
    how: dict[str, Any] = {"by": "k", "tol": None, **CALL}
    fits = gd.fit_groups(table, sgd=gd.SGD(), epochs=20, **how)
    more = gd.fit_groups(table, sgd=gd.SGD(), epochs=20, init=fits, **how)
    once = gd.fit_groups(table, sgd=gd.SGD(), epochs=40, **how)
    assert more.weights.tobytes() == once.weights.tobytes()
    fits.save(tmp_path / "fits")
    loaded = gd.load(tmp_path / "fits")
    again = gd.fit_groups(table, sgd=gd.SGD(), epochs=20, init=loaded, **how)
    assert again.weights.tobytes() == once.weights.tobytes()


# Rows that are not in memory.


def test_lazy_frames_are_read_by_column() -> None:
    """Only the columns named are computed."""
    polars = pytest.importorskip("polars")
    narwhals = pytest.importorskip("narwhals")
    columns = {"k": CODES, "w": W, **COLUMNS}
    fails = polars.col("a").map_elements(lambda _: 1 / 0, polars.Float64)
    lazy = polars.LazyFrame(columns).with_columns(unused=fails)
    want = gd.fit_groups(X, Y, CODES, sample_weight=W)
    for given in (lazy, narwhals.from_native(lazy)):
        found = gd.fit_groups(given, by="k", sample_weight="w", **CALL)
        same(found, want)
        assert isinstance(found.group_keys, polars.DataFrame)
    with pytest.raises(RuntimeError, match=r"the frame is LazyFrame, and .* failed") as caught:
        gd.fit_groups(lazy, target="y", features="unused", by="k")
    assert isinstance(caught.value.__cause__, ZeroDivisionError | polars.exceptions.PolarsError)
    refused(
        lambda: gd.fit_groups(lazy, target="y", features="q", by="k"),
        "no column 'q'; it needs 'y', 'q', 'k' and has 'k', 'w', 'y', 'a', 'b', 'unused'",
    )
    refused(lambda: gd.fit_groups(lazy, target="y", by="k"), "features names no column.*'unused'")


def test_lazy_frames_as_X() -> None:
    polars = pytest.importorskip("polars")
    lazy = polars.LazyFrame({"a": A, "b": B})
    want = gd.fit(X, Y)
    for fit in (
        gd.fit(lazy, Y),
        gd.fit([(lazy, Y)]),
        gd.Moments(2).update(lazy, Y).fit(),
        gd.fit(polars.DataFrame({"a": A, "b": B}), polars.LazyFrame({"y": Y}))
    ):  # fmt: skip
        assert fit.feature_names == ("a", "b")
        assert fit.weights.ravel() == pytest.approx(want.weights, rel=1e-12)
    found = gd.fit(lazy, Y).predict(polars.LazyFrame({"b": B, "a": A, "other": A}))
    assert found.tobytes() == want.predict(X).tobytes()
    failing = lazy.with_columns(a=polars.col("a").map_elements(lambda _: 1 / 0, polars.Float64))
    refused(lambda: gd.fit(failing, Y), "X is LazyFrame, and reading its rows", RuntimeError)


class Once:
    """A source of rows with nothing but an Arrow stream, which can be read once."""

    def __init__(self, table: Any) -> None:
        self._table, self.reads = table, 0

    def __arrow_c_stream__(self, schema: Any = None) -> Any:
        self.reads += 1
        assert self.reads == 1
        return self._table.to_reader(max_chunksize=50).__arrow_c_stream__(schema)


def test_streams_are_read_once() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    table = frame("pyarrow", k=[f"s{code:02}" for code in CODES], **COLUMNS)
    want = gd.fit_groups(X, Y, CODES)
    for make in (Once, lambda t: t.to_reader(), lambda t: t.to_reader(max_chunksize=7)):
        found = gd.fit_groups(make(table), by="k", **CALL)
        assert found.weights.tobytes() == want.weights.tobytes()
        assert found.groups.tolist() == [f"s{code:02}" for code in range(11)]
        assert isinstance(found.group_keys, pyarrow.Table)
        numbers = table.select(["b", "a"])
        fit = gd.fit(make(numbers), Y)
        assert fit.feature_names == ("b", "a")
        assert fit.predict(make(table)).tobytes() == fit.predict(numbers).tobytes()
        assert gd.Moments(2).update(make(numbers), Y) == gd.Moments(2).update(numbers, Y)
        refused(lambda make=make: gd.fit_groups(make(table), by="q", **CALL), "no column 'q'")
    nothing = table.schema.empty_table()
    assert len(gd.fit_groups(Once(nothing), by="k", **CALL)) == 0
    repeated = pyarrow.table([Y, A, A, CODES], names=["y", "a", "a", "k"])
    refused(lambda: gd.fit_groups(Once(repeated), by="k", **CALL), "two columns 'a'")


def test_a_stream_that_breaks() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    batch = pyarrow.RecordBatch.from_pydict({"y": Y, "a": A, "b": B, "k": CODES})

    def batches() -> Iterator[Any]:
        yield batch
        raise OSError("the disk is gone")

    reader = pyarrow.RecordBatchReader.from_batches(batch.schema, batches())
    refused(
        lambda: gd.fit_groups(reader, by="k", **CALL),
        "the frame is RecordBatchReader, and reading its rows failed.*the disk is gone",
        RuntimeError,
    )


def test_streams_without_pyarrow(monkeypatch: Any) -> None:
    """Polars reads them too; the error names what to install where neither is there."""
    polars = pytest.importorskip("polars")
    table = frame("pyarrow", k=CODES, **COLUMNS)
    hidden = {"pyarrow"}
    real = builtins.__import__

    def limited(name: str, *rest: Any, **more: Any) -> Any:
        if name in hidden and rest and rest[0] and rest[0]["__name__"].startswith("gdcore."):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", limited)
    found = gd.fit_groups(Once(table), by="k", **CALL)
    same(found, gd.fit_groups(X, Y, CODES))
    assert isinstance(found.group_keys, polars.DataFrame)
    hidden.add("polars")
    refused(lambda: gd.fit_groups(Once(table), by="k", **CALL), "pip install pyarrow", ImportError)


def test_relations_of_duckdb() -> None:
    duckdb = pytest.importorskip("duckdb")
    table = frame("pyarrow", k=[f"s{code:02}" for code in CODES], h=HALF, **COLUMNS)
    connection = duckdb.connect()
    connection.register("t", table)
    relation = connection.sql("select *, error('computed') as bad from t")
    same(
        gd.fit_groups(relation, by="k", **CALL),
        gd.fit_groups(X, Y, [f"s{code:02}" for code in CODES]),
    )
    assert gd.fit_groups(relation, by=["h", "k"], **CALL).groups[0] == (0, "s00")
    refused(
        lambda: gd.fit_groups(relation, target="y", features="bad", by="k"),
        "the frame is DuckDBPyRelation, and reading its rows failed.*computed", RuntimeError,
    )  # fmt: skip
    refused(
        lambda: gd.fit_groups(relation, target="y", features="q", by="k"),
        "no column 'q'; it needs 'y', 'q', 'k' and has 'k', 'h', 'y', 'a', 'b', 'unused', 'bad'",
    )
    numbers = connection.sql("select a, b from t")
    assert gd.fit(numbers, Y).weights.tobytes() == gd.fit(X, Y).weights.tobytes()


class Elsewhere:
    columns = ("a",)

    def compute(self) -> None: ...


class NoStream:
    def __arrow_c_stream__(self, schema: Any = None) -> Any:
        raise ValueError("closed")


def test_what_cannot_be_read() -> None:
    call = {"by": "k", **CALL}
    refused(lambda: gd.fit_groups(Elsewhere(), **call), r"pass the frame.compute\(\)", TypeError)
    refused(lambda: gd.fit(Elsewhere(), Y), r"X is Elsewhere.* pass X.compute\(\)", TypeError)
    refused(lambda: gd.fit_groups({"y": Y}, **call), "dict, which is not a data frame", TypeError)
    of_dask = type("DataFrame", (), {"__module__": "dask.dataframe.collection"})()
    refused(
        lambda: gd.fit_groups(of_dask, **call), r"X.compute\(\), or call gdcore.dask", TypeError
    )
    frame = pytest.importorskip("pandas").DataFrame({"k": 1, "a": X[:, 0], "b": X[:, 1], "y": Y})
    refused(lambda: gd.fit_groups(frame, **call | {"features": {"a", "b"}}), "no order", TypeError)
    refused(lambda: gd.fit_groups(NoStream(), **call), "NoStream, and .*: closed", RuntimeError)


def test_libraries_are_not_imported() -> None:
    """Polars' frames need neither pandas nor pyarrow."""
    pytest.importorskip("polars")
    code = """
import sys
import polars, numpy, gdcore
given = {"y": [1.0, 2.0, 4.0, 5.0], "a": [1.0, 2.0, 1.0, 2.0], "k": ["u", "u", "v", "v"]}
for key in (polars.String, polars.Categorical, polars.Enum(["v", "u"])):
    frame = polars.DataFrame(given, schema_overrides={"k": key})
    for table in (frame, frame.lazy()):
        fits = gdcore.fit_groups(table, target="y", features="a", by="k")
        assert fits.groups.tolist() == ["u", "v"], fits.groups
        fits = gdcore.fit_groups(table, target="y", features="a", by=["k"] * 1)
print(*({"pandas", "pyarrow"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
