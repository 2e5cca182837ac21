"""The five seeds print the numbers they are known for, and the page on their mistakes is right.

Every script runs once, in this process; its tables, pictures and fits are then looked at.
"""

from __future__ import annotations

import ast
import io
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gdcore as gd

pytest.importorskip("matplotlib")
from PIL import Image

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "examples").glob("seed_*.py"))
PAGE = ROOT / "docs" / "what-the-seeds-got-wrong.md"
if not SCRIPTS or not PAGE.is_file():
    pytest.skip("only a checkout has the examples", allow_module_level=True)

PICTURES = {  # and the frames of each
    "seed_000_algebra": {"seed_000_loss.png": 1},
    "seed_001_line": {"seed_001_loss.png": 1, "seed_001_line.png": 1},
    "seed_002_animation": {
        "seed_002_line.png": 1,
        "seed_002_contour.png": 1,
        "seed_002_line.gif": 101,
    },
    "seed_003_train_test": {
        "seed_003_line.png": 1,
        "seed_003_residuals.png": 1,
        "seed_003_contour.png": 1,
    },
    "seed_004_notebook": {"seed_004_loss.png": 1, "seed_004_line.gif": 21},
}

# Seed 001: epoch, w after it, float32 loss before it, as torch's order of operations rounds it.
LINE = """
1 0.300 30.0000000000 | 3 0.772 15.6601877213 | 5 1.113 8.1747169495 | 7 1.359 4.2672529221
9 1.537 2.2275321484 | 11 1.665 1.1627856493 | 13 1.758 0.6069811583 | 15 1.825 0.3168478012
17 1.874 0.1653965265 | 19 1.909 0.0863380581
"""
# Seed 004: w and loss of every epoch of the first run, and w/loss of epochs of the second.
FIRST_W = """
.300 .555 .772 .956 1.113 1.246 1.359 1.455 1.537 1.606
1.665 1.716 1.758 1.794 1.825 1.851 1.874 1.893 1.909 1.922
"""
FIRST_LOSS = """
30.000 21.675 15.660 11.314 8.175 5.906 4.267 3.083 2.228 1.609
1.163 .840 .607 .439 .317 .229 .165 .119 .086 .062
"""
CONTINUED = """
1.934/.045 1.944/.033 1.952/.024 1.960/.017 1.966/.012 1.971/.009 1.975/.006 1.979/.005
1.982/.003 1.985/.002 1.987/.002 1.989/.001 1.991/.001 1.992/.001 1.993/.000
"""

Run = Callable[[str], "Seed"]


@dataclass(frozen=True)
class Seed:
    """What a script printed, drew and left in its variables."""

    printed: str
    pictures: Path
    names: dict[str, Any]

    def tables(self) -> list[list[list[str]]]:
        """Return the printed tables: blocks of lines that begin with an epoch."""
        tables: list[list[list[str]]] = [[]]
        for line in self.printed.splitlines():
            if re.match(r" *\d+  ", line):
                tables[-1].append(line.split())
            elif tables[-1]:
                tables.append([])
        return [table for table in tables if table]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a script by its name, the first time it is asked for."""
    seeds: dict[str, Seed] = {}

    def run(name: str) -> Seed:
        if name not in seeds:
            pictures = tmp_path_factory.mktemp(name) / "new" / "pictures"
            printed = io.StringIO()
            script = str(ROOT / "examples" / f"{name}.py")
            with (
                pytest.MonkeyPatch.context() as patch,
                redirect_stdout(printed),
                warnings.catch_warnings(),
            ):
                patch.setattr(sys, "argv", [script, str(pictures)])
                names = runpy.run_path(script, run_name="__main__")
            seeds[name] = Seed(printed.getvalue(), pictures, names)
        return seeds[name]

    return run


def number(text: str) -> str:
    """Write '.300' as the scripts do."""
    return text if text[0] != "." else f"0{text}"


def line_data(dtype: Any) -> tuple[Any, Any]:
    """Return the points of seeds 001 and 004."""
    return np.array([[1], [2], [3], [4]], dtype), np.array([2, 4, 6, 8], dtype)


# ---------------------------------------------------------------- all of them


def test_the_seeds_are_all_here() -> None:
    assert [script.stem for script in SCRIPTS] == list(PICTURES)
    listing = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert all(f"]({script.name})" in listing for script in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_seed_is_short_and_uses_the_public_api(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) < 60
    assert f"{script.stem[:4].title()} {script.stem[5:8]}: " in (ast.get_docstring(tree) or "")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gdcore"):
            assert node.module == "gdcore.plot"
        if isinstance(node, ast.Attribute):
            assert not re.match(r"_[a-z]", node.attr), f"{node.attr} is private"
            if isinstance(node.value, ast.Name) and node.value.id == "gd":
                assert node.attr in gd.__all__


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures(name: str, run: Run) -> None:
    pictures = run(name).pictures
    assert {path.name for path in pictures.iterdir()} == set(PICTURES[name])
    for picture, frames in PICTURES[name].items():
        with Image.open(pictures / picture) as image:
            assert image.format == Path(picture).suffix[1:].upper()
            assert getattr(image, "n_frames", 1) == frames
            shots = []
            for frame in {0, frames - 1}:
                image.seek(frame)
                shots.append(np.asarray(image.convert("RGB")))
        for shot in shots:
            assert shot.shape[0] >= 300
            assert shot.shape[1] >= 500
            colors = shot.astype(int) @ [1 << 16, 1 << 8, 1]
            assert len(np.unique(colors)) > 20  # not an empty page
        if frames > 1:
            assert (shots[0] != shots[-1]).any()


def test_a_seed_by_itself_saves_into_pictures(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "seed_001_line.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.rglob("*.png")} == set(PICTURES["seed_001_line"])
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


# ---------------------------------------------------------------- 000: X + 1 = 3


def algebra(dtype: Any, steps: int, start: float = 0.5, lr: float = 1e-3, **how: Any) -> gd.Fit:
    """Solve X + 1 = 3 in `steps` steps, or fewer if there is a tol."""
    return gd.fit(
        np.ones((1, 1), dtype),
        np.full(1, 3, dtype),
        gd.SGD(lr=lr),
        init=[start],
        offset=1.0,
        fit_intercept=False,
        reduction="half_sum",
        epochs=steps,
        **({"tol": None} | how),
    )


def last_float32_before_the_stall() -> Fraction:
    """Return the first X from below that a fused step of lr 0.001 leaves where it is."""
    lr, ulp = Fraction(float(np.float32(1e-3))), Fraction(1, 2**23)
    for k in range(1000, 0, -1):
        X = np.float32(2 - k * ulp)
        gradient = Fraction(float(X + np.float32(1) - np.float32(3)))
        step = -lr * gradient  # exact: the sum with X is the only rounding
        if step < ulp / 2 or (step == ulp / 2 and k % 2 == 0):
            return 2 - k * ulp
    raise AssertionError("no step is too small")


def test_algebra_prints_where_its_steps_led(run: Run) -> None:
    seed = run("seed_000_algebra")
    first, _, _, *rows = seed.printed.splitlines()
    start = seed.names["start"][0]
    assert 0 <= start < 1
    loss, gradient = (2 - start) ** 2 / 2, start - 2
    assert first == f"start: X = {start:.7f}, loss = {loss:.7f}, gradient = {gradient:.7f}"
    table = [row.split() for row in rows]
    assert [row[:2] for row in table] == [
        ["float32", "0.001"],
        ["float32", "0.001"],
        ["float64", "0.001"],
        ["float32", "auto"],
    ]
    steps = [int(row[2]) for row in table]
    assert steps[0] == 10_000 < steps[1] < 12_000 < 25_000 < steps[2] < 40_000
    assert steps[3] == 1
    assert [row[4] for row in table] == ["MAX_EPOCHS", "STALLED", "CONVERGED", "CONVERGED"]
    assert 1.9999 < float(table[0][3]) < 1.9999406  # to 2 from below
    assert [row[3] for row in table[1:]] == ["1.9999406", "2.0000000", "2.0000000"]


@pytest.mark.parametrize("start", [0.0, 0.1, 0.5, 0.9])
def test_float32_stalls_where_the_rounding_says(start: float) -> None:
    stall = last_float32_before_the_stall()
    assert stall == 2 - 498 * Fraction(1, 2**23)
    with pytest.warns(gd.FitWarning, match="Stalled"):
        fit = algebra(np.float32, 20_000, start, tol=1e-6)
    assert fit.status is gd.Status.STALLED
    assert Fraction(float(fit.weights[0])) == stall
    path = fit.history.weights[:, 0]
    assert (np.diff(path) >= 0).all()
    assert path.max() < 2
    more = algebra(np.float32, 200_000, start)
    assert (more.status, more.epochs) == (gd.Status.MAX_EPOCHS, 200_000)
    assert more.weights.tobytes() == fit.weights.tobytes()
    further = algebra(np.float64, 1000, float(fit.weights[0]))
    assert further.weights[0] > fit.weights[0]  # in float64 steps from there still count


def test_a_step_rounded_twice_stalls_two_float32_numbers_earlier() -> None:
    X, lr, one, three = np.float32([0.5, 1e-3, 1, 3])
    for _ in range(20_000):
        X = X - lr * ((X + one) - three)
    assert f"{X:.7f}" == "1.9999404"
    fused = algebra(np.float32, 20_000).weights[0]
    assert fused == np.nextafter(np.nextafter(X, np.float32(2)), np.float32(2))


def test_float64_or_another_lr_gets_to_2() -> None:
    double = algebra(np.float64, 40_000)
    assert (double.status, double.epochs) == (gd.Status.MAX_EPOCHS, 40_000)
    assert 0 < 2 - double.weights[0] < 2e-13
    assert (double.history.weights[-1000:] == double.weights).all()  # no step moves it any more
    within = algebra(np.float64, 40_000, tol=1e-6)
    assert within.status is gd.Status.CONVERGED
    assert double.weights[0] > within.weights[0]
    assert 0 < 2 - within.weights[0] < 3e-13
    assert algebra(np.float32, 1, lr=1.0).weights[0] == 2
    assert abs(algebra(np.float32, 1_000, lr=0.1).weights[0] - 2) < 1e-6


# ---------------------------------------------------------------- 001: y = 2 x


def test_line_prints_its_table_digit_for_digit(run: Run) -> None:
    printed = run("seed_001_line").printed
    golden = [row.split() for row in re.split(r"[|\n]", LINE.strip())]
    (table,) = run("seed_001_line").tables()
    assert [row[:2] for row in table] == [row[:2] for row in golden]
    for (_, _, loss), (_, _, expected) in zip(table, golden, strict=True):
        got, want = np.float32(loss), np.float32(expected)
        assert f"{got:.10f}" == loss  # it is a float32
        assert abs(got - want) <= np.spacing(want), f"{loss}, not {expected}"
    assert printed.startswith("before: w = 0.000, f(5) = 0.000\ngradient there: -30.000\n")
    assert printed.endswith("\nafter: w = 1.922, f(5) = 9.612\n")


def test_most_of_the_line_s_losses_agree_to_ten_decimals(run: Run) -> None:
    printed = run("seed_001_line").printed
    golden = re.findall(r"\d+\.\d{10}", LINE)
    assert sum(loss in printed for loss in golden) >= 8


def test_float64_agrees_with_the_closed_form() -> None:
    fit = gd.fit(*line_data(np.float64), gd.SGD(lr=0.01), epochs=20, tol=None, fit_intercept=False)
    q = Fraction(85, 100)
    bound = Fraction(1, 10**15)
    w = Fraction(0)
    for epoch in range(20):
        loss = Fraction(float(fit.history.loss[epoch]))
        exact = 30 * q ** (2 * epoch)
        # The loss is 7.5 (2 - w)^2: a relative error of w comes into it 2 w / (2 - w) times.
        assert abs(loss - exact) <= bound * (1 + 2 * w / (2 - w)) * exact
        assert abs(loss - exact) <= bound * 30
        w = 2 * (1 - q ** (epoch + 1))
        assert abs(Fraction(float(fit.history.weights[epoch, 0])) - w) <= bound * w
    assert fit.stability_limit == pytest.approx(2 / 15, rel=1e-12)


# ---------------------------------------------------------------- 002: the animation


def test_animation_prints_its_losses_and_ends_near_the_line(run: Run) -> None:
    seed = run("seed_002_animation")
    (table,) = seed.tables()
    X, y = seed.names["X"], seed.names["y"]
    first = np.mean((0.5 * X[:, 0] + 0.75 - y) ** 2)
    assert seed.printed.startswith(f"start: y = 0.500 x + 0.750, loss = {first:.3f}\n")
    assert [int(epoch) for epoch, _ in table] == list(range(1, 101, 10))
    losses = [float(loss) for _, loss in table]
    assert table[0][1] == f"{first:.3f}"
    assert losses == sorted(losses, reverse=True)
    end = re.search(r"end: y = (.+) x \+ (.+), loss = (.+)\n", seed.printed)
    assert end is not None
    slope, intercept, loss = map(float, end.groups())
    deviation = np.sqrt(1 / 12 / 100)  # of the mean of the noise
    assert abs(slope - 3) < 5 * deviation / np.sqrt(1 / 3)
    assert abs(intercept - 2.5) < 5 * deviation
    assert abs(loss - 1 / 12) < 5 * np.sqrt(1 / 180 / 100)  # 1/180: variance of its square


def test_animation_has_a_frame_of_20_ms_for_each_epoch(run: Run) -> None:
    with Image.open(run("seed_002_animation").pictures / "seed_002_line.gif") as image:
        assert image.n_frames == 1 + 100  # type: ignore[attr-defined]
        assert image.info["duration"] == 20


# ---------------------------------------------------------------- 003: train and test


def test_train_test_prints_decreases_and_stands_beside_least_squares(run: Run) -> None:
    seed = run("seed_003_train_test")
    decreases, *_ = seed.tables()
    assert [int(epoch) for epoch, _ in decreases] == [5 * i for i in range(1, len(decreases) + 1)]
    values = [float(decrease) for _, decrease in decreases]
    assert min(values) >= 0
    assert values[-1] < 1e-7 < 1 < values[0]

    numbers = re.compile(r"-?\d+\.\d+")
    *_, truth, descent, exact = (numbers.findall(s) for s in seed.printed.splitlines())
    truth, descent, exact = (np.array(row, float) for row in (truth, descent, exact))
    assert (abs(descent[:2] - exact[:2]) < 1e-3).all()
    spread = np.sqrt(1 / 9 / 7500) / np.array([np.sqrt(1.15**2 / 3), 1])
    assert (abs(exact[:2] - truth) < 5 * spread).all()
    for row in (descent, exact):  # the noise floor, within five deviations of its estimate
        assert abs(row[2] - 1 / 9) < 5 / 9 * np.sqrt(2 / 7500)
        assert abs(row[3] - 1 / 9) < 5 / 9 * np.sqrt(2 / 2500)
    assert abs(descent[3] - exact[3]) < 1e-4

    rows = seed.names["rows"]
    assert sorted(rows) == list(range(10_000))
    assert (rows != np.arange(10_000)).mean() > 0.9  # a shuffled split


def test_least_squares_of_the_seed_is_numpy_s(run: Run) -> None:
    names = run("seed_003_train_test").names
    X, y = (part.astype(np.float64) for part in names["train"])
    weights = np.linalg.lstsq(np.column_stack([X, np.ones(len(X))]), y, rcond=None)[0]
    exact = names["exact"]
    np.testing.assert_allclose([*exact.weights, exact.intercept], weights, rtol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_equal_losses_stop_early_by_the_square_root_of_the_precision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, start = rng.uniform(-1.15, 1.15, 10_000), rng.uniform(-14, 14, 4)
    y = start[2] * x + start[3] + rng.normal(0, 1 / 3, 10_000)
    far = {np.float32: (1e-5, 1e-3), np.float64: (1e-10, 1e-7)}
    epochs = []
    for dtype, (near, off) in far.items():
        data = x[:, None].astype(dtype), y.astype(dtype)
        sgd = gd.SGD(lr=0.1)
        fit = gd.fit(*data, sgd, init=(start[:1], start[1]), tol=None, stop="loss_equal")
        exact = gd.fit(*data, method="exact")
        assert fit.status is gd.Status.CONVERGED
        assert near < abs(fit.weights - exact.weights)[0] < off
        epochs.append(fit.epochs)
    assert 60 < epochs[0] < 140
    assert epochs[0] + 60 < epochs[1]


# ---------------------------------------------------------------- 004: the notebook


def test_notebook_prints_both_tables_digit_for_digit(run: Run) -> None:
    seed = run("seed_004_notebook")
    first, second = seed.tables()
    assert [w for _, w, _ in first] == [number(w) for w in FIRST_W.split()]
    assert [loss for _, _, loss in first] == [number(loss) for loss in FIRST_LOSS.split()]
    assert [int(epoch) for epoch, _, _ in first] == list(range(1, 21))
    golden = [tuple(map(number, pair.split("/"))) for pair in CONTINUED.split()]
    assert [(w, loss) for _, w, loss in second[:15]] == golden
    assert [row[1:] for row in second[24:30]] == [["1.999", "0.000"]] * 6
    assert [row[1:] for row in second[31:]] == [["2.000", "0.000"]] * 69
    assert [int(epoch) for epoch, _, _ in second] == list(range(1, 101))
    ends = re.findall(r"^after .*", seed.printed, re.MULTILINE)
    assert ends == [
        "after 0 epochs: w = 0.000, f(5) = 0.000, MAX_EPOCHS",
        "after 20 epochs: w = 1.922, f(5) = 9.612, MAX_EPOCHS",
        "after 120 epochs: w = 2.000, f(5) = 10.000, MAX_EPOCHS",
    ]


def test_notebook_s_warm_start_has_the_bits_of_one_long_fit(run: Run) -> None:
    names = run("seed_004_notebook").names
    first, second = names["first"].history, names["second"].history
    whole = gd.fit(
        *line_data(np.float32), gd.SGD(lr=0.01), epochs=120, fit_intercept=False, tol=None
    )
    assert names["second"].weights.tobytes() == whole.weights.tobytes()
    assert names["second"].loss.tobytes() == whole.loss.tobytes()
    assert (names["second"].epochs, names["second"].status) == (whole.epochs, whole.status)
    for record in ("epoch", "loss", "weights"):
        joined = np.concatenate([getattr(first, record), getattr(second, record)])
        assert joined.tobytes() == getattr(whole.history, record).tobytes(), record


# ---------------------------------------------------------------- the page on their mistakes

FENCE = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
BLOCKS = FENCE.findall(PAGE.read_text(encoding="utf-8"))


def test_the_page_has_five_mistakes_and_shows_each() -> None:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    mistakes = [section for section in sections if section[0].isdigit()]
    assert [section[:2] for section in mistakes] == ["1.", "2.", "3.", "4.", "5."]
    for section in mistakes:
        assert "**The claim.**" in section
        assert "**Why it is wrong.**" in section
        assert FENCE.search(section)


def test_every_block_of_the_page_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for code, output in BLOCKS:
        assert output, "no output is stated"
        printed = io.StringIO()
        with redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(code, PAGE, "exec"), {"__name__": "__main__"})
        assert printed.getvalue() == output, code
