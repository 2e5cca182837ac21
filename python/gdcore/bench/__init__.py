"""Measure gdcore beside other libraries, and your kernels beside other people's.

`run` is the command ``gdcore bench``: its suites, every library in a process of its own. `compare`
takes any functions of yours. Both check each result before they time anything, let the contestants
take turns, and answer with a verdict only where the noise allows one::

    import gdcore.bench

    print(gdcore.bench.run("matmul", against=["numpy"], quick=True))

See docs/bench.md for what is measured and how. Pictures and the command need the extra ``bench``.
"""

from gdcore.bench import bounds
from gdcore.bench.compare import Comparison, compare
from gdcore.bench.race import run
from gdcore.bench.report import Report
from gdcore.bench.results import Row
from gdcore.bench.verdict import Ratio, Verdict

__all__ = ["Comparison", "Ratio", "Report", "Row", "Verdict", "bounds", "compare", "run"]
