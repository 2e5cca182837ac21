"""The tables of docs/referee.md, made of bench/results/referee.json."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from referee.cheats import CHEATS
from referee.operations import OPERATIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/referee.md"
USUAL = {
    "allclose": "`allclose` 1e-2",
    "assert_close": "`assert_close`",
    "gradcheck": "`gradcheck`",
    "oracle": "oracle",
    "compare": "`compare`",
    "like": "`like`",
}
Rows = list[dict[str, Any]]


def words(name: str) -> str:
    return name.replace("_", " ")


def lines_of(header: str, rows: list[list[Any]]) -> list[str]:
    """Return a table."""
    columns = header.count("|") + 1
    body = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return [f"| {header} |", "|---" * columns + "|", *body]


def right(found: dict[str, Any]) -> list[str]:
    rows = []
    columns = ("kernels", "trials", "results", "suspicious", "wrong", "cheating")
    total: Counter[str] = Counter()
    for dtype in dict.fromkeys(row["dtype"] for row in found["rows"]):
        own: Counter[str] = Counter()
        for row in found["rows"]:
            if row["dtype"] == dtype:
                own.update({name: row.get(name, 0) for name in columns})
        total.update(own)
        total["kernels"] = max(own["kernels"], total["kernels"] - own["kernels"])
        rows.append([dtype, *(f"{own[name]:,}" for name in columns)])
    rows.append(["all", *(f"{total[name]:,}" for name in columns)])
    return lines_of("dtype | " + " | ".join(columns), rows)


def objections(found: Rows) -> list[str]:
    """Return which kernels were called wrong or suspicious, and how often."""
    counts = Counter((each["kernel"], each["dtype"], each["ruling"]) for each in found)
    rows = [
        [f"`{kernel}`", dtype, ruling, n] for (kernel, dtype, ruling), n in counts.most_common()
    ]
    rows.sort(key=lambda row: row[2] != "wrong")
    return lines_of("right kernel | dtype | called | trials", rows)


def mistakes(rows: Rows) -> list[str]:
    body = []
    for dtype in ("float32", "float64", "bfloat16"):
        counts = Counter(row[dtype] for row in rows)
        others = [
            f"`{row['mistake']}` {row[dtype]}" for row in rows if row[dtype] not in ("wrong",)
        ]
        counted = [counts["wrong"], counts["suspicious"], counts["right"]]
        body.append([dtype, *counted, ", ".join(others) or "none"])
    return lines_of("dtype | wrong | suspicious | right | which are not wrong", body)


def caught(rows: Rows, kind: str) -> str:
    own = [row for row in rows if row["kind"] == kind]
    return f"{sum(row['caught'] for row in own)} of {len(own)}"


def rulings(rows: Rows, kind: str) -> str:
    counts = Counter(row["ruling"] for row in rows if row["kind"] == kind)
    return ", ".join(f"{ruling} {n}" for ruling, n in counts.most_common())


def asked(rows: Rows) -> list[str]:
    """Return the checks that were asked."""
    return [check for check in USUAL if any(check in row for row in rows)]


def table(rows: Rows, judged: Rows) -> list[str]:
    """Return which kernels each check accepts, and how many cheats `judge` catches."""
    body, checks = [], asked(rows)
    for row in rows:
        if row["what"] == "cheat":
            kind = row["group"]
            shown = {check: row.get(check, "") for check in checks}
            shown["compare"] = f"{row['compare']} ({row['fast']})"
            body.append([words(kind), *shown.values(), caught(judged, kind), rulings(judged, kind)])
    titles = [USUAL[check] + " (FAST)" * (check == "compare") for check in checks]
    columns = ["cheat, at 10 operations", *titles, "caught by `judge`", "its rulings"]
    return lines_of(" | ".join(columns), body)


def _accepted(found: dict[str, Any], what: str, check: str) -> str:
    if check == "like" and what != "cheat":
        return _found_right(found, what)
    own = [row for row in found["table"] if row["what"] == what and check in row]
    return f"{sum(row[check] for row in own)} of {sum(row['kernels'] for row in own)}"


def _found_right(found: dict[str, Any], what: str) -> str:
    """Return how many kernels were not found wrong by all trials in float32."""
    if what == "mistake":
        rulings = [row["float32"] for row in found["mistakes"]]
        return f"{len(rulings) - rulings.count('wrong')} of {len(rulings)}"
    own = found["right"]
    kernels = sum(row["kernels"] for row in own["rows"] if row["dtype"] == "float32")
    wrong = {
        each["kernel"]
        for each in own["objections"] + own["less accurate"]
        if each["dtype"] == "float32" and each["ruling"] in ("wrong", "cheating")
    }
    return f"{kernels - len(wrong)} of {kernels}"


def sums(found: dict[str, Any]) -> list[str]:
    """Return how many cheats, mistakes and right kernels each check accepts."""
    body, checks = [], asked(found["table"])
    for what, label in (("cheat", "cheats"), ("mistake", "mistakes"), ("right", "right kernels")):
        body.append([label, *(_accepted(found, what, check) for check in checks)])
    return lines_of(" | ".join(["accepted", *(USUAL[check] for check in checks)]), body)


def cheats(rows: Rows) -> list[str]:
    good = sum(row["caught"] for row in rows)
    missed = [f"`{row['kind']}` at {row['operation']}" for row in rows if not row["caught"]]
    lines = [
        f"Judged: {len(rows)} of {len(CHEATS) * len(OPERATIONS)}; caught: {good}.",
        f"Not caught: {', '.join(missed) or 'none'}.",
    ]
    return lines


def race(rows: Rows) -> list[str]:
    labels = Counter(each["label"] for row in rows for each in row["speed"])
    decided = labels["FAST"] + labels["SLOW"]
    said = ", ".join(f"{label} {n}" for label, n in labels.most_common())
    ratios = [each["ratio"] for row in rows for each in row["speed"]]
    return [
        f"{len(rows)} races of a kernel with itself: {decided} decided ({said}); ratios from "
        f"{min(ratios, default=0):.2f} to {max(ratios, default=0):.2f}."
    ]


def hostile(rows: Rows) -> list[str]:
    body = [
        [
            row["kernel"], row["ruling"], f"{row['seconds']:.0f}", row["left"],
            "yes" if row["found"] else "no",
        ]
        for row in rows
    ]  # fmt: skip
    return lines_of(
        "kernel | ruling | seconds | processes left | found golden values or others' memory", body
    )


def kernelbench(rows: Rows) -> list[str]:
    body = []
    for row in rows:
        new, zeros = row["new"], row.get("zeros", {})
        speed = ", ".join(
            f"{each['label']} {each['ratio']:.2f} [{each['low']:.2f}, {each['high']:.2f}]"
            for each in new["speed"]
        )
        body.append([words(row["problem"]), new["ruling"], speed, zeros.get("ruling", "")])
    return lines_of("problem | `ModelNew` | beside eager | zeros", body)


def tables(found: dict[str, Any]) -> dict[str, list[str]]:
    """Return the lines of each table whose figures are there."""
    made = {}
    if "right" in found:
        made |= {
            "right": right(found["right"]),
            "objections": objections(found["right"]["objections"]),
        }
        made["less accurate"] = objections(found["right"]["less accurate"])
    if "table" in found:
        made |= {
            "table": table(found["table"], found.get("cheats", [])),
            "sums": sums(found),
        }
    for name, make in (
        ("mistakes", mistakes), ("cheats", cheats), ("race", race), ("hostile", hostile),
        ("kernelbench", kernelbench),
    ):  # fmt: skip
        if name in found:
            made[name] = make(found[name])
    return made


def write(found: dict[str, Any]) -> None:
    """Put the tables between their marks in the page."""
    page = PAGE.read_text()
    for name, lines in tables(found).items():
        start, end = f"<!-- referee: {name} -->\n", "<!-- end -->"
        head, rest = page.split(start)
        page = head + start + "\n".join(lines) + "\n" + rest[rest.index(end) :]
    PAGE.write_text(page)
