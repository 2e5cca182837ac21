"""A report: as an object, as JSON, as text, as a page that needs no other file."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import gdcore as gd
from benches import made, make_example
from gdcore.bench import Report, Row, Verdict, suites
from gdcore.bench.libraries.registry import BUILT_IN
from gdcore.bench.page import style
from gdcore.bench.verdict import Ratio


@pytest.fixture
def example():
    return make_example()


@pytest.fixture(scope="module")
def page_written(tmp_path_factory):
    """Return the file that the example's page was written to."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    text = make_example().to_html(path)
    assert path.read_text(encoding="utf-8") == text
    return path


@pytest.fixture(scope="module")
def remarkable():
    """Return an interrupted report with a row of every kind of note, and its page."""
    report = make_example()
    report.partial = True
    report.rows[1] = made("gdcore", 1e-6, case="10 2", floor=1.06e-6)
    report.rows.append(Row("", "", "", 0, "mine", "failed", "its process died"))
    report.rows.append(made("loop", 1.0, share=100))
    report.page = report.to_html()
    return report


def test_json_round_trip(example):
    text = example.to_json()
    assert Report.from_json(text).to_json() == text
    assert str(Report.from_json(text)) == str(example)
    found = json.loads(text)
    assert tuple(found) == (
        *("schema", "gdcore", "partial", "margin", "remarks", "baseline"),
        *("environment", "limits", "scores", "rows"),
    )
    assert tuple(found["rows"][-1]) == (
        *("suite", "case", "dtype", "threads", "library", "status", "note", "rounds"),
        *("repeats", "share", "flops", "bytes", "floor", "roof", "ratio"),
        "calls",
        *("seconds", "gflops", "gbs", "percent"),
    )
    with pytest.raises(ValueError, match="schema"):
        Report.from_json('{"schema": 0}')


def test_a_part_that_was_scaled_is_marked(remarkable):
    for text in (str(remarkable), remarkable.page):
        assert "loop (1/100, scaled)" in text
    assert Report.from_json(remarkable.to_json()).rows[-1].share == 100


def test_reports_without_parts_are_read(example):
    found = json.loads(example.to_json())
    for row in found["rows"]:
        del row["share"]
    assert {row.share for row in Report.from_json(json.dumps(found)).rows} == {1}


def test_a_busy_machine_is_noted(example):
    assert not [note for note in example.notes if "load" in note]
    example.environment["load_before"] = (4.0, 0.0, 0.0)
    assert "The load was 4.0 on 2 CPUs before the run began" in str(example)


def test_what_is_above_the_limit_is_explained(example, remarkable):
    assert "% of the limit" not in str(example)
    for text in (str(remarkable), remarkable.page):
        assert "1 of 43 rows are above 105 % of the limit. The limit is the best that" in text
    assert 'title="limit: L1; above it: see the note at the top"' in remarkable.page


class TestPage:
    def test_every_library_has_a_colour_of_its_own(self, example):
        """All that are built in, and some peers, have colours of their own in both themes."""
        libraries = [*BUILT_IN, "eigen", "libxsmm", "gdcore-c++"]
        example.rows = [made(name, 1e-6) for name in libraries]
        numbers = [style.color(example, name) for name in libraries]
        assert len(set(numbers)) == len(libraries) <= style.COLORS
        sheet = re.search("<style>(.*)</style>", example.to_html(), re.DOTALL)[1]
        for theme in sheet.split("prefers-color-scheme: dark"):
            colors = dict(re.findall(r"--c(\d+): (#[0-9a-f]{6})", theme))
            assert set(colors) == {str(number) for number in range(style.COLORS)}
            assert len(set(colors.values())) == style.COLORS

    def test_what_is_missing_is_not_a_failure(self, remarkable):
        assert "<p class=missing>jax: jax is not installed.</p>" in remarkable.page
        assert "<p class=failed>mine: its process died.</p>" in remarkable.page

    def test_sections_without_content_are_left_out(self, example, page_written):
        def sections(text=""):
            return re.findall("<h2>(.*)</h2>", text or example.to_html())

        takes, every, where = "How many times as long others take", "Every row", "Environment"
        charts = [takes, "Roofline", "Ratio by case"]
        assert sections(page_written.read_text(encoding="utf-8")) == [*charts, every, where]
        example.rows = [row for row in example.rows if row.library == "gdcore"]
        assert sections() == ["Roofline", every, where]
        example.rows = [made("gdcore", 1e-6, flops=np.nan, bytes=np.nan)]
        assert sections() == [every, where]
        example.rows = []
        assert sections() == [where]

    def test_no_table_is_cut(self, browsed):
        """All libraries in all suites, with long names and notes, on a phone and on a screen."""
        for width in WIDTHS:
            assert "<title></title>" in browsed[width], width

    def test_stands_alone(self, page_written):
        text = page_written.read_text(encoding="utf-8")
        assert not re.search(
            r"https?:|//|<link|@import|\bsrc=|url\((?!#)|\shref=\"(?!#)", _code(text)
        )
        assert "<b>&" not in text
        assert "&lt;b&gt;&amp;" in text
        assert "jax is not installed" in text
        assert "#ab00" not in text

    def test_partial(self, remarkable):
        assert "Interrupted" in remarkable.page

    def test_empty(self, example):
        example.rows = []
        assert "<svg" not in example.to_html()

    def test_in_a_browser(self, browsed, example):
        """Filters hide what they should, the table sorts, points name their row."""
        dom = browsed["clicked"]
        shown = re.findall(r"<tr id=\"r(\d+)\" (?![^>]*hidden)", dom)
        assert [example.rows[int(i)].key[2:] for i in shown] == [("float32", 1)] * len(shown)
        times = [example.rows[int(i)].seconds for i in shown]
        timed = [time for time in times if time == time]
        assert len(timed) == 8
        assert timed == sorted(times[:8])  # what was not timed comes last
        assert len(re.findall(r"<figure (?![^>]*hidden)[^>]*>", dom)) == 3
        assert re.search(r'<g id="p1"><title>matmul +10 2', dom)


# Names in the title the elements that are cut.
OVERFLOW = """<script>document.title = [...document.querySelectorAll("*")].filter((element) =>
  !element.closest("figure") && element.getBoundingClientRect().right > innerWidth
).map((element) => element.tagName)</script></html>"""
CLICKS = "<script>document.querySelectorAll('.rows th')[5].click();</script></html>"
WIDTHS = (500, 992, 1700)
# Holds one page in a frame of each width; once all are loaded, their sources take its place.
FRAMES = """<!doctype html><meta charset=utf-8><body><script>
const pages = {pages};
const frames = pages.map(([width, text]) => {{
  const frame = document.createElement("iframe");
  Object.assign(frame.style, {{width: width + "px", height: "900px", border: 0}});
  frame.srcdoc = text;
  document.body.append(frame);
  return new Promise((resolve) => frame.onload = () =>
    resolve(frame.contentDocument.documentElement.outerHTML));
}});
Promise.all(frames).then((sources) => document.body.replaceChildren(...sources.map((source) => {{
  const kept = document.createElement("pre");
  kept.textContent = source;
  return kept;
}})));
</script>"""


def crowd(report):
    """Add all libraries in all suites, with long names and notes."""
    note = "12 of 24 elements of the result outside the bound; first at [3, 1]: 1.23456789 " * 2
    report.rows += [
        made(name, 1e-6, suite, "100,000 of 16 to 4096 rows, 16, to 1e-6 of the way",
             ratio=Ratio(2.0, 1.9, 2.1, Verdict.FAST))
        for suite in suites.NAMES for name in BUILT_IN
    ]  # fmt: skip
    report.rows.append(Row("fit", "100,000", "float32", 1, "sklearn", "wrong", note))
    return report


@pytest.fixture(scope="module")
def browsed(tmp_path_factory, page_written):
    """Return what a browser without a network makes of the page: clicked, and at each width."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    clicked = page_written.read_text(encoding="utf-8").replace("</html>", CLICKS)
    crowded = crowd(make_example()).to_html().replace("</html>", OVERFLOW)
    pages = [(1200, clicked), *((width, crowded) for width in WIDTHS)]
    folder = tmp_path_factory.mktemp("browser")
    text = json.dumps(pages).replace("</", "<\\/")
    (folder / "frames.html").write_text(FRAMES.format(pages=text), encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--virtual-time-budget=20000", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--user-data-dir={folder}", "--window-size=1800,900"]
    command += [(folder / "frames.html").as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    sources = re.findall("<pre>(.*?)</pre>", run.stdout, re.DOTALL)
    return dict(zip(("clicked", *WIDTHS), map(html.unescape, sources), strict=True))


def _code(page: str) -> str:
    """Return a page without comments, whose slashes are not addresses."""
    return re.sub(r"^\s*//.*$|\"[^\"]*</pre>", "", page, flags=re.MULTILINE)


class TestImports:
    def test_gdcore_does_not_import_it(self):
        code = "import sys, gdcore; print([m for m in sys.modules if 'bench' in m])"
        assert _python(code) == "[]"

    def test_it_needs_only_numpy(self):
        code = """
            import sys
            others = "matplotlib", "rich", "typer", "torch", "jax", "sklearn"
            sys.modules.update(dict.fromkeys(others))
            import gdcore.bench
            print(gdcore.bench.Verdict.FAST)
        """
        assert _python(code) == "FAST"

    def test_a_page_without_matplotlib_names_the_extra(self, example, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match=re.escape("pip install 'gdcore[bench]'")):
            example.to_html()


def _python(code: str) -> str:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_page_of_documentation():
    """The functions of docs/bench.md exist under the names it gives them."""
    path = Path(__file__).parent.parent / "docs" / "bench.md"
    if not path.is_file():
        pytest.skip("only a checkout has the pages")
    for name in re.findall(r"gdcore\.bench\.(\w+)\b", path.read_text()):
        assert hasattr(gd.bench, name), name
