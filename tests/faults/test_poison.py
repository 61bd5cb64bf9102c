"""A picture that kills the program: set aside after two deaths, and nothing else is lost, whatever was at work beside it.

The deaths are real ones, in the place of the decoder: by a wild pointer, or (as root, where memory can be limited) by the kernel, as
memory runs out. Who keeps the service starts it again at once, as systemd does after its RestartSec.
"""

from __future__ import annotations

import sys
import threading

from tests.faults.stage import DEADLINE_S

MARK = b"this picture kills"
"""Behind the end of a JPEG: no part of the picture, but what the decoder of these tests looks for."""

POISONED = f"""
import ctypes, os, cv2
real = cv2.imdecode
def imdecode(data, flags):
    if data[-{len(MARK)}:].tobytes() == {MARK!r}:
        hog = []
        while os.environ.get("DEATH") == "oom":
            hog.append(b"x" * 2**22)
        ctypes.string_at(0)
    return real(data, flags)
cv2.imdecode = imdecode
from edgeannot.cli import main
main()
"""
"""The real command with a decoder that dies of marked pictures."""

COMMAND = [sys.executable, "-c", POISONED]


class Keeper(threading.Thread):
    """Starts a daemon again whenever it dies."""

    def __init__(self, start, most=10):
        """start: starts it. most: deaths after which it is given up."""
        super().__init__(name="keeper", daemon=True)
        self._begin = start
        self._most = most
        self._over = threading.Event()
        self.daemon_now = start()
        self.deaths: list[int] = []
        self.start()

    def run(self):
        while len(self.deaths) < self._most:
            code = self.daemon_now.process.wait()
            if self._over.is_set():
                return
            self.deaths.append(code)
            self.daemon_now = self._begin()

    def end(self):
        """Stop the daemon in order."""
        self._over.set()
        code = self.daemon_now.stop()
        self.join(DEADLINE_S)
        return code


def poison(stage, name="000003-poison.jpg"):
    """Put a picture into the folder that kills the program when it is decoded."""
    (stage.inbox / f".{name}").write_bytes(stage.jpeg + MARK)
    (stage.inbox / f".{name}").rename(stage.inbox / name)
    return name


def wait_answered(stage, keeper):
    """Until every offered picture is answered, whoever dies meanwhile."""
    from tests.brokers import wait_until

    def holds():
        assert len(keeper.deaths) < 10, f"it died {len(keeper.deaths)} times: {stage.daemons[-1].log[-2000:]}"
        return len(stage.arrived()) >= len(stage.offered) and stage.quarantined()

    wait_until(holds, "all pictures to be answered", DEADLINE_S, 0.05)


def test_a_picture_that_kills_is_set_aside_after_two_deaths(make_stage):
    stage = make_stage("poison: a file in the folder")
    stage.post.start()
    stage.offer(5)
    name = poison(stage)
    stage.offer(10)
    keeper = Keeper(lambda: stage.start(command=COMMAND))
    wait_answered(stage, keeper)
    assert keeper.end() == 0
    assert keeper.deaths == [-11, -11]
    assert [path.name for path in stage.quarantined()] == [f"{name}.reason.txt"]
    assert "reason: deadly" in stage.quarantined()[0].read_text()
    assert f"{name} was at work" in stage.daemons[-1].log
    stage.verdict("2 deaths, then the picture is set aside and said so", ledger=[*stage.offered])
