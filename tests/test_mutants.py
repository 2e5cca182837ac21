"""The list of deliberate bugs: each still applies, and names tests that are there."""

from __future__ import annotations

import ast

from mutants.catalog import HERE, ROOT, apply, mutants, node_ids, sources


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


def test_every_bug_of_a_kernel_applies() -> None:
    """Running them is another matter: python tests/mutants/run_kernels.py."""
    listed = mutants(HERE / "kernels")
    device = {path: text for path, text in sources().items() if path.is_relative_to("csrc/cuda")}
    assert len(listed) >= 60
    assert len({mutant.name for mutant in listed}) == len(listed)
    program = (ROOT / "tests/native/cuda_operations.cpp").read_text()
    for mutant in listed:
        path, text = apply(mutant, device)
        assert text != device[path], mutant.name
        assert mutant.tests, mutant.name
        for group in mutant.tests:
            assert f'wanted("{group}")' in program, f"{mutant.name}: there is no group {group}"
