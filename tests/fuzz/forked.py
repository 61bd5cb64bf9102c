"""The product's child process for trying a model, made by fork: it costs a hundredth of a new Python's start, and dies as alone."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import IO
from unittest import mock

from edgeannot.base.child import Child, _stderr_file
from edgeannot.trial import loads as real
from edgeannot.trial import trial_child

__all__ = ["forked_trials"]


@contextlib.contextmanager
def forked_trials(loads: int | None = None) -> Iterator[None]:
    """Have models tried in processes that are copies of this one. loads: how often each is loaded; as the product does where not given."""
    wanted = real._loads()[:loads]
    with mock.patch.object(real, "Child", _ForkedChild), mock.patch.object(real, "_loads", return_value=wanted):
        yield


class _ForkedChild(Child):
    def __init__(
        self, command: Sequence[str], *, memory_bytes: int = 0, stopped: Callable[[], bool] = lambda: False, files: Sequence[IO[bytes]] = ()
    ) -> None:
        self._stopped, self._pending, self._errors = stopped, b"", _stderr_file()
        asked, asks = os.pipe()
        answers, answered = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_the_child(asked, answered, self._errors.fileno(), (asks, answers))
        os.close(asked)
        os.close(answered)
        self._process = _Process(pid)  # type: ignore[assignment] # of which as much is needed
        self._requests, self._answers = os.fdopen(asks, "wb"), os.fdopen(answers, "rb", buffering=0)
        self._limit(memory_bytes)


def _be_the_child(asked: int, answered: int, errors: int, others: tuple[int, int]) -> None:
    code = 1
    try:
        faulthandler.disable()
        sys.settrace(None)
        for number in others:
            os.close(number)
        for number, place in ((asked, 0), (answered, 1), (errors, 2)):
            os.dup2(number, place)
            os.set_inheritable(place, True)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole run
        trial_child.main()
        code = 0
    finally:
        os._exit(code)


class _Process:
    """What `Child` needs of a Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None

    def kill(self) -> None:
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self, timeout: float = 60.0) -> int:
        until = time.monotonic() + timeout
        while self._code is None and time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.001)
        assert self._code is not None, "the child does not end"
        return self._code
