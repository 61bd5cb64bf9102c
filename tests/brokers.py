"""A real broker for each test that asks for one, a subscriber that collects, and a wire between that can be cut.

Fixtures for every test (see `pytest_plugins` in conftest.py). Everything is on the loopback address, on ports of its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edgeannot.payload import Origin, encode, status_payload
from tests.patience import DEADLINE_S

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A TCP port that nothing listened on a moment ago, and that the kernel gives to nobody who asks for any port.

    Browsers open each of them: 10080 is the last that they refuse.
    """
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    while True:
        port = random.SystemRandom().choice([port for port in range(10_081, 65_000) if not low <= port <= high])
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def status_of(device: str) -> Callable[[str], bytes]:
    """What a publisher of that device says of itself."""
    return lambda state: encode(status_payload(Origin(device, "boot-1"), state))


def wait_until(condition: Callable[[], object], what: str, timeout_s: float = DEADLINE_S, pace_s: float = 0.01) -> None:
    """Poll until the condition holds; for what has no event to wait for. Fails with `what` was waited for."""
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        pause.wait(pace_s)


class Broker:
    """A mosquitto of our own, on one port for its whole life; start, stop, kill and pause it at will."""

    def __init__(self, folder: Path, *settings: str, anonymous: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(*settings, anonymous=anonymous)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def configure(self, *settings: str, anonymous: bool = True) -> None:
        """Write the configuration that the next start reads; `settings` belong to the listener or are global."""
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'true' if anonymous else 'false'}",
            f"log_dest file {self.folder}/mosquitto.log",
            "log_type all",
            "max_queued_messages 100000",
            *settings,
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # it would not be able to read the test's folder otherwise
        (self.folder / "mosquitto.conf").write_text("\n".join(lines) + "\n")

    def start(self) -> Broker:
        assert MOSQUITTO is not None
        command = [MOSQUITTO, "-c", str(self.folder / "mosquitto.conf")]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._accepts, f"mosquitto to listen; its log: {self.folder}/mosquitto.log")
        return self

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mosquitto ended: {self.log()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """As systemd would: it says goodbye to its clients."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Nothing is answered from now on, and no connection is closed: a half-open link."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self._process.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "the broker to stop")

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        path = self.folder / "mosquitto.log"
        return path.read_text() if path.exists() else ""

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            if number == signal.SIGTERM:
                self._process.send_signal(signal.SIGCONT)
            self._process.wait(DEADLINE_S)
            self._process = None


class Subscriber:
    """Collects what arrives, on one connection: when the broker goes, `wait_over` says that all was read."""

    def __init__(self, broker: Broker, topic_filter: str = "#", *, user: tuple[str, str] | None = None, qos: int = 1) -> None:
        self.messages: list[paho.MQTTMessage] = []
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5, reconnect_on_failure=False)
        if user:
            self._client.username_pw_set(*user)
        subscribed = threading.Event()
        self._client.on_connect = lambda *_: self._client.subscribe(topic_filter, qos)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = self._take
        self._over = threading.Event()
        self._client.on_disconnect = lambda *_: self._over.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert subscribed.wait(DEADLINE_S), "the test's own subscriber could not subscribe"

    def _take(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def payloads(self, topic: str | None = None) -> list[bytes]:
        return [bytes(m.payload) for m in list(self.messages) if topic is None or m.topic == topic]

    def wait_for(self, condition: Callable[[Subscriber], object], what: str, timeout_s: float = DEADLINE_S) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), timeout_s), f"waited {timeout_s} s for: {what}"

    def wait_over(self) -> None:
        assert self._over.wait(DEADLINE_S), "the connection is still there"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        # Without a circle of references paho closes its own sockets when the client is let go; in one the collector may come to them first.
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = self._client.on_disconnect = None


class Wire:
    """A TCP relay to the broker that can refuse new connections, cut those there are, or go silent."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.connected = True
        """Whether new connections get through."""
        self.accepted = 0
        """Connections that were let through."""
        self._peers: dict[socket.socket, socket.socket] = {}
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Close every connection at once."""
        with self._lock:
            for end in list(self._peers):
                self._drop(end)

    def close(self) -> None:
        self._ended = True
        self._thread.join(DEADLINE_S)
        self.cut()
        self._server.close()

    def _run(self) -> None:
        while not self._ended:
            with self._lock:
                ends = [end for end in self._peers if end.fileno() >= 0]
            try:
                ready, _, _ = select.select([self._server, *ends], [], [], 0.02)
            except (OSError, ValueError):  # one was cut meanwhile
                continue
            with self._lock:
                for end in ready:
                    if end is self._server:
                        self._accept()
                    elif end in self._peers:
                        self._relay(end)

    def _accept(self) -> None:
        client, _ = self._server.accept()
        try:
            if not self.connected:
                raise ConnectionRefusedError
            broker = socket.create_connection(("127.0.0.1", self._upstream))
        except OSError:
            client.close()
            return
        self.accepted += 1
        self._peers |= {client: broker, broker: client}

    def _relay(self, end: socket.socket) -> None:
        try:
            data = end.recv(65536)
            if data:
                self._peers[end].sendall(data)
                return
        except OSError:
            pass
        self._drop(end)

    def _drop(self, end: socket.socket) -> None:
        other = self._peers.pop(end, None)
        if other is not None:
            self._peers.pop(other, None)
            other.close()
        end.close()


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    """Make brokers that are not started yet; they end with the test. Skips where mosquitto is not installed."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (Debian package mosquitto)")
    made: list[Broker] = []

    def make(*settings: str, anonymous: bool = True) -> Broker:
        made.append(Broker(tmp_path / f"broker{len(made)}", *settings, anonymous=anonymous))
        return made[-1]

    yield make
    for broker in made:
        broker.kill()


@pytest.fixture
def broker(make_broker: Callable[..., Broker]) -> Broker:
    """A broker that runs and lets anybody in."""
    return make_broker().start()


@pytest.fixture
def make_subscriber() -> Iterator[Callable[..., Subscriber]]:
    """Make subscribers, connected and subscribed; they end with the test."""
    made: list[Subscriber] = []

    def make(broker: Broker, topic_filter: str = "#", **options: object) -> Subscriber:
        made.append(Subscriber(broker, topic_filter, **options))  # type: ignore[arg-type] # passed through
        return made[-1]

    yield make
    for subscriber in made:
        subscriber.close()


@pytest.fixture
def make_wire() -> Iterator[Callable[[int], Wire]]:
    """Make wires to a port; they end with the test."""
    made: list[Wire] = []

    def make(port: int) -> Wire:
        made.append(Wire(port))
        return made[-1]

    yield make
    for wire in made:
        wire.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.crt, and server.* (localhost, 127.0.0.1), elsewhere.* (another host), expired.* and client.* signed by it;
    other.crt is another authority, and stranger.* is signed by it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    for authority in ("ca", "other"):
        run("req", "-x509", *key, "-days", "2", "-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-subj", f"/CN=test {authority}")
    here = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    for name, extension, days in (
        ("server", here, "2"),
        ("elsewhere", "subjectAltName=DNS:broker.invalid", "2"),
        ("expired", here, "-1"),
        ("client", "extendedKeyUsage=clientAuth", "2"),
        ("stranger", "extendedKeyUsage=clientAuth", "2"),
    ):
        authority = "other" if name == "stranger" else "ca"
        (folder / "extension").write_text(extension)
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            f"{authority}.crt",
            "-CAkey",
            f"{authority}.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            "extension",
            "-out",
            f"{name}.crt",
        )
    return folder
