"""The folder of the user's own models: adds a proposed card with its files, removes it again. A model exists when its card does.

Files are written whole or not at all, and synced; the card comes last when adding and goes first when
removing, so that at no instant a card stands there without its model. A model that replaces another has files of other names, for the
same reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeannot.base import atomicfile
from edgeannot.base.errors import CardError, InputError, ModelError
from edgeannot.base.runtimes import Runtime
from edgeannot.vision.cards import ModelCard, read_card

if TYPE_CHECKING:
    from edgeannot.card_inference import Proposal  # who has a card already need not load what proposes one
    from edgeannot.vision.data import Annotation
    from edgeannot.vision.pipeline import Pipeline

__all__ = ["add", "add_card", "card_toml", "how_to_run", "remove", "run_once"]


def add(proposal: Proposal, folder: Path, *, replace: bool = False) -> ModelCard:
    """Add the proposal's card, as `add_card` does; the reasons go on top of it."""
    comments = [*proposal.evidence, *(f"by convention: {assumption}" for assumption in proposal.assumptions)]
    return add_card(proposal.card, proposal.source, comments, folder, replace=replace)


def add_card(card: ModelCard, source: Path, comments: Iterable[str], folder: Path, *, replace: bool = False) -> ModelCard:
    """Copy the model at `source` and its names into `folder`, write its card, and return the card as read back.

    Raises InputError when a model of that name is there already (unless `replace`) or the folder cannot be written, CardError when
    the source has changed since the card was made.
    """
    path = folder / f"{card.name}.toml"
    if path.exists() and not replace:
        raise InputError(f"there is a model called {card.name} in {folder} already; give another --name, or --replace it")
    card.verify_file()
    names = card.label_names()
    old = _files_of(path) if path.exists() else ()
    stem = f"{card.name}.{_digest(card, names)}" if old else card.name
    model_name, label_name = f"{stem}.tflite", f"{stem}.labels.txt"
    labels = card.labels.model_copy(update={"file": label_name if names else None, "names": ()})
    stored = card.model_copy(update={"file": model_name, "labels": labels})
    try:
        atomicfile.remove_leftovers(folder)
        _write(folder / model_name, source.read_bytes())
        if names:
            _write(folder / label_name, "".join(f"{name}\n" for name in names).encode())
        _write(path, card_toml(stored, comments).encode())
        for target in _unused(old, folder):
            target.unlink()
    except OSError as exc:
        raise InputError(f"the model cannot be added to {folder}: {exc.strerror or exc}") from exc
    return read_card(path)


def run_once(card: ModelCard, runtime: Runtime) -> tuple[Pipeline, Annotation]:
    """Try the card's model in a process of its own, then run it the daemon's own way on a grey picture.

    Raises CardError or ModelError where it cannot be run, or does not run with its card.
    """
    import numpy as np  # noqa: PLC0415 - whoever only lists models waits for none of these

    from edgeannot.trial.cards import prove  # noqa: PLC0415 - as above
    from edgeannot.vision.data import Frame  # noqa: PLC0415 - as above
    from edgeannot.vision.pipeline import load_pipeline  # noqa: PLC0415 - as above

    prove(card, runtime)
    pipeline, (width, height) = load_pipeline(card, runtime=runtime), card.input_wh
    return pipeline, pipeline(Frame(np.full((height, width, 3), 114, np.uint8), "trial", 0, datetime.now(UTC), "grey"))


def remove(name: str, folder: Path) -> list[Path]:
    """Delete the card `name` of `folder` and the files that only it uses; the paths deleted. Raises ModelError, or InputError."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.toml"))) or "none"
        raise ModelError(f"no added model is called {name!r}; added are: {known} (in {folder})")
    files = _files_of(path)
    gone = [path]
    try:
        path.unlink()
        taught = folder / f"{name}.taught.csv"  # the pictures that it was taught from
        for target in [*_unused(files, folder), *([taught] if taught.is_file() else ())]:
            target.unlink()
            gone.append(target)
    except OSError as exc:
        raise InputError(f"the model {name} cannot be removed from {folder}: {exc.strerror or exc}") from exc
    return gone


def _files_of(path: Path) -> tuple[str, ...]:
    """Return the files that a card names; for a card that cannot be read, those that `add` would have written."""
    try:
        card = read_card(path)
    except CardError:
        return f"{path.stem}.tflite", f"{path.stem}.labels.txt"
    return tuple(file for file in (card.file, card.labels.file) if file)


def _unused(files: Iterable[str], folder: Path) -> list[Path]:
    """Return those of the files that no card of the folder names."""
    kept = {file for other in folder.glob("*.toml") for file in _files_of(other)}
    # A card of somebody else's may name a file elsewhere; only what lies in this folder is ours to delete.
    return [folder / file for file in files if file not in kept and (folder / file).parent == folder and (folder / file).is_file()]


def _digest(card: ModelCard, names: Iterable[str]) -> str:
    """Return a short word for what the files hold."""
    return hashlib.sha256("\n".join((card.sha256, *names)).encode()).hexdigest()[:8]


def card_toml(card: ModelCard, comments: Iterable[str] = ()) -> str:
    """Return a card as TOML, without what is empty; `comments` go on top, one line each."""
    import tomli_w  # noqa: PLC0415 - only a card that is written needs it

    lines = [f"# {' '.join(comment.split())}\n" for comment in comments]
    return "".join([*lines, *(["\n"] if lines else []), tomli_w.dumps(_without_empty(card.model_dump(mode="json", by_alias=True)))])


def _without_empty(value: Any) -> Any:
    """Return the value without the entries of its tables that say nothing: None, and empty texts, lists and tables."""
    if isinstance(value, dict):
        kept = {key: _without_empty(inner) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if inner is not None and inner not in ("", [], {})}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value


def _write(path: Path, content: bytes) -> None:
    """Put the whole content at `path`, or leave what was there; for all to read, as the daemon may run as another user."""
    atomicfile.write(path, content, mode=0o644, durable=True)


def how_to_run(card: ModelCard, data_dir: Path | None) -> str:
    """Return the end of a sentence with the command to run an added model; empty for one that `run` cannot use."""
    if card.task == "embed":
        return ""
    use = " --task classify" if card.task == "classify" else ""
    where = "" if data_dir is None else f" --data-dir {data_dir}"
    return f"; run it with `edgeannot run{use} --model {card.name}{where}`"
