"""Put each deliberate bug into a copy of the CUDA device and compare it with the reference loops.

    python tests/mutants/run_kernels.py [--list] [--only NAME ...] [--folder FOLDER]
    python tests/mutants/run_kernels.py --barriers [PART OF A NAME ...]

The second form leaves out each barrier of the kernels in turn: a wrong bit shows it, or
ThreadSanitizer. Everything runs on the emulated driver.
Exit status: 0 if every bug was seen, 1 if one survived, 2 if the run itself failed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from catalog import HERE, ROOT, DoesNotApplyError, Mutant, apply, mutants, sources

sys.path.append(str(ROOT / "tests" / "native"))
import emulated_driver

ORDERS = (0, 7, 1)  # of threads between barriers: forward, shuffled, backward
COPIED = ("CMakeLists.txt", "csrc", "tests/native")
PROGRAM = "gdcore_cuda_operations"
GROUPS = ("products", "rows", "descents")  # of its comparisons
BARRIER = re.compile(r"__sync(?:threads|warp)\([^;]*?\);")


class RunError(Exception):
    """The run cannot go on: a build failed, or the comparison fails without any bug."""


@dataclass(frozen=True)
class Object:
    """An object file, the command that makes it (its path comes last), and what it includes."""

    command: list[str]
    includes: frozenset[Path]


def _call(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RunError(done.stdout[-2000:] + done.stderr[-4000:])


def _included(depfile: Path, folder: Path) -> frozenset[Path]:
    """Read what a compiler that ran in a folder says it included."""
    words = depfile.read_text(encoding="utf-8").partition(":")[2].split()
    return frozenset(Path(os.path.realpath(folder / word)) for word in words if word != "\\")


class Driver:
    """The emulated driver of a copy of the tree, whose objects are compiled one by one."""

    def __init__(self, tree: Path, folder: Path, sanitize: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.sanitize = folder, sanitize
        commands = emulated_driver.commands(folder, tree, sanitize)

        def compiled(command: list[str]) -> Object:
            depfile = Path(f"{command[-1]}.d")
            _call([*command[:-2], "-MD", "-MF", str(depfile), *command[-2:]], tree)
            return Object(command, _included(depfile, tree))

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self.objects = list(pool.map(compiled, commands))
        self.path = self._link({}, folder)

    def _link(self, changed: dict[str, str], folder: Path) -> Path:
        objects = [changed.get(one.command[-1], one.command[-1]) for one in self.objects]
        path = folder / "libcuda_emulated.so"
        sanitize = [emulated_driver.SANITIZE] if self.sanitize else []
        compiler = emulated_driver.compiler()[-1]
        _call([compiler, "-shared", *sanitize, "-o", str(path), *objects], folder)
        (folder / "kernels.fatbin").write_bytes(emulated_driver.fatbin())
        return path

    def with_bug(self, source: Path, folder: Path) -> Path:
        """Compile what includes a source that was changed, and link it with the rest."""
        changed = {}
        for number, one in enumerate(self.objects):
            if source in one.includes:
                to = changed[one.command[-1]] = str(folder / f"{number}.o")
                _call([*one.command[:-1], to], folder)
        return self._link(changed, folder) if changed else self.path


class Program:
    """The program that compares the device with the reference loops."""

    def __init__(self, tree: Path, folder: Path) -> None:
        options = ["-DGDCORE_DIGEST=ON", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
        # No bit depends on how the host's side is optimised.
        options += ["-DCMAKE_BUILD_TYPE=None", "-DCMAKE_CXX_FLAGS=-O1"]
        if shutil.which("ccache"):
            options += ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"]
        generator = ["-G", "Unix Makefiles"]  # its link commands can be read
        _call(["cmake", "-S", str(tree), "-B", str(folder), *generator, *options], tree)
        jobs = str(os.cpu_count())
        _call(["cmake", "--build", str(folder), "--target", PROGRAM, "-j", jobs], tree)
        self.folder, self.path = folder, folder / PROGRAM
        link = folder / "CMakeFiles" / f"{PROGRAM}.dir" / "link.txt"
        self.link = shlex.split(link.read_text(encoding="utf-8").splitlines()[0])
        self.objects = {}
        commands = json.loads((folder / "compile_commands.json").read_text(encoding="utf-8"))
        for entry in commands:
            words = shlex.split(entry["command"])
            name = words[words.index("-o") + 1]
            depfile = folder / f"{name}.d"
            if depfile.exists():  # of this program
                self.objects[name] = Object(words, _included(depfile, folder))

    def with_bug(self, source: Path, folder: Path) -> Path:
        """Compile what includes a source that was changed, and link it with the rest."""
        changed = {}
        for number, (name, one) in enumerate(self.objects.items()):
            if source in one.includes:
                to = changed[name] = str(folder / f"program-{number}.o")
                _call([to if word == name else word for word in one.command], self.folder)
        if not changed:
            return self.path
        # An object in front of the library replaces the one of the same source in it.
        words = [changed.get(word, word) for word in self.link]
        at = next(i for i, word in enumerate(words) if word.endswith("libgdcore_native.a"))
        words[at:at] = [to for name, to in changed.items() if name not in self.link]
        path = folder / PROGRAM
        words[words.index("-o") + 1] = str(path)
        _call(words, self.folder)
        return path


def first_complaint(
    program: Path, driver: Path, arguments: list[str], order: int, seconds: int, sanitize: bool
) -> str | None:
    """Run the comparison up to the first line that says something is wrong; None: nothing is."""
    environment = {
        **os.environ,
        "GDCORE_CUDA_DRIVER": str(driver),
        "EMULATION_ORDER": str(order),
        "OMP_NUM_THREADS": "1",
    }
    if sanitize:
        compiler = emulated_driver.compiler()[-1]
        runtime = subprocess.check_output([compiler, "-print-file-name=libtsan.so"], text=True)
        environment["LD_PRELOAD"] = runtime.strip()
        environment["TSAN_OPTIONS"] = "halt_on_error=1 exitcode=66"
    done = subprocess.Popen(
        [*([] if sanitize else ["stdbuf", "-oL"]), str(program), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    deadline = time.monotonic() + seconds
    alarm = _killed_later(done, seconds)
    try:
        lines: list[str] = []
        for line in done.stdout or ():
            if re.fullmatch(r"\d+ cases, 0 failures\s*", line):
                continue
            lines.append(line.strip())
            if line.strip() and (not sanitize or line.startswith(("SUMMARY", "emulation"))):
                return line.strip()
        status = done.wait()
        if time.monotonic() > deadline:
            raise RunError(f"It ran for more than {seconds} s.")
        return f"exit status {status}: {' '.join(lines[-2:])}" if status != 0 else None
    finally:
        alarm.cancel()
        if done.poll() is None:
            os.killpg(done.pid, signal.SIGKILL)
        done.wait()


def _killed_later(process: subprocess.Popen[str], seconds: int) -> threading.Timer:
    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

    alarm = threading.Timer(seconds, kill)
    alarm.start()
    return alarm


class Tree:
    """A copy of the sources with all that is built of them."""

    def __init__(self, folder: Path, sanitize: bool, seconds: int) -> None:
        self.root, self.mutant, self.seconds = folder / "tree", folder / "mutant", seconds
        for name in COPIED:
            to = self.root / name
            to.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.rmtree(to, ignore_errors=True)
                shutil.copytree(ROOT / name, to)
            else:
                shutil.copy2(ROOT / name, to)
        emulated_driver.HERE = self.root / "tests" / "native"  # the copy's emulation is compiled
        self.program = Program(self.root, folder / "program")
        self.driver = Driver(self.root, folder / "driver", False)
        self.sanitized = Driver(self.root, folder / "sanitized", True) if sanitize else None
        self.texts = device_sources(self.root)

    def check(self, groups: list[str], program: Path, source: Path | None) -> str | None:
        """Return what shows a bug in a source, or None."""
        driver = self.driver.with_bug(source, self.mutant) if source else self.driver.path
        few = ["--few", *groups]
        for arguments in [few] if self.sanitized else [few, groups]:
            for order in ORDERS:
                seen = first_complaint(program, driver, arguments, order, self.seconds, False)
                if seen:
                    return f"order {order}: {seen}"
        if self.sanitized:
            driver = self.sanitized.with_bug(source, self.mutant) if source else self.sanitized.path
            return first_complaint(program, driver, few, 0, self.seconds, True)
        return None

    def judge(self, path: Path, text: str, groups: list[str]) -> tuple[bool, str]:
        """Put a changed text in the place of a source, and say whether and how it was seen."""
        file = self.root / path
        shutil.rmtree(self.mutant, ignore_errors=True)
        self.mutant.mkdir()
        file.write_text(text, encoding="utf-8")
        try:
            source = Path(os.path.realpath(file))
            objects = [*self.driver.objects, *self.program.objects.values()]
            if not any(source in one.includes for one in objects):
                raise RunError(f"nothing includes {path}")
            program = self.program.with_bug(source, self.mutant)
            seen = self.check(groups, program, source)
            return (True, seen) if seen else (False, "survived")
        except (RunError, subprocess.CalledProcessError) as error:
            return False, f"wrong reason: {error}"
        finally:
            file.write_text(self.texts[path], encoding="utf-8")


def device_sources(root: Path = ROOT) -> dict[Path, str]:
    """Read the CUDA device's sources, by their path from the root."""
    return {
        path: text for path, text in sources(root).items() if path.parts[:2] == ("csrc", "cuda")
    }


def kernel_mutants() -> list[Mutant]:
    """Read the lists; `tests` of a bug are the groups of gdcore_cuda_operations that see it."""
    return mutants(HERE / "kernels")


@dataclass(frozen=True)
class Barrier:
    """One barrier of a kernel, left out."""

    name: str  # file:line
    path: Path
    text: str
    comment: str  # why it stays though nothing sees that it is missing


def barriers(texts: dict[Path, str]) -> Iterator[Barrier]:
    """Find each barrier. Its comment is behind it or in the line before, and begins "Stays:"."""
    for path, text in texts.items():
        if path.parent.name != "kernels" or path.name == "language.hpp":
            continue
        for found in BARRIER.finditer(text):
            before, line = text[: found.start()].count("\n"), text.splitlines()
            near = "\n".join(line[max(0, before - 1) : before + 1])
            comment = re.search(r"// (Stays: .*)", near)
            yield Barrier(
                f"{path.name}:{before + 1}",
                path,
                text[: found.start()] + ";" + text[found.end() :],
                comment[1] if comment else "",
            )


def run(tree: Tree, work: list[tuple[str, str, Path, str, list[str], str]]) -> int:
    """Judge each, print a row of a Markdown table for each, and return the exit status."""
    started = time.perf_counter()
    groups = sorted({group for *_, named, _ in work for group in named})
    if seen := tree.check(groups, tree.program.path, None):
        raise RunError(f"Without any bug: {seen}")
    took = time.perf_counter() - started
    print(f"{len(work)} bugs; without a bug the comparison takes {took:.0f} s\n")
    print("| bug | in | what it does | seen by | seconds |\n|---|---|---|---|---|")
    missed = 0
    for name, bug, path, text, named, excuse in work:
        started = time.perf_counter()
        seen, how = tree.judge(path, text, named)
        took = time.perf_counter() - started
        if not seen and how == "survived" and excuse:
            how = excuse
        elif not seen:
            missed += 1
            how = f"**{how}**"
        how = how.replace("|", "\\|")[:160]
        print(f"| {name} | `{path.name}` | {bug} | {how} | {took:.0f} |", flush=True)
    print(f"\n{len(work) - missed} of {len(work)} bugs were seen.")
    return 1 if missed else 0


def _work(given: argparse.Namespace) -> list[tuple[str, str, Path, str, list[str], str]]:
    texts = device_sources()
    if given.barriers is not None:
        return [
            (one.name, "has no barrier there", one.path, one.text, [*GROUPS], one.comment)
            for one in barriers(texts)
            if not given.barriers or any(part in one.name for part in given.barriers)
        ]
    chosen = [each for each in kernel_mutants() if not given.only or each.name in given.only]
    return [(each.name, each.bug, *apply(each, texts), list(each.tests), "") for each in chosen]


def main() -> int:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these bugs alone")
    parser.add_argument("--barriers", nargs="*", metavar="PART", help="leave out barriers instead")
    parser.add_argument("--list", action="store_true", help="print the bugs and end")
    parser.add_argument("--folder", type=Path, help="a folder whose build is kept and used again")
    parser.add_argument("--seconds", type=int, default=300, help="time limit of one comparison")
    given = parser.parse_args()
    try:
        work = _work(given)
        if not work:
            parser.error("there is no such bug")
        if given.list:
            for name, bug, path, *_ in work:
                print(f"{name}: {path}: {bug}")
            return 0
        with tempfile.TemporaryDirectory() as temporary:
            folder = (given.folder or Path(temporary)).resolve()
            return run(Tree(folder, given.barriers is not None, given.seconds), work)
    except (RunError, DoesNotApplyError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
