"""The process that takes inputs in, one after the other, and may die of one. Says on a pipe which input it is at.

python -m tests.fuzz.worker '{"door": ..., "seed": ..., "first": ..., "end": ..., "folder": ..., "pipe": ..., "coverage": ...}'
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.fuzz.door import Case, Door, Visit, case_of, load_door, pack, unpack

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY = 4 << 30
"""Address space of the process: an input that wants more than a big board has is refused by the system, not by the machine's luck."""
SAVE_EVERY = 250
"""Inputs after which the lines met so far are written down: a death takes the rest with it."""
MINIMISE_S = 2.0


def main() -> None:
    """Play the inputs from `first` to `end`, or the one in `file`."""
    task = json.loads(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: it does not outlive who started it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    faulthandler.enable()  # a death of the process says on stderr where Python was
    faulthandler.register(signal.SIGUSR1)  # the parent asks where it hangs
    lines = Lines(Path(task["folder"])) if task["coverage"] else None
    _choose_runtime()
    door = load_door(task["door"])
    folder = Path(task["folder"]) / f"work-{os.getpid()}"
    pipe = os.fdopen(task["pipe"], "w", encoding="utf-8", buffering=1)
    door.open(folder)
    try:
        _play(door, task, folder, pipe, lines)
    finally:
        door.close()
        if lines:
            lines.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _play(door: Door, task: dict[str, Any], folder: Path, pipe: Any, lines: Lines | None) -> None:
    seeds = [] if task.get("file") else door.seeds()
    seen: set[str] = set()
    for index in range(task["first"], task["end"]):
        case = unpack(Path(task["file"]).read_bytes()) if task.get("file") else case_of(door, seeds, task["door"], task["seed"], index)
        print(json.dumps({"at": index}), file=pipe)
        visit, found = _enter(door, case, folder)
        told: dict[str, Any] = {"done": index, "past": visit.past_first, "accepted": visit.accepted}
        if found is not None:
            told |= {"what": _one_line(found), "where": _place(found), "detail": "".join(traceback.format_exception(found))[-4000:]}
            if door.minimises and told["where"] not in seen and not task.get("file"):
                seen.add(told["where"])
                told["small"] = _minimised(door, case, folder, told["where"])
        print(json.dumps(told), file=pipe)
        if lines and (index + 1) % SAVE_EVERY == 0:
            lines.save()


def _enter(door: Door, case: Case, folder: Path) -> tuple[Visit, BaseException | None]:
    from edgeannot.base.errors import EdgeannotError

    shutil.rmtree(folder / "in", ignore_errors=True)
    (folder / "in").mkdir(parents=True)
    visit = Visit()
    try:
        door.enter(case, folder / "in", visit)
        visit.accepted = True
    except EdgeannotError:
        pass
    except (Exception, SystemExit) as exc:  # noqa: BLE001 - any is a finding
        return visit, exc
    return visit, None


def _one_line(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0][:300]


def _place(exc: BaseException) -> str:
    """Where it was raised: the innermost line of the project's own code, which tells one fault from another."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if frame.filename.startswith(str(ROOT))]
    own = [frame for frame in frames if "/tests/" not in frame.filename and "site-packages" not in frame.filename] or frames
    at = f"{Path(own[-1].filename).relative_to(ROOT)}:{own[-1].lineno}" if own else "?"
    return f"{type(exc).__name__} at {at}"


def _minimised(door: Door, case: Case, folder: Path, place: str) -> str:
    """The input with all taken out that the same error does not need, as far as a moment allows; hexadecimal."""
    until = time.monotonic() + MINIMISE_S
    length = len(case.body) // 2
    while length and time.monotonic() < until:
        at = 0
        while at < len(case.body) and time.monotonic() < until:
            smaller = Case(case.kind, case.body[:at] + case.body[at + length :], case.about)
            found = _enter(door, smaller, folder)[1]
            if found is not None and _place(found) == place:
                case = smaller
            else:
                at += length
        length //= 2
    return pack(case).hex()


def _choose_runtime() -> None:
    """In the second environment LiteRT is there for its schema only (see conftest)."""
    if os.environ.get("EDGEANNOT_RUNTIME") == "tflite-runtime":
        from edgeannot.base import runtimes

        runtimes.RUNTIMES.pop("litert", None)


class Lines:
    """Counts the lines that run, in the project's own packages."""

    def __init__(self, folder: Path) -> None:
        import coverage

        os.environ.setdefault("COVERAGE_CORE", "sysmon" if sys.version_info >= (3, 12) else "ctrace")
        self._coverage = coverage.Coverage(
            data_file=str(folder / "lines"), data_suffix=True, config_file=False, include=[f"{ROOT}/edgeannot/*", f"{ROOT}/tools/*"]
        )
        self._coverage.start()

    def save(self) -> None:
        """Write down what was met so far."""
        self._coverage.save()

    def stop(self) -> None:
        """Count no more."""
        self._coverage.stop()
        self._coverage.save()


if __name__ == "__main__":
    main()
