"""Messages that are too large: pictures and commands that come, and pictures that the broker of the results does not take."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.stage import jpeg
from tests.patience import DEADLINE_S

MB = 2**20

SENDER = """
import sys
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

port, protocol, qos, size, topic = *(int(word) for word in sys.argv[1:5]), sys.argv[5]
client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
client.connect("127.0.0.1", port)
client.loop_start()
client.publish(topic, b"\\xff\\xd8\\xff" + bytes(size), qos).wait_for_publish(300)
client.disconnect()
"""


def send(port: int, protocol: str, qos: int, size: int, topic: str) -> None:
    """Publish so many bytes, from a process of its own, and wait until the broker has them."""
    version = {"5": 5, "3.1.1": 4}[protocol]
    subprocess.run([sys.executable, "-c", SENDER, *map(str, (port, version, qos, size, topic))], check=True, timeout=DEADLINE_S)


def memory_kb(pid: int, name: str) -> int:
    """A figure of the kernel's on a process: VmRSS, or VmHWM for the most since `forget_peak`."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.mark.parametrize(
    ("protocol", "qos", "size_mb"),
    [
        ("5", 1, 40),
        ("3.1.1", 2, 40),
        *(pytest.param(protocol, qos, 200, marks=pytest.mark.long) for protocol in ("5", "3.1.1") for qos in (1, 2)),
    ],
)
def test_oversize_in_both_directions(make_stage, make_post, protocol, qos, size_mb):
    stage = make_stage(f"oversize in both directions: {size_mb} MB, QoS {qos}, MQTT {protocol}", make_post("max_packet_size 20000"))
    incoming = make_post().start()
    stage.post.start()
    stage.jpeg = jpeg(320, 240)  # noise: larger than the broker takes when annotated
    settings = {"KIND": "mqtt", "TOPIC": "cameras/+", "BROKER__URL": incoming.url, "BROKER__PROTOCOL": protocol}
    source = {f"EDGEANNOT_SOURCES__PICTURES__{name}": value for name, value in settings.items()}
    daemon = stage.start(
        EDGEANNOT_SINKS__MQTT__PROTOCOL=protocol,
        EDGEANNOT_SINKS__MQTT__IMAGES="true",
        **source,
    )
    stage.offer(5)
    stage.wait_all()
    daemon.wait_log("taking messages from")
    topic = "cameras/door"
    pid = daemon.process.pid

    def answers(leaf: str) -> list[dict]:
        return [json.loads(payload) for payload in incoming.payloads(leaf)]

    send(incoming.broker.port, protocol, qos, 100, topic)  # no picture: what a refusal needs is loaded
    stage.wait(lambda: len(answers("refused")) == 1, "the first answer")
    forget_peak(pid)
    before = memory_kb(pid, "VmRSS")
    send(incoming.broker.port, protocol, qos, size_mb * MB, topic)
    stage.wait(lambda: len(answers("refused")) == 2, "the answer", 300)
    grown = memory_kb(pid, "VmHWM") - before
    send(incoming.broker.port, protocol, qos, 100, topic)
    stage.wait(lambda: len(answers("refused")) == 3, "the next message to be looked at")
    stage.wait(lambda: not stage.query("SELECT 1 FROM outbox"), "every result to be sent, every image to be refused")
    assert answers("refused")[1]["error"] == {"code": "too-large", "message": f"the file has {size_mb} MB, allowed are 16 MB"}
    assert grown <= 10 * 1024, f"{grown} kB"
    daemon.kill()
    stage.start(**source)
    stage.offer(1)
    stage.wait_all()
    stage.daemons[-1].wait_log("taking messages from")
    send(incoming.broker.port, protocol, qos, 100, topic)
    stage.wait(lambda: len(answers("refused")) == 4, "a message after a restart")
    assert [answer["error"]["code"] for answer in answers("refused")].count("too-large") == 1, "it did not come again"
    stage.stop()
    refused = stage.query("SELECT value FROM counters WHERE name = 'mqtt.refused'")
    stage.verdict(f"memory +{grown / 1024:.1f} MB, answered, not sent again; {refused[0][0]} images over the broker's limit refused")
