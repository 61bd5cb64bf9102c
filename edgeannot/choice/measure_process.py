"""A child process that answers requests, one JSON line each, and whose death is a fact that is told rather than the end.

The parent writes requests on the child's standard input; what the child answered before it died is kept by who asked.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

__all__ = ["CHILD", "Child", "Died", "Refused"]

_ROOT = Path(__file__).resolve().parent.parent.parent
CHILD = (
    sys.executable,
    "-P",
    "-c",
    f"import sys; sys.path.append({str(_ROOT)!r}); from edgeannot.choice.measure_child import main; main()",
)
"""The command of the child. Nothing is imported from the current folder, which may be anybody's."""

_MAX_LINE = 1 << 20
_TICK_S = 0.25
_DYING_S = 2.0
_LASTING = {signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE}
_TOLD_TO_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
"""systemd sends SIGTERM to all processes of a service that it stops: no word on the model."""
_SIGNALS = frozenset(signal.Signals)
_DEATHS: dict[int, str] = {
    signal.SIGILL: "an illegal instruction: the runtime was built for another processor",
    signal.SIGKILL: "SIGKILL, most often for want of memory",
    signal.SIGSEGV: "a segmentation fault",
    signal.SIGABRT: "abort, often for want of memory",
    signal.SIGBUS: "a bus error",
    signal.SIGFPE: "an arithmetic fault",
}


class Died(Exception):  # noqa: N818 - it is the child that died; for the parent this is a result
    """The child ended, or was ended, without an answer.

    lasting: it would be the same the next time. killed: it died of a signal, so that trying again may do harm. passing: it was told
    to stop or could not be started, which says nothing of what it was to do.
    """

    def __init__(self, message: str, *, lasting: bool = False, killed: bool = False, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing
        self.lasting = lasting
        self.killed = killed


class Refused(Exception):  # noqa: N818 - likewise
    """The child lives and says why a point cannot be measured; the model or its card is at fault."""


class Child:
    """The process; a context manager that ends it. memory_bytes: its limit of data, 0 for none.

    stopped: asked a few times a second while an answer is waited for; True ends the wait with Died. Raises Died where no process can
    be started.
    """

    def __init__(self, command: Sequence[str] = CHILD, *, memory_bytes: int = 0, stopped: Callable[[], bool] = lambda: False) -> None:
        self._stopped = stopped
        self._pending = b""
        self._errors = _scratch()
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # else numpy keeps a stack for every core
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        except OSError as exc:  # no memory, or no more processes are allowed
            self._errors.close()
            raise Died(f"could not be tried: a process of its own cannot be started ({exc.strerror})", passing=True) from exc
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        self._limit(memory_bytes)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._requests, self._answers, self._errors):
            with contextlib.suppress(OSError):  # a request that it did not read
                stream.close()

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to a request. Raises Died, or Refused with the child's own words."""
        with contextlib.suppress(OSError):  # it has ended: said below
            self._requests.write(json.dumps(request).encode() + b"\n")
            self._requests.flush()
        deadline = time.monotonic() + timeout_s
        while True:
            answer = self._answer(self._line(deadline, timeout_s))
            if answer is None:
                continue  # rubbish on its standard output: from a library, not from the child's own lines
            if "refused" in answer:
                raise Refused(str(answer["refused"]))
            return answer

    def _limit(self, memory_bytes: int) -> None:
        """The limits that the child gets: it goes first when memory runs out, and may not take more than there is."""
        pid = self._process.pid
        # It has ended already, or this system does not let us: the kernel's own limits remain.
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        with contextlib.suppress(OSError, ValueError):
            if memory_bytes:
                resource.prlimit(pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))

    def _line(self, deadline: float, timeout_s: float) -> bytes:
        """The next line of its output, without the end. Raises Died when none comes."""
        number = self._answers.fileno()
        while b"\n" not in self._pending:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Died(f"gave no figures within {timeout_s:.0f} s")
            if self._stopped():
                raise Died("was not finished, as the program was told to stop", passing=True)
            if not select.select([number], [], [], min(left_s, _TICK_S))[0]:
                continue
            data = os.read(number, 1 << 16)
            if not data:
                raise self._death()
            self._pending += data
            if len(self._pending) > _MAX_LINE:
                raise Died("printed something else than figures", lasting=True)
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    @staticmethod
    def _answer(line: bytes) -> dict[str, Any] | None:
        try:
            value = json.loads(line)
        except ValueError:
            return None
        return value if isinstance(value, dict) and ("samples" in value or "refused" in value or "micro" in value) else None

    def _death(self) -> Died:
        try:
            code = self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            return Died("closed its output and went on")
        last = self._last_words()
        if code < 0:
            number = -code
            name = signal.Signals(number).name if number in _SIGNALS else f"signal {number}"
            what = _DEATHS.get(number, name)
            passing = number in _TOLD_TO_STOP
            return Died(f"died of {what} ({name}){last}", lasting=number in _LASTING, killed=not passing, passing=passing)
        return Died(f"ended with exit code {code}{last}")

    def _last_words(self) -> str:
        """The end of what it wrote to stderr, such as `: std::bad_alloc`."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4096))
        lines = [line.strip() for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""


def _scratch() -> IO[bytes]:
    """Where the child's last words go: nowhere, where no folder can be written."""
    try:
        return cast("IO[bytes]", tempfile.TemporaryFile())
    except OSError:
        return Path(os.devnull).open("r+b")
