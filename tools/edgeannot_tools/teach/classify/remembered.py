"""The pictures that a model was taught from, remembered beside its card, so that it can be taught again with some more or fewer.

`NAME.taught.csv` in the models folder: a picture and its class in each row, as `read_class_set` and a person read it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import class_name, number_of, os_bytes, read_text
from edgeannot.vision.cards import ModelCard, read_card
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, ClassFolders, list_files
from edgeannot_tools.output import write_whole

__all__ = ["MADE_BY", "Remembered", "forget_unless_added", "read_remembered", "remember"]

MADE_BY = "edgeannot teach classify"
"""What a card says of its maker."""
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Remembered:
    """A taught model and its pictures."""

    card: ModelCard
    classes: dict[Path, str]
    """Picture, as an absolute path -> class."""

    @property
    def backbone(self) -> str:
        """Name of the model that was taught."""
        return self.card.provenance.source.partition(" ")[0]

    def added(self, name: str, pictures: Sequence[Path]) -> Remembered:
        """Return this set with pictures of a class, old or new. Raises InputError for one that is of another class."""
        name = _class_named(name)
        found = _pictures_in(pictures)
        for path in found:
            if self.classes.get(path, name) != name:
                raise InputError(f"{path} is in the class {self.classes[path]!r} already; --relabel {name} moves it")
        return Remembered(self.card, self.classes | dict.fromkeys(found, name))

    def relabelled(self, name: str, pictures: Sequence[Path]) -> Remembered:
        """Return this set with these pictures in another class. Raises InputError for a picture that it does not have."""
        name = _class_named(name)
        found = _pictures_in(pictures, there=False)
        if unknown := [path for path in found if path not in self.classes]:
            raise InputError(f"{unknown[0]} is not among the pictures of {self.card.name}; --add {name} takes new ones")
        return Remembered(self.card, self.classes | dict.fromkeys(found, name))

    def without(self, name: str) -> Remembered:
        """Return this set without a class. Raises InputError where there is none of that name."""
        if name not in self.classes.values():
            known = ", ".join(sorted(set(self.classes.values())))
            raise InputError(f"{self.card.name} has no class {name!r} to forget; it has: {known}")
        return Remembered(self.card, {path: other for path, other in self.classes.items() if other != name})

    def dropped(self, pictures: Sequence[Path]) -> Remembered:
        """Return this set without these pictures; without those that are gone where none are named. Raises InputError where it has none."""
        found = _pictures_in(pictures, there=False) if pictures else self._gone()
        if not found:
            raise InputError(f"all pictures of {self.card.name} are where they were; --drop takes those that are to be left out")
        if unknown := [path for path in found if path not in self.classes]:
            raise InputError(f"{unknown[0]} is not among the pictures of {self.card.name}")
        return Remembered(self.card, {path: name for path, name in self.classes.items() if path not in found})

    def _gone(self) -> list[Path]:
        return [path for path in self.classes if not path.is_file()]

    def examples(self) -> ClassFolders:
        """Return the pictures to learn from. Raises MissingError where some are gone."""
        if gone := self._gone():
            raise MissingError(
                f"{number_of(len(gone), 'picture')} that {self.card.name} was taught from cannot be found, first {gone[0]}; put them back, "
                "leave them out with --drop, or teach a folder anew with --replace"
            )
        names = tuple(sorted(set(self.classes.values())))
        return ClassFolders(names, tuple(sorted((path, names.index(name)) for path, name in self.classes.items())))


def read_remembered(name: str, folder: Path) -> Remembered:
    """Return the model and its pictures. folder: of the user's models. Raises MissingError where there is none, InputError."""
    path, card_file = _file(name, folder), folder / f"{name}.toml"
    card = read_card(card_file) if path.is_file() and card_file.is_file() else None
    if card is None or card.task != "classify":
        raise MissingError(
            f"no pictures of a model {name} are remembered in {folder}; teach it from a folder first: `{MADE_BY} DIR --name {name}`"
        )
    text = read_text(path, "the list of pictures", max_bytes=_MOST_BYTES)
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    if not rows or any(len(row) != 2 for row in rows):
        raise InputError(f"{path}: wanted a picture and its class in each row; teach the model anew from its folder with --replace")
    return Remembered(card, {Path(file): label for file, label in rows})


def remember(examples: ClassFolders, name: str, folder: Path) -> None:
    """Write the pictures and their classes beside the card. Raises InputError where the folder cannot be written."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "class"))
    writer.writerows((path.resolve(), examples.class_names[number]) for path, number in examples.pictures)
    write_whole(_file(name, folder), os_bytes(text.getvalue()))


def forget_unless_added(name: str, folder: Path) -> None:
    """Remove the list of pictures of a model that is not there, because it could not be added."""
    if not (folder / f"{name}.toml").exists():
        _file(name, folder).unlink(missing_ok=True)


def _file(name: str, folder: Path) -> Path:
    return folder / f"{name}.taught.csv"


def _class_named(name: str) -> str:
    if not (clean := class_name(name)):
        raise InputError(f"wanted the name of a class, found {name!r}")
    return clean


def _pictures_in(paths: Iterable[Path], *, there: bool = True) -> list[Path]:
    """Return pictures as absolute paths, of folders those in them. there: whether each has to exist."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += list_files(path.resolve(), PICTURE_SUFFIXES)
        elif there and not path.is_file():
            raise MissingError(f"there is no picture at {path}")
        else:
            found.append(path.resolve())
    if not found:
        raise InputError("wanted pictures of the class, or folders of them; found none")
    return found
