"""A live camera in a child process: what blocks for ever there, or crashes, ends with the process and not with the daemon.

Each answer has a deadline. Where it passes, the child is killed and the next opening starts another. The address with its login goes to
the child through a pipe: neither its command line nor its environment has it.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np

from edgeannot.base.child import Child, Died, Refused, command_of, scratch
from edgeannot.base.foreign import one_line
from edgeannot.sources.capture import Target, TellingCapture
from edgeannot.vision.data import UInt8Array

__all__ = ["CameraProcess", "RemoteCapture"]

_START_S: Final = 60.0
"""For the interpreter and OpenCV: 5 s on a small board, more where many start at once."""
_GRACE_S: Final = 1.0
"""Beyond the library's own limit, which as a rule ends a wait in time."""
_RELEASE_S: Final = 2.0
_REFUSED_LOGIN_S: Final = 60.0
"""Between two tries of a login that was refused: cameras lock a user out after a few."""
_MOST_BYTES: Final = 1 << 29
"""Of one frame."""

_ANSWERS: Final = (
    (r"\b403\b|Forbidden", "answers 403 Forbidden; check what this user may do there"),
    (r"\b404\b|Not Found", "has nothing at this address (404); check the path of the address"),
    (r"\b453\b|\b503\b", "is busy: it serves no more viewers"),
    (r"Invalid data found", "gives nothing that can be played (no known format)"),
)
"""What FFmpeg writes of a server that answers, and what it means."""
_SILENCES: Final = (
    (r"Connection refused", "cannot be reached (Connection refused)"),
    (r"No route to host|Network is unreachable|Host is unreachable", "cannot be reached (no route to it)"),
    (
        r"Failed to resolve|Name or service not known|name resolution",
        "has a name without an address; check the name and the DNS",
    ),
    (r"timed out", "does not answer in time"),
)
"""The same of one that does not."""


class CameraProcess:
    """Starts the child when a camera is opened, and keeps it for the next opening while it is well. For one thread."""

    def __init__(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """stopped: asked a few times a second while an answer is waited for."""
        self._stopped = stopped
        self._stack = ExitStack()
        self._child: Child | None = None
        self._memory: mmap.mmap | None = None
        self._file = -1

    def open(self, target: Target) -> RemoteCapture:
        """Return the camera, opened; or one that says why it is not."""
        limit_s = target.open_timeout_s + target.read_timeout_s + _GRACE_S
        facts = {**asdict(target), "ca_file": None}
        return RemoteCapture(self, target, self.ask(limit_s, do="open", **facts))

    def ask(self, timeout_s: float, **request: Any) -> dict[str, Any]:
        """Return the child's answer; without one {"why": ...}, and the child is gone."""
        try:
            child = self._child or self._start()
            answer = child.ask(request, timeout_s)["captured"]
        except Died as exc:
            self.close()
            return {"why": str(exc)}
        except Refused as exc:
            return {"why": str(exc)}
        return answer if isinstance(answer, dict) else {"why": "gave a wrong answer"}

    def pixels(self, timeout_s: float) -> UInt8Array | None:
        """Return the frame that was grabbed last, (H, W, 3) or (H, W)."""
        shape = self.ask(timeout_s, do="retrieve", memory=self._file).get("shape")
        if not shape or len(shape) > 3 or not 0 < (size := int(np.prod(shape))) <= _MOST_BYTES:
            return None
        if self._memory is None or len(self._memory) < size:
            if self._memory is not None:
                self._memory.close()
            self._memory = mmap.mmap(self._file, size, prot=mmap.PROT_READ)
        return np.frombuffer(self._memory, np.uint8, size).reshape(shape).copy()  # the next one is written over it

    def close(self) -> None:
        """End the child."""
        if self._memory is not None:
            self._memory.close()
        self._child, self._memory = None, None
        self._stack.close()
        self._stack = ExitStack()

    def _start(self) -> Child:
        memory = self._stack.enter_context(scratch())
        command = command_of("edgeannot.sources.capture_child")
        child = self._stack.enter_context(Child(command, stopped=self._stopped, files=[memory]))
        child.ask({"do": "start"}, _START_S)
        self._child, self._file = child, memory.fileno()
        return child


class RemoteCapture(TellingCapture):
    """A `Capture` in the child."""

    def __init__(self, process: CameraProcess, target: Target, answer: dict[str, Any]) -> None:
        self._process = process
        self._target = target
        self._opened = bool(answer.get("opened"))
        self.facts = str(answer.get("facts", ""))
        if not self._opened:
            self._note(answer, "")

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Return whether it opened."""
        return self._opened

    def grab(self) -> bool:
        """Take the next frame off the camera."""
        limit_s = self._target.read_timeout_s + _GRACE_S
        while True:
            answer = self._process.ask(limit_s, do="grab")
            if not answer.get("fine"):
                self._note(answer, f"gives no frame within {self._target.read_timeout_s:g} s")
                return False
            if answer.get("frame", True):
                return True

    def retrieve(self) -> tuple[bool, UInt8Array | None]:
        """Return the frame that was taken."""
        image = self._process.pixels(self._target.read_timeout_s + _GRACE_S)
        return image is not None, image

    def release(self) -> None:
        """Close the camera; the child stays for the next opening."""
        if self._process.ask(_RELEASE_S, do="release").get("why"):
            self._process.close()

    def _note(self, answer: dict[str, Any], silent: str) -> None:
        """Set what is wrong. silent: what to say where the deadline passed."""
        self.answered = False
        if why := answer.get("why"):
            self.trouble = silent if "within" in why else f"cannot be read: the process that reads it {one_line(why)[:200]}"
            return
        if trouble := str(answer.get("trouble", "")):
            self.trouble, self.answered = one_line(trouble)[:300], True
            return
        said = str(answer.get("said", ""))
        if re.search(r"\b401\b|Unauthorized", said):
            self.trouble, self.pause_s, self.answered = *_login_refused(self._target), True
        elif meaning := _first(_ANSWERS, said):
            self.trouble, self.answered = meaning, True
        else:
            self.trouble = _first(_SILENCES, said)


def _first(meanings: Sequence[tuple[str, str]], said: str) -> str:
    return next((meaning for pattern, meaning in meanings if re.search(pattern, said)), "")


def _login_refused(target: Target) -> tuple[str, float]:
    """Return what to say, and how many seconds to leave the camera alone."""
    with suppress(ValueError):
        if urlsplit(target.address).username:
            return "refuses the login (401); check user and password", _REFUSED_LOGIN_S
    return "wants a login (401); set credentials_file to a file with user:password", 0.0
