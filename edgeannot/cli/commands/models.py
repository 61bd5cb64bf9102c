"""`edgeannot models`: list, show, verify, add and remove models. The work is done by `card_inference` and `modelstore`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeannot.base import atomicfile
from edgeannot.base.errors import CardError, EdgeannotError, InputError, MissingError, ModelError, UsageError
from edgeannot.base.foreign import number_of
from edgeannot.base.places import SAMPLES, bundled_folder
from edgeannot.base.runtimes import Runtime
from edgeannot.base.streams import columns
from edgeannot.card_inference import Hints, Proposal, propose
from edgeannot.choice.auto_runtime import find_runtime
from edgeannot.choice.candidates import facts_of
from edgeannot.choice.first_use_trial import remember_tried
from edgeannot.cli.commands.catalogue import catalogue_command, pull_command
from edgeannot.cli.model_options import ModelOptions, with_model_options
from edgeannot.library import modelstore
from edgeannot.settings import find_data_dir
from edgeannot.vision.cards import ModelCard, find_card, read_card, read_cards
from edgeannot.vision.data import Annotation, Frame, UInt8Array

__all__ = ["models_app"]

models_app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="List, show, verify, pull, add and remove models."
)
models_app.command("pull")(pull_command)
models_app.command("catalogue")(catalogue_command)

DataDir = Annotated[Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory; added models are in its models/.")]
Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Names of models; by default all.")]


def _user_folder(data_dir: Path | None) -> Path:
    return find_data_dir(data_dir) / "models"


def _folders(data_dir: Path | None) -> list[Path]:
    return [_user_folder(data_dir), bundled_folder()]


@models_app.command("list")
def list_models(data_dir: DataDir = None) -> None:
    """List the installed models: name, task, family, input, classes, origin, and the best accuracy of the card."""
    own = _user_folder(data_dir)
    rows = [("NAME", "TASK", "FAMILY", "INPUT", "LABELS", "FROM", "ACCURACY")]
    wrong: list[CardError] = []
    for card in read_cards(_folders(data_dir), wrong.append):
        sizes = f" ({', '.join(map(str, card.input.sizes))})" if card.input.sizes else ""
        origin = "added" if card.folder == own else "bundled"
        rows.append(
            (
                card.name,
                card.task,
                card.family,
                f"{card.input.width}x{card.input.height}{sizes}",
                _label_count(card, wrong),
                origin,
                _best_accuracy(card),
            )
        )
    typer.echo("\n".join(columns(rows)))
    for error in wrong:
        typer.echo(f"WRONG: {error}")


def _best_accuracy(card: ModelCard) -> str:
    """Return the best accuracy of all sizes, on the first data set of the card and of one dtype."""
    rows = facts_of(card).accuracies
    first = next((row for row in rows if row.dtype == "int8"), None) or next(iter(rows), None)
    if first is None:
        return "-"
    same = [row for row in rows if (row.dataset, row.measure, row.dtype) == (first.dataset, first.measure, first.dtype)]
    best = max(same, key=lambda row: row.value)
    return f"{best.text()} {best.measure} at {best.size} ({best.dataset}, {best.dtype})"


def _label_count(card: ModelCard, wrong: list[CardError]) -> str:
    try:
        return str(len(card.label_names()) or "-")
    except CardError as exc:
        wrong.append(exc)
        return "?"


@models_app.command("show")
def show(name: Annotated[str, typer.Argument(metavar="NAME[@SIZE]|CARD.toml", help="The model.")], data_dir: DataDir = None) -> None:
    """Print a model's card."""
    card = find_card(name, _folders(data_dir))
    typer.echo(f"# {card.model_path}\n")
    typer.echo(modelstore.card_toml(card), nl=False)
    if names := card.label_names():
        typer.echo(f"\n# labels: {', '.join(names)}")


@models_app.command("verify")
def verify(names: Names = None, data_dir: DataDir = None) -> None:
    """Check models against their cards: checksum, tensors, labels, and repeated runs in a child process that must give equal outputs."""
    folders = _folders(data_dir)
    failed: list[EdgeannotError] = []
    cards = [find_card(name, folders) for name in names] if names else list(read_cards(folders, failed.append))
    count = len(cards) + len(failed)
    for error in failed:
        typer.echo(f"WRONG: {error}")
    for card in cards:
        try:
            typer.echo(f"{card.name}: {_verified(card, find_runtime(data_dir))}")
        except EdgeannotError as exc:
            failed.append(exc)
            typer.echo(f"{card.name}: WRONG: {exc}")
    if failed:
        raise ModelError(f"{len(failed)} of {number_of(count, 'model')} do not match their cards")


def _verified(card: ModelCard, runtime: Runtime) -> str:
    pipeline, found = modelstore.run_once(card, runtime)
    classes = card.head.check(pipeline.engine.outputs, card.input_wh)
    names = sum(name not in card.labels.ignore for name in card.label_names())
    known = number_of(classes, "class", "classes") if classes is not None else "classes not stated by the tensors"
    return f"ok (file, tensors, {number_of(names, 'label')}, {known}; ran in {found.timing_ms['inference']:.1f} ms)"


@models_app.command("add")
@with_model_options
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE.tflite", help="The model, or its card (.toml).")],
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the model; by default the file's name.")] = None,
    min_score: Annotated[float | None, typer.Option(metavar="0..1", min=0, max=1, help="Smallest score that is reported.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any field of the card, e.g. head.center=0.")
    ] = None,
    try_photo: Annotated[
        Path | None, typer.Option("--try", metavar="PHOTO", help="Run it on a photo and write the annotated photo into the current folder.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the findings and the card; add nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before adding.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an added model of the same name.")] = False,
    data_dir: DataDir = None,
    model_options: ModelOptions,
) -> None:
    """Analyse a .tflite, print the findings, and add the model with a card. A card beside the file is used if no options are given."""
    _refuse_catalogue_name(file)
    hints = model_options.hints(name=name, min_score=min_score, extra=dict(_setting(text) for text in settings or ()))
    runtime = find_runtime(data_dir)
    proposal = _from_its_card(file, hints, runtime) or propose(file, hints, runtime=runtime, photos=_photos(try_photo))
    _refuse_bundled_name(proposal.card.name)
    _print(proposal)
    if try_photo is not None:
        _try(proposal.card, try_photo, runtime)
    if dry_run:
        typer.echo("\n" + modelstore.card_toml(proposal.card), nl=False)
        return
    # Ask only at a terminal: the assumptions are printed, and in the card.
    if proposal.assumptions and not yes and sys.stdin.isatty() and not typer.confirm("Add it with these assumptions?", default=True):
        raise typer.Abort
    card = modelstore.add(proposal, _user_folder(data_dir), replace=replace)
    remember_tried(card, card.folder.parent, runtime)
    typer.echo(f"added {card.name} to {card.folder}{modelstore.how_to_run(card, data_dir)}")


@models_app.command("remove")
def remove(name: Annotated[str, typer.Argument(metavar="NAME", help="The added model.")], data_dir: DataDir = None) -> None:
    """Remove an added model."""
    if (bundled_folder() / f"{name}.toml").is_file() and not (_user_folder(data_dir) / f"{name}.toml").is_file():
        raise InputError(f"{name} is bundled with edgeannot; only added models can be removed")
    for path in modelstore.remove(name, _user_folder(data_dir)):
        typer.echo(f"removed {path}")


def _from_its_card(file: Path, hints: Hints, runtime: Runtime) -> Proposal | None:
    """Return the model with the card that `convert` or `quantize` wrote beside it, verified by a run; None if there is none for this file.

    Raises CardError for a card that was named and is wrong, ModelError where it does not run, InputError for options beside a card.
    """
    named = file.suffix == ".toml"
    if hints != Hints(name=hints.name):
        if named:
            raise InputError(f"{file.name} is a card, which states all facts; give the .tflite to analyse it again with these options")
        return None
    path = file.with_suffix(".toml")
    if not (named or path.is_file()):
        return None
    try:
        card = read_card(path)
        card.verify_file()
    except CardError:
        if named:
            raise
        return None
    if not named and not card.model_path.samefile(file):
        return None
    modelstore.run_once(card, runtime)
    if hints.name:
        card = card.model_copy(update={"name": hints.name})
    return Proposal(card, card.model_path, (f"from its card {path.name}",), ())


def _photos(asked: Path | None) -> list[UInt8Array]:
    """Return photos for the sample run: the user's and two bundled ones."""
    from edgeannot.vision.decode import read_picture

    samples = sorted(SAMPLES.glob("*.jpg"))[:2]
    return [read_picture(path, min_side=640).image for path in ([asked] if asked else []) + samples]


def _setting(text: str) -> tuple[str, Any]:
    """Return `head.center=0` as key and TOML value; a value that is not TOML is text."""
    import tomllib

    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set: wanted KEY=VALUE like head.center=0; found {text!r}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _refuse_catalogue_name(file: Path) -> None:
    """Raise MissingError for what is no file but the name of a model that can be fetched."""
    if file.exists():
        return
    from edgeannot.library.catalogue import read_catalogue

    if str(file) in read_catalogue():
        raise MissingError(f"there is no file {file}; the model {file} of the catalogue is fetched with `edgeannot models pull {file}`")


def _refuse_bundled_name(name: str) -> None:
    if (bundled_folder() / f"{name}.toml").is_file():
        raise InputError(f"{name} is the name of a bundled model; choose another --name")


def _print(proposal: Proposal) -> None:
    card = proposal.card
    names = len(card.label_names()) if proposal.named else 0
    size = f"{card.input.width}x{card.input.height} {card.input.color}"
    typer.echo(f"{proposal.source.name}: {card.task}, {card.head.kind}, {size}, {number_of(names, 'label') if names else 'no labels'}")
    typer.echo("found:")
    for line in proposal.evidence:
        typer.echo(f"  - {line}")
    if proposal.assumptions:
        typer.echo("assumed (not stated in the file):")
        for line in proposal.assumptions:
            typer.echo(f"  - {line}")


def _try(card: ModelCard, photo: Path, runtime: Runtime) -> None:
    """Annotate a photo, print the detections, and write the annotated photo into the current folder: the photo's may be watched."""
    from edgeannot.vision.decode import read_picture
    from edgeannot.vision.pipeline import load_pipeline

    frame = Frame(read_picture(photo).image, "try", 0, datetime.now(UTC), photo.name, photo)
    result = load_pipeline(card, runtime=runtime)(frame)
    drawn = Path(f"{photo.stem}.{card.name}.jpg")
    _write_drawing(drawn, result)
    found = ", ".join(f"{label} {score:.2f}" for label, score in zip(result.labels[:12], result.detections.scores, strict=False))
    typer.echo(f"detections on {photo.name}: {found or 'none'}; annotated photo: {drawn}")


def _write_drawing(path: Path, annotation: Annotation) -> None:
    from edgeannot.vision.draw import annotated_jpeg

    try:
        atomicfile.write(path, annotated_jpeg(annotation))
    except OSError as exc:
        raise InputError(f"--try: the annotated photo cannot be written to {path}: {exc.strerror}") from exc
