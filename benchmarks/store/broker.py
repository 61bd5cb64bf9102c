"""A broker of our own and a lasting subscriber, for `benchmarks.store`."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

__all__ = ["DEADLINE_S", "MOSQUITTO", "TOPIC", "Listener", "Mosquitto", "mosquitto"]

TOPIC = "edgeannot/bench/inbox/detections"
DEADLINE_S = 180.0
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Listener:
    """A subscriber whose session the broker keeps while it is away."""

    def __init__(self, port: int) -> None:
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="bench-listener", clean_session=False, protocol=MQTTv311)
        self._ids: list[int] = []
        self._moved = threading.Event()
        subscribed = threading.Event()

        def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
            self._ids.append(json.loads(message.payload)["seq"])
            self._moved.set()

        self._client.on_message = on_message
        self._client.on_connect = lambda *_: self._client.subscribe(TOPIC, 1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert subscribed.wait(DEADLINE_S), "the benchmark's own subscriber could not subscribe"

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def until_quiet(self, quiet_s: float = 2.0) -> list[int]:
        """What has come when nothing more does."""
        while self._moved.wait(quiet_s):
            self._moved.clear()
        return self._ids


class Mosquitto:
    """A broker of our own; start and stop it at will."""

    def __init__(self, folder: Path, *settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = int(server.getsockname()[1])
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous true", "max_queued_messages 0", "log_type error", *settings]
        lines += [f"persistence_location {folder}/"] + (["user root"] if os.geteuid() == 0 else [])
        self._configuration = folder / "mosquitto.conf"
        self._configuration.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it listens."""
        assert MOSQUITTO is not None
        self._process = subprocess.Popen([MOSQUITTO, "-c", str(self._configuration)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "mosquitto does not start"
                assert time.monotonic() < deadline, "mosquitto does not listen"
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """As systemd would; it writes down what it keeps."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None


@contextmanager
def mosquitto(folder: Path, *settings: str) -> Iterator[Mosquitto]:
    """A broker that runs meanwhile."""
    broker = Mosquitto(folder, *settings)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
