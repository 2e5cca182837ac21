"""The pytest plugin of gdcore: a fixture that checks gradients, a marker, and a summary line.

pytest imports this module at its start, so it imports neither gdcore nor NumPy; the fixture does.
See docs/oracle.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

_KEY = "gradient_oracle"  # of the counts among a test's properties
_DONE = ("functions", "probes", "results", "gradients")
_FOUND = ("SUSPECT", "UNDECIDED", "WRONG")
_OPTIONS = {
    "suspicion": (float, "errors above so many times what is typical are SUSPECT (16)"),
    "seed": (int, "seed of probes and directions (0)"),
    "dtype": (str, "dtype under test (float32)"),
}
_MARKER = (
    "gradient_oracle(kind=..., **options): options of the fixture gradient_oracle, as those of "
    "gdcore.oracle.assert_grad: kind, shapes, dtype, reduction, operands, ..."
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, and the same names for a configuration file."""
    group = parser.getgroup("gdcore", "gradients (gdcore)")
    for name, (kind, text) in _OPTIONS.items():
        group.addoption(f"--gradient-{name}", type=kind, metavar=name.upper(), help=text)
        parser.addini(f"gradient_{name}", text)


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and the summary."""
    config.addinivalue_line("markers", _MARKER)
    config.pluginmanager.register(_Summary(), "gdcore-summary")


def _setting(config: pytest.Config, name: str) -> Any:
    """Return an option of the command line or the configuration file; None for neither."""
    given = config.getoption(f"gradient_{name}")
    written = config.getini(f"gradient_{name}")
    if given is None and written:
        try:
            return _OPTIONS[name][0](written)
        except ValueError:
            message = f"gradient_{name} is {written!r}, which is no {_OPTIONS[name][0].__name__}."
            raise pytest.UsageError(message) from None
    return given


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
        self.counts["SUSPECT"] += verdict.worst_status is oracle.Status.SUSPECT
        return verdict

    def gradcheck(self, f: Any, grad: Any, x: Any, **options: Any) -> Any:
        """Assert that the gradient of any function is RIGHT; as `gdcore.oracle.gradcheck`."""
        __tracebackhide__ = True
        from gdcore import oracle

        seed = {"seed": self.options["seed"]} if "seed" in self.options else {}
        found = oracle.gradcheck(f, grad, x, **(seed | options))
        self.counts["gradients"] += 1
        if not found:
            self.counts[str(found.verdict)] += 1
            raise AssertionError(found.message)
        return found


@pytest.fixture
def gradient_oracle(request: pytest.FixtureRequest) -> Iterator[GradientOracle]:
    """Check gradients: ``gradient_oracle(fn)``, ``.matches(result, reference)``, ``.gradcheck``."""
    names = {"suspicion": "factor", "seed": "seed", "dtype": "dtype"}
    settings = {to: _setting(request.config, name) for name, to in names.items()}
    options = {name: value for name, value in settings.items() if value is not None}
    for marker in reversed(list(request.node.iter_markers(_KEY))):
        if marker.args[1:]:
            raise pytest.UsageError(f"{request.node.nodeid}: {_MARKER}")
        options |= dict(zip(("kind",), marker.args, strict=False)) | marker.kwargs
    oracle = GradientOracle(options)
    yield oracle
    request.node.user_properties.append((_KEY, dict(oracle.counts)))


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
