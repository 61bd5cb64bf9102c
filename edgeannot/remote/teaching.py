"""Carry out the command `teach`: `edgeannot teach` in a process of its own, one at a time, with a low priority.

The tools are another package and may be missing; the process also keeps their memory and their faults away from the daemon.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, Final

from edgeannot.base.child import scratch
from edgeannot.base.errors import install
from edgeannot.base.foreign import printable
from edgeannot.base.redaction import redacted
from edgeannot.base.registry import entry_points
from edgeannot.remote.commands import Teach
from edgeannot.remote.replies import RefusedError
from edgeannot.sinks.mqtt import CommandOptions

__all__ = ["Teacher"]

_COMMAND: Final = (sys.executable, "-P", "-m", "edgeannot")
_USAGE_ERRORS: Final = range(64, 79)
"""sysexits.h: the set, the name or the settings are to be changed."""
_MOST_SAID: Final = 3000
"""Bytes of its output that come with the reply: the last ones."""
_TICK_S: Final = 0.5


class Teacher:
    """Runs `edgeannot teach`. `teach` is for one thread, `stop` for any."""

    def __init__(
        self,
        options: CommandOptions,
        data_dir: Path,
        environment: Mapping[str, str],
        command: Sequence[str] = _COMMAND,
    ) -> None:
        """data_dir: the models lie in its `models`. environment: variables that carry the daemon's own settings."""
        self._options = options
        self._data_dir = data_dir
        self._environment = environment
        self._command = command
        self._stopping = threading.Event()
        self._running: threading.Thread | None = None

    @property
    def limit_s(self) -> float:
        """Return how long teaching may take."""
        return 60.0 * self._options.teach_minutes

    def teach(self, wanted: Teach) -> Future[dict[str, Any]]:
        """Begin; the result has the model's name and the last lines of the report. Raises RefusedError, as the future may."""
        place = _place(self._options.teach_root, wanted.data)
        if self._command is _COMMAND and not any(each.name == "teach" for each in entry_points("edgeannot.commands")):
            raise RefusedError("unavailable", f"the tools that teach are not installed here: {install('tools')}")
        if self._running is not None and self._running.is_alive():
            raise RefusedError("busy", "a model is being taught; try again later")
        words = ["teach", wanted.task, str(place), "--name", wanted.name, "--data-dir", str(self._data_dir)]
        future: Future[dict[str, Any]] = Future()
        future.set_running_or_notify_cancel()
        command = [*self._command, *words, *(["--replace"] if wanted.replace else [])]
        self._running = threading.Thread(target=self._run, args=(command, wanted.name, future), name="teaching", daemon=True)
        self._running.start()
        return future

    def stop(self) -> None:
        """End a process that runs; it leaves no half model."""
        self._stopping.set()
        if self._running is not None:
            self._running.join(2.0)

    def _run(self, command: Sequence[str], name: str, future: Future[dict[str, Any]]) -> None:
        try:
            with scratch() as output:
                code = self._wait(command, output)
                lines = _last_lines(output)
            if code == 0:
                future.set_result({"model": name, "said": lines})
            else:
                future.set_exception(_refusal(code, lines))
        except Exception as exc:  # noqa: BLE001 - told to the sender of the command
            future.set_exception(exc)

    def _wait(self, command: Sequence[str], output: IO[bytes]) -> int:
        """Run the command; return its exit code, or the negative number of the signal that ended it. Raises RefusedError."""
        # Unbuffered, so that the lines of both streams are in the order in which they were said.
        environment = {**os.environ, **self._environment, "NO_COLOR": "1", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"}
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        except OSError as exc:
            raise RefusedError("unavailable", f"no process can be started now ({exc.strerror}); try again later") from exc
        try:
            _go_last(child.pid, self._options.teach_nice)
            for _ in range(int(self.limit_s / _TICK_S) + 1):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(_TICK_S)
                if self._stopping.is_set():
                    raise RefusedError("unavailable", "the daemon is stopping; teach again when it runs")
            raise RefusedError("timeout", f"not done within {self._options.teach_minutes:g} minutes (sinks.mqtt.commands.teach_minutes)")
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _place(root: Path | None, name: str) -> Path:
    """Return the set under the allowed folder. Raises RefusedError, which names nothing outside of that."""
    if root is None:
        raise RefusedError("not-allowed", "no folder is allowed (sinks.mqtt.commands.teach_root)")
    if "\0" in name:
        raise RefusedError("not-allowed", "wanted a path relative to the allowed folder")
    top = os.path.realpath(root.expanduser())
    place = Path(os.path.realpath(Path(top) / name))
    if not place.is_relative_to(top):
        raise RefusedError("not-allowed", "the path leads out of the allowed folder")
    if not place.exists():
        raise RefusedError("no-such-file", "there is no such folder or file in the allowed folder")
    return place


def _go_last(pid: int, nice: int) -> None:
    """Let others go first at the processor, and keep their memory where there is none left."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000", encoding="ascii")


def _last_lines(output: IO[bytes]) -> list[str]:
    end = output.seek(0, os.SEEK_END)
    start = output.seek(max(0, end - _MOST_SAID))
    lines = output.read().decode(errors="replace").splitlines()[1 if start else 0 :]
    return [redacted(printable(line.rstrip())) for line in lines if line.strip()]


def _refusal(code: int, lines: Sequence[str]) -> RefusedError:
    if code < 0:
        cause = "most often for want of memory" if -code == signal.SIGKILL else "please report"
        return RefusedError("unavailable", f"the process that teaches was ended by signal {-code}, {cause}")
    sentence = next((line.removeprefix("Error: ").removeprefix("edgeannot: ") for line in reversed(lines)), f"exit code {code}")
    return RefusedError("invalid" if code in _USAGE_ERRORS else "unavailable", f"teach: {sentence}")
