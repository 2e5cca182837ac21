"""The pictures of the page: inline SVG whose colours are the page's, light or dark."""

from __future__ import annotations

import io
import math
import re
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from gdcore.bench import suites
from gdcore.bench.page.style import block, color
from gdcore.bench.probe import Limits
from gdcore.bench.results import Results, Row, counted
from gdcore.bench.table import digits

# Colours that no picture has otherwise: each becomes a variable of the page's style sheet.
_INK, _FAINT, _GRID = "#ab00f0", "#ab00f1", "#ab00f2"
_NAMES = {_INK: "ink", _FAINT: "faint", _GRID: "grid"}
_MARKERS = "osD^vPX*<>"
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _FAINT,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "legend.frameon": False,
}


def roofline(report: Results) -> str:
    """Return a picture for each dtype and thread count, with every kernel in it."""
    groups: dict[tuple[str, int], list[int]] = {}
    for index, row in enumerate(report.rows):
        if row.rounds and not row.calls and row.gflops > 0 and row.bytes > 0:
            groups.setdefault((row.dtype, row.threads), []).append(index)
    return "".join(
        _framed(
            _roofline(report, indices, report.limits_of(threads)),
            f'data-dtype="{dtype}" data-threads="{threads}"',
            f"Roofline of {dtype} on {threads} threads",
            _where(dtype, threads),
        )
        for (dtype, threads), indices in groups.items()
    )


def bars(report: Results) -> str:
    """Return a picture for each suite, dtype and thread count: ratio by case."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in report.rows:
        if row.ratio:
            groups.setdefault((row.suite, row.dtype, row.threads), []).append(row)
    return "".join(
        _framed(
            _bars(report, rows),
            block(rows[0]),
            f"{suite}: time of each library over {report.baseline}'s",
            f"{escape(suite)} <small>{suites.sizes(suite)}</small> {_where(dtype, threads)}",
        )
        for (suite, dtype, threads), rows in groups.items()
    )


def _roofline(report: Results, indices: list[int], limits: Limits | None) -> str:
    rows = [report.rows[index] for index in indices]
    with mpl.rc_context(_STYLE):
        figure = Figure((9.2, 4.8), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log")
        xs = [row.flops / row.bytes for row in rows]
        left, right = min(xs) / 2, max(xs) * 3
        low = 10 ** math.floor(math.log10(min(row.gflops for row in rows)))
        peak = limits.peak.get(rows[0].dtype) if limits else None
        if limits and peak:
            high = peak / 1e9
            right = max(right, 4 * peak / limits.levels[-1].read)
            for level in limits.levels:
                ridge = peak / level.read
                axes.plot(
                    [left, min(ridge, right)],
                    [left * level.read / 1e9, min(ridge, right) * level.read / 1e9],
                    color=_FAINT,
                    lw=1,
                )
            axes.plot([peak / limits.levels[0].read, right], [high, high], color=_INK, lw=1.4)
            axes.annotate(
                f"peak {high:.0f} GFLOP/s", (right, high), (0, 4), textcoords="offset points",
                ha="right", color=_INK,
            )  # fmt: skip
        for index, x in zip(indices, xs, strict=True):
            row = report.rows[index]
            number = color(report, row.library)
            ours = number == 0
            axes.plot(
                [x],
                [row.gflops],
                _MARKERS[number % len(_MARKERS)],
                color=_color(number),
                ms=7 if ours else 5,
                alpha=0.95 if ours else 0.75,
                markeredgewidth=0,
                zorder=4 if ours else 3,
                gid=f"p{index}",
            )
        _legend(report, axes, rows)
        axes.set(xlim=(left, right), xlabel="operations per byte", ylabel="GFLOP/s")
        axes.set_ylim(bottom=low)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(True)
        if limits and peak:
            _label_roofs(axes, limits, left, right)
        return _svg(figure, f"roofline {rows[0].key}")


def _label_roofs(axes: Any, limits: Limits, left: float, right: float) -> None:
    """Name each level along its line, each further right than the last."""
    for place, level in enumerate(limits.levels):
        x = left * (right / left) ** (0.01 + 0.11 * place)
        slope = level.read / 1e9
        label = axes.text(
            x, x * slope * 1.06, f"{level.name} {slope:.0f} GB/s", fontsize=8.5, color=_FAINT,
            rotation=math.degrees(math.atan(slope)), rotation_mode="anchor",
            transform_rotates_text=True, clip_on=True,
        )  # fmt: skip
        label.set_in_layout(False)


def _bars(report: Results, rows: list[Row]) -> str:
    cases = list(dict.fromkeys(row.case for row in rows))
    libraries = list(dict.fromkeys(row.library for row in rows))
    found = {(row.case, row.library): row.ratio for row in rows if row.ratio}
    slot = 1 / (len(libraries) + 0.8)
    height = 0.75 + len(cases) * (0.19 * len(libraries) + 0.14)
    with mpl.rc_context(_STYLE):
        figure = Figure((9.2, height), layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        for i, library in enumerate(libraries):
            number = color(report, library)
            for place, case in enumerate(cases):
                ratio = found.get((case, library))
                if ratio is None:
                    continue
                y = place + (i - (len(libraries) - 1) / 2) * slot
                axes.barh(
                    y, ratio.value - 1, left=1, height=slot * 0.82, color=_color(number), lw=0
                )
                axes.plot([ratio.low, ratio.high], [y, y], color=_INK, lw=0.9, alpha=0.6)
                ahead = ratio.value >= 1
                axes.annotate(
                    digits(ratio.value), (ratio.high if ahead else ratio.low, y),
                    (4 if ahead else -4, 0), textcoords="offset points", va="center",
                    ha="left" if ahead else "right", fontsize=8, color=_FAINT,
                )  # fmt: skip
        axes.axvline(1, color=_INK, lw=1)
        values = [bound for ratio in found.values() for bound in (ratio.low, ratio.high)]
        axes.set_xlim(min(0.5, min(values) / 1.5), max(2, max(values) * 1.6))
        axes.set_ylim(len(cases) - 0.5, -0.5)
        axes.set_yticks(range(len(cases)), cases, color=_INK)
        low, high = axes.get_xlim()
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 50 * low else (1,)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel(f"time over {report.baseline}'s; right of 1, {report.baseline} is faster")
        axes.grid(True, axis="x")
        axes.set_axisbelow(True)
        _legend(report, axes, rows)
        return _svg(figure, f"bars {rows[0].key}")


def _legend(report: Results, axes: Any, rows: list[Row]) -> None:
    libraries = sorted({row.library for row in rows}, key=lambda name: color(report, name))
    handles = []
    for name in libraries:
        number = color(report, name)
        marker = _MARKERS[number % len(_MARKERS)]
        handles += axes.plot([], [], marker, color=_color(number), label=name, mew=0)
    axes.figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), 7), handletextpad=0.1,
        columnspacing=1.2,
    )  # fmt: skip


def _color(number: int) -> str:
    return f"#ab00{number:02d}"


def _where(dtype: str, threads: int) -> str:
    return f"<small>{escape(dtype)}, {counted(threads)}</small>"


def _framed(svg: str, attributes: str, label: str, caption: str = "") -> str:
    text = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure {attributes} role="img" aria-label="{escape(label)}">{text}{svg}</figure>'


def _svg(figure: Figure, salt: str) -> str:
    """Return a figure as SVG to be put into a page, its colours turned into variables.

    Its ids differ from those of figures with another `salt`.
    """
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": salt}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--font)", svg)
    for sentinel, name in _NAMES.items():
        svg = svg.replace(sentinel, f"var(--{name})")
    return re.sub(r"#ab00(\d)(\d)", lambda found: f"var(--c{int(found[1] + found[2])})", svg)
