"""The folder of the user's own models: adds a proposed card with its files, removes it again. A model exists when its card does.

Files are written whole or not at all, and synced; the card comes last when adding and goes first when
removing, so that at no instant a card stands there without its model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgeannot.base import atomicfile
from edgeannot.base.errors import CardError, InputError, MissingError
from edgeannot.card_inference import Proposal
from edgeannot.vision.cards import ModelCard, read_card

__all__ = ["add", "card_toml", "remove"]


def add(proposal: Proposal, folder: Path, *, replace: bool = False) -> ModelCard:
    """Copy the proposal's model and names into `folder`, write its card, and return the card as read back.

    Raises InputError when a model of that name is there already (unless `replace`) or the folder cannot be written, CardError when
    the source has changed since the proposal was made.
    """
    card = proposal.card
    path = folder / f"{card.name}.toml"
    if path.exists() and not replace:
        raise InputError(f"there is a model called {card.name} in {folder} already; give another --name, or --replace it")
    proposal.card.verify_file()
    names = card.label_names()
    model_name, label_name = f"{card.name}.tflite", f"{card.name}.labels.txt"
    labels = card.labels.model_copy(update={"file": label_name if names else None, "names": ()})
    stored = card.model_copy(update={"file": model_name, "labels": labels})
    evidence = [*proposal.evidence, *(f"by convention: {assumption}" for assumption in proposal.assumptions)]
    try:
        atomicfile.remove_leftovers(folder)
        _write(folder / model_name, proposal.source.read_bytes())
        if names:
            _write(folder / label_name, "".join(f"{name}\n" for name in names).encode())
        _write(path, card_toml(stored, evidence).encode())
    except OSError as exc:
        raise InputError(f"the model cannot be added to {folder}: {exc.strerror or exc}") from exc
    return read_card(path)


def remove(name: str, folder: Path) -> list[Path]:
    """Delete the card `name` of `folder` and the files that only it uses; the paths deleted. Raises MissingError, or InputError."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in folder.glob("*.toml"))) or "none"
        raise MissingError(f"no added model is called {name!r}; added are: {known} (in {folder})")
    files = _files_of(path)
    kept = {file for other in folder.glob("*.toml") if other != path for file in _files_of(other)}
    gone = [path]
    try:
        path.unlink()
        for target in (folder / file for file in files if file not in kept):
            # A card of somebody else's may name a file elsewhere; only what lies in this folder is ours to delete.
            if target.parent == folder and target.is_file():
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


def card_toml(card: ModelCard, comments: Iterable[str] = ()) -> str:
    """Return a card as TOML, without what is empty; `comments` go on top, one line each."""
    table = card.model_dump(mode="json", by_alias=True)
    lines = [f"# {' '.join(comment.split())}" for comment in comments]
    return "\n".join([*lines, *([""] if lines else []), *_table(table, ())]) + "\n"


def _table(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    """Return the lines of one table: plain values first, then its tables under their own headings."""
    values = {key: value for key, value in table.items() if not isinstance(value, dict) and not _empty(value)}
    tables = {key: value for key, value in table.items() if isinstance(value, dict) and not _empty(value)}
    # A list of tables is written inline, but for the measurements, which are rows of many columns.
    rows = {key: value for key, value in values.items() if key == "measured"}
    lines = [f"{key} = {_value(value)}" for key, value in values.items() if key not in rows]
    for key, value in tables.items():
        lines += ["", f"[{'.'.join((*path, key))}]", *_table(value, (*path, key))]
    for key, value in rows.items():
        for row in value:
            lines += ["", f"[[{'.'.join((*path, key))}]]", *_table(row, (*path, key))]
    return lines


def _empty(value: Any) -> bool:
    return value is None or value in ("", [], {}) or (isinstance(value, dict) and all(_empty(inner) for inner in value.values()))


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    inner = ", ".join(f"{key} = {_value(item)}" for key, item in value.items() if not _empty(item))
    return f"{{ {inner} }}"


def _string(text: str) -> str:
    """Return a TOML basic string, https://toml.io/en/v1.0.0#string: quote, backslash and control characters are escaped."""
    escaped = "".join(f"\\u{ord(c):04X}" if ord(c) < 0x20 or ord(c) == 0x7F else f"\\{c}" if c in '"\\' else c for c in text)
    return f'"{escaped}"'


def _write(path: Path, content: bytes) -> None:
    """Put the whole content at `path`, or leave what was there; for all to read, as the daemon may run as another user."""
    atomicfile.write(path, content, mode=0o644, durable=True)
