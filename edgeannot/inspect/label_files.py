"""Reads lists of class names in the forms that people have: text, Ultralytics' data.yaml, TensorFlow's label map (.pbtxt), JSON."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Mapping
from pathlib import Path

from edgeannot.errors import InputError, MissingError

__all__ = ["read_labels"]

GAP = "???"
"""The name of an id that a list leaves out."""
MAX_ID = 1 << 16


def read_labels(path: Path) -> tuple[str, ...]:
    """The names by line. A line's own number (`0 person`, `0: person`) is taken as its id, gaps become "???".

    Raises MissingError, or InputError for a file that is no list of names.
    """
    try:
        content = path.read_bytes()
        # Windows' editors mark UTF-16 at the start, and write it without being asked.
        marked = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if marked else "utf-8-sig")
    except FileNotFoundError as exc:
        raise MissingError(f"--labels: there is no file {path}") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise InputError(f"--labels: {path} cannot be read as text ({exc}); save it as UTF-8") from exc
    if "\0" in text:
        raise InputError(f"--labels: {path} holds zero bytes, so it is no UTF-8 text; save it as UTF-8")
    readers = {".yaml": _from_yaml, ".yml": _from_yaml, ".pbtxt": _from_pbtxt, ".json": _from_json}
    names = readers.get(path.suffix.lower(), _from_text)(text)
    if not names:
        raise InputError(f"--labels: {path} holds no names; wanted one name a line")
    return names


def _from_text(text: str) -> tuple[str, ...]:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.match(r"(\d+)\s*(?:[:,;\t ]\s*|[.)]\s+)(\S.*)$", line) for line in lines if line]
    if not numbered or not all(numbered):
        return tuple(lines)
    pairs = [(int(match[1]), match[2].strip().strip("'\"")) for match in numbered if match]
    ids = [number for number, _ in pairs]
    if ids == list(range(1, len(ids) + 1)):
        return tuple(name for _, name in pairs)  # line numbers, counted from 1 without a gap
    return _by_id(dict(pairs)) if len(set(ids)) == len(ids) and min(ids) <= 1 and max(ids) < MAX_ID else tuple(lines)


def _from_yaml(text: str) -> tuple[str, ...]:
    """The `names:` of a data.yaml: a list or ids with names in brackets, a list of dashes, or ids with names."""
    inline = re.search(r"^names\s*:\s*([\[{])(.*?)[\]}]", text, re.MULTILINE | re.DOTALL)
    if inline:
        parts = [part.strip() for part in re.findall(r"""(?:'[^']*'|"[^"]*"|[^,'"])+""", inline[2]) if part.strip()]
        if inline[1] == "[":
            return tuple(part.strip("'\"") for part in parts)
        pairs = [re.match(r"['\"]?(\d+)['\"]?\s*:\s*(.*)$", part, re.DOTALL) for part in parts]
        return _by_id({int(pair[1]): pair[2].strip("'\"") for pair in pairs if pair})
    block = re.search(r"^names\s*:[ \t]*(?:#.*)?\n((?:[ \t]*(?:-|['\"]?\d+['\"]?\s*:).*\n?|[ \t]*#.*\n|[ \t]*\n)+)", text, re.MULTILINE)
    if not block:
        return ()
    rows = [re.sub(r"\s+#.*$", "", row).strip() for row in block[1].splitlines()]
    dashes = [row[1:].strip().strip("'\"") for row in rows if row.startswith("-")]
    ids = {int(match[1]): match[2].strip().strip("'\"") for row in rows if (match := re.match(r"['\"]?(\d+)['\"]?\s*:\s*(.*)$", row))}
    return tuple(dashes) or _by_id(ids)


def _from_pbtxt(text: str) -> tuple[str, ...]:
    """`item { id: 1 name: "person" }`, with ids from 1: line 0 stands for the background."""
    found: dict[int, str] = {}
    for body in re.findall(r"item\s*\{([^}]*)\}", text):
        number = re.search(r"\bid\s*:\s*(\d+)", body)
        name = re.search(r"\bdisplay_name\s*:\s*['\"]([^'\"]*)", body) or re.search(r"\bname\s*:\s*['\"]([^'\"]*)", body)
        if number and name:
            found[int(number[1])] = name[1]
    return _by_id(found)


def _from_json(text: str) -> tuple[str, ...]:
    """A list of names, or an object of ids and names, alone or under "names" or "id2label"; of a list (Keras' ImageNet) its last name."""
    try:
        value = json.loads(text)
    except ValueError:
        return ()
    value = value.get("names", value.get("id2label", value)) if isinstance(value, dict) else value
    if isinstance(value, list):
        return tuple(str(name) for name in value)
    return (
        _by_id({int(key): str(name[-1] if isinstance(name, list) and name else name) for key, name in value.items()})
        if isinstance(value, dict) and all(str(key).isdigit() for key in value)
        else ()
    )


def _by_id(names: Mapping[int, str]) -> tuple[str, ...]:
    return tuple(names.get(i, GAP) for i in range(max(names) + 1)) if names and max(names) < MAX_ID else ()
