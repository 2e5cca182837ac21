"""Dataclasses that write their fields at once are used as all others are."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any, get_type_hints

import pytest

from gdcore.frozen import at_once, changed

Numbers = list[int]


@dataclass(frozen=True)
class Usual:
    """What `dataclass` makes."""

    first: int
    second: Numbers | None = None

    def __post_init__(self) -> None:
        if self.first < 0:
            raise ValueError("below zero")


@at_once
@dataclass(frozen=True)
class Quick(Usual):
    """What it makes with the other `__init__`."""


@at_once
@dataclass(frozen=True, kw_only=True)
class Named(Usual):
    """Its fields are given by name, those of its base by position."""

    third: int = 3


def test_the_signature_is_that_of_the_dataclass() -> None:
    ours, theirs = Quick.__init__, Usual.__init__
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert get_type_hints(ours) == get_type_hints(theirs)
    named = "(first: 'int', second: 'Numbers | None' = None, *, third: 'int' = 3) -> None"
    assert str(inspect.signature(Named)) == named
    for given in ((), (1, 2, 3)):
        with pytest.raises(TypeError, match=r"^Quick\.__init__\(\) "):
            Quick(*given)


def test_instances_are_used_as_all_others() -> None:
    quick: Any = Quick(1, [2])
    assert vars(quick) == vars(Usual(1, [2]))
    assert hash(Quick(1)) == hash(Usual(1))
    others = Quick(first=1, second=[2]), pickle.loads(pickle.dumps(quick)), copy.deepcopy(quick)
    assert others == (quick, quick, quick)
    assert replace(quick, first=3) == changed(quick, first=3) == Quick(3, [2])
    assert (quick.first, Named(1, third=4).third) == (1, 4)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'first'"):
        quick.first = 2
    with pytest.raises(ValueError, match="below zero"):
        Quick(-1)
