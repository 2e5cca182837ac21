"""Results that can be printed, and written as a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gdcore.bench.results import Results
from gdcore.bench.table import render, render_html


@dataclass
class Report(Results):
    """What a run found; see `Results`.

    ``print(report)`` shows it as a table, and so does a notebook.
    """

    def __repr__(self) -> str:
        libraries = len({row.library for row in self.rows})
        said = f"{len(self.rows)} rows of {libraries} contestants, baseline={self.baseline!r}"
        return f"{type(self).__name__}({said}{', partial' if self.partial else ''})"

    def _repr_html_(self) -> str:
        return render_html(self)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return one HTML page that needs no other file, and write it if a path is given."""
        from gdcore.bench.page.render import render as render_page

        text = render_page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def __str__(self) -> str:
        return render(self)
