"""The pytest plugin, run by pytest in pytest, and the hypothesis strategies."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import pytest_gdcore
from gdcore import oracle
from gdcore.oracle import strategies
from gdcore.oracle.numbers import arithmetic

pytest_plugins = "pytester"

FUNCTIONS = """
    import numpy as np
    import pytest
    from gdcore import oracle

    def right(X, y, weights):
        r = X.astype(np.float64) @ weights.astype(np.float64) - y
        return (2 / y.size * (X.T.astype(np.float64) @ r)).astype(X.dtype)

    def wrong(X, y, weights):
        return right(X, y, weights) * X.dtype.type(0.5)

    def square(pred, target):
        return ((pred.astype(np.float64) - target) * 2 / pred.size).astype(pred.dtype)
"""


def run(pytester: pytest.Pytester, source: str, *options: str) -> pytest.RunResult:
    """Run a test file that begins with `FUNCTIONS`."""
    pytester.makepyfile(FUNCTIONS + source)
    return pytester.runpytest_inprocess("-p", "pytest_gdcore", "-p", "no:cacheprovider", *options)


def test_right_and_wrong(pytester: pytest.Pytester) -> None:
    found = run(pytester, """
    def test_right(gradient_oracle):
        assert gradient_oracle(right, kind="linear_mse").ok

    def test_wrong(gradient_oracle):
        gradient_oracle(wrong, kind="linear_mse")
    """)  # fmt: skip
    found.assert_outcomes(passed=1, failed=1)
    found.stdout.fnmatch_lines([
        "*gradient_oracle(wrong, kind=*",
        "E * AssertionError: 1/n instead of 2/n (linear_mse, float32: wrong on *",
        "E * with kind='linear_mse'",
    ])  # fmt: skip
    found.stdout.fnmatch_lines("gradient oracle: 2 functions, * probes: 1 WRONG")
    found.stdout.no_fnmatch_line("*error.__cause__*")  # the plugin's own lines are not shown


def test_the_short_summary_names_the_cause(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pytest cuts its line at the width of the terminal: the cause comes first."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    found = run(pytester, """
    def test_it(gradient_oracle):
        gradient_oracle(wrong)
    """)  # fmt: skip
    found.stdout.fnmatch_lines("FAILED *::test_it - AssertionError: 1/n instead *")


def test_marker(pytester: pytest.Pytester) -> None:
    """The call's options come first, then those of the nearest marker."""
    found = run(pytester, """
    pytestmark = pytest.mark.gradient_oracle(kind="mse", dtype="float64", shapes=[(7,)])

    def test_module(gradient_oracle):
        report = gradient_oracle(square)
        assert (report.kind, report.dtype) == ("mse", "float64")
        assert {row.shapes for row in report.rows} == {"pred (7,), target (7,)"}

    @pytest.mark.gradient_oracle("linear_mse", shapes=[(7, 3)])
    def test_nearest(gradient_oracle):
        assert gradient_oracle(right).kind == "linear_mse"
        assert gradient_oracle(right, dtype="float32").dtype == "float32"
        with pytest.raises(AssertionError, match="1/n instead of 2/n"):
            gradient_oracle(wrong)

    @pytest.mark.gradient_oracle("linear_mse", shapes=None, skip=("targets", "nan"))
    def test_skip(gradient_oracle):
        assert {"several targets", "NaN"} <= set(gradient_oracle(right).not_probed)

    @pytest.mark.gradient_oracle("linear_mse", "float32")
    def test_misused(gradient_oracle):
        pass
    """, "--strict-markers")  # fmt: skip
    found.assert_outcomes(passed=3, errors=1)
    found.stdout.fnmatch_lines("*UsageError*gradient_oracle(kind=*")


@pytest.mark.parametrize("written", [False, True], ids=["options", "file"])
def test_settings(pytester: pytest.Pytester, written: bool) -> None:
    """The factor, the seed and the dtype, from the command line or a file."""
    options = ["--gradient-dtype=float64", "--gradient-seed=7", "--gradient-factor=1e-9"]
    if written:
        lines = "\n".join(o.removeprefix("--").replace("-", "_", 1) for o in options)
        pytester.makeini(f"[pytest]\n{lines}\n")
    found = run(pytester, """
    def test_settings(gradient_oracle):
        assert gradient_oracle.options == {"dtype": "float64", "seed": 7, "factor": 1e-9}
        report = gradient_oracle(right, kind="linear_mse")
        assert report.dtype == "float64"
        assert report.count(oracle.Status.SUSPECT) > 0
    """, *([] if written else options))  # fmt: skip
    found.assert_outcomes(passed=1)
    found.stdout.fnmatch_lines("gradient oracle: 1 functions, * probes: * SUSPECT")


@pytest.mark.parametrize(("name", "value", "wanted"), [
    ("seed", "many", "a whole number, 0 or larger"),
    ("seed", "-1", "a whole number, 0 or larger"),
    ("factor", "-1", "a number, 0 or larger"),
    ("factor", "nan", "a number, 0 or larger"),
    ("dtype", "int9", "one of float32, float64, float16, bfloat16, tf32"),
])  # fmt: skip
def test_bad_settings(pytester: pytest.Pytester, name: str, value: str, wanted: str) -> None:
    """The run does not begin."""
    source = "\n    def test_it(): pass\n"
    found = run(pytester, source, f"--gradient-{name}={value}")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(f"ERROR: --gradient-{name} is '{value}'; it must be {wanted}.")
    pytester.makeini(f"[pytest]\ngradient_{name} = {value}\n")
    found = run(pytester, source)
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(f"ERROR: gradient_{name} is '{value}'; it must be {wanted}.")


def test_the_dtypes_are_those_of_the_oracle() -> None:
    assert set(pytest_gdcore._DTYPES) == set(arithmetic.FORMATS)


def test_a_marker_without_the_fixture(pytester: pytest.Pytester) -> None:
    """It would check nothing; that of a module is a default for those tests that check."""
    found = run(pytester, """
    pytestmark = pytest.mark.gradient_oracle(shapes=[(4, 2)])

    @pytest.mark.gradient_oracle(kind="linear_mse")
    def test_nothing(): pass

    def test_other(): pass

    @pytest.fixture
    def checked(gradient_oracle):
        return gradient_oracle(right)

    @pytest.mark.gradient_oracle(kind="linear_mse")
    def test_by_fixture(checked): pass
    """)  # fmt: skip
    found.assert_outcomes(passed=2, errors=1)
    found.stdout.fnmatch_lines("*the marker gradient_oracle checks nothing by itself*")


def test_misuse_is_counted(pytester: pytest.Pytester) -> None:
    found = run(pytester, """
    def test_kind(gradient_oracle):
        gradient_oracle(right, kind="nope")

    def test_random(gradient_oracle):
        gradient_oracle.gradcheck(lambda x: np.random.rand(), np.zeros_like, np.ones(2))

    def test_reference(gradient_oracle):
        gradient_oracle.matches(np.ones(2), np.ones(2))
    """)  # fmt: skip
    found.assert_outcomes(failed=3)
    found.stdout.fnmatch_lines("gradient oracle: 1 functions, 1 results, 1 gradients: 3 failed")


def test_results_and_gradients(pytester: pytest.Pytester) -> None:
    found = run(pytester, """
    X, y, w = np.eye(3), np.ones(3), np.zeros(3)

    def test_right(gradient_oracle):
        reference = oracle.linear_mse(X, y, w, dtype="float64")
        assert gradient_oracle.matches(right(X, y, w), reference.grad.weights)
        assert gradient_oracle.gradcheck(np.sum, np.ones_like, w)

    def test_matches(gradient_oracle):
        gradient_oracle.matches(wrong(X, y, w), oracle.linear_mse(X, y, w).grad.weights)

    def test_gradcheck(gradient_oracle):
        gradient_oracle.gradcheck(np.sum, lambda x: 2 * np.ones_like(x), w)

    def test_undecided(gradient_oracle):
        gradient_oracle.gradcheck(lambda x: np.abs(x).sum(), np.sign, w)

    def test_plain_assert():
        assert oracle.gradcheck(np.sum, lambda x: 2 * np.ones_like(x), w)
    """)  # fmt: skip
    found.assert_outcomes(passed=1, failed=4)
    found.stdout.fnmatch_lines([
        "*AssertionError: *WRONG*",
        "*AssertionError: WRONG: 3 of 3 derivatives*The gradient is 2 times the derivative*",
        "*AssertionError: UNDECIDED: 3 of 3 derivatives*kink*",
        "*assert <GradCheck WRONG: 3 of 3 derivatives*",
        "gradient oracle: 2 results, 3 gradients: 1 UNDECIDED, 2 WRONG",
    ])  # fmt: skip


def test_a_function_that_raises(pytester: pytest.Pytester) -> None:
    """Its own traceback is shown as the cause."""
    found = run(pytester, """
    def test_it(gradient_oracle):
        gradient_oracle(lambda X, y, weights: 1 / 0, kind="linear_mse")
    """)  # fmt: skip
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*ZeroDivisionError*", "*fn raised ZeroDivisionError*"])


def test_no_line_without_the_fixture(pytester: pytest.Pytester) -> None:
    found = run(pytester, "\n    def test_it(): pass\n")
    found.assert_outcomes(passed=1)
    found.stdout.no_fnmatch_line("gradient oracle*")


def test_workers_send_their_counts(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FUNCTIONS + """
    @pytest.mark.parametrize("k", range(4))
    def test_right(gradient_oracle, k):
        gradient_oracle(right, kind="linear_mse", shapes=[(4, 2)])
    """)  # fmt: skip
    found = pytester.runpytest_subprocess("-p", "pytest_gdcore", "-n2")
    found.assert_outcomes(passed=4)
    found.stdout.fnmatch_lines("gradient oracle: 4 functions, * probes: nothing wrong")


def test_light_to_import() -> None:
    """pytest imports it in every run, also of tests that want nothing of gdcore."""
    code = (
        "import sys, pytest_gdcore; "
        "print([m for m in ('numpy', 'gdcore', 'hypothesis', 'torch') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


# Strategies.

few = settings(max_examples=60, deadline=None)


@few
@given(strategies.matmul_operands("float32"))
def test_matmul_operands(operands: Any) -> None:
    a, b = operands
    assert a.dtype == b.dtype == np.float32
    with np.errstate(all="ignore"):
        product = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    assert oracle.matmul(a, b, dtype="float32").check(product)


@few
@given(strategies.linear_operands("float64"))
def test_linear_operands(operands: Any) -> None:
    X, y, weights = operands
    assert X.shape == (len(y), len(weights))
    assert len(y) >= 1
    assert np.isfinite(X).all()


@few
@given(strategies.mse_operands("float16"))
def test_mse_operands(operands: Any) -> None:
    pred, target = operands
    assert pred.shape == target.shape
    assert pred.size
    assert np.all(np.abs(pred) <= 256)


def test_layouts_are_hostile() -> None:
    """Among some examples there is every layout, and every kind of number."""
    seen: set[str] = set()

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(strategies.arrays((3, 5), "float32", strategies.values("float32", special=True)))
    def look(x: Any) -> None:
        assert x.shape == (3, 5)
        assert x.dtype == np.float32
        size = np.abs(x[np.isfinite(x)])
        for name, found in {
            "backwards": min(x.strides) < 0,
            "columns first": abs(x.strides[0]) < abs(x.strides[1]),
            "contiguous": x.flags.c_contiguous,
            "gaps": abs(x.strides[1]) > 4 and abs(x.strides[0]) > 12,
            "read-only": not x.flags.writeable,
            "unaligned": x.ctypes.data % 16 != 0,
            "nan": np.isnan(x).any(),
            "infinite": np.isinf(x).any(),
            "subnormal": np.any((size > 0) & (size < np.finfo(np.float32).tiny)),
            "huge": np.any(size > 1e19),
            "negative zero": np.any((x == 0) & np.signbit(x)),
        }.items():
            if found:
                seen.add(name)

    look()
    assert seen == {
        "backwards", "columns first", "contiguous", "gaps", "read-only", "unaligned", "nan",
        "infinite", "subnormal", "huge", "negative zero",
    }  # fmt: skip


def test_the_extra_is_named() -> None:
    code = """
import sys
sys.modules["hypothesis"] = None
try:
    import gdcore.oracle.strategies
except ImportError as error:
    print(error)
"""
    said = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "pip install 'gdcore[oracle]'" in said
