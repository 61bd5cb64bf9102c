"""Where a fault is played: a folder that pictures are put into, the real daemon on it, a real broker, and who counts what arrives.

A stage ends with a row of the table (`verdict`): what was put in against what arrived. The model is a real one through the real
runtime, but tiny, so that what is tried is the program around it.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import jsonschema
import numpy as np

from tests.brokers import Broker, Subscriber, wait_until
from tests.e2e.daemons import ROOT, Daemon
from tests.faults.proxy import Proxy
from tests.faults.row import Row
from tests.hooks import Hook
from tests.patience import DEADLINE_S
from tests.tflite_maker import Maker

SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "edgeannot/schema/detections-1.json").read_text()))
ROWS = ((0.1, 0.1, 0.5, 0.6, 0.9, 0), (0.4, 0.3, 0.9, 0.9, 0.6, 1), (0, 0, 0, 0, 0, 0))
"""What the tiny model finds in every picture: x1, y1, x2, y2, score, class."""

QUICK = {
    "EDGEANNOT_SINKS__MQTT__RETRY_MIN_S": "0.05",
    "EDGEANNOT_SINKS__MQTT__RETRY_MAX_S": "0.4",
    "EDGEANNOT_SINKS__MQTT__KEEPALIVE_S": "2",
    "EDGEANNOT_SINKS__MQTT__CONNECT_TIMEOUT_S": "3",
    "EDGEANNOT_SINKS__WEBHOOK__RETRY_MIN_S": "0.05",
    "EDGEANNOT_SINKS__WEBHOOK__RETRY_MAX_S": "0.4",
    "EDGEANNOT_SINKS__WEBHOOK__TIMEOUT_S": "1",
    "EDGEANNOT_SINKS__WEBHOOK__ATTEMPTS": "3",
}
"""Settings that let a test see in seconds what takes minutes in a house."""


def tiny_model(folder: Path) -> None:
    """A detector of 16 x 16 pixels that always finds a cat and a dog, as model "tiny" in this folder."""
    maker = Maker()
    picture = maker.input((1, 16, 16, 3), "uint8")
    raw = maker.outputs(maker.stirred(picture, np.float32([ROWS]), amount=1e-6))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.tflite").write_bytes(raw)
    (folder / "tiny.toml").write_text(
        f"""schema = 1
name = "tiny"
file = "tiny.tflite"
sha256 = "{hashlib.sha256(raw).hexdigest()}"
task = "detect"
family = "other"
[input]
width = 16
height = 16
std = [1.0]
[head]
kind = "end-to-end"
output = 0
box_units = "normalized"
[labels]
names = ["cat", "dog"]
"""
    )


def jpeg(width: int = 24, height: int = 16) -> bytes:
    """A picture of noise."""
    return bytes(cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (height, width, 3), np.uint8))[1])


class Post:
    """A broker, the way to it, and a subscriber that is there before anyone else gets through."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.way = Proxy(broker.port)
        self.readers: list[Subscriber] = []
        self.reader_user: tuple[str, str] | None = None
        self._read: dict[int, int] = {}
        self._paths: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.way.port}"

    def start(self) -> Post:
        """Start the broker; when our own subscriber is in place, open the way to it."""
        self.broker.start()
        # QoS 0: it writes nothing, so that a broker killed meanwhile does not make it give up what lies unread in its socket.
        self.readers.append(Subscriber(self.broker, "edgeannot/#", user=self.reader_user, qos=0))
        self.way.open = True
        return self

    def end(self, how: Callable[[], None] | None = None) -> None:
        """Stop the broker (or `how` to end it); everything that it had sent until then has been read afterwards."""
        self.way.open = False
        (how or self.broker.stop)()
        self.readers[-1].wait_over()
        self.way.cut()

    def close(self) -> None:
        self.way.close()
        for reader in self.readers:
            reader.close()

    def payloads(self, leaf: str) -> list[bytes]:
        """What arrived on the topics that end so, in order."""
        return [bytes(m.payload) for reader in self.readers for m in list(reader.messages) if m.topic.endswith(f"/{leaf}")]

    def paths(self) -> Counter[str]:
        """The pictures whose results arrived, and how often; each message is looked at once, however often this is asked."""
        with self._lock:
            for number, reader in enumerate(self.readers):
                new = reader.messages[self._read.get(number, 0) :]
                self._read[number] = self._read.get(number, 0) + len(new)
                self._paths.update(json.loads(m.payload)["image"]["path"] for m in new if m.topic.endswith("/detections"))
            return self._paths.copy()

    def retained_now(self) -> dict[str, bytes]:
        """What somebody gets who comes now: the retained messages by the last level of their topics."""

        def retained(reader: Subscriber) -> dict[str, bytes]:
            return {m.topic.split("/")[-1]: bytes(m.payload) for m in list(reader.messages) if m.retain}

        late = Subscriber(self.broker, "edgeannot/#", user=self.reader_user)
        try:
            late.wait_for(lambda s: {"status", "info", "count"} <= retained(s).keys(), "what is retained")
            return retained(late)
        finally:
            late.close()


class Stage:
    """One fault: pictures, daemons, and the count at the end."""

    def __init__(self, folder: Path, row: Row, post: Post, device: str = "board") -> None:
        self.folder = folder
        self.row = row
        self.post = post
        self.device = device
        self.hook: Hook | None = None
        """Where results are sent to as well."""
        self.inbox = folder / "in"
        self.data_dir = folder / "daemon" / "data"
        self.offered: dict[str, bytes] = {}
        """Pictures that must be answered, and their bytes."""
        self.daemons: list[Daemon] = []
        self.jpeg = jpeg()
        self._numbers = itertools.count()
        self.inbox.mkdir(parents=True)
        tiny_model(self.data_dir / "models")

    def picture(self) -> tuple[str, bytes]:
        """A name and a picture that nobody has had; what follows a JPEG in its file is no part of it, but makes it another file."""
        number = next(self._numbers)
        return f"{number:06}.jpg", self.jpeg + f"{self.device} {number}".encode()

    def offer(self, count: int = 1, folder: str = "") -> list[str]:
        """Put pictures into the watched folder, whole."""
        names = []
        (self.inbox / folder).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            plain, data = self.picture()
            name = f"{folder}/{plain}" if folder else plain
            hidden = self.inbox / folder / f".{plain}"
            self.offered[name] = data
            hidden.write_bytes(data)
            hidden.rename(self.inbox / name)
            names.append(name)
        return names

    def start(self, *args: object, prefix: Iterable[str] = (), **environment: str) -> Daemon:
        """Start the daemon as the stage's device, on its folder."""
        words: list[object] = ["--model", "tiny", "--threads", 1, "--device", self.device, "--watch", self.inbox, "--profile", "low"]
        if "EDGEANNOT_SINKS__MQTT__URL" not in environment:
            words += ["--mqtt", self.post.url]
        if self.hook is not None:
            environment = {**self.hook.environment(enabled="true", **self.hook.address), **environment}
        self.daemons.append(Daemon(self.folder / "daemon", *words, *args, prefix=prefix, **{**QUICK, **environment}))
        return self.daemons[-1]

    def arrived(self) -> set[str]:
        """The offered pictures that were answered."""
        return self.post.paths().keys() & self.offered.keys()

    def wait_arrived(self, count: int, timeout_s: float = DEADLINE_S) -> None:
        """Wait until so many different pictures were answered."""
        self.wait(lambda: len(self.arrived()) >= count, f"{count} pictures to be answered", timeout_s)

    def wait_all(self, timeout_s: float = DEADLINE_S) -> None:
        """Wait until every offered picture was answered and the outbox is empty."""
        self.wait_arrived(len(self.offered), timeout_s)
        self.wait(lambda: not self.outbox(), "the outbox to be empty", timeout_s)

    def wait(self, condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Wait for something while the daemon runs; a failure shows the end of its log."""

        def holds() -> object:
            code = self.daemons[-1].process.poll() if self.daemons else None
            assert code is None or condition(), f"the daemon ended with {code}: {self.daemons[-1].log[-2000:]}"
            return condition()

        pace = 0.01 if len(self.offered) < 1000 else 0.25
        try:
            wait_until(holds, what, timeout_s, pace)
        except AssertionError as exc:
            tail = self.daemons[-1].log[-2000:] if self.daemons else ""
            raise AssertionError(f"{exc}; arrived {len(self.arrived())} of {len(self.offered)}; the daemon's log ends: {tail}") from exc

    # What is in the state folder. It is looked at from a copy: a reader that is the last to close would change it.

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """The answer of the database as it is at the moment."""
        return query(self.data_dir / "state.sqlite", self.folder / "look", sql)

    def ledger(self) -> Counter[str]:
        """The paths of its entries."""
        return Counter(os.fsdecode(path) for (path,) in self.query("SELECT path FROM ledger"))  # type: ignore[arg-type] # a BLOB

    def outbox(self, sink: str = "mqtt") -> set[str]:
        """The pictures whose results wait there for a sink."""
        sql = f"SELECT payload FROM outbox JOIN sinks ON number = sink WHERE kind = 'detections' AND name = '{sink}'"
        return {json.loads(payload)["image"]["path"] for (payload,) in self.query(sql)}  # type: ignore[arg-type]

    def quarantined(self) -> list[Path]:
        """Notes of files that were set aside."""
        return sorted((self.data_dir / "quarantine").rglob("*.reason.txt"))

    def stop(self) -> None:
        """Stop the daemon that runs, in order."""
        assert self.daemons[-1].stop() == 0, self.daemons[-1].log
        assert "Traceback" not in self.daemons[-1].log

    def verdict(self, note: str = "", *, ledger: Iterable[str] | None = None) -> Row:
        """Count, fill in the row, and fail where something was lost or is not as promised. `ledger`: what it must hold, if not all."""
        tally(self.row, self.post.payloads("detections"), self.offered, self.device)
        self.row.quarantined = len(self.quarantined())
        self.row.note = note
        assert self.row.lost == 0, f"lost: {sorted(self.offered.keys() - self.arrived())[:10]}"
        assert self.ledger() == Counter(list(self.offered if ledger is None else ledger)), "one entry a picture"
        return self.row

    def close(self) -> None:
        for daemon in self.daemons:
            daemon.kill()


def tally(row: Row, payloads: Iterable[bytes], offered: Iterable[str], device: str | None = None) -> None:
    """Count the results that arrived into the row; each message must be valid, and repeats of a picture must have its one id."""
    ids: dict[str, str] = {}
    of_path: dict[str, str] = {}
    count = 0
    for payload in payloads:
        message = json.loads(payload)
        if device is not None and message["device"] != device:
            continue
        SCHEMA.validate(message)
        path = message["image"]["path"]
        if path is None:  # a camera's frame, of which nobody knows how many there were
            continue
        count += 1
        assert of_path.setdefault(path, message["id"]) == message["id"], f"{path} came again with another id"
        assert ids.setdefault(message["id"], path) == path, f"{path} has the id of {ids[message['id']]}"
    wanted = set(offered)
    row.sent += len(wanted)
    row.received += len(of_path.keys() & wanted)
    row.lost += len(wanted - of_path.keys())
    row.repeated += count - len(of_path)


def query(database: Path, scratch: Path, sql: str) -> list[tuple[object, ...]]:
    """Ask a copy of the database, log included; nothing where there is none yet."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for _ in range(100):
        try:
            for tail in ("", "-wal"):
                if (source := Path(f"{database}{tail}")).exists():
                    shutil.copyfile(source, scratch / f"copy{tail}")
            connection = sqlite3.connect(scratch / "copy")
            try:
                return connection.execute(sql).fetchall()
            finally:
                connection.close()
        except (sqlite3.DatabaseError, FileNotFoundError) as exc:  # copied while it was written to
            if "no such table" in str(exc):
                return []
    raise AssertionError(f"{database} could not be looked at")


def seeded(request_name: str) -> random.Random:
    """A source of chance whose seed is printed, so that a failure can be played again (FAULTS_SEED)."""
    seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(2**31)))
    print(f"{request_name}: FAULTS_SEED={seed}")
    return random.Random(seed)
