"""`edgeannot models pull` and `models catalogue`: download models, and list those of the catalogue."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import number_of, printable
from edgeannot.base.streams import columns, own_escapes
from edgeannot.choice.auto_runtime import find_runtime
from edgeannot.choice.first_use_trial import remember_tried
from edgeannot.library.catalogue import CATALOGUE, Entry, find_entry, read_catalogue
from edgeannot.library.fetch import Progress
from edgeannot.library.modelstore import how_to_run
from edgeannot.library.obtain import PullOptions
from edgeannot.library.pull import Pulled, installed, pull
from edgeannot.settings import find_data_dir

__all__ = ["catalogue_command", "pull_command"]

BAR = 24
DataDir = Annotated[Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory; added models are in its models/.")]
CatalogueFile = Annotated[
    Path, typer.Option("--catalogue", metavar="FILE.toml", help="Another catalogue file of the same format.", show_default="its own")
]


def catalogue_command(data_dir: DataDir = None, catalogue: CatalogueFile = CATALOGUE) -> None:
    """List the models that `pull` can download: size, licence, task, family, input, accuracy."""
    models = find_data_dir(data_dir) / "models"
    rows: list[tuple[str, ...]] = [("NAME", "SIZE", "LICENCE", "TASK", "FAMILY", "INPUT", "HERE", "ACCURACY")]
    rows += [_row(entry, models) for entry in read_catalogue(catalogue).values()]
    typer.echo("\n".join(columns(rows)))


def pull_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Models of the catalogue.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the catalogue, as `models catalogue` does.")] = False,
    files: Annotated[
        list[Path] | None, typer.Option("--file", metavar="PATH", help="Use a local copy of the file, or of the archive that holds it.")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help="Download from this address: of the file, or of a folder (ending in /) with the files."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an added model of the same name.")] = False,
    accept_licence: Annotated[bool, typer.Option("--accept-licence", help="Accept the licence, if the model requires that.")] = False,
    sha256: Annotated[
        str | None, typer.Option("--sha256", metavar="HASH", help="SHA-256 of the model's file, if the catalogue has none.")
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="If no hash is published: trust this download over https and record its hash.")
    ] = False,
    images: Annotated[
        str | None,
        typer.Option(
            "--images", metavar="FOLDER|GLOB", help="Calibration pictures where a model is made int8; by default a few bundled photos."
        ),
    ] = None,
    data_dir: DataDir = None,
    catalogue: CatalogueFile = CATALOGUE,
) -> None:
    """Download public models of the catalogue, check them, and add them with their cards.

    Interrupted downloads are resumed. A proxy is taken from the environment (https_proxy). A file is accepted only with the SHA-256 of
    the catalogue. Files of other frameworks are converted and quantized by the tools, if the int8 model loses little, and the model is
    run once before it is added.
    """
    if list_them:
        catalogue_command(data_dir, catalogue)
        return
    if not names:
        raise typer.BadParameter("wanted a model's name; `edgeannot models catalogue` lists them", param_hint="NAME")
    if len(names) > 1 and (files or sha256 or (mirror and not mirror.endswith("/"))):
        raise typer.BadParameter("--file, --sha256, and --from with the address of a file, are for one model only", param_hint="NAME")
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise typer.BadParameter(f"wanted 64 hexadecimal digits, found {sha256!r}", param_hint="--sha256")
    entries = read_catalogue(catalogue)
    chosen = [find_entry(name, entries) for name in names]
    folder = find_data_dir(data_dir)
    options = PullOptions(
        models=folder / "models",
        downloads=folder / "downloads",
        files=tuple(files or ()),
        mirror=mirror,
        offline=offline,
        force=force,
        accepted=accept_licence,
        sha256=None if sha256 is None else sha256.lower(),
        pin=pin,
        runtime=find_runtime(data_dir),
        progress=_bar if sys.stderr.isatty() else None,
        images=images,
        say=lambda sentence: typer.echo(f"  {sentence}"),
    )
    failed: list[EdgeannotError] = []
    for entry in chosen:
        try:
            _announce(entry)
            pulled = pull(entry, options)
            if pulled.fresh:
                remember_tried(pulled.card, folder, options.runtime)
            _report(entry, pulled, data_dir)
        except EdgeannotError as exc:
            if sys.stderr.isatty():
                own_escapes(sys.stderr).write("\r\x1b[K")  # the bar
            if len(chosen) == 1:
                raise
            failed.append(exc)
            typer.echo(f"  FAILED: {exc}")
    if failed:
        failed[0].args = (f"{len(failed)} of {number_of(len(chosen), 'model')} not added; the first: {failed[0]}",)
        raise failed[0]


def _row(entry: Entry, models: Path) -> tuple[str, ...]:
    here = "yes" if installed(entry, models) is not None else "-"
    return (entry.name, _size(entry.bytes), entry.license, entry.task, entry.family, str(entry.input), here, entry.accuracy or "-")


def _announce(entry: Entry) -> None:
    typer.echo(f"{entry.name}: {entry.description}")
    typer.echo(f"  licence: {entry.license} ({entry.license_from}{f'; {entry.note}' if entry.note else ''})")


def _report(entry: Entry, pulled: Pulled, data_dir: Path | None) -> None:
    card = pulled.card
    if not pulled.fresh:
        typer.echo(f"  already installed: {card.model_path}")
        return
    for listed, file in zip(entry.files, pulled.files, strict=True):
        typer.echo(f"  {file.name} from {pulled.places[file.name]}")
        typer.echo(f"    sha256 {file.sha256}: {file.known_from}")
        if listed.sha256 is None:
            say = f"--sha256 {file.sha256}" if listed is entry.main else f'sha256 = "{file.sha256}" for it in your own catalogue'
            typer.echo(f"    to get the same file on other boards: {say}")
    for line in pulled.said:
        typer.echo(f"  - {line}")
    typer.echo(f"  added to {card.folder}{how_to_run(card, data_dir)}")


def _size(count: int | None) -> str:
    if count is None:
        return "?"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.0f} kB"


def _bar(name: str) -> Progress:
    """Draw a progress bar, at most ten times a second; it is cleared when the file is complete."""
    drawn = [0.0]

    def show(have: int, whole: int | None) -> None:
        done = whole is not None and have >= whole
        if time.monotonic() - drawn[0] < 0.1 and not done:
            return
        drawn[0] = time.monotonic()
        share = "" if not whole else f"[{'#' * (BAR * have // whole):<{BAR}}] {100 * have // whole:3} % "
        line = "" if done else f"  {printable(name)} {share}{have / 1e6:.1f} MB"
        own_escapes(sys.stderr).write(f"\r\x1b[K{line}")
        sys.stderr.flush()

    return show
