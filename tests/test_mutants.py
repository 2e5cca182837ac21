"""The list of deliberate bugs: each still applies, and names tests that are there."""

from __future__ import annotations

import ast

from mutants.catalog import apply, mutants, node_ids, sources


def test_every_bug_applies_and_names_its_tests() -> None:
    """Running them is another matter: python tests/mutants/run.py."""
    listed, texts = mutants(), sources()
    assert len(listed) >= 60
    assert len({mutant.name for mutant in listed}) == len(listed)
    for mutant in listed:
        path, text = apply(mutant, texts)
        assert text != texts[path], mutant.name
        if path.suffix == ".py":
            ast.parse(text)
        for test in mutant.tests:
            assert node_ids(test), f"{mutant.name}: there is no test {test}"
