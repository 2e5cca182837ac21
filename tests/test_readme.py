"""The README and the pages: their commands parse, their links lead somewhere, their code runs."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / ".ci"
README = ROOT / "README.md"
if not (SCRIPTS.is_dir() and README.is_file()):
    pytest.skip("only a checkout has these pages and scripts", allow_module_level=True)

FIRST_COMMAND = (
    "pip install '.[cli]' && gdcore fit examples/data/diabetes.csv "
    "--target progression --standardize --plot fit.png\n"
)
SECOND_COMMAND = "pip install '.[test]' && pytest\n"
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")})
SHELLS = ("sh", "bash", "shell")
COMMAND = re.compile(r"(?:gdcore|pytest|python3?|pip) [^…\[]+$")  # not a sketch like `gdcore fit …`
INLINE_CODE = re.compile(r"(`+)(.+?)\1")
LINK = re.compile(
    r"""\]\(\s*<?([^)\s>]+)"""  # [text](target) and ![text](target)
    r"""|^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)"""  # [label]: target
    r"""|\b(?:src|href)\s*=\s*["']([^"']+)""",  # <img src="target">
    re.MULTILINE,
)
IN_THE_TREE = re.compile(r"^(?:examples|tests|bench|docs(?!/_build)|csrc|python)/[\w./-]+$")


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


readme_block = load_script("readme_block")
requirements = load_script("requirements").requirements


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def prose(page: Path) -> str:
    """Return a page without its code, where brackets are no links."""
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    for block in readme_block.fenced_blocks(text):
        for number in range(block.line - 1, block.line + block.text.count("\n") + 1):
            lines[number - 1] = ""
    return INLINE_CODE.sub("", "\n".join(lines))


def anchors(page: Path) -> set[str]:
    """Return the names a renderer gives to a page's headings."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


def lines_of_shell(page: Path) -> list[str]:
    """Return what a page tells a reader to run: in shell blocks and in its prose."""
    text = page.read_text(encoding="utf-8")
    lines = []
    for block in readme_block.fenced_blocks(text):
        typed = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":  # the rest is what a command prints
            lines += [line.removeprefix("$ ") for line in typed if line.startswith("$ ")]
        elif block.language in SHELLS:
            lines += typed
        text = text.replace(block.text, "")
    inline = [code for _, code in INLINE_CODE.findall(text)]
    return lines + [code for code in inline if COMMAND.match(code)]


def commands(page: Path) -> list[list[str]]:
    """Return a page's commands, as words, without the operators between them."""
    found: list[list[str]] = []
    for line in lines_of_shell(page):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        found.append([])
        for word in lexer:
            if set(word) <= set("();<>|&"):
                found.append([])
            else:
                found[-1].append(word)
    return [words for words in found if words]


def gdcore_arguments(words: list[str]) -> list[str] | None:
    """Return the arguments given to gdcore's command line, None if the command is another."""
    while words and re.match(r"\w+=", words[0]):  # NAME=value before the command
        words = words[1:]
    if words[:1] == ["gdcore"]:
        return words[1:]
    if words[:3] in (["python", "-m", "gdcore"], ["python3", "-m", "gdcore"]):
        return words[3:]
    return None


# ---------------------------------------------------------------- what the pages say


def test_the_first_two_shell_blocks_are_the_two_commands() -> None:
    text = README.read_text(encoding="utf-8")
    assert readme_block.shell_block(text, 1) == FIRST_COMMAND
    assert readme_block.shell_block(text, 2) == SECOND_COMMAND


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for groups in LINK.findall(prose(page)):
        link = "".join(groups)
        if re.match(r"[a-z][a-z0-9+.-]*:|//", link):
            continue  # on the web
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{named(page)} links to {link}, which does not exist"
        if fragment and target.suffix == ".md":
            assert fragment in anchors(target), f"{named(page)} links to {link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_that_a_command_names_exists(page: Path) -> None:
    for words in commands(page):
        for word in words:
            if IN_THE_TREE.match(word):
                assert (ROOT / word).exists(), f"{named(page)}: {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_gdcore_command_parses(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typer")
    from typer.main import get_command

    from gdcore.cli import build_app

    group: Any = get_command(build_app())
    monkeypatch.chdir(ROOT)
    for words in commands(page):
        arguments = gdcore_arguments(words)
        if arguments is None:
            continue
        where = f"{named(page)}: {shlex.join(words)}"
        assert arguments, f"{where}: no subcommand"
        assert arguments[0] in group.commands, f"{where}: no such subcommand"
        subcommand = group.commands[arguments[0]]
        try:
            subcommand.make_context(arguments[0], arguments[1:])
        except Exception as error:
            if len(arguments) == 1 and "Missing parameter" in str(error):
                continue  # prose that names the command
            helped = getattr(error, "exit_code", None) == 0  # --help
            if not helped and "does not exist" not in str(error):  # a reader's own file
                pytest.fail(f"{where}: {error}")


@pytest.mark.parametrize(
    "page", [README, ROOT / "docs/guide.md", ROOT / "docs/sklearn.md"], ids=named
)
def test_the_python_code_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = [b for b in readme_block.fenced_blocks(text) if b.language in ("python", "pycon")]
    assert blocks
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace: dict[str, object] = {"__name__": "__main__"}  # shared: a reader goes from top to end
    missing = set()
    for block in blocks:
        if absent := absent_imports(block.text):
            missing |= absent
        elif block.text.lstrip().startswith(">>>"):
            session = doctest.DocTestParser().get_doctest(
                block.text, namespace, page.stem, page.name, block.line - 1
            )
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            assert runner.run(session, clear_globs=False).failed == 0
            namespace = session.globs
        else:  # padded, so that a traceback names the page's own line
            exec(compile("\n" * (block.line - 1) + block.text, page, "exec"), namespace)
    if missing:
        pytest.skip(f"blocks that import {', '.join(sorted(missing))} did not run: not installed")


def absent_imports(code: str) -> set[str]:
    """Return the packages a block imports that are not installed here."""
    source = "\n".join(example.source for example in doctest.DocTestParser().get_examples(code))
    names: set[str] = set()
    for node in ast.walk(ast.parse(source or code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    roots = {name.partition(".")[0] for name in names} - {"gdcore"}
    return {root for root in roots if importlib.util.find_spec(root) is None}


# ---------------------------------------------------------------- the scripts that read them

SAMPLE = """\
# Title
```python
print("```sh")
```
```sh
first && command
```
````text
```sh
not a block of its own
```
````
- a list
  ~~~sh title="x"
  second
  ~~~
"""


def test_fenced_blocks() -> None:
    blocks = readme_block.fenced_blocks(SAMPLE)
    assert [block.language for block in blocks] == ["python", "sh", "text", "sh"]
    assert [block.line for block in blocks] == [3, 6, 9, 15]
    assert readme_block.shell_block(SAMPLE, 1) == "first && command\n"
    assert readme_block.shell_block(SAMPLE, 2) == "  second\n"
    with pytest.raises(ValueError, match=r"no sh block 3; there are 2"):
        readme_block.shell_block(SAMPLE, 3)
    with pytest.raises(ValueError, match=r"starts at line 2 is never closed"):
        readme_block.fenced_blocks("text\n```sh\ncommand\n")


def test_readme_block_as_a_command(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(SAMPLE, encoding="utf-8")

    def run(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, str(SCRIPTS / "readme_block.py"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    assert run("1", str(page)) == (0, "first && command\n", "")
    assert run("1") == (0, FIRST_COMMAND, "")
    assert run("3", str(page)) == (2, "", "page.md: there is no sh block 3; there are 2\n")
    assert run("one")[0] == 2
    assert run("1", str(tmp_path / "none.md"))[0] == 2


def test_requirements_follow_the_package_s_own_extras() -> None:
    project = {
        "name": "gdcore",
        "dependencies": ["numpy>=2"],
        "optional-dependencies": {
            "plot": ["matplotlib>=3"],
            "cli": ["gdcore[plot]", "typer"],
            "test": ["gdcore[cli,plot]", "torch==2.0", "pytest>=8"],
        },
    }
    assert requirements(project, ["plot"]) == ["numpy>=2", "matplotlib>=3"]
    assert set(requirements(project, ["test"], without=["torch"])) == {
        "numpy>=2",
        "matplotlib>=3",
        "typer",
        "pytest>=8",
    }
    with pytest.raises(ValueError, match=r"no extra 'gpu'; there are plot, cli, test"):
        requirements(project, ["gpu"])
