"""A fleet for tests: real daemons in one shared group, a sender, and a collector of what they answer."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeannot.storage.queue import Message
from edgeannot.storage.store import Store
from tests.brokers import Broker
from tests.e2e.daemons import COMMAND, SAMPLES, Daemon, copy_samples, edgeannot
from tests.patience import DEADLINE_S

MODEL = "yolov3-tiny@192"


@dataclass(frozen=True)
class Tally:
    """Pictures sent, answered, lost and answered more than once, and who answered how many."""

    sent: int
    received: int
    lost: int
    repeated: int
    by_worker: dict[str, int]


class Collector:
    """Keeps every result, also over a restart of the broker: its session is a lasting one."""

    def __init__(self, broker: Broker, user: str | None = None) -> None:
        self._changed = threading.Condition()
        self.results: list[dict] = []
        self.topics: set[str] = set()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="collector", protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        if user:
            self._client.username_pw_set(user)
        subscribed = threading.Event()
        self._client.on_connect = lambda client, *_: client.subscribe("edgeannot/+/pictures/detections", 1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._take
        lasting = Properties(PacketTypes.CONNECT)
        lasting.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", broker.port, clean_start=False, properties=lasting)
        self._client.loop_start()
        assert subscribed.wait(DEADLINE_S)

    def _take(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.topics.add(message.topic)
            self.results.append(json.loads(message.payload))
            self._changed.notify_all()

    @property
    def answered(self) -> set[str]:
        """What the senders call the pictures that were answered."""
        return {result["sender"]["id"] for result in list(self.results)}

    def wait(self, count: int, deadline_s: float = DEADLINE_S) -> None:
        assert self.wait_quietly(count, deadline_s), f"{len(self.answered)} of {count} answered"

    def wait_quietly(self, count: int, deadline_s: float) -> bool:
        """Whether so many pictures are answered within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.answered) >= count, deadline_s)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Fleet:
    """Workers of one group, and what they are to answer."""

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        *settings: str,
        user: str | None = None,
        name_is_user: bool = False,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.broker = broker
        self._command = command
        self._folder = folder
        self._config = folder / "edgeannot.toml"
        lines = ['[sources.pictures]\nkind = "mqtt"\ngroup = "fleet"\ngrace_s = 0.5', *settings, "[sinks.mqtt]\nretry_max_s = 2.0\n"]
        self._config.write_text("\n".join(lines))
        self.workers: dict[str, Daemon] = {}
        self.collector = Collector(broker, user)
        self._user, self._name_is_user = user, name_is_user

    def start(self, *names: str) -> None:
        """Start workers and wait until each has said that it is here."""
        self.launch(*names)
        for name in names:
            _wait_retained(self.broker, f"edgeannot/groups/fleet/edgeannot-group-fleet-{name}-pictures", self._user)

    def launch(self, *names: str) -> None:
        for name in names:
            arguments = ("--config", self._config, "--device", name, "--mqtt", self._url(name), "--profile", "low", "--model", MODEL)
            self.workers[name] = Daemon(self._folder / name, *arguments, "--threads", 1, command=self._command)

    def _url(self, name: str) -> str:
        return self.broker.url.replace("//", f"//{name}@") if self._name_is_user else self.broker.url

    def send(self, count: int, device: str = "door", protocol: str = "5") -> set[str]:
        """Sample photos over the command; the ids that it gave them."""
        folder = self._folder / f"sent-{device}"
        names = copy_samples(folder, -(-count // len(list(SAMPLES.glob("*.jpg")))))
        for name in names[count:]:
            (folder / name).unlink()
        done = edgeannot("send", folder, "--mqtt", self.broker.url, "--device", device, "--protocol", protocol)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith(f"{count} picture{'s' * (count > 1)} sent to edgeannot/pictures/{device}")
        return {line.split()[-1] for line in done.stdout.splitlines()[:-1]}

    def kept(self, name: str) -> list[dict]:
        """Results that a dead worker committed and could not send any more; they leave when it comes back."""
        with Store.open(self.workers[name].data_dir / "state.sqlite") as store:
            messages: list[Message] = store.queue("mqtt").next_messages(0, 1000)
        return [json.loads(message.payload) for message in messages if message.kind == "detections"]

    def end(self) -> None:
        for worker in self.workers.values():
            worker.kill()
        self.collector.close()

    def tally(self, sent: set[str]) -> Tally:
        """What came of the pictures; fails where a repeat has an id of its own, or two pictures share one."""
        results = list(self.collector.results)
        ids: dict[str, set[str]] = {}
        for result in results:
            ids.setdefault(result["sender"]["id"], set()).add(result["id"])
        assert all(len(each) == 1 for each in ids.values()), "a repeat has another id"
        assert len({next(iter(each)) for each in ids.values()}) == len(ids), "two pictures have one id"
        workers = Counter(result["device"] for result in results)
        return Tally(len(sent), len(ids), len(sent - set(ids)), len(results) - len(ids), dict(sorted(workers.items())))


def _wait_retained(broker: Broker, topic: str, user: str | None) -> None:
    """Until somebody has said there that it is here."""
    heard = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    if user:
        client.username_pw_set(user)
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.on_message = lambda _client, _data, message: b'"here"' in message.payload and heard.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert heard.wait(DEADLINE_S), f"nobody is at {topic}"
    finally:
        client.disconnect()
        client.loop_stop()
