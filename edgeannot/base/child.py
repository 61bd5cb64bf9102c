"""A function of ours in a process of its own: its death, its hang and its hunger for memory are facts that are told rather than the end.

The parent writes requests on the child's standard input, one JSON line each, and gets one back for each; larger things travel in files
without a name (`scratch`). What the child answered before it died is kept by who asked. A module that is to run so has a `main` that
calls `serve`; `command_of` names it. Standard library only, as the start of the child is time that somebody waits.
"""

from __future__ import annotations

import contextlib
import ctypes
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

from edgeannot.base.errors import EdgeannotError

__all__ = ["Child", "Died", "Refused", "command_of", "end_with_parent", "scratch", "serve"]

_ROOT = Path(__file__).resolve().parents[2]
_ANSWERS = ("samples", "micro", "ran", "captured", "refused")
"""An answer has one of these keys; other lines are what libraries print."""
_MAX_LINE = 1 << 20
_TICK_S = 0.25
_DYING_S = 2.0
_LASTING = {signal.SIGILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE}
_TOLD_TO_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
"""systemd sends SIGTERM to all processes of a service that it stops: no word on the model."""
_SIGNALS = frozenset(signal.Signals)
_PR_SET_PDEATHSIG = 1
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
    """The child lives and says why it cannot do what was asked; the model or its card is at fault."""


def command_of(module: str, *roots: Path) -> tuple[str, ...]:
    """Return the command of a child that runs the module's `main`. Nothing is imported from the current folder, which may be anybody's.

    roots: folders beside this package's own in which packages of ours lie.
    """
    places = [str(root) for root in (_ROOT, *roots)]
    return (sys.executable, "-P", "-c", f"import sys; sys.path += {places!r}; from {module} import main; main()")


def scratch() -> IO[bytes]:
    """Return a file in memory without a name, to be given to a child; it is gone when both have closed it."""
    return cast("IO[bytes]", os.fdopen(os.memfd_create("edgeannot"), "w+b"))


class Child:
    """The process; a context manager that ends it. memory_bytes: its limit of data, 0 for none.

    stopped: asked a few times a second while an answer is waited for; True ends the wait with Died. files: open files that the child has
    under the same numbers. Raises Died where no process can be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        memory_bytes: int = 0,
        stopped: Callable[[], bool] = lambda: False,
        files: Sequence[IO[bytes]] = (),
    ) -> None:
        self._stopped = stopped
        self._pending = b""
        self._errors = _stderr_file()
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # else numpy keeps a stack for every core
        try:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,  # Ctrl-C is the parent's to handle
                pass_fds=[file.fileno() for file in files],
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
        """Return the answer to a request. Raises Died, or Refused with the child's own words."""
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
        """Set the limits that the child gets: it goes first when memory runs out, and may not take more than there is."""
        pid = self._process.pid
        # It has ended already, or this system does not let us: the kernel's own limits remain.
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text("1000")
        with contextlib.suppress(OSError, ValueError):
            resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))  # its death is expected: no image of its memory on the card
            if memory_bytes:
                resource.prlimit(pid, resource.RLIMIT_DATA, (memory_bytes, memory_bytes))

    def _line(self, deadline: float, timeout_s: float) -> bytes:
        """Return the next line of its output, without the end. Raises Died when none comes."""
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
        return value if isinstance(value, dict) and any(key in value for key in _ANSWERS) else None

    def _death(self) -> Died:
        try:
            code = self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            return Died("closed its output and went on")
        last = self._stderr_tail()
        if code < 0:
            number = -code
            name = signal.Signals(number).name if number in _SIGNALS else f"signal {number}"
            what = _DEATHS.get(number, name)
            passing = number in _TOLD_TO_STOP
            return Died(f"died of {what} ({name}){last}", lasting=number in _LASTING, killed=not passing, passing=passing)
        return Died(f"ended with exit code {code}{last}")

    def _stderr_tail(self) -> str:
        """Return the end of what it wrote to stderr, such as `: std::bad_alloc`."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - 4096))
        lines = [line.strip() for line in self._errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return f": {lines[-1][:200]}" if lines else ""


def _stderr_file() -> IO[bytes]:
    """Where the child's standard error goes: nowhere, where no folder can be written."""
    try:
        return cast("IO[bytes]", tempfile.TemporaryFile())
    except OSError:
        return Path(os.devnull).open("r+b")


# -- in the child ----------------------------------------------------------------------------------------------------------------


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests until standard input ends. An error of ours is the answer {"refused": why}."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is not an answer
    end_with_parent()
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except EdgeannotError as exc:
            found = {"refused": str(exc)}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def end_with_parent() -> None:
    """Have the kernel end this process when the one that asked is gone (prctl(2)): a model that takes minutes, or hangs, would not
    notice that nobody reads its answer. To be called in a process that lives no longer than the thread that started it.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
