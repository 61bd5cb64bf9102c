"""Puts a taught model among the user's models, as `edgeannot models add` does: whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import model_name
from edgeannot.base.places import bundled_folder
from edgeannot.base.runtimes import Runtime
from edgeannot.choice.first_use_trial import remember_tried
from edgeannot.library import modelstore
from edgeannot.trial.cards import prove
from edgeannot.vision.cards import ModelCard

__all__ = ["check_name", "install_model", "sha256"]


def check_name(name: str, folder: Path, *, replace: bool) -> bool:
    """Return whether a model of this name is replaced; call it before the work. folder: of the user's models.

    Raises InputError where a model cannot get this name.
    """
    if model_name(name) != name:
        raise InputError(
            f"a model cannot be called {name!r}: wanted lower case letters, digits, dots and dashes, as in {model_name(name)!r}"
        )
    if (bundled_folder() / f"{name}.toml").is_file():
        raise InputError(f"{name} is the name of a bundled model; choose another --name")
    there = (folder / f"{name}.toml").exists()
    if there and not replace:
        raise InputError(f"there is a model called {name} in {folder} already; give another --name, or --replace it")
    return there


def sha256(model: bytes) -> str:
    """Return what a card states of its file."""
    return hashlib.sha256(model).hexdigest()


def install_model(
    card: ModelCard,
    model: bytes,
    data_dir: Path,
    *,
    comments: Sequence[str] = (),
    replace: bool = False,
    trial: bool = True,
    runtime: Runtime = "auto",
) -> ModelCard:
    """Add the model to those of the data directory, and return its card as read back.

    card: its `file` and `sha256` are those of `model`. trial: run it in a child process first; otherwise the daemon does so before it loads
    the file for the first time. Raises InputError, CardError or ModelError; then nothing has changed.
    """
    with tempfile.TemporaryDirectory(prefix="edgeannot-teach-") as folder:
        place = Path(folder)
        (place / card.file).write_bytes(model)
        ready = card.in_folder(place)
        if trial:
            prove(ready, runtime)
        added = modelstore.add_card(ready, ready.model_path, comments, data_dir / "models", replace=replace)
    if trial:
        remember_tried(added, data_dir, runtime)
    return added
