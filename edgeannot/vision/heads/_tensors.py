"""What a head asks of the output tensors at load, and the sentences that say what is wrong."""

from __future__ import annotations

from typing import ClassVar

from edgeannot.base.errors import CardError
from edgeannot.vision.data import TensorRef, TensorSpec
from edgeannot.vision.heads._boxes import BoxUnits

__all__ = ["CardTable", "OneOutput", "check_box_step", "check_score_step", "inner_shape", "output_spec", "shape_error"]

_COARSEST_BOX = 0.02
"""Share of the input: a quantized coordinate that moves in larger steps than this is of no use as a box."""
_COARSEST_SCORE = 0.1
"""A quantized score that moves in larger steps than this cannot be compared with a threshold."""


class CardTable:
    """A table of a card: another field, or a number without end, is an error."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "allow_inf_nan": False}


class OneOutput(CardTable):
    """A head that reads one output."""

    __slots__ = ()
    output: TensorRef

    @property
    def score_outputs(self) -> tuple[TensorRef, ...]:
        """The outputs that hold scores."""
        return (self.output,)


def output_spec(outputs: tuple[TensorSpec, ...], ref: TensorRef, role: str) -> TensorSpec:
    """Return the output that a card names. Raises CardError with the outputs there are."""
    for spec in outputs:
        if ref in (spec.index, spec.name):
            return spec
    found = ", ".join(f"{spec.index} {spec.name!r} {spec.shape}" for spec in outputs)
    raise CardError(f"head.{role}: wanted output {ref!r}, found only: {found}; name one of these by number or name")


def shape_error(
    spec: TensorSpec, role: str, wanted: str, advice: str = "correct [head], or take the model that the card was written for"
) -> CardError:
    """Return an error for a tensor of another shape than the head's fields claim."""
    return CardError(f"head.{role}: output {spec.name!r} has shape {spec.shape}, wanted {wanted}; {advice}")


def inner_shape(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Return a shape without its leading axes of length 1, down to `rank` axes."""
    while len(shape) > rank and shape[0] == 1:
        shape = shape[1:]
    return shape


def check_box_step(spec: TensorSpec, role: str, units: BoxUnits, input_wh: tuple[int, int]) -> None:
    """Raise CardError when quantization leaves so few steps that a coordinate is off by a visible part of the picture."""
    step = spec.scale / (max(input_wh) if units == "pixels" else 1.0)
    if spec.quantized and step > _COARSEST_BOX:
        raise _coarse(spec, role, f"{step:.1%} of the picture", f"boxes (at most {_COARSEST_BOX:.0%})")


def check_score_step(spec: TensorSpec, role: str) -> None:
    """Raise CardError when quantization leaves too few steps between score 0 and score 1. For scores that the graph has activated."""
    if spec.quantized and spec.scale > _COARSEST_SCORE:
        raise _coarse(spec, role, f"{spec.scale:.3g}", f"scores of 0..1 (at most {_COARSEST_SCORE})")


def _coarse(spec: TensorSpec, role: str, step: str, wanted: str) -> CardError:
    advice = "quantize the model with boxes and scores in outputs of their own, or with float outputs"
    return CardError(f"head.{role}: output {spec.name!r} moves in steps of {step}, too coarse for {wanted}; {advice}")
