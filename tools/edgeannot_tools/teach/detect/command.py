"""`edgeannot teach detect`: the command."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from edgeannot.base.errors import InputError
from edgeannot.base.places import bundled_folder
from edgeannot.choice.auto_runtime import find_runtime
from edgeannot.settings import find_data_dir
from edgeannot.vision.cards import ModelCard, find_card
from edgeannot_tools.datasets.command import ClassesOption, ImagesOption, KindOption, OriginOption, SplitOption, read_options
from edgeannot_tools.evaluate.command import find_model
from edgeannot_tools.output import open_console, print_note, require_png, require_writable, write_whole
from edgeannot_tools.teach.detect.backbone import Backbone, kept_labels, load_backbone
from edgeannot_tools.teach.detect.choice import candidates, has_small_objects, teach_best
from edgeannot_tools.teach.detect.made_background import MADE
from edgeannot_tools.teach.detect.pictures import TeachingSet, read_teaching_set
from edgeannot_tools.teach.detect.report import print_taught, print_trials, report_json, save_sheet
from edgeannot_tools.teach.detect.teaching import Taught, make_model, teach
from edgeannot_tools.teach.install import check_name, install_model

__all__ = ["detect", "find_backbone"]

WITHIN_S, WITHIN_SMALL_S = 30, 120
LARGEST_SIZE = 1024


def detect(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Labelled pictures: YOLO, Darknet, Pascal VOC, COCO or OpenImages.")],
    *,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the taught model.")],
    background: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of pictures without the objects; they prevent false alarms.")
    ] = None,
    made: Annotated[
        int,
        typer.Option(
            min=0, max=1000, metavar="N", help="Pictures of nothing to see that are made, less those of --background, against false alarms."
        ),
    ] = MADE,
    kind: KindOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    voc_origin: OriginOption = 1,
    split: SplitOption = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[@SIZE]", help="The int8 detector whose layers are used; by default the best of a few that the time allows."
        ),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Report the backbone's own classes, too.")] = False,
    within: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="SECONDS", help=f"Time for trying several backbones; by default {WITHIN_S}, for small objects {WITHIN_SMALL_S}."
        ),
    ] = None,
    views: Annotated[
        int | None, typer.Option(min=1, max=200, metavar="N", help="Changed views of each picture; by default 24, fewer for large sets.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed; with one backbone the same seed gives the same model.")] = 0,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Pictures that are worked on at a time.")] = 2,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the pictures, with what was found in each, into this PNG.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this file.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an added model of the same name.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory; added models are in its models/.")
    ] = None,
) -> None:
    """Teach a detector with a few labelled pictures, in seconds: an int8 model with its card, added to your models.

    The layers of a bundled detector stay as they are; new last layers are fitted to your objects. Every figure printed is of
    pictures that the judging layers had not seen.
    """
    console = open_console()
    started = time.perf_counter()
    folder = find_data_dir(data_dir) / "models"
    check_name(name, folder, replace=replace)
    for path in filter(None, (sheet, json_file)):
        require_writable(path)
    if sheet is not None:
        require_png(sheet, "--sheet")
    base = find_backbone(backbone, data_dir, keep=keep) if backbone is not None else None
    options = read_options(images, classes, voc_origin)
    to_teach = read_teaching_set(dataset, kind, options, split=split, background=background, made=made)
    for note in to_teach.notes:
        print_note(console, note)
    if base is not None:
        refuse_known(base, to_teach.labels)
    runtime, scratch = find_runtime(data_dir), folder.parent if folder.parent.is_dir() else None

    def taught_on(chosen: Backbone) -> Taught:
        return teach(to_teach, chosen, views=views, seed=seed, threads=threads, runtime=runtime, scratch=scratch)

    if base is not None:
        taught = taught_on(base)
    else:
        time_s = within if within is not None else WITHIN_SMALL_S if has_small_objects(to_teach) else WITHIN_S
        cards = [(find_card(candidate, [bundled_folder()]), size) for candidate, size in candidates(to_teach, keep=keep)]

        def load(card: ModelCard, size: int) -> Backbone:
            loaded = load_backbone(card, size, keep=keep)
            refuse_known(loaded, to_teach.labels)
            return loaded

        taught, trials = teach_best(cards, load, taught_on, time_s)
        print_trials(trials, time_s, len(cards), console)
    shown = dataset.resolve().name
    data, card = make_model(taught, to_teach, name, f"edgeannot teach detect {shown} --name {name}", shown)
    print_taught(taught, to_teach, console)
    _write_reports(taught, to_teach, sheet, json_file, console)
    stored = install_model(card, data, folder.parent, replace=replace, runtime=runtime)
    where = "" if data_dir is None else f" --data-dir {data_dir}"
    console.print(
        f"added {stored.name} to {stored.folder} in {time.perf_counter() - started:.0f} s; "
        f"run it with `edgeannot run --model {stored.name}{where}`",
        soft_wrap=True,
    )


def find_backbone(name: str, data_dir: Path | None, *, keep: bool = False) -> Backbone:
    """Return the detector called NAME or NAME@SIZE; the size may be one that its card does not list."""
    base, at, size = name.partition("@")
    if at and not (size.isdecimal() and 0 < int(size) <= LARGEST_SIZE):
        raise InputError(f"--backbone {name}: wanted NAME@SIZE with a size in pixels, found {size!r}")
    card = find_model(base, data_dir)
    if card.task != "detect":
        raise InputError(f"--backbone {name}: wanted a detector, found a model that is there to {card.task}")
    return load_backbone(card, int(size) if at else None, keep=keep)


def refuse_known(backbone: Backbone, labels: Sequence[str]) -> None:
    """Raise InputError where a class to teach has the name of one that is kept: nobody could tell which of the two was seen."""
    known = {label.casefold() for label in kept_labels(backbone)}
    both = [label for label in labels if label.casefold() in known]
    if both:
        raise InputError(
            f"--keep: {backbone.card.name} has a class called {both[0]!r} already; give yours another name in the set, or leave --keep away"
        )


def _write_reports(taught: Taught, to_teach: TeachingSet, sheet: Path | None, json_file: Path | None, console: Console) -> None:
    if sheet is not None:
        save_sheet(taught, to_teach, sheet)
    if json_file is not None:
        write_whole(json_file, report_json(taught, to_teach) + "\n")
    for path in filter(None, (sheet, json_file)):
        console.print(f"wrote {path}", soft_wrap=True)
