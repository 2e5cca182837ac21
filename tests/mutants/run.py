"""Put each deliberate bug into a copy of the tree and run the tests that should see it.

    python tests/mutants/run.py [--list] [--only NAME ...] [--folder FOLDER]

Exit status: 0 if every bug was seen, 1 if one survived, 2 if the run itself failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

from catalog import ROOT, DoesNotApplyError, Mutant, apply, mutants, node_ids, sources

NOT_COPIED = (".git", "build", "build-*", ".*_cache", ".hypothesis", "__pycache__", "*.so")
WRONG_REASONS = (
    "ImportError",
    "ModuleNotFoundError",
    "SyntaxError",
    "IndentationError",
    "NameError",
    "UnboundLocalError",
)


class RunError(Exception):
    """The run cannot go on: a build failed, or tests fail without any bug."""


@dataclass(frozen=True)
class Seen:
    """What the tests made of one bug."""

    verdict: str  # "seen", "survived", "wrong reason", "time limit", "crash", "build error"
    test: str = ""
    detail: str = ""


def _wrong(message: str) -> bool:
    """Return whether a failure, or every case of a loop, says nothing about the bug."""
    first, *cases = message.splitlines() or [""]
    if first.endswith("cases failed:"):
        return all(case.partition(": ")[2].startswith(WRONG_REASONS) for case in cases)
    return first.startswith(WRONG_REASONS)


class Tree:
    """A copy of the tree, built once, with an interpreter that imports gdcore from the copy."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self.root = folder / "tree"
        self.build = self.root / "build" / "mutants"
        self.objects, self.results = folder / "objects", folder / "results.xml"
        self.python = folder / "venv" / "bin" / "python"
        self.seconds = seconds
        self._copy()
        self._make_interpreter(folder / "venv")
        self._build()
        self.texts = sources(self.root)

    def _copy(self) -> None:
        # All but the build, which compiles again what is newer. Times of files are copied too.
        for old in self.root.iterdir() if self.root.exists() else ():
            if old.is_dir() and old.name != "build":
                shutil.rmtree(old)
        ignored = shutil.ignore_patterns(*NOT_COPIED)
        shutil.copytree(ROOT, self.root, ignore=ignored, dirs_exist_ok=True)

    def _make_interpreter(self, folder: Path) -> None:
        # The paths of packages, without the .pth files in them: an editable install of gdcore would
        # be imported in place of the copy.
        venv.create(folder, symlinks=True, clear=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        paths = [str(self.root / "python")]
        paths += [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (packages / "mutants.pth").write_text("\n".join(paths) + "\n", encoding="utf-8")

    def _build(self) -> None:
        import pybind11

        options = [
            "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]
        generator = ["-G", "Unix Makefiles"]  # its link commands can be read
        self._call(["cmake", "-S", self.root, "-B", self.build, *generator, *options])
        self._call(["cmake", "--build", self.build, "-j", str(os.cpu_count())])
        (self.core,) = self.build.glob("_core*.so")
        commands = json.loads((self.build / "compile_commands.json").read_text(encoding="utf-8"))
        # By the name of the object, the command that makes it.
        self.commands = {}
        for entry in commands:
            words = shlex.split(entry["command"])
            self.commands[words[words.index("-o") + 1]] = words
        link = self.build / "CMakeFiles" / "_core.dir" / "link.txt"
        self.link = shlex.split(link.read_text(encoding="utf-8").splitlines()[0])
        self.install(self.core)

    def _call(self, command: list[object]) -> None:
        done = subprocess.run(
            [str(word) for word in command], cwd=self.root, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise RunError(done.stdout[-2000:] + done.stderr[-4000:])

    def install(self, core: Path) -> None:
        """Make this compiled core the one that the copy imports."""
        to = self.root / "python" / "gdcore" / self.core.name
        to.unlink(missing_ok=True)
        shutil.copy2(core, to)

    def rebuild(self, source: Path, only: tuple[str, ...]) -> None:
        """Compile what includes a source that was changed, and link it with the rest."""
        shutil.rmtree(self.objects, ignore_errors=True)
        self.objects.mkdir()
        replaced = {}
        for number, (name, words) in enumerate(self.commands.items()):
            if self.root / source not in self._includes(name):
                continue
            if only and not any(all(part in name for part in one.split()) for one in only):
                continue
            to = self.objects / f"{number}.o"
            replaced[name] = str(to)
            # A third of the time of -O3; no bit depends on it.
            quick = {name: str(to), "-O3": "-O1"}
            command = [quick.get(word, word) for word in words]
            self._call_in_build(command)
        if not replaced:
            raise RunError(f"No object includes {source}.")
        # An object in front of the library replaces the one of the same source in it.
        archive = next(i for i, word in enumerate(self.link) if word.endswith("libgdcore_native.a"))
        words = [replaced.get(word, word) for word in self.link]
        in_archive = [path for name, path in replaced.items() if name not in self.link]
        words[archive:archive] = in_archive
        core = self.objects / self.core.name
        words[words.index("-o") + 1] = str(core)
        self._call_in_build(words)
        self.install(core)

    def _includes(self, name: str) -> set[Path]:
        """Return what an object was compiled from."""
        words = (self.build / f"{name}.d").read_text(encoding="utf-8").split()
        return {Path(os.path.normpath(self.build / word)) for word in words if word != "\\"}

    def _call_in_build(self, command: list[str]) -> None:
        done = subprocess.run(command, cwd=self.build, capture_output=True, text=True)
        if done.returncode != 0:
            raise RunError(done.stderr[-4000:])

    def test(self, names: list[str], hangs: bool = False) -> Seen:
        """Run tests up to the first failure."""
        self.results.unlink(missing_ok=True)
        ids = [found for name in names for found in node_ids(name, self.root) or [name]]
        seconds = 20 if hangs else self.seconds
        command = [self.python, "-m", "pytest", *ids, "-x", "-q", "-n0", f"--timeout={seconds}"]
        command += ["-p", "no:cacheprovider", "-p", "no:randomly", f"--junitxml={self.results}"]
        environment = {
            **os.environ,
            # A file changed twice in a second would be taken from the cache.
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.results.parent / "hypothesis"),
        }
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.root,
            env=environment,
            capture_output=True,
            text=True,
        )
        output = (done.stdout + done.stderr)[-3000:]
        if done.returncode == 0:
            return Seen("survived")
        if done.returncode < 0:
            return Seen("crash", detail=output)
        if done.returncode != 1 or not self.results.exists():
            return Seen("wrong reason", detail=output)
        return self._first_failure() or Seen("wrong reason", detail=output)

    def _first_failure(self) -> Seen | None:
        for case in ElementTree.parse(self.results).iter("testcase"):
            where = case.get("classname", "").removeprefix("tests.").replace(".", "::")
            name = f"{where}::{case.get('name')}"
            for child in case:
                message = child.get("message", "")
                if child.tag == "error" or _wrong(message):
                    return Seen("wrong reason", name, message)
                if child.tag == "failure":
                    late = message.startswith("Failed: Timeout")
                    return Seen("time limit" if late else "seen", name, message)
        return None

    def judge(self, mutant: Mutant) -> tuple[Path, Seen]:
        """Put the bug in, test, and take it out."""
        path, text = apply(mutant, self.texts)
        file = self.root / path
        file.write_text(text, encoding="utf-8")
        try:
            if path.suffix != ".py":
                self.rebuild(path, mutant.objects)
            seen = self.test(list(mutant.tests), mutant.hangs)
        except RunError as error:
            seen = Seen("build error", detail=str(error))
        finally:
            file.write_text(self.texts[path], encoding="utf-8")
            if path.suffix != ".py":
                self.install(self.core)
        if mutant.hangs and seen.verdict == "time limit":
            seen = Seen("seen", seen.test, seen.detail)
        return path, seen


def run(chosen: list[Mutant], folder: Path, seconds: int, details: bool, unchecked: bool) -> int:
    """Run all, print a row of a Markdown table for each, and return the exit status."""
    started = time.perf_counter()
    tree = Tree(folder, seconds)
    names = list(dict.fromkeys(name for mutant in chosen for name in mutant.tests))
    clean = Seen("survived") if unchecked else tree.test(names)
    if clean.verdict != "survived":
        raise RunError(f"Without any bug: {clean.test} {clean.detail}")
    took = time.perf_counter() - started
    print(f"{len(chosen)} bugs; copy, build and {len(names)} tests without a bug: {took:.0f} s\n")
    print("| bug | in | what it does | seen by | seconds |\n|---|---|---|---|---|")
    missed = 0
    for mutant in chosen:
        started = time.perf_counter()
        path, seen = tree.judge(mutant)
        took = time.perf_counter() - started
        missed += seen.verdict != "seen"
        by = f"`{seen.test}`" if seen.verdict == "seen" else f"**{seen.verdict}** {seen.test}"
        print(f"| {mutant.name} | `{path}` | {mutant.bug} | {by} | {took:.0f} |", flush=True)
        if details or seen.verdict not in ("seen", "survived"):
            print(seen.detail, file=sys.stderr, flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} bugs were seen.")
    return 1 if missed else 0


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these bugs alone")
    parser.add_argument("--list", action="store_true", help="print the bugs and end")
    parser.add_argument("--folder", type=Path, help="a folder whose build is kept and used again")
    parser.add_argument("--seconds", type=int, default=120, help="time limit of one test")
    parser.add_argument("--details", action="store_true", help="print the message of each failure")
    parser.add_argument(
        "--unchecked", action="store_true", help="do not run the tests without a bug first"
    )
    given = parser.parse_args()
    by_name = {mutant.name: mutant for mutant in mutants()}
    chosen = [by_name[name] for name in given.only or by_name if name in by_name]
    unknown = sorted(set(given.only or ()) - set(by_name))
    if unknown:
        parser.error(f"no bug of these names: {', '.join(unknown)}")
    try:
        texts = sources()
        if given.list:
            for mutant in chosen:
                print(f"{mutant.name}: {apply(mutant, texts)[0]}: {mutant.bug}")
            return 0
        for mutant in chosen:
            apply(mutant, texts)
        if given.folder:
            given.folder.mkdir(parents=True, exist_ok=True)
            return run(
                chosen, given.folder.resolve(), given.seconds, given.details, given.unchecked
            )
        with tempfile.TemporaryDirectory() as folder:
            return run(chosen, Path(folder), given.seconds, given.details, given.unchecked)
    except (RunError, DoesNotApplyError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
