"""The numbers of the classes in a folder of YOLO label files: a name keeps its number for as long as the folder lives.

A label file holds numbers only, and `classes.txt` says what they mean, for every file of the folder. Another model may number its classes
in another way, now or at the next start; its names take the numbers they have in the folder, and new names get new ones.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["NO_CLASS", "ClassList"]

NO_CLASS = "-"
"""The line of a number that stands for no class."""


class ClassList:
    """Line N (from 0) is the name of class N."""

    def __init__(self, text: str = "") -> None:
        """text: of the folder's classes.txt; empty where there is none."""
        self._lines = text.splitlines()
        self.changed = False
        """Whether there are names that the text did not have."""

    def adopt(self, names: Mapping[int, str]) -> None:
        """Make the names of a model known. In a folder without classes they keep the model's numbers."""
        if not self._lines and names:
            self._lines = [_plain(names.get(number, NO_CLASS)) for number in range(max(names) + 1)]
            self.changed = True
        for number, name in names.items():
            self.number(number, name)

    def number(self, class_id: int, label: str) -> int:
        """The number in the folder of a model's class. A class without a name, whose label is its number, keeps that."""
        name = _plain(label)
        if name == str(class_id) or (class_id < len(self._lines) and self._lines[class_id] == name):
            return class_id
        if name in self._lines:
            return self._lines.index(name)
        self.changed = True
        free = class_id >= len(self._lines) or self._lines[class_id] == NO_CLASS
        place = class_id if free else len(self._lines)
        self._lines += [NO_CLASS] * (place + 1 - len(self._lines))
        self._lines[place] = name
        return place

    def text(self) -> bytes:
        """The contents of classes.txt."""
        return ("\n".join(self._lines) + "\n").encode("utf-8", "backslashreplace")


def _plain(name: str) -> str:
    """A name as one line holds it; bytes that are no UTF-8 as \\xNN, as they are read back."""
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split()) or NO_CLASS
