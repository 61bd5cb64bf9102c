"""Class name files: one name a line, the line's number (from 0) is the class id."""

from __future__ import annotations

from pathlib import Path

from edgeannot.base.errors import InputError, MissingError

__all__ = ["CLASS_FILES", "find_class_file", "read_class_file"]

CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels", "classes.names", "labels.txt", "names.txt")
"""File names that mean a class list, in the order in which they are believed; other *.names files come last."""


def read_class_file(path: Path) -> tuple[str, ...]:
    """The names, blank lines at the end left out. Raises InputError for a blank or repeated name, MissingError for no file."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as exc:
        raise MissingError(f"the class file {path} is not there") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"the class file {path} cannot be read as text ({exc})") from exc
    names = [line.strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{path}, line {number}: the line is blank, but each line is the name of a class; remove it or name the class")
        if name in names[: number - 1]:
            raise InputError(f"{path}, line {number}: class {name!r} is there twice; every class needs a name of its own")
    return tuple(names)


def find_class_file(folders: list[Path]) -> Path | None:
    """The class file in the first of the folders that has one.

    Raises InputError when a folder has several that differ and none of a usual name: which is meant is not for us to guess.
    """
    for folder in folders:
        usual = [folder / name for name in CLASS_FILES if (folder / name).is_file()]
        if usual:
            return usual[0]
        others = sorted(folder.glob("*.names"))
        if len({path.read_bytes() for path in others}) > 1:
            raise InputError(f"{folder} has several class files ({', '.join(path.name for path in others)}); say which with --classes")
        if others:
            return others[0]
    return None
