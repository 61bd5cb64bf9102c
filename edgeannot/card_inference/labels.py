"""Reads lists of class names in the forms that people have: text, Ultralytics' data.yaml, TensorFlow's label map (.pbtxt), JSON.

Each line is looked at once: a file of one long line, or of brackets that never close, takes no longer than another of its size.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

from edgeannot.base.errors import CardError, InputError, MissingError
from edgeannot.base.foreign import as_int, class_name, decode, number_of, parse_json, printable, read_bytes
from edgeannot.card_inference.hints import Hints
from edgeannot.card_inference.interpretation import Interpretation, is_background

__all__ = ["fit_names", "names_by_class", "read_labels"]

GAP = "???"
"""The name of an id that a list leaves out."""
MAX_ID = 1 << 16
MAX_BYTES = 4 << 20
"""The names of ImageNet-21k, with all their synonyms, are 1 MB."""


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the names by line. A line's own number (`0 person`, `0: person`) is taken as its id, gaps become "???".

    Raises MissingError, or InputError for a file that is no list of names.
    """
    try:
        content = read_bytes(path, "--labels:", max_bytes=MAX_BYTES)
    except MissingError as exc:
        raise MissingError(f"--labels: there is no file {path}") from exc
    shown = f"--labels: {printable(path)}"
    # Windows' editors mark UTF-16 at the start, and write it without being asked.
    marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16") if marked else decode(content, shown)
    except UnicodeDecodeError as exc:
        raise InputError(f"{shown} begins as UTF-16 text and goes on as something else; save it as UTF-8") from exc
    if "\0" in text:
        raise InputError(f"{shown} holds zero bytes, so it is no UTF-8 text; save it as UTF-8")
    readers = {".yaml": _from_yaml, ".yml": _from_yaml, ".pbtxt": _from_pbtxt, ".json": _from_json}
    names = tuple(map(class_name, readers.get(path.suffix.lower(), _from_text)(text)))
    if not set(names) - {GAP}:
        raise InputError(f"{shown} holds no names; wanted one name a line")
    if len(names) > MAX_ID:
        raise InputError(f"{shown} holds {len(names)} lines; wanted one name a line, at most {MAX_ID}")
    return names


def _from_text(text: str) -> tuple[str, ...]:
    lines = [line.strip() for line in text.rstrip().splitlines()]
    numbered = [re.match(r"([0-9]+)(?:[ \t]*[:,; \t]|[.)][ \t])(.*)$", line) for line in lines if line]
    pairs = [(as_int(match[1]), _bare(match[2])) for match in numbered if match]
    ids = [number for number, name in pairs if number is not None and name]
    if not numbered or len(ids) != len(numbered):
        return tuple(lines)
    if ids == list(range(1, len(ids) + 1)):
        return tuple(name for _, name in pairs)  # line numbers, counted from 1 without a gap
    return _by_id(pairs) if len(set(ids)) == len(ids) and min(ids) <= 1 and max(ids) < MAX_ID else tuple(lines)


def _from_yaml(text: str) -> tuple[str, ...]:
    """Return the `names:` of a data.yaml: a list or ids with names in brackets, a list of dashes, or ids with names."""
    lines = list(dropwhile(lambda line: not re.match(r"names[ \t]*:", line), text.split("\n")))
    if not lines:
        return ()
    first = lines[0].partition(":")[2].strip()
    # The bracket may stand in a line of its own.
    start = first or next(filter(None, map(str.strip, lines[1:])), "")
    if start[:1] in {"[", "{"}:
        inside = "\n".join([first, *lines[1:]]).lstrip()[1:]
        inside = re.split(r"[\]}]", inside, maxsplit=1)[0]
        parts = [part.strip() for part in re.findall(r"""(?:'[^']*'|"[^"]*"|[^,'"])+""", inside) if part.strip()]
        return tuple(map(_bare, parts)) if start[0] == "[" else _by_id(map(_key_and_name, parts))
    if _uncommented(first):
        return ()
    rows = [_uncommented(line) for line in lines[1:]]
    block = [row for row in takewhile(lambda row: not row or row[0] == "-" or _key_and_name(row)[0] is not None, rows) if row]
    dashes = [_bare(row[1:]) for row in block if row[0] == "-"]
    return tuple(dashes) or _by_id(map(_key_and_name, block))


def _uncommented(line: str) -> str:
    return re.split(r"(?:^|[ \t])#", line, maxsplit=1)[0].strip()


def _key_and_name(row: str) -> tuple[int | None, str]:
    """Return split `0: person` or `'0': "person"`."""
    key, _, name = row.partition(":")
    return as_int(_bare(key)), _bare(name)


def _bare(text: str) -> str:
    return class_name(text.strip()).strip("'\"")


def _from_pbtxt(text: str) -> tuple[str, ...]:
    """Read `item { id: 1 name: "person" }`, with ids from 1: line 0 stands for the background."""
    found: list[tuple[int | None, str]] = []
    for part in re.split(r"\bitem\s*\{", text)[1:]:
        body, end, _ = part.partition("}")
        number = re.search(r"\bid\s*:\s*([0-9]+)", body)
        name = re.search(r"\bdisplay_name\s*:\s*['\"]([^'\"]*)", body) or re.search(r"\bname\s*:\s*['\"]([^'\"]*)", body)
        if end and number and name:
            found.append((as_int(number[1]), name[1]))
    return _by_id(found)


def _from_json(text: str) -> tuple[str, ...]:
    """Read a list of names, or an object of ids and names, alone or under "names" or "id2label"; of a list (Keras) its last name."""
    value = parse_json(text, "", error=None)
    value = value.get("names", value.get("id2label", value)) if isinstance(value, dict) else value
    if isinstance(value, list):
        return tuple(map(_said, value))
    return _by_id((as_int(key), _said(name)) for key, name in value.items()) if isinstance(value, dict) else ()


def _said(name: Any) -> str:
    """Return what JSON has for a name. Nested, or without end, it is none."""
    name = name[-1] if isinstance(name, list) and name else name
    return name if isinstance(name, str) else str(name) if isinstance(name, int | float) and as_int(name) is not None else GAP


def _by_id(pairs: Iterable[tuple[int | None, str]]) -> tuple[str, ...]:
    """Return the names by their ids; () where one of these is none."""
    names: Mapping[int | None, str] = dict(pairs)
    ids = [number for number in names if number is not None and 0 <= number < MAX_ID]
    return tuple(names.get(i, GAP) for i in range(max(ids) + 1)) if ids and len(ids) == len(names) else ()


NOTHING = "background"
"""The name of a class that stands for no object; cards ignore it."""


def names_by_class(names: tuple[str, ...], offset: int, interpretation: Interpretation) -> tuple[tuple[str, ...], int]:
    """Return the names and offset as the card holds them: a background that the list lacks gets its line, so that it is never reported."""
    if offset < 0:
        return (NOTHING,) * -offset + names, 0
    if one := name_of_one_class(names, interpretation):
        return ((one,) if interpretation.background is None else (NOTHING, one)), 0
    if interpretation.background == 0 and not names and interpretation.classes:
        return (NOTHING, *(str(i) for i in range(1, interpretation.classes))), 0
    counted = interpretation.background == 0 or (interpretation.task == "classify" and bool(names) and is_background(names[0]))
    if counted and names and offset == 0:
        return (NOTHING, *names[1:]), 0
    return names, offset


def name_of_one_class(names: tuple[str, ...], interpretation: Interpretation) -> str:
    """Return what the one class of a detector is called that has no name; "" where there are names, or other classes."""
    classes = (interpretation.classes or 0) - int(interpretation.background is not None)
    return "" if names or classes != 1 or interpretation.task != "detect" else interpretation.thing or "object"


def fit_names(  # noqa: PLR0911 - one answer a form of the list
    names: tuple[str, ...], where: str, interpretation: Interpretation, hints: Hints
) -> tuple[int, str]:
    """Return the offset (line = class id + offset) and why. Raises CardError, with both counts, when the names do not fit the classes."""
    lines, classes = len(names), interpretation.classes
    if one := name_of_one_class(names, interpretation):
        return 0, f"there is one class and no name for it, so it is called {one} (--labels FILE)"
    if not names:
        return 0, "there are no class names, so numbers will be shown (--labels FILE)"
    if hints.label_offset is not None:
        if classes is not None and classes + hints.label_offset > lines:
            raise CardError(f"--label-offset {hints.label_offset}: the model has {classes} classes, {where} has {lines} lines")
        return hints.label_offset, f"{where} has {lines} lines; line = class {hints.label_offset:+d}, as given"
    if classes is None:
        return (
            (1, f"{where} starts with {names[0]!r}, so class 0 is its second line")
            if is_background(names[0])
            else (0, f"{where} has {lines} lines")
        )
    both = f"{where} has {number_of(lines, 'line')} for {number_of(classes, 'class', 'classes')}"
    counts_nothing = interpretation.task == "classify" or interpretation.background is not None or not is_background(names[0])
    if lines == classes and counts_nothing:
        return 0, f"{both}: line = class"
    if lines == classes + 1 and interpretation.background is None and is_background(names[0]):
        return 1, f"{both}, its first line is {names[0]!r}: line = class + 1"
    if lines == classes - 1 and (interpretation.background == 0 or classes == 1001):
        return -1, f"{both}, the first of which is the background: line = class - 1"
    raise CardError(_what_does_not_fit(names, where, classes, interpretation))


def _what_does_not_fit(names: tuple[str, ...], where: str, classes: int, interpretation: Interpretation) -> str:
    """Return a sentence: both counts, how the lines were understood, and what would lead on."""
    lines = len(names)
    column = " (column 0 is the background)" if interpretation.background == 0 else ""
    says = (
        f"the model has {number_of(classes, 'class', 'classes')}{column}, {where} has {number_of(lines, 'line')}, the first is {names[0]!r}"
    )
    other = "give the label file that belongs to this model (--labels)"
    if (classes, lines) in {(90, 80), (91, 80)}:
        return f"{says}; COCO's own ids run to 90 with gaps, so its 90-line list is wanted; {other}"
    if lines == classes:
        return (
            f"{says}, which was taken for a line that stands for no object: that leaves {number_of(lines - 1, 'name')}; {other}, or, if "
            f"{names[0]!r} is the name of class 0, say so with --label-offset 0 --set labels.ignore=[]"
        )
    if lines < classes:
        return f"{says}: {classes - lines} too few; {other}"
    return f"{says}: {lines - classes} too many; {other}, or say which line, counted from 0, is class 0 (--label-offset)"
