"""Replies to commands as messages, the errors in them, and files that a command names."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from edgeannot.base.errors import EdgeannotError, FrameError
from edgeannot.payload import Origin, detections_payload, encode
from edgeannot.remote.commands import Code, CommandError, Reply, code_of, error_payload, reply_payload
from edgeannot.storage.queue import Message
from edgeannot.vision.data import Annotation

__all__ = ["RefusedError", "Replies", "error_of", "read_named"]


class RefusedError(Exception):
    """A refused command, with the code for its reply."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


class Replies:
    """Makes the messages of one device."""

    def __init__(self, origin: Origin, jpeg: Callable[[Annotation], bytes]) -> None:
        """jpeg: draws an annotated picture."""
        self._origin = origin
        self._jpeg = jpeg

    def json(self, to: Reply, result: Mapping[str, Any]) -> Message:
        """Return the reply to a command that was carried out."""
        return _message(to, reply_payload(to, self._origin, result))

    def refusal(self, refusal: CommandError) -> Message:
        """Return the reply to a command that was not carried out."""
        return _message(refusal.to, error_payload(refusal, self._origin))

    def result(self, to: Reply, annotation: Annotation, path: str | None = None) -> Message:
        """Return the reply with a picture's detections. path: as the command named the file."""
        result = detections_payload(annotation, self._origin)
        if path is not None:
            result["image"]["path"] = path
        return self.json(to, result)

    def drawn(self, to: Reply, annotation: Annotation) -> Message:
        """Return the reply with the annotated picture; MQTT 5 properties name the result it belongs to."""
        facts = detections_payload(annotation, self._origin)
        about = tuple((key, str(facts[key])) for key in ("id", "source", "captured_at"))
        jpeg = self._jpeg(annotation)
        refusal = CommandError("too-large", f"the broker does not take a picture of {len(jpeg)} bytes; ask for format json", to)
        return Message(
            to.topic,
            jpeg,
            "reply",
            content_type="image/jpeg",
            properties=about,
            correlation=to.correlation,
            instead=self.refusal(refusal),
        )


def _message(to: Reply, payload: Mapping[str, Any]) -> Message:
    return Message(to.topic, encode(payload), "reply", correlation=to.correlation)


def error_of(exc: Exception, to: Reply) -> CommandError:
    """Return the error for the sender of the command, without details of an internal error."""
    if isinstance(exc, RefusedError):
        return CommandError(exc.code, str(exc), to)
    if isinstance(exc, FrameError) and exc.reason == "too-large":
        return CommandError("too-large", str(exc), to)
    if isinstance(exc, EdgeannotError):
        return CommandError(code_of(exc), str(exc), to)
    return CommandError("failed", "internal error; see the log of the daemon", to)


def read_named(root: Path | None, name: str, max_bytes: int) -> bytes:
    """Return the file `name` under the allowed folder. Raises RefusedError, which names nothing outside of that."""
    if root is None:
        raise RefusedError("not-allowed", "no folder is allowed (sinks.mqtt.commands.root); send the picture itself")
    parts = PurePosixPath(name).parts
    if "\0" in name or not parts or parts[0] == "/" or ".." in parts:
        raise RefusedError("not-allowed", "wanted a path relative to the allowed folder, without ..")
    try:
        return _read_below(root.expanduser(), name, max_bytes)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise RefusedError("no-such-file", "there is no such file in the allowed folder") from exc
    except OSError as exc:
        raise RefusedError("not-allowed", f"the file cannot be read ({exc.strerror})") from exc


def _read_below(root: Path, name: str, max_bytes: int) -> bytes:
    """Return the content of the file `name` under `root`. Raises RefusedError for what is none there or too large, and OSError.
    The file is first opened without reading (`O_PATH`, open(2)), so that a device or a pipe is not touched; then the kernel says which
    file that is, and only that one, not its name, is opened for reading. So nobody can exchange it in between.
    """
    handle = os.open(root / name, os.O_PATH | os.O_CLOEXEC)
    try:
        found = Path(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115 - a path only the kernel has
        if not found.is_relative_to(os.path.realpath(root)):
            raise RefusedError("not-allowed", "the path leads out of the allowed folder")
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise RefusedError("not-allowed", "the path does not lead to a regular file")
        if facts.st_size > max_bytes:
            raise RefusedError("too-large", f"the file has {facts.st_size} bytes, allowed are {max_bytes}")
        with open(f"/proc/self/fd/{handle}", "rb", buffering=0) as file:  # noqa: PTH123 - as above
            return file.read(max_bytes)
    finally:
        os.close(handle)
