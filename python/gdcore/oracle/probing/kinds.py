"""The kinds of functions that `gdcore.oracle.assert_grad` knows, by name."""

from __future__ import annotations

from gdcore.oracle.probing.attention import AttentionKind
from gdcore.oracle.probing.gelu import GeluKind
from gdcore.oracle.probing.kind import Kind, Settings
from gdcore.oracle.probing.linear import LinearKind
from gdcore.oracle.probing.matmul import MatmulKind
from gdcore.oracle.probing.norms import LayerNormKind, RmsNormKind
from gdcore.oracle.probing.reductions import MeanKind, SumKind, VarKind
from gdcore.oracle.probing.softmax import (
    CrossEntropyKind,
    LogSoftmaxKind,
    LogsumexpKind,
    SoftmaxKind,
)
from gdcore.oracle.probing.squares import LinearMseKind, MseKind

_ALL: tuple[type[Kind], ...] = (
    *(LinearMseKind, MseKind, MatmulKind, LinearKind),
    *(SumKind, MeanKind, VarKind),
    *(SoftmaxKind, LogSoftmaxKind, LogsumexpKind, CrossEntropyKind),
    *(LayerNormKind, RmsNormKind, GeluKind, AttentionKind),
)
KINDS = {kind.name: kind for kind in _ALL}


def kind_of(name: str, settings: Settings) -> Kind:
    """Return the kind of a name, set up; ValueError if there is none of that name."""
    if name not in KINDS:
        raise ValueError(f"kind is {name!r}; choose one of {', '.join(map(repr, KINDS))}.")
    return KINDS[name](settings)
