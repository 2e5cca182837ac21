"""The site: ``pip install '.[docs]' && sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.addnodes import pending_xref
from sphinx_gallery.scrapers import figure_rst

import gdcore

# ---------------------------------------------------------------- the project

project = "gdcore"
author = "The gdcore developers"
project_copyright = author
version = release = gdcore.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
suppress_warnings = ["config.cache"]  # the functions below cannot be pickled
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(enum|numpy|scipy|sklearn|torch)\..*"),
    ("py:class", r"gdcore\.plot\.display\.Display"),  # the base class of all displays
]

# ---------------------------------------------------------------- pages

html_theme = "pydata_sphinx_theme"
html_title = "gdcore"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": {"**": ["page-toc"], "api/cli": []},
}
html_sidebars = {"*": []}  # pages outside the API and the gallery have no neighbours
myst_heading_anchors = 3

# ---------------------------------------------------------------- the API, from the docstrings

default_role = "autolink"  # `fit` becomes a link where it names something, else emphasis
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc has the types, in words
autodoc_member_order = "bysource"
add_module_names = False
numpydoc_show_class_members = False  # the template of classes lists them
templates_path = ["_templates"]


def link_to_the_class(app: Any, env: Any, node: pending_xref, text: nodes.Node) -> Any:
    """Link an attribute, `Fit.r2_lost`, to the page of its class; a parameter to nothing."""
    if node["refdomain"] != "py":
        return None
    owner = node["reftarget"].rpartition(".")[0]
    if not owner:
        return text
    python = env.domains.python_domain
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", owner, node, text)


# ---------------------------------------------------------------- the gallery, from examples/

pictures = Path(tempfile.mkdtemp(prefix="gdcore-gallery-"))


def saved_pictures(block: Any, variables: dict[str, Any], gallery: dict[str, Any]) -> str:
    """Return the pictures that a block of a script has saved, for the page."""
    shown = []
    names = variables["image_path_iterator"]
    found = [path for path in pictures.iterdir() if path.suffix in (".png", ".gif")]
    for picture, name in zip(sorted(found), names, strict=False):
        shown.append(Path(name).with_suffix(picture.suffix))
        picture.rename(shown[-1])
    return figure_rst([str(path) for path in shown], gallery["src_dir"])


def directory_for_pictures(gallery: dict[str, Any], variables: dict[str, Any]) -> list[str]:
    """Return the arguments of a script."""
    return [str(pictures)]


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "seed_|store_",
    "ignore_pattern": "million_",  # half a minute and a gigabyte
    "within_subsection_order": "FileNameSortKey",
    "image_scrapers": (saved_pictures,),
    "reset_argv": directory_for_pictures,
    "capture_repr": (),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,
    "abort_on_example_error": True,
}

# ---------------------------------------------------------------- the command line


class CommandHelp(Directive):
    """``.. command-help:: fit`` shows what ``gdcore fit --help`` prints."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the help as a block of text."""
        from typer.testing import CliRunner

        from gdcore.cli import build_app

        environment = {"COLUMNS": "84", "NO_COLOR": "1", "TERM": "dumb"}
        done = CliRunner().invoke(build_app(), [self.arguments[0], "--help"], env=environment)
        text = "\n".join(line.rstrip() for line in done.output.strip().splitlines())
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Any) -> None:
    """Register what is defined here."""
    app.add_directive("command-help", CommandHelp)
    app.connect("missing-reference", link_to_the_class)
