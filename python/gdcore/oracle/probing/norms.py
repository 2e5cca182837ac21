"""Probes of layer normalisation and RMS normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from gdcore.oracle.probing.formula import FormulaKind
from gdcore.oracle.probing.probe import Shape
from gdcore.oracle.references.norms import layer_norm, rms_norm
from gdcore.oracle.references.reference import Reference


class LayerNormKind(FormulaKind):
    """``fn(x, weight, bias)``, or ``fn(x, weight, bias, grad_out)``: all three gradients."""

    name = "layer_norm"
    function: ClassVar[Callable[..., Reference]] = layer_norm
    differentiable: ClassVar[tuple[str, ...]] = ("x", "weight", "bias")
    extra: ClassVar[tuple[str, ...]] = ("weight", "bias")
    usual: ClassVar[tuple[str, ...]] = ("weight", "bias")
    options = ("eps",)

    def operand_shapes(self, shape: Shape) -> dict[str, Shape]:
        """Return the shape of each operand."""
        shapes = {"x": shape} | {
            name: shape[-1:] for name in self.extra if name in self.extra_given
        }
        return shapes | ({"grad_out": shape} if self.settings.grad_out else {})


class RmsNormKind(LayerNormKind):
    """``fn(x, weight)``, or ``fn(x, weight, grad_out)``, which returns both gradients."""

    name = "rms_norm"
    function = rms_norm
    differentiable = ("x", "weight")
    extra = ("weight",)
    usual = ("weight",)
