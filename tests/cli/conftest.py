"""Files that commands read: a table on a line, and a model of it."""

from __future__ import annotations

import pytest

from commands import LINE, good


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


@pytest.fixture
def line(write):
    return write("line.csv", LINE)


@pytest.fixture
def model(line, tmp_path):
    good("fit", line, "--target", "y", "--test-size", 0, "--save", tmp_path / "model.npz")
    return tmp_path / "model.npz"
