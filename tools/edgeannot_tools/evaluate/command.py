"""`edgeannot evaluate`: measure and compare models on a labelled set."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import tomlkit
import typer
from rich.console import Console
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from edgeannot.base.errors import CardError, ConfigError, InputError, MissingError, install
from edgeannot.base.places import bundled_folder
from edgeannot.choice.auto_runtime import find_runtime
from edgeannot.settings import find_data_dir
from edgeannot.vision.cards import Measured, ModelCard, find_card, read_card
from edgeannot.vision.engine import Runtime
from edgeannot_tools.datasets import Dataset, load_dataset
from edgeannot_tools.datasets.command import ClassesOption, ImagesOption, KindOption, OriginOption, SplitOption, read_options
from edgeannot_tools.datasets.pictures import read_class_set
from edgeannot_tools.evaluate.classifier_accuracy import Ranking, rank_classifiers
from edgeannot_tools.evaluate.drawings import save_error_sheet, save_plot, save_wrong_answers
from edgeannot_tools.evaluate.measure import Result, common_classes, evaluate_model, match_model, read_mapping
from edgeannot_tools.evaluate.report import print_rankings, print_results, rankings_json, results_json
from edgeannot_tools.output import Command, open_console, require_png, require_writable, write_whole

__all__ = ["evaluate_app", "find_model", "record_measured"]

evaluate_app = typer.Typer(name="evaluate", add_completion=False, rich_markup_mode=None, help="Measure models on a labelled set.")


@evaluate_app.command(cls=Command)
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Names of models (NAME or NAME@SIZE), or their card files.", metavar="MODEL")],
    *,
    data: Annotated[
        Path,
        typer.Option(
            metavar="SET",
            help="The labelled set: YOLO, Darknet, Pascal VOC, COCO or OpenImages; for classifiers one folder per class or a CSV.",
        ),
    ],
    kind: KindOption = None,
    images: ImagesOption = None,
    classes: ClassesOption = None,
    voc_origin: OriginOption = 1,
    split: SplitOption = None,
    class_map: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help='TOML file with a table [classes] of `"model\'s name" = "set\'s name"`.')
    ] = None,
    common: Annotated[bool, typer.Option("--common", help="Count only classes that all models have, for a fair comparison.")] = False,
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Threads for one inference.")] = 1,
    runtime: Annotated[Runtime, typer.Option(metavar="auto|litert|tflite-runtime", help="TFLite runtime to use.")] = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures to this file.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Plot accuracy against time into this PNG.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the worst errors into this PNG; with several models one file each, with NAME added."),
    ] = None,
    coco: Annotated[bool | None, typer.Option(help="Also compute the COCO metrics; by default if faster-coco-eval is installed.")] = None,
    write_card: Annotated[bool, typer.Option("--write-card", help="Record the figures in each model's card.")] = False,
    set_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the set in the card; by default the name of its folder.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory; added models are in its models/.")
    ] = None,
) -> None:
    """Measure the daemon's pipeline on a labelled set: mAP50, mAP50-95, AP per class, mean IoU, best score, ms per picture.

    Classifiers are measured on a folder with one subfolder per class, or a CSV file of pictures and classes: top-1, top-5.
    """
    console = open_console()
    for path in filter(None, (json_file, plot, sheet)):
        require_writable(path)
    for option, picture in (("--plot", plot), ("--sheet", sheet)):
        if picture is not None:
            require_png(picture, option)
    cards = [find_model(name, data_dir) for name in models]
    runtime = find_runtime(data_dir, runtime)
    mapping = read_mapping(class_map) if class_map is not None else {}
    files = _Files(data, json_file, plot, sheet, console)
    if _are_classifiers(cards):
        for option, value in (("--format", kind), ("--images", images), ("--classes", classes), ("--coco", coco)):
            if value:
                raise InputError(
                    f"{option} is for labels with boxes; a classifier is measured on a folder with one subfolder per class, or a CSV"
                )
        _tools_for(coco=False, plot=plot, console=console)
        folders = read_class_set(data, split)
        rankings = rank_classifiers(cards, folders, mapping, common=common, threads=threads, runtime=runtime)
        found: Sequence[Result | Ranking] = rankings
        files.write(rankings, folders.class_names, print_rankings, rankings_json, save_wrong_answers)
    else:
        with_coco = _tools_for(coco=coco, plot=plot, console=console)
        dataset = _part(load_dataset(data, kind, read_options(images, classes, voc_origin)), split, data)
        matches = [match_model(card, dataset, mapping) for card in cards]
        matches = common_classes(matches, dataset.class_names) if common else matches
        pairs = zip(cards, matches, strict=True)
        results = [evaluate_model(card, dataset, match, threads=threads, runtime=runtime, coco=with_coco) for card, match in pairs]
        found = results
        files.write(results, dataset.class_names, print_results, results_json, save_error_sheet)
    if write_card:
        for card, one in zip(cards, found, strict=True):
            path = card_path(card)
            record_measured(path, one.measured(set_name or _set_name(data, split)))
            console.print(f"recorded in {path}", soft_wrap=True)


Found = TypeVar("Found", Result, Ranking)


@dataclass(frozen=True, slots=True)
class _Files:
    """What is asked for beside what is printed."""

    data: Path
    json_file: Path | None
    plot: Path | None
    sheet: Path | None
    console: Console

    def write(
        self,
        found: Sequence[Found],
        class_names: Sequence[str],
        show: Callable[[Sequence[Found], Sequence[str], Console], None],
        as_json: Callable[[Sequence[Found], str, Sequence[str]], str],
        save_sheet: Callable[[Found, Sequence[str], Path], int],
    ) -> None:
        """Print the figures, write the requested files and print their paths."""
        show(found, class_names, self.console)
        if self.json_file is not None:
            write_whole(self.json_file, as_json(found, str(self.data), class_names) + "\n")
        if self.plot is not None:
            save_plot(found, self.plot)
        sheets: list[Path] = []
        if self.sheet is not None:
            for one in found:
                several = f"-{one.model.replace('@', '-')}" if len(found) > 1 else ""
                sheets.append(self.sheet.with_stem(self.sheet.stem + several))
                save_sheet(one, class_names, sheets[-1])
        for path in filter(None, (self.json_file, self.plot, *sheets)):
            self.console.print(f"wrote {path}", soft_wrap=True, highlight=False)


def _are_classifiers(cards: Sequence[ModelCard]) -> bool:
    """Return whether all are classifiers. Raises InputError if only some are, or if one is neither classifier nor detector."""
    for card in cards:
        if card.task == "embed":
            raise InputError(
                f"model {card.name} gives an embedding, numbers that describe the whole picture, and neither boxes nor classes; "
                "there is nothing to compare with labels: give a detector or a classifier"
            )
    found = [card.name for card in cards if card.task == "classify"]
    if found and len(found) < len(cards):
        raise InputError(f"{', '.join(found)} cannot be compared with the others: classifiers and detectors are measured on different sets")
    return bool(found)


def _tools_for(*, coco: bool | None, plot: Path | None, console: Console) -> bool:
    """Return whether to compute the COCO metrics. Raises ConfigError before any work if a required package is missing."""
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot needs the Python package matplotlib: install `edgeannot[plots]`, or omit --plot")
    there = importlib.util.find_spec("faster_coco_eval") is not None
    if coco and not there:
        raise ConfigError(f"--coco needs the Python package faster-coco-eval: {install('tools')}, or omit --coco")
    if coco is None and not there:
        console.print("note: no COCO metrics, as the Python package faster-coco-eval is not installed", soft_wrap=True)
    return there if coco is None else coco


def find_model(name: str, data_dir: Path | None = None) -> ModelCard:
    """Return the card called NAME or NAME@SIZE among the user's models and the bundled ones, or the card at a path (PATH or PATH@SIZE).

    data_dir: the user's data directory, by default that of the settings. Raises MissingError, CardError or ConfigError.
    """
    path, _, size = name.partition("@") if name.partition("@")[2].isdigit() else (name, "", "")
    file = Path(path)
    if file.suffix in {".tflite", ".toml"}:
        card_file = file.with_suffix(".toml")
        if not card_file.is_file():
            no_card = f"{name} has no card {card_file.name} beside it: create one with `edgeannot models add {name}`"
            raise MissingError(f"no model card at {path}" if file == card_file else no_card)
        card = read_card(card_file)
        return card.at_size(int(size)) if size else card
    return find_card(name, [find_data_dir(data_dir) / "models", bundled_folder()])


def card_path(card: ModelCard) -> Path:
    """Return the file that a card was read from: of its name, or else the one in its folder that bears that name inside."""
    base = card.name.partition("@")[0]
    named = card.folder / f"{base}.toml"
    if named.is_file():
        return named
    return next((path for path in sorted(card.folder.glob("*.toml")) if read_card(path).name == base), named)


def _part(dataset: Dataset, split: str | None, data: Path) -> Dataset:
    if split is None:
        return dataset
    pictures = tuple(picture for picture in dataset.pictures if picture.split == split)
    if not pictures:
        raise InputError(
            f"{data} has no split {split!r}; it has: {', '.join(part or 'pictures without a split' for part in dataset.splits())}"
        )
    return Dataset(dataset.class_names, pictures, dataset.extra)


def _set_name(data: Path, split: str | None) -> str:
    folder = data.resolve() if data.is_dir() else data.resolve().parent
    return f"{folder.name} {split}" if split else folder.name


_KEY = ("dataset", "size", "numbers")
"""Rows that agree in these are the same measurement, taken again."""


def record_measured(card: Path, row: Measured) -> None:
    """Write the row into the card's [[measured]] tables, in place of the one for the same set, size and numbers if there is one.

    Raises CardError when the card cannot be read or would not be a card any more; the file is then as it was.
    """
    try:
        before = card.read_bytes()
        document = tomlkit.parse(before.decode())
    except (OSError, UnicodeDecodeError, TOMLKitError) as exc:
        raise CardError(f"card {card} cannot be read: {exc}") from exc
    table = _table(row)
    rows = document.get("measured", ())
    if not isinstance(rows, AoT):  # none, `measured = []`, or an inline list: written out as tables
        old = [_table(Measured.model_validate(dict(item))) for item in rows]
        document.pop("measured", None)
        rows = tomlkit.aot()
        rows.extend(old)
        document.append("measured", rows)
    same = next((number for number, old_row in enumerate(rows) if all(old_row.get(key) == table[key] for key in _KEY)), None)
    if same is None:
        rows.append(table)
    else:
        for key in [key for key in rows[same] if key.endswith("_margin") and key not in table]:
            del rows[same][key]  # that of another figure
        for key, value in table.items():
            rows[same][key] = value
    write_whole(card, tomlkit.dumps(document))
    try:
        read_card(card)
    except CardError:
        write_whole(card, before)
        raise


def _table(row: Measured) -> Table:
    table = tomlkit.table()
    for key, value in row.model_dump(exclude_none=True).items():
        if not (isinstance(value, float) and math.isnan(value)):
            table.append(key, round(value, 4) if isinstance(value, float) else value)
    return table
