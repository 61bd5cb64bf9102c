"""A daemon that runs, under a real broker: commands and pictures that are spoiled; each is answered or set aside, and it goes on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from random import Random
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeannot.base.errors import FrameError
from edgeannot.remote.commands import Request
from tests.brokers import Broker, Subscriber, wait_until
from tests.e2e.daemons import Daemon
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.doors import commands, pictures
from tests.patience import DEADLINE_S

PICTURES = frozenset(("jpeg", "png", "webp", "bmp", "tiff"))
MOST_WAITING = 60
ENVIRONMENT = {
    "EDGEANNOT_SINKS__MQTT__COMMANDS__ENABLED": "true",
    "EDGEANNOT_SINKS__MQTT__COMMANDS__TIMEOUT_S": "0.5",
    "EDGEANNOT_SINKS__MQTT__HOME_ASSISTANT__ENABLED": "true",
    "EDGEANNOT_SOURCES__INBOX__AFTER": "delete",
}
FAULTS = ("Traceback", "a fault of the program", "internal error", "Fatal Python error")


class TheDoor(Door):
    """The watched folder and the command topics of `edgeannot run`."""

    cpu_s = 30.0
    minimises = False

    def __init__(self) -> None:
        self._commands, self._pictures = commands.TheDoor(), pictures.TheDoor()
        self._daemon: Daemon | None = None
        self._sent = 0
        self._read = 0
        self._starts = 0

    def seeds(self) -> list[Case]:
        photos = self._pictures.seeds()
        return [*self._commands.seeds() * (2 * len(photos) // 20 + 1), *photos]

    def mutate(self, rng: Random, case: Case) -> Case:
        if case.kind in PICTURES:
            return self._pictures.mutate(rng, case)
        changed = self._commands.mutate(rng, case)
        # A client would refuse to send the others, or the broker would end its connection: no daemon ever gets them.
        kind = changed.kind if _may_be_sent(changed.kind) and "/" not in changed.kind and changed.kind not in PICTURES else case.kind
        response = changed.about.get("response")
        if response is not None and not _may_be_sent(response):
            response = "answers/y"
        return Case(kind, changed.body, {"response": response})

    def open(self, folder: Path) -> None:
        self._folder = folder
        self._inbox = folder / "inbox"
        self._inbox.mkdir(parents=True)
        self._broker = Broker(folder / "broker").start()
        self._subscriber = Subscriber(self._broker)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
        self._client.connect("127.0.0.1", self._broker.port)
        self._client.loop_start()

    def close(self) -> None:
        try:
            if self._daemon is not None and self._daemon.process.poll() is None:
                self._take_all(self._daemon)
                assert self._daemon.stop() == 0, self._daemon.log[-2000:]
        finally:
            self._end()

    def _end(self) -> None:
        if self._daemon is not None:
            self._daemon.kill()
        self._client.loop_stop()
        self._broker.kill()

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        daemon = self._living_daemon()
        if case.kind in PICTURES and len(case.body) % 2:
            visit.past_first = True
            self._put(daemon, case)
            return
        case = Case("detect", case.body) if case.kind in PICTURES else case
        visit.past_first = isinstance(commands.taken(case), Request)
        reply = self._ask(daemon, case)
        if not reply["ok"]:
            raise FrameError(reply["error"]["message"], reply["error"]["code"])

    def _living_daemon(self) -> Daemon:
        if self._daemon is None or self._daemon.process.poll() is not None:
            self._starts += 1
            self._read = 0
            args = ("--watch", self._inbox, "--mqtt", self._broker.url, "--device", "pi", "--profile", "low", "--model", "yolov3-tiny@224")
            self._daemon = Daemon(self._folder / f"daemon{self._starts}", *args, **ENVIRONMENT)
            # What is sent before it has subscribed reaches nobody.
            wait_until(lambda: self._broker.log().count(f"{commands.BASE}/command/+") >= self._starts, "the daemon to listen")
        return self._daemon

    def _ask(self, daemon: Daemon, case: Case) -> dict[str, Any]:
        """Send a command and wait for its reply."""
        self._sent += 1
        mark = b"%08d" % self._sent
        properties = Properties(PacketTypes.PUBLISH)
        properties.CorrelationData = mark
        if case.about.get("response"):
            properties.ResponseTopic = case.about["response"]
        before = len(self._subscriber.messages)
        self._client.publish(f"{commands.BASE}/command/{case.kind}", case.body, 1, False, properties).wait_for_publish(DEADLINE_S)

        def answered() -> bytes | None:
            for message in self._subscriber.messages[before:]:
                asked = message.topic == f"{commands.BASE}/command/{case.kind}"
                if not asked and getattr(message.properties, "CorrelationData", None) == mark:
                    return bytes(message.payload)
            return None

        self._wait(daemon, answered, f"the reply to {case.kind!r}")
        payload = answered() or b""
        del self._subscriber.messages[:before]
        try:
            reply = json.loads(payload)
        except ValueError:  # a snapshot is a picture
            reply = {}
        return reply if "ok" in reply else {"ok": True}  # a detection is a result of its own

    def _put(self, daemon: Daemon, case: Case) -> None:
        """Put a picture into the watched folder. A damaged one is set aside some seconds later, as it may still be growing."""
        self._sent += 1
        name = f"{self._sent:08}.{case.kind}"
        (self._inbox / f".{name}").write_bytes(case.body)
        (self._inbox / f".{name}").rename(self._inbox / name)
        if len(list(self._inbox.iterdir())) > MOST_WAITING:
            self._take_all(daemon)

    def _take_all(self, daemon: Daemon) -> None:
        """Wait until every picture is gone: annotated, or set aside."""
        self._ask(daemon, Case("resume", b""))
        self._wait(daemon, lambda: not any(self._inbox.iterdir()), "all pictures to be taken")

    def _wait(self, daemon: Daemon, over: object, what: str) -> None:
        until = time.monotonic() + DEADLINE_S
        while not over():  # type: ignore[operator] # a function
            log = self._new_log(daemon)
            assert daemon.process.poll() is None, f"the daemon ended with {daemon.process.returncode}: {log[-2000:]}"
            assert not any(fault in log for fault in FAULTS), f"the daemon met a fault: {log[-3000:]}"
            assert time.monotonic() < until, f"waited {DEADLINE_S} s for {what}: {log[-2000:]}"
            time.sleep(0.002)
        log = self._new_log(daemon)
        self._read += len(log.encode())
        assert not any(fault in log for fault in FAULTS), f"the daemon met a fault: {log[-3000:]}"

    def _new_log(self, daemon: Daemon) -> str:
        with daemon._log_path.open("rb") as file:
            file.seek(self._read)
            return file.read().decode("utf-8", "replace")


def _may_be_sent(topic: str) -> bool:
    return bool(topic) and topic.isprintable() and not set(topic) & set("+#") and not topic.startswith("$")
