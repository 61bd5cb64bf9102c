"""`edgeannot annotate`: the command, and what it writes: a labelled set, JSON lines, a sheet to look through."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from edgeannot.base.errors import InputError, UsageError
from edgeannot.base.foreign import number_of
from edgeannot.choice.auto_profile import load_for_run
from edgeannot.choice.selection import select_model
from edgeannot.payload import Origin, detections_payload, encode
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import Detections, ModelFacts, UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot.vision.draw import draw
from edgeannot.vision.pipeline import Limits, Pipeline, load_pipeline
from edgeannot_tools.annotate.found import Found, Journal, annotate_pictures, find_pictures
from edgeannot_tools.datasets import Dataset, LabelledObject, Picture, PictureMode, WriteOptions, save_dataset
from edgeannot_tools.datasets.command import PicturesOption
from edgeannot_tools.datasets.pictures import place_pictures, require_unique
from edgeannot_tools.evaluate.command import find_model
from edgeannot_tools.evaluate.drawings import picture_tile, save_tiles, write_text
from edgeannot_tools.output import Command, open_console, print_note, require_png, require_writable, staged_folder

__all__ = ["annotate_app", "as_dataset", "save_review_sheet"]

annotate_app = typer.Typer(name="annotate", add_completion=False, rich_markup_mode=None)

_BELOW = 0.5
"""Of a score below this one the model is unsure."""
_MOST_TILES = 48
"""Pictures on a sheet, which viewers show at once."""
_SHOWN = 5
"""Pictures that could not be read, in the summary."""


class Format(StrEnum):
    """The forms of output: those of `datasets` that labelling tools open, and JSON lines."""

    YOLO = "yolo"
    VOC = "voc"
    COCO = "coco"
    JSONL = "jsonl"
    CSV = "csv"
    LABELSTUDIO = "labelstudio"
    CVAT = "cvat"


@annotate_app.command(cls=Command)
def annotate(
    places: Annotated[list[Path], typer.Argument(metavar="FILE_OR_FOLDER...", help="Pictures, and folders of pictures.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The output folder; it must be empty or new.")] = Path(
        "annotated"
    ),
    form: Annotated[
        Format, typer.Option("--format", metavar="yolo|voc|coco|jsonl|csv|labelstudio|cvat", help="The format of the labels.")
    ] = Format.YOLO,
    model: Annotated[
        str | None, typer.Option(metavar="NAME[@SIZE]", help="The detector; by default the one that this machine would run.")
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="0..1", help="Smallest score that is reported; by default what the model's card says, 0.3 as a rule."
        ),
    ] = None,
    labels: Annotated[str | None, typer.Option(metavar="A,B,...", help="Report only these labels.")] = None,
    only_uncertain: Annotated[
        bool,
        typer.Option(
            "--only-uncertain", help="Write only pictures that the model is unsure of: with an object of a small score, or with none."
        ),
    ] = False,
    below: Annotated[
        float | None,
        typer.Option(
            "--uncertain-below",
            min=0,
            max=1,
            metavar="0..1",
            help="The score below which --only-uncertain takes an object's picture; by default 0.5.",
        ),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help=f"Draw pictures with their boxes into this PNG, the {_MOST_TILES} least sure; those with nothing found come first.",
        ),
    ] = None,
    pictures: PicturesOption = PictureMode.COPY,
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads for one inference.")] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory; added models are in its models/.")
    ] = None,
) -> None:
    """Annotate pictures with a detector and write a labelled set that labelling tools open, to be checked and corrected there.

    After an interrupt the same command goes on where it stopped. Exit code 65 if a picture could not be read; the others are written.
    """
    console = open_console()
    if out.is_file() or (out.is_dir() and any(out.iterdir())):  # said before the work and not after it
        raise InputError(f"{out} is there already and is not an empty folder; remove it, or name another output folder with --out")
    require_writable(out / "labels")
    if sheet is not None:
        require_writable(sheet)
        require_png(sheet, "--sheet")
    if below is not None and not only_uncertain:
        raise UsageError("--uncertain-below is for --only-uncertain, which is not given")
    found_files = find_pictures(places)
    if form in (Format.YOLO, Format.VOC):  # a label file is called like its picture
        named = [Picture(name, (0, 0), path=path) for name, path in found_files.items()]
        require_unique(((f"{picture.stem}.txt", picture) for picture in named), "label file")
    wanted = tuple(name for label in (labels or "").split(",") if (name := label.strip()))
    pipeline = _load(model, threads, Limits(min_score=min_score, labels=wanted), data_dir)
    below = _BELOW if below is None else below
    if only_uncertain and below <= pipeline.min_score:
        raise UsageError(
            f"--uncertain-below: wanted more than the smallest score that is reported ({pipeline.min_score:g}), found {below:g}; "
            "raise it, or lower --min-score"
        )
    journal = _journal(out, pipeline, wanted)
    if journal.gives_up:
        print_note(console, "an interrupted run with another model or other options is given up, and all is done anew")
    if len(journal):
        print_note(console, f"going on after an interrupt: {number_of(len(journal), 'picture')} of {len(found_files)} done before")
    done = False
    try:
        results = annotate_pictures(found_files, pipeline, journal)
        good = [found for found in results if not found.problem]
        kept = [found for found in good if found.least_score < below] if only_uncertain else good
        _write(kept, pipeline, out, form, pictures, console)
        done = True
    finally:
        journal.close(done=done)
        if not done:
            print_note(console, f"not finished; the same command goes on, and {journal.path} keeps what is done")
    if sheet is not None and kept:
        console.print(f"wrote {sheet}: {save_review_sheet(kept, pipeline.card.name, sheet)}", soft_wrap=True)
    _summary(results, kept, out, f"({form}) by {pipeline.card.name}", console)
    if len(good) < len(results):
        raise typer.Exit(65)


def _load(model: str | None, threads: int | None, limits: Limits, data_dir: Path | None) -> Pipeline:
    """Return the pipeline of a detector. Raises InputError for another task."""
    given = {"data_dir": data_dir and str(data_dir), "threads": threads}
    loaded = load_for_run({key: value for key, value in given.items() if value}, None)
    card: ModelCard
    if model is not None:
        card, count = find_model(model, data_dir), threads or 1
    else:
        choice = select_model(loaded, "no")
        card, count = choice.card, choice.threads
    if card.task != "detect":
        raise InputError(f"model {card.name} is there to {card.task}; wanted a detector, whose boxes can be corrected")
    return load_pipeline(card, threads=count, runtime=loaded.settings.runtime, limits=limits)


def _journal(out: Path, pipeline: Pipeline, labels: tuple[str, ...]) -> Journal:
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{out} cannot be written ({exc.strerror}); choose another output folder with --out") from exc
    run = {
        "model": pipeline.card.sha256,
        "classes": list(pipeline.class_names().values()),
        "size": pipeline.card.input_wh,
        "min_score": pipeline.min_score,
        "labels": labels,
    }
    return Journal(out.absolute().parent / f".{out.name}.unfinished.jsonl", run)


def _write(results: list[Found], pipeline: Pipeline, out: Path, form: Format, pictures: PictureMode, console: Console) -> None:
    """Write the set; none where there is no picture to write."""
    if not results:
        return
    if form == Format.JSONL:
        save_json_lines(results, pipeline.facts, out, pictures)
        return
    dataset = as_dataset(results, list(pipeline.class_names().values()), pipeline.card.name)
    for sentence in save_dataset(dataset, out, form, WriteOptions(pictures)):
        print_note(console, sentence)


def _summary(results: list[Found], kept: list[Found], out: Path, how: str, console: Console) -> None:
    bad = [found for found in results if found.problem]
    for found in bad[:_SHOWN]:
        print_note(console, f"left out: {found.problem}")
    if len(bad) > _SHOWN:
        print_note(console, f"left out: {len(bad) - _SHOWN} more that could not be read")
    objects = number_of(sum(len(found.labels) for found in kept), "object")
    if kept:
        console.print(f"{number_of(len(kept), 'picture')} of {len(results)} with {objects} written to {out} {how}", soft_wrap=True)
    else:
        console.print(f"none of {number_of(len(results), 'picture')} is to be written; {out} was not made", soft_wrap=True)


_TILE_WH = (400, 300)
_CAPTION_PX = 22
_COLUMNS = 4


def as_dataset(results: Sequence[Found], class_names: Sequence[str], model: str) -> Dataset:
    """Return a set of the results. class_names: of every class that the model may report, in the order of its ids.

    Each object's `extra` has its `score`, and each picture's the `model`, as it is a proposal that nobody has checked.
    """
    names = tuple(dict.fromkeys([*class_names, *sorted({label for found in results for label in found.labels} - set(class_names))]))
    number = {name: class_id for class_id, name in enumerate(names)}
    return Dataset(names, tuple(_picture(found, number, model) for found in results))


def _picture(found: Found, number: dict[str, int], model: str) -> Picture:
    rows = zip(found.labels, found.detections.boxes.tolist(), found.detections.scores.tolist(), strict=True)
    things = tuple(LabelledObject(number[label], tuple(box), extra={"score": round(score, 4)}) for label, box, score in rows)
    return Picture(found.name, found.size_wh, things, found.path, extra={"model": model})


def save_json_lines(results: Sequence[Found], model: ModelFacts, folder: Path, pictures: PictureMode) -> None:
    """Write `annotations.jsonl`, the payload of MQTT's subscribers a line, and images/ into a new folder, all or nothing."""
    origin = Origin(socket.gethostname(), str(uuid.uuid4()))
    lines = [encode(detections_payload(found.annotation(model, number), origin)) for number, found in enumerate(results)]
    with staged_folder(folder) as stage:
        (stage / "images").mkdir()
        place_pictures(
            ((Picture(found.name, found.size_wh, path=found.path), stage / "images" / found.name) for found in results), pictures
        )
        (stage / "annotations.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def save_review_sheet(results: Sequence[Found], model: str, path: Path) -> str:
    """Write a PNG of the pictures with their boxes, first those with nothing, then the least sure; return what is on it."""
    shown = sorted(results, key=lambda found: (found.least_score, found.name))[:_MOST_TILES]
    of_all = f"the {len(shown)} least sure of {number_of(len(results), 'picture')}"
    what = of_all if len(shown) < len(results) else f"{number_of(len(results), 'picture')}, the least sure first"
    save_tiles([_tile(found) for found in shown], f"{model}: {what}", _COLUMNS, path)
    return what


def _tile(found: Found) -> UInt8Array:
    image = read_picture(found.path, min_side=max(_TILE_WH)).image
    tile, _, (left, top) = picture_tile(image, _TILE_WH, _CAPTION_PX)
    inner = tile[top : _TILE_WH[1] - top, left : _TILE_WH[0] - left]
    scale = inner.shape[1] / found.size_wh[0]
    boxes = (found.detections.boxes * np.float32(scale)).astype(np.float32)
    inner[:] = draw(inner, Detections(boxes, found.detections.scores, found.detections.classes), found.labels)
    least = f"{found.least_score:.2f}  " if found.labels else "nothing  "
    write_text(tile, least + found.name[-60:], (4, _TILE_WH[1] + 15), 0.42)
    return tile
