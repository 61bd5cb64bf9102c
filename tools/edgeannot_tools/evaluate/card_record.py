"""Recording measured figures in a model card, the rest of the file left as it is, comments and all."""

from __future__ import annotations

import math
from pathlib import Path

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from edgeannot.base.errors import CardError
from edgeannot.vision.cards import Measured, read_card
from edgeannot_tools.output import write_whole

__all__ = ["record_measured"]

_KEY = ("dataset", "size", "numbers")
"""Rows that agree in these are the same measurement, taken again."""


def record_measured(card: Path, row: Measured) -> None:
    """Write the row into the card's [[measured]] tables, in place of the one for the same set, size and numbers if there is one.

    Raises CardError when the card cannot be read or would not be a card any more; the file is then as it was.
    """
    try:
        before = card.read_bytes()
        document = tomlkit.parse(before.decode())
    except (OSError, UnicodeDecodeError, TOMLKitError) as exc:
        raise CardError(f"card {card} cannot be read: {exc}") from exc
    table = _table(row)
    rows = document.get("measured")
    if not isinstance(rows, AoT):
        if rows is not None:  # `measured = []`, or an inline list: written out as tables
            del document["measured"]
            old = [_table(Measured.model_validate(dict(item))) for item in rows]
        else:
            old = []
        rows = tomlkit.aot()
        for item in old:
            rows.append(item)
        document.append("measured", rows)
    same = next((number for number, old_row in enumerate(rows) if all(old_row.get(key) == table[key] for key in _KEY)), None)
    if same is None:
        rows.append(table)
    else:
        for key, value in table.items():
            rows[same][key] = value
    write_whole(card, tomlkit.dumps(document))
    try:
        read_card(card)
    except CardError:
        write_whole(card, before)
        raise


def _table(row: Measured) -> Table:
    table = tomlkit.table()
    for key, value in row.model_dump(exclude_none=True).items():
        if not (isinstance(value, float) and math.isnan(value)):
            table.append(key, round(value, 4) if isinstance(value, float) else value)
    return table
