"""Small files of the program's own in the data directory: JSON, written whole or not at all, set aside when damaged."""

from __future__ import annotations

import contextlib
import json
import logging
import zlib
from pathlib import Path
from typing import Any

from edgeannot.base import atomicfile
from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import parse_json, read_bytes

__all__ = ["read_json", "write_json"]

_MAX_BYTES = 64 << 20

log = logging.getLogger(__name__)


def read_json(path: Path, schema: int, *, sealed: bool = False) -> dict[str, Any]:
    """Return the object in the file if its "schema" is the one wanted; {} where there is no file, or none that can be read.

    A damaged file is renamed to NAME.damaged and logged once, so that the next write does not hide what happened. sealed: {} also where
    the content is not what `write_json` sealed, so that the reader need not check each field.
    """
    try:
        data = read_bytes(path, "the file", max_bytes=_MAX_BYTES)
        value = parse_json(data, "")
    except MissingError:
        return {}
    except InputError as exc:
        if isinstance(exc.__cause__, ValueError | RecursionError):
            _set_aside(path, f"is damaged ({exc.__cause__})")
        else:
            log.warning("%s; it is made anew", exc)
        return {}
    if not isinstance(value, dict):
        _set_aside(path, "holds no JSON object")
        return {}
    if sealed and value.pop("seal", None) != _seal(value):
        return {}
    return value if value.get("schema") == schema else {}  # of another version of this program: written over


def write_json(path: Path, value: dict[str, Any], *, sealed: bool = False) -> None:
    """Put the object at `path`, making its folder. sealed: see `read_json`.

    What cannot be written costs only time at the next start, so it is a log line.
    """
    if sealed:
        value = {**value, "seal": _seal(value)}
    text = json.dumps(value, separators=(",", ":"))  # in ASCII: names of files need not be UTF-8
    try:
        atomicfile.write(path, text.encode(), mode=0o600, durable=True)
    except OSError as exc:
        log.warning("%s cannot be written (%s); it is made anew each time", path, exc.strerror)
    else:
        atomicfile.remove_leftovers(path.parent)


def _seal(value: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(value).encode())  # hashlib loads OpenSSL, a tenth of the time of a warm `probe`


def _set_aside(path: Path, why: str) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    log.warning("%s %s; it is kept as %s and made anew", path, why, aside.name)
    with contextlib.suppress(OSError):
        path.replace(aside)
