"""The pytest plugin of gdcore: fixtures that check gradients and kernels, a marker, a summary.

pytest imports this module at its start, so it imports neither gdcore nor NumPy; the fixture does.
See docs/oracle.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

_KEY = "gradient_oracle"  # of the counts among a test's properties
_DONE = ("functions", "probes", "results", "gradients")
_FOUND = ("SUSPECT", "UNDECIDED", "WRONG", "failed")
_DTYPES = ("float32", "float64", "float16", "bfloat16", "tf32")


def _number(text: str) -> float:
    """Read a factor; ValueError names what it may be."""
    with suppress(ValueError):
        if (value := float(text)) >= 0:
            return value
    raise ValueError("a number, 0 or larger")


def _whole(text: str) -> int:
    """Read a seed."""
    with suppress(ValueError):
        if (value := int(text)) >= 0:
            return value
    raise ValueError("a whole number, 0 or larger")


def _dtype(text: str) -> str:
    """Read a dtype."""
    if text not in _DTYPES:
        raise ValueError(f"one of {', '.join(_DTYPES)}")
    return text


_OPTIONS = {
    "factor": (_number, "errors above this many times the typical one are SUSPECT (16)"),
    "seed": (_whole, "seed of probes and directions (0)"),
    "dtype": (_dtype, "dtype under test (float32)"),
}
_MARKER = (
    "gradient_oracle(kind=..., **options): options of the fixture gradient_oracle, as those of "
    "gdcore.oracle.assert_grad: kind, shapes, dtype, reduction, operands, options, ..."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and the same names for a configuration file."""
    group = parser.getgroup("gdcore", "gradients (gdcore)")
    for name, (_, text) in _OPTIONS.items():
        group.addoption(f"--gradient-{name}", metavar=name.upper(), help=text)
        parser.addini(f"gradient_{name}", text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the summary, and look at the options."""
    config.addinivalue_line("markers", _MARKER)
    for name in _OPTIONS:
        _setting(config, name)
    config.pluginmanager.register(_Summary(), "gdcore-summary")


def _setting(config: pytest.Config, name: str) -> Any:
    """Return an option of the command line or the configuration file; None for neither."""
    text = config.getoption(f"gradient_{name}")
    shown = f"--gradient-{name}"
    if text is None:
        text, shown = config.getini(f"gradient_{name}") or None, f"gradient_{name}"
    if text is None:
        return None
    try:
        return _OPTIONS[name][0](text)
    except ValueError as error:
        raise pytest.UsageError(f"{shown} is {text!r}; it must be {error}.") from None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse a test's own marker without the fixture; those of a class or module are defaults."""
    marked = any(mark.name == _KEY for mark in item.own_markers)
    if marked and _KEY not in getattr(item, "fixturenames", ()):
        pytest.fail(
            "the marker gradient_oracle checks nothing by itself: give the test the argument "
            "gradient_oracle, and call that with the function.",
            pytrace=False,
        )


@dataclass
class GradientOracle:
    """What the fixture `gradient_oracle` gives a test.

    Call it with a function to run the probes of `gdcore.oracle.assert_grad`.

    Attributes
    ----------
    options : dict
        Of the marker, over those of the command line and the configuration file.
    """

    options: dict[str, Any]
    counts: Counter[str] = field(default_factory=Counter)

    def __call__(self, fn: Callable[..., Any], kind: str | None = None, **options: Any) -> Any:
        """Assert that probes prove no mistake in a function of a kind, and return the table.

        Parameters and errors are those of `gdcore.oracle.assert_grad`; what is not given is the
        marker's, then the command line's.
        """
        __tracebackhide__ = True
        from gdcore import oracle

        chosen = self.options | ({} if kind is None else {"kind": kind}) | options
        self.counts["functions"] += 1
        try:
            report = oracle.assert_grad(fn, **({"quiet": True} | chosen))
        except AssertionError as error:
            self.counts["WRONG"] += 1
            shown = ", ".join(f"{k}={v!r}" for k, v in chosen.items())
            cause = error.__cause__
            raise AssertionError(f"{error}\nwith {shown or 'the default options'}") from cause
        except BaseException:
            self.counts["failed"] += 1
            raise
        self.counts["probes"] += len(report.rows)
        self.counts["SUSPECT"] += report.count(oracle.Status.SUSPECT)
        return report

    def matches(self, actual: Any, reference: Any) -> Any:
        """Assert that a result may be right; as `gdcore.oracle.assert_matches`."""
        __tracebackhide__ = True
        from gdcore import oracle

        self.counts["results"] += 1
        factor = {"factor": self.options["factor"]} if "factor" in self.options else {}
        try:
            verdict = oracle.assert_matches(actual, reference, **factor)
        except AssertionError as error:
            self.counts["WRONG"] += 1
            raise AssertionError(str(error)) from None
        except BaseException:
            self.counts["failed"] += 1
            raise
        self.counts["SUSPECT"] += verdict.worst_status is oracle.Status.SUSPECT
        return verdict

    def gradcheck(self, f: Any, grad: Any, x: Any, **options: Any) -> Any:
        """Assert that the gradient of any function is RIGHT; as `gdcore.oracle.gradcheck`."""
        __tracebackhide__ = True
        from gdcore import oracle

        seed = {"seed": self.options["seed"]} if "seed" in self.options else {}
        self.counts["gradients"] += 1
        try:
            found = oracle.gradcheck(f, grad, x, **(seed | options))
        except BaseException:
            self.counts["failed"] += 1
            raise
        if not found:
            self.counts[str(found.verdict)] += 1
            raise AssertionError(found.message)
        return found


@pytest.fixture
def gradient_oracle(request: pytest.FixtureRequest) -> Iterator[GradientOracle]:
    """Check gradients: ``gradient_oracle(fn)``, ``.matches(result, reference)``, ``.gradcheck``."""
    settings = {name: _setting(request.config, name) for name in _OPTIONS}
    options = {name: value for name, value in settings.items() if value is not None}
    for marker in reversed(list(request.node.iter_markers(_KEY))):
        if marker.args[1:]:
            raise pytest.UsageError(f"{request.node.nodeid}: {_MARKER}")
        options |= dict(zip(("kind",), marker.args, strict=False)) | marker.kwargs
    oracle = GradientOracle(options)
    yield oracle
    request.node.user_properties.append((_KEY, dict(oracle.counts)))


@pytest.fixture
def referee() -> Callable[..., Any]:
    """Check any kernel: ``referee(kernel, reference)``, as `gdcore.referee.assert_kernel`."""
    from gdcore.referee import assert_kernel

    return assert_kernel


class _Summary:
    """Adds up the counts of all tests; workers of pytest-xdist send theirs with their reports."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add a test's counts."""
        if report.when == "teardown":
            for name, counts in report.user_properties:
                if name == _KEY and isinstance(counts, dict):
                    self.counts.update(counts)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Print one line, if a test used the fixture."""
        if not self.counts:
            return
        done = [f"{self.counts[k]} {k}" for k in _DONE if self.counts[k]]
        found = [f"{self.counts[k]} {k}" for k in _FOUND if self.counts[k]] or ["nothing wrong"]
        terminalreporter.write_line(f"gradient oracle: {', '.join(done)}: {', '.join(found)}")
