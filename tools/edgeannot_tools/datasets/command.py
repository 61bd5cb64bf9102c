"""`edgeannot datasets`: convert, check, split, stats."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

import numpy as np
import typer

from edgeannot.base.foreign import json_text, number_of
from edgeannot_tools.datasets import PictureMode, Problem, ReadOptions, WriteOptions, find_format, load_dataset, read_labels, save_dataset
from edgeannot_tools.datasets.checks import check as check_reading
from edgeannot_tools.datasets.checks import split_dataset
from edgeannot_tools.datasets.form import Dataset, LabelledObject, Picture
from edgeannot_tools.output import Command, open_console, plain_table, print_note

__all__ = [
    "ClassStats",
    "ClassesOption",
    "DatasetStats",
    "ImagesOption",
    "KindOption",
    "OriginOption",
    "SplitOption",
    "count",
    "datasets_app",
    "read_options",
]

datasets_app = typer.Typer(
    name="datasets",
    add_completion=False,
    rich_markup_mode=None,
    help="Prepare labelled sets: convert formats, check for errors, split, count.",
    no_args_is_help=True,
)


Kind = Literal["yolo", "darknet", "voc", "coco", "openimages", "csv", "labelstudio", "cvat"]
"""The formats by the names that `FORMATS` gives them."""
KINDS = "|".join(get_args(Kind))
SetPath = Annotated[
    Path, typer.Argument(help="A folder or label file: YOLO, Darknet, Pascal VOC, COCO, OpenImages, CSV, Label Studio or CVAT.")
]
OutPath = Annotated[Path, typer.Argument(help="The output folder; it must be empty or new.")]
# How a labelled set is read: every command that reads one has these.
KindOption = Annotated[Kind | None, typer.Option("--format", metavar=KINDS, help="Format to read, if the folder contains several.")]
ImagesOption = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pictures, if they are not beside the labels.")]
ClassesOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="File with one class name per line, if there is none beside the labels.")
]
OriginOption = Annotated[
    int,
    typer.Option(
        min=0, max=1, metavar="0|1", help="Pascal VOC: 1 counts pixels from 1 with inclusive ends (the standard), 0 reads edges from 0."
    ),
]
SplitOption = Annotated[str | None, typer.Option(metavar="NAME", help="Use only this split of the set, e.g. val.")]

PicturesOption = Annotated[PictureMode, typer.Option(metavar="copy|hardlink|symlink|none", help="How to transfer the picture files.")]
WholeOption = Annotated[bool, typer.Option("--whole-pixels", help="Pascal VOC: round boxes to whole pixels, for trainers that require it.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_SHOWN = 5
"""Examples of each kind of problem in the table."""


@datasets_app.command(cls=Command)
def convert(
    source: SetPath,
    out: OutPath,
    *,
    to: Annotated[Kind, typer.Option(metavar=KINDS, help="The format to write.")],
    kind: KindOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    voc_origin: OriginOption = 1,
    pictures: PicturesOption = PictureMode.COPY,
    whole_pixels: WholeOption = False,
) -> None:
    """Convert a labelled set to another format and report the information that is lost."""
    dataset = load_dataset(source, kind, read_options(images, classes, voc_origin))
    lost = save_dataset(dataset, out, to, WriteOptions(pictures, whole_pixels))
    console = open_console()
    for sentence in lost:
        print_note(console, sentence)
    counts = f"{number_of(len(dataset.pictures), 'picture')} with {number_of(dataset.object_count(), 'object')}"
    names = number_of(len(dataset.class_names), "class", "classes")
    console.print(f"{counts} of {names} written to {out} ({to})", soft_wrap=True)


@datasets_app.command(cls=Command)
def check(
    source: SetPath,
    *,
    kind: KindOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    voc_origin: OriginOption = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Read only the headers of the pictures, do not decode them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find errors that break training. Exit code 65 if there are errors, 0 if there are at most warnings."""
    reading = read_labels(source, kind, read_options(images, classes, voc_origin))
    problems = check_reading(reading, decode=not quick)
    if as_json:
        typer.echo(json_text([dataclasses.asdict(problem) for problem in problems], indent=1))
    else:
        _print_problems(problems, len(reading.dataset.pictures), reading.dataset.object_count())
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(65)


@datasets_app.command(cls=Command)
def split(
    source: SetPath,
    out: OutPath,
    *,
    train: Annotated[float, typer.Option(min=0, max=1, metavar="0..1", help="Share of the pictures for training.")] = 0.8,
    val: Annotated[float, typer.Option(min=0, max=1, metavar="0..1", help="Share of the pictures for validation.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=1, metavar="0..1", help="Share of the pictures for testing.")] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed; the same seed gives the same split.")] = 0,
    to: Annotated[Kind | None, typer.Option(metavar=KINDS, help="The format to write; by default that of the source.")] = None,
    kind: KindOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    voc_origin: OriginOption = 1,
    pictures: PicturesOption = PictureMode.COPY,
) -> None:
    """Split a set, stratified by class; copies of a picture stay in one part, and the same seed gives the same split."""
    read_as = kind or find_format(source)
    dataset = split_dataset(
        load_dataset(source, read_as, read_options(images, classes, voc_origin)), {"train": train, "val": val, "test": test}, seed
    )
    for sentence in save_dataset(dataset, out, to or read_as, WriteOptions(pictures)):
        print_note(open_console(), sentence)
    _print_stats(count(dataset))


@datasets_app.command(cls=Command)
def stats(
    source: SetPath,
    *,
    kind: KindOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    voc_origin: OriginOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Count pictures and objects by class, split and size."""
    counted = count(load_dataset(source, kind, read_options(images, classes, voc_origin)))
    if as_json:
        typer.echo(json_text(dataclasses.asdict(counted), indent=1))
    else:
        _print_stats(counted)


def read_options(images: Path | None, classes: Path | None, voc_origin: int) -> ReadOptions:
    """Return what the options say of how to read a set."""
    return ReadOptions(images, classes, 0 if voc_origin == 0 else 1)


def _print_problems(problems: list[Problem], pictures: int, objects: int) -> None:
    console = open_console()
    if problems:
        table = plain_table()
        for column in ("kind", "", "count", "where and what to do"):
            table.add_column(column, overflow="fold", justify="right" if column == "count" else "left")
        for (kind, severity), n in Counter((problem.kind, problem.severity) for problem in problems).items():
            some = [problem for problem in problems if (problem.kind, problem.severity) == (kind, severity)][:_SHOWN]
            more = [f"... {n - len(some)} more"] if n > len(some) else []
            table.add_row(kind, severity, str(n), "\n".join([*(f"{problem.where}: {problem.message}" for problem in some), *more]))
        console.print(table)
    errors = sum(problem.severity == "error" for problem in problems)
    found = f"{number_of(errors, 'error')}, {number_of(len(problems) - errors, 'warning')}"
    console.print(f"{number_of(pictures, 'picture')}, {number_of(objects, 'object')}: {found}")


def _print_stats(counted: DatasetStats) -> None:
    console = open_console()
    splits = list(counted.by_split)
    columns = ["objects", "pictures", *(f"in {split}" for split in splits if split), "median w", "median h"]
    table = plain_table(words=["class"], numbers=columns)
    for row in counted.classes:
        cells = [str(row.by_split.get(split, 0)) for split in splits if split]
        table.add_row(row.name, str(row.objects), str(row.pictures), *cells, f"{row.median_width:.1%}", f"{row.median_height:.1%}")
    console.print(table)
    parts = ", ".join(f"{n} {split or 'in no split'}" for split, n in counted.by_split.items()) if splits != [""] else ""
    console.print(
        f"{number_of(counted.pictures, 'picture')}{f' ({parts})' if parts else ''}, {counted.without_objects} of them without objects"
    )
    console.print(
        f"{number_of(counted.objects, 'object')}: {counted.small} small (< 32x32 px), {counted.medium} medium, "
        f"{counted.large} large (>= 96x96 px); {counted.difficult} difficult, {counted.crowd} crowds",
        highlight=False,
    )
    console.print("picture sizes: " + ", ".join(f"{size} ({n})" for size, n in counted.picture_sizes.items()))


_SMALL, _LARGE = 32.0**2, 96.0**2
"""Areas in pixels between which COCO calls an object of medium size, https://cocodataset.org/#detection-eval"""


@dataclass(frozen=True, slots=True)
class ClassStats:
    """One class: how often, and how large (median side of its boxes relative to the picture's)."""

    name: str
    objects: int
    pictures: int
    by_split: dict[str, int]
    """Objects by split."""
    median_width: float
    median_height: float


@dataclass(frozen=True, slots=True)
class DatasetStats:
    """The whole set."""

    pictures: int
    by_split: dict[str, int]
    """Pictures by split; the key of pictures in no split is empty."""
    without_objects: int
    objects: int
    small: int
    """Objects below 32 x 32 pixels, COCO's measure."""
    medium: int
    large: int
    """Objects of 96 x 96 pixels and more."""
    difficult: int
    crowd: int
    picture_sizes: dict[str, int]
    """The most frequent sizes, "640x480" -> pictures."""
    classes: tuple[ClassStats, ...]


def count(dataset: Dataset) -> DatasetStats:
    """Count the set."""
    things = [thing for picture in dataset.pictures for thing in picture.objects]
    areas = np.array([max(0.0, thing.size_wh[0]) * max(0.0, thing.size_wh[1]) for thing in things])
    sizes = Counter(f"{picture.size_wh[0]}x{picture.size_wh[1]}" for picture in dataset.pictures)
    return DatasetStats(
        pictures=len(dataset.pictures),
        by_split=dict(Counter(picture.split for picture in dataset.pictures)),
        without_objects=sum(not picture.objects for picture in dataset.pictures),
        objects=len(things),
        small=int((areas < _SMALL).sum()),
        medium=int(((areas >= _SMALL) & (areas < _LARGE)).sum()),
        large=int((areas >= _LARGE).sum()),
        difficult=sum(thing.difficult for thing in things),
        crowd=sum(thing.crowd for thing in things),
        picture_sizes=dict(sizes.most_common(10)),
        classes=_class_stats(dataset),
    )


def _class_stats(dataset: Dataset) -> tuple[ClassStats, ...]:
    hits: list[list[tuple[Picture, LabelledObject]]] = [[] for _ in dataset.class_names]
    for picture in dataset.pictures:
        for thing in picture.objects:
            hits[thing.class_id].append((picture, thing))
    return tuple(_one_class(name, of_class) for name, of_class in zip(dataset.class_names, hits, strict=True))


def _one_class(name: str, hits: list[tuple[Picture, LabelledObject]]) -> ClassStats:
    widths = [thing.size_wh[0] / picture.size_wh[0] for picture, thing in hits]
    heights = [thing.size_wh[1] / picture.size_wh[1] for picture, thing in hits]
    return ClassStats(
        name=name,
        objects=len(hits),
        pictures=len({id(picture) for picture, _ in hits}),
        by_split=dict(Counter(picture.split for picture, _ in hits)),
        median_width=round(float(np.median(widths)), 4) if widths else 0.0,
        median_height=round(float(np.median(heights)), 4) if heights else 0.0,
    )
