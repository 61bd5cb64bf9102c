"""A model card as TOML text, in the order of its fields and with short tables on one line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgeannot.base.foreign import valid_text

__all__ = ["card_text"]


def card_text(card: Mapping[str, Any]) -> str:
    """Return the card's TOML: plain values first, then a section a table, then one a row of a list of tables.

    >>> print(card_text({"name": "tiny", "input": {"width": 8}}), end="")
    name = "tiny"
    <BLANKLINE>
    [input]
    width = 8
    """
    lines = [f"{key} = {_value(value)}" for key, value in card.items() if not _is_section(value)]
    for key, value in card.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", *_entries(value)]
        elif _is_section(value):
            for row in value:
                lines += ["", f"[[{key}]]", *_entries(row)]
    return "\n".join(lines) + "\n"


def _is_section(value: Any) -> bool:
    rows = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    return isinstance(value, Mapping) or (rows and all(isinstance(row, Mapping) for row in value))


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    """Return one value; strings are escaped as JSON does it, which TOML's basic strings understand."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(valid_text(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, Sequence):
        parts = [_value(item) for item in value]
        if any(isinstance(item, Mapping) for item in value):
            return "[\n" + "".join(f"    {part},\n" for part in parts) + "]"
        return "[" + ", ".join(parts) + "]"
    return repr(value)
