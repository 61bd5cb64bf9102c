"""Plays a door's inputs in child processes and takes note of what went wrong: an uncaught error, a hang, a death.

A child that dies or hangs is replaced, and the next input goes to the new one. An input's time is counted in the processor time of
the child, so that a busy machine makes no hang.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.door import Case, Door, case_of, load_door, pack

__all__ = ["Finding", "Plan", "Tally", "play"]

ROOT = Path(__file__).resolve().parent.parent.parent
WALL_FACTOR = 15
"""Seconds by the clock, a second of processor time, after which a child that waits for ever counts as hanging."""
KEPT = 3
"""Inputs that are kept of one fault."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to play."""

    seed: int
    count: int
    folder: Path
    """Where findings and the lines met are written."""
    until: float = float("inf")
    """Monotonic seconds at which it ends, whatever is left."""
    first: int = 0
    coverage: bool = False
    file: Path | None = None
    """One input that was kept, in place of all."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One input that went wrong."""

    index: int
    kind: str
    """uncaught error, hang, or death."""
    what: str
    where: str
    """Tells one fault from another."""
    detail: str


@dataclass(slots=True)
class Tally:
    """What came of a door's inputs."""

    door: str
    inputs: int = 0
    past_first: int = 0
    accepted: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)

    @property
    def share_past(self) -> float:
        """The share of inputs that the first parser read."""
        return self.past_first / self.inputs if self.inputs else 0.0


def play(name: str, plan: Plan, told: Callable[[Tally], None] = lambda _: None) -> Tally:
    """All inputs of a door. told: called now and then with how it stands."""
    tally = Tally(name)
    begin = time.monotonic()
    next_index, end = plan.first, plan.first + plan.count
    while next_index < end and time.monotonic() < plan.until:
        next_index = _Child(name, plan, next_index, end, tally, told).run()
        tally.seconds = time.monotonic() - begin
    return tally


class _Child:
    """One worker process, from its start to its end or death."""

    def __init__(self, name: str, plan: Plan, first: int, end: int, tally: Tally, told: Callable[[Tally], None]) -> None:
        self._name, self._plan, self._tally, self._told = name, plan, tally, told
        self._next = first
        self._end = end
        self._at: int | None = None
        self._cpu_s = load_door(name).cpu_s
        plan.folder.mkdir(parents=True, exist_ok=True)
        self._log = (plan.folder / f"{name.replace(':', '-')}.stderr").open("w+", encoding="utf-8", errors="replace")

    def run(self) -> int:
        """Play as long as the process lives; the index of the next input."""
        read, write = os.pipe()
        task = {
            "door": self._name, "seed": self._plan.seed, "first": self._next, "end": self._end,
            "folder": str(self._plan.folder), "pipe": write, "coverage": self._plan.coverage,
            "file": self._plan.file and str(self._plan.file),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", json.dumps(task)],
            cwd=ROOT, pass_fds=[write], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        os.close(write)
        try:
            with os.fdopen(read, "rb", buffering=0) as pipe:
                self._listen(pipe.fileno())
        finally:
            self._end_group()
            self._log.close()
        return self._next

    def _listen(self, pipe: int) -> None:
        rest = b""
        since, begun = 0.0, time.monotonic()
        while True:
            if select.select([pipe], [], [], 0.25)[0]:
                data = os.read(pipe, 1 << 16)
                if not data:
                    self._ended()
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._note(json.loads(line))
                since, begun = self._cpu(), time.monotonic()
                self._told(self._tally)
            elif self._cpu() - since > self._cpu_s or time.monotonic() - begun > self._cpu_s * WALL_FACTOR:
                self._hangs()
                return
            if time.monotonic() > self._plan.until:
                return

    def _note(self, told: dict[str, Any]) -> None:
        if "at" in told:
            self._at = told["at"]
            return
        self._tally.inputs += 1
        self._tally.past_first += told["past"]
        self._tally.accepted += told["accepted"]
        self._at, self._next = None, told["done"] + 1
        if "what" in told:
            self._found(told["done"], "uncaught error", told["what"], told["where"], told["detail"], bytes.fromhex(told.get("small", "")))

    def _ended(self) -> None:
        code = self._process.wait()
        if self._at is None:
            if code:
                raise RuntimeError(f"the worker of {self._name} ended with {code} between two inputs:\n{self._stderr()}")
            return
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self._lost("death", f"the process ended: {name}", name)

    def _hangs(self) -> None:
        self._process.send_signal(signal.SIGUSR1)  # say where
        time.sleep(0.5)
        if self._at is None:
            raise RuntimeError(f"the worker of {self._name} hangs between two inputs:\n{self._stderr()}")
        self._lost("hang", f"no end after {self._cpu_s:g} s of processor time", "hang")

    def _lost(self, kind: str, what: str, word: str) -> None:
        """The input at hand took the process with it."""
        assert self._at is not None
        self._tally.inputs += 1
        # It came past the first parser or not: nobody can say any more, so it counts as one that did not.
        detail = self._stderr()
        self._found(self._at, kind, what, f"{word} at {_innermost(detail)}", detail)
        self._next = self._at + 1

    def _found(self, index: int, kind: str, what: str, where: str, detail: str, small: bytes = b"") -> None:
        same = sum(finding.where == where for finding in self._tally.findings)
        self._tally.findings.append(Finding(index, kind, what, where, detail))
        if same >= KEPT or self._plan.file:
            return
        folder = self._plan.folder / "findings"
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{self._name.replace(':', '-')}-{self._plan.seed}-{index}"
        door, seeds = _door_with_seeds(self._name)
        stem.with_suffix(".case").write_bytes(pack(case_of(door, seeds, self._name, self._plan.seed, index)))
        ways = [f"again: {sys.executable} -m tests.fuzz {self._name} --seed {self._plan.seed} --only {index}"]
        if small:
            stem.with_suffix(".small.case").write_bytes(small)
            ways.append(f"smaller: {sys.executable} -m tests.fuzz {self._name} --file {stem.with_suffix('.small.case')}")
        stem.with_suffix(".txt").write_text("\n".join([f"{kind}: {what}", where, *ways, "", detail]), encoding="utf-8", errors="replace")

    def _cpu(self) -> float:
        """Processor time of the process, in seconds; its children have deadlines of their own."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def _stderr(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read()[-6000:]

    def _end_group(self) -> None:
        """End the process and whatever it started, which is a session of its own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@functools.cache
def _door_with_seeds(name: str) -> tuple[Door, list[Case]]:
    door = load_door(name)
    return door, door.seeds()


def _innermost(log: str) -> str:
    """The innermost line of the project in the last stack that faulthandler wrote."""
    stack = log.rpartition("most recent call first")[2].splitlines()
    own = [line.strip() for line in stack if str(ROOT) in line and "/tests/" not in line and ".venv" not in line]
    return own[0].replace(f"{ROOT}/", "") if own else "an unknown place"
