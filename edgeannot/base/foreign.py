"""What comes from outside: texts that are shown, numbers, and files that are read. Standard library only.

File names, labels, settings, answers of servers and everything inside a model file may hold anything. Each kind of reading has one door
here, with bounds on what it costs; it gives a clean value or one sentence in an error of the caller's choice.
"""

from __future__ import annotations

import math
import os
import re
import stat
from pathlib import Path
from typing import Any, overload

from edgeannot.base.errors import EdgeannotError, InputError, MissingError

__all__ = [
    "MAX_INT",
    "MAX_NAME",
    "as_float",
    "as_int",
    "class_name",
    "decode",
    "is_file",
    "json_text",
    "model_name",
    "number_of",
    "one_line",
    "os_bytes",
    "parse_json",
    "parse_toml",
    "printable",
    "read_bytes",
    "read_head",
    "read_text",
    "sha256_of",
    "shorten",
    "shorten_path",
    "to_float",
    "to_int",
    "valid_text",
]

MAX_NAME = 200
"""Characters; with what is added to it, a name of a file has 255 bytes at most."""
MAX_INT = 2**53
"""The largest whole number that is accepted: JSON readers and float64 keep those up to it exactly."""
MAX_TEXT_BYTES = 1 << 20
"""Settings, cards and label files have kilobytes."""

# Python's own int() and float() also take digits of other scripts, "1_000", "nan" and thousands of digits.
_INT = re.compile(r"[+-]?[0-9]{1,30}")
_MOST_KEY_PARTS = 100
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")  # the last two are no characters to XML
_FLOAT = re.compile(r"[+-]?(?:[0-9]{1,60}\.?[0-9]{0,60}|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,4})?")


def printable(text: object, *, lines: bool = False) -> str:
    """Return one line that can neither steer a terminal nor make a line of its own in a log: what is not printable becomes U+FFFD.

    That is control and format characters (also those that turn the direction of writing) and lone surrogates, so the result is always
    valid UTF-8. lines: line ends and tabs stay, for tables and tracebacks.

    >>> printable("a\\x1b[31m.jpg")
    'a\ufffd[31m.jpg'
    """
    shown = str(text)
    if (shown.replace("\n", "").replace("\t", "") if lines else shown).isprintable():
        return shown
    kept = "\n\t" if lines else ""
    return "".join(c if c.isprintable() or c in kept else "\ufffd" for c in shown)


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON that a terminal may show and every reader takes for the same value: what is not printable stands as \\uNNNN.

    Without `indent` it is one line without spaces, as messages and JSON lines have it.
    """
    import json  # noqa: PLC0415 - with tomllib 10 ms that a command without them does not need

    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=(",", ":") if indent is None else None)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def shorten(value: object, longest: int = 80) -> str:
    """Return a value as an error quotes it: its `repr`, printable, cut to `longest` characters."""
    try:
        text = repr(value if not isinstance(value, str | bytes) else value[: longest + 1])
    except (ValueError, RecursionError):  # a whole number of more digits than Python writes; a list in itself
        text = f"a {type(value).__name__}"
    text = printable(text)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def model_name(text: str) -> str:
    """Return a text as the name of a model: lower case letters, digits, dots and dashes, not too many.

    >>> model_name("YOLO v3 (tiny)"), model_name("___")
    ('yolo-v3-tiny', 'model')
    """
    name = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    return name[:MAX_NAME].strip("-._") or "model"


def number_of(count: int, thing: str, plural: str = "") -> str:
    """Return a count with its noun. plural: where it is not made with an s.

    >>> number_of(1, "thread"), number_of(2, "thread"), number_of(0, "class", "classes")
    ('1 thread', '2 threads', '0 classes')
    """
    return f"{count} {thing if count == 1 else plural or f'{thing}s'}"


def valid_text(text: str) -> str:
    """Return text that UTF-8, and so JSON and MQTT, can carry: bytes of a file name that are no UTF-8 are shown as \\xNN."""
    return os_bytes(text).decode("utf-8", "backslashreplace")


def one_line(text: object) -> str:
    """Return a name or a label as a file or a message may hold it: `valid_text` without control characters and line ends (U+FFFD instead).

    Unlike `printable` it leaves in place what words of some scripts need: joiners, marks of direction.
    """
    return _CONTROL.sub("\ufffd", valid_text(str(text)))


def class_name(text: object) -> str:
    """Return `one_line` of a class's name, without the quotes in which a program has left it: b'cat' and "cat", are cat."""
    name = one_line(text)
    bare = re.fullmatch(r"""b?(['"])(.*)\1,?""", name.strip())
    return bare[2] if bare else name


def os_bytes(text: str) -> bytes:
    """Return the bytes of a text as a file name has them: a lone surrogate is the byte that was not UTF-8."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that no file name gives
        return text.encode("utf-8", "surrogatepass")


def as_int(value: object) -> int | None:
    """Return the whole number that a text, or a number out of JSON or TOML, states; None where it states none, or one beyond `MAX_INT`."""
    if isinstance(value, str):
        text = value.strip()
        value = int(text) if _INT.fullmatch(text) else None
    elif isinstance(value, float):
        value = int(value) if math.isfinite(value) and value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_INT else None


def as_float(value: object) -> float | None:
    """Return the finite number that a text, or a number out of JSON or TOML, states; None where it states none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, str):
        value = value.strip()
        if not _FLOAT.fullmatch(value):
            return None
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond float64
        return None
    return number if math.isfinite(number) else None


def to_int(value: object, what: str, *, lowest: int = -MAX_INT, highest: int = MAX_INT, error: type[EdgeannotError] = InputError) -> int:
    """Return the whole number that `value` states. Raises `error`, which begins with `what`, for anything else or out of bounds."""
    number = as_int(value)
    if number is None or not lowest <= number <= highest:
        bounds = "" if (lowest, highest) == (-MAX_INT, MAX_INT) else f" from {lowest} to {highest}"
        raise error(f"{what}: wanted a whole number{bounds}, found {shorten(value)}")
    return number


def to_float(value: object, what: str, *, error: type[EdgeannotError] = InputError) -> float:
    """Return the finite number that `value` states. Raises `error`, which begins with `what`, for anything else."""
    number = as_float(value)
    if number is None:
        raise error(f"{what}: wanted a number, found {shorten(value)}")
    return number


def decode(data: bytes, what: str, *, error: type[EdgeannotError] = InputError) -> str:
    """Return the UTF-8 text of the bytes, without a byte order mark, line ends as "\\n". Raises `error`, which begins with `what`."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise error(f"{what}: wanted UTF-8 text, found the byte 0x{data[exc.start]:02x} in line {line}; save it as UTF-8") from exc
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(path: Path, what: str, *, max_bytes: int = MAX_TEXT_BYTES, error: type[EdgeannotError] = InputError) -> bytes:
    """Return the content of a regular file of at most `max_bytes`. `what` says what kind of file was wanted, e.g. "the label file".

    Raises MissingError where there is none; `error` where it is larger, cannot be read, or is a folder, a pipe or a device.
    """
    shown = f"{what} {shorten_path(path)}"
    try:
        data = _read_regular(path, max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise MissingError(f"{shown} is not there") from exc
    except OSError as exc:
        raise error(f"{shown} cannot be read ({exc.strerror})") from exc
    except ValueError as exc:  # a NUL, or a surrogate that no file name has
        raise error(f"{shown}: no file can have this name") from exc
    if data is None:
        raise error(f"{shown}: wanted a file, found a folder, a pipe or a device")
    if len(data) > max_bytes:
        raise error(f"{shown} is larger than {_size(max_bytes)}, so it is not read")
    return data


def read_head(path: Path, count: int) -> bytes:
    """Return the first bytes of a regular file; none of what is no file or cannot be read."""
    try:
        return _read_regular(path, count) or b""
    except (OSError, ValueError):
        return b""


def _read_regular(path: Path, most: int) -> bytes | None:
    """Return the first bytes of a regular file; None for anything else."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # else a pipe that nobody writes to would hold the program
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            return None
        with os.fdopen(number, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(number)


def read_text(path: Path, what: str, *, max_bytes: int = MAX_TEXT_BYTES, error: type[EdgeannotError] = InputError) -> str:
    """Return the text of a file; what `read_bytes` and `decode` say."""
    return decode(read_bytes(path, what, max_bytes=max_bytes, error=error), f"{what} {shorten_path(path)}", error=error)


@overload
def parse_json(data: bytes | str, what: str, *, error: type[EdgeannotError] = ...) -> Any: ...
@overload
def parse_json(data: bytes | str, what: str, *, error: None) -> Any | None: ...
def parse_json(data: bytes | str, what: str, *, error: type[EdgeannotError] | None = InputError) -> Any:
    """Return the value of a JSON text; its numbers may still be anything (`as_int`, `as_float`).

    Raises `error`, which begins with `what`, for what is none or is nested too deep; gives None instead where `error` is None.
    """
    import json  # noqa: PLC0415 - as above

    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError and numbers of thousands of digits are ValueErrors, too
        if error is None:
            return None
        raise error(f"{what}: wanted JSON, found none that can be read ({_why(exc)})") from exc


def parse_toml(text: str, what: str, *, error: type[EdgeannotError] = InputError) -> dict[str, Any]:
    """Return the table of a TOML text. Raises `error`, which begins with `what`, for what is none or is nested too deep."""
    import tomllib  # noqa: PLC0415 - as above

    # tomllib takes time by the square of a key's parts: two minutes for one of 100 KB.
    if any(part.count(".") > _MOST_KEY_PARTS for part in re.split(r"[^\w\"'.\t -]", text)):
        raise error(f"{what} is not valid TOML: a key has more than {_MOST_KEY_PARTS} parts")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as exc:  # TOMLDecodeError is a ValueError; so is what int() says of thousands of digits
        raise error(f"{what} is not valid TOML: {_why(exc)}") from exc


def is_file(path: Path) -> bool:
    """Tell whether there is a file; no for a name that none can have, where `Path.is_file` raises for some."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def shorten_path(path: Path | str) -> str:
    """Return a path as a message shows it: printable, and of one that is very long its two ends."""
    text = printable(valid_text(str(path)))
    return text if len(text) <= 300 else f"{text[:200]}...{text[-90:]}"


def _why(exc: Exception) -> str:
    return "it is nested too deep" if isinstance(exc, RecursionError) else printable(str(exc))[:200]


def _size(count: int) -> str:
    return f"{count / (1 << 20):g} MB" if count >= 1 << 20 else f"{count} bytes"


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content, in hexadecimal. Raises OSError."""
    import hashlib  # noqa: PLC0415 - loads OpenSSL, which `--help` and `probe` do not need

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
