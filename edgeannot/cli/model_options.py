"""The options by which a user says what a model file does not: the same for `models add`, `convert` and `quantize`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgeannot.base.errors import InputError
from edgeannot.card_inference import RANGES, Hints, parse_anchors, parse_range, read_cfg
from edgeannot.vision.geometry import Resize

__all__ = ["ModelOptions", "with_model_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The options as they were given; None: find out."""

    labels: Annotated[Path | None, typer.Option(metavar="FILE", help="Class names, one a line (or data.yaml, .pbtxt, .json).")] = None
    label_offset: Annotated[int | None, typer.Option(metavar="N", help="Line of class 0 in it, counted from 0.")] = None
    head: Annotated[str | None, typer.Option(metavar="KIND", help="How outputs are read, e.g. yolo-rows.")] = None
    task: Annotated[
        Literal["detect", "classify", "embed"] | None, typer.Option(metavar="detect|classify|embed", help="What the model is for.")
    ] = None
    input_range: Annotated[str | None, typer.Option(metavar="RANGE", help=f"{', '.join(RANGES)}, or MEAN/STD in bytes.")] = None
    color: Annotated[
        Literal["RGB", "BGR", "GRAY"] | None, typer.Option(metavar="RGB|BGR|GRAY", case_sensitive=False, help="Colour order.")
    ] = None
    resize: Annotated[Resize | None, typer.Option(metavar="stretch|letterbox|letterbox-top-left|crop", help="How pictures are fitted.")] = (
        None
    )
    anchors: Annotated[str | None, typer.Option(metavar="'W,H W,H ...'|NAME", help="Anchors of raw YOLO grids, or whose they are.")] = None
    cfg: Annotated[Path | None, typer.Option(metavar="FILE", help="Darknet cfg to take the anchors from.")] = None
    box_units: Annotated[
        Literal["normalized", "pixels"] | None, typer.Option(metavar="normalized|pixels", help="What box numbers count.")
    ] = None

    def hints(self, **more: Any) -> Hints:
        """Read what was given, with `more` fields of the hints. Raises BadParameter, or InputError or MissingError for the cfg."""
        try:
            input_range = None if self.input_range is None else parse_range(self.input_range, RANGES)
            anchors = None if self.anchors is None else parse_anchors(self.anchors)
        except InputError as exc:
            raise typer.BadParameter(str(exc)) from exc
        return Hints(
            head=self.head,
            task=self.task,
            labels=self.labels,
            label_offset=self.label_offset,
            input_range=input_range,
            color=self.color,
            resize=self.resize,
            anchors=anchors,
            cfg=() if self.cfg is None else read_cfg(self.cfg),
            box_units=self.box_units,
            **more,
        )

    def words(self) -> list[str]:
        """Give the options as they are typed, files without their folders; without --labels: a card has the names."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "labels"}
        flags = {f"--{name.replace('_', '-')}": value for name, value in given.items() if value is not None}
        return [word for flag, value in flags.items() for word in (flag, value.name if isinstance(value, Path) else str(value))]


def with_model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options behind its own; it receives them as one argument, `model_options`."""
    own, shared = (inspect.signature(asked, eval_str=True) for asked in (command, ModelOptions))

    @functools.wraps(command)
    def run(**given: Any) -> None:
        options = ModelOptions(**{name: given.pop(name) for name in shared.parameters})
        command(**given, model_options=options)

    parameters = [parameter for parameter in own.parameters.values() if parameter.name != "model_options"]
    run.__signature__ = own.replace(parameters=[*parameters, *shared.parameters.values()])  # type: ignore[attr-defined] # typer reads it
    return run
