"""The broker comes late, goes, loses its memory, freezes, refuses, or takes less: every result arrives all the same."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from tests.brokers import free_port, wait_until
from tests.faults.stage import jpeg
from tests.patience import DEADLINE_S


def states(post):
    return [json.loads(payload)["state"] for payload in post.payloads("status")]


def test_started_later(make_stage):
    stage = make_stage("broker: started later")
    stage.offer(20)
    stage.start().wait_log("waiting, trying again")
    stage.wait(lambda: len(stage.outbox()) == 20, "the results to wait")
    stage.post.start()
    stage.wait_all()
    stage.stop()
    stage.verdict(f"20 results waited; {stage.daemons[-1].log.count('trying again')} line in the log")


@pytest.mark.long
def test_stopped_and_started_again_and_again(make_stage):
    times = 10
    stage = make_stage(f"broker: stopped and started {times} times")
    stage.post.start()
    stage.start()
    for _ in range(times):
        stage.offer(10)
        stage.wait_arrived(len(stage.offered) - 5)  # in the middle
        stage.post.end()
        stage.offer(10)
        stage.post.start()
    stage.wait_all()
    stage.stop()
    stage.verdict()


@pytest.mark.parametrize(
    ("times", "persistence"), [(1, False), pytest.param(8, True, marks=pytest.mark.long), pytest.param(8, False, marks=pytest.mark.long)]
)
def test_killed_it_is_told_again_what_is_retained(make_stage, make_post, tmp_path, persistence, times):
    settings = (
        ["persistence true", f"persistence_location {tmp_path}/kept/", "autosave_interval 1"] if persistence else ["persistence false"]
    )
    (tmp_path / "kept").mkdir()
    stage = make_stage(f"broker: killed {times} x, {'with' if persistence else 'without'} persistence", make_post(*settings))
    post = stage.post.start()
    stage.start()
    for _ in range(times):
        stage.offer(10)
        stage.wait_arrived(len(stage.offered) - 5)
        post.end(post.broker.kill)
        stage.offer(10)
        post.start()
    stage.wait_all()
    retained = post.retained_now()
    assert json.loads(retained["status"])["state"] == "online"
    assert json.loads(retained["info"])["model"]["name"] == "tiny"
    assert json.loads(retained["count"])["labels"] == {"cat": 1, "dog": 1}
    stage.stop()
    stage.verdict("status, info and count are there again")


def test_frozen_longer_than_the_keepalive(make_stage):
    """A half-open link: nothing is answered and nothing is closed. The client must notice by itself, and come again."""
    stage = make_stage("broker: frozen (SIGSTOP) for 3 x keepalive")
    post = stage.post.start()
    daemon = stage.start()
    stage.offer(5)
    stage.wait_all()
    post.broker.pause()
    stage.offer(20)
    daemon.wait_log("trying again")  # keepalive 2 s
    assert "no answer from the broker within the keepalive time" in daemon.log or "does not answer" in daemon.log, daemon.log
    post.broker.resume()
    stage.wait_all()
    stage.stop()
    stage.verdict("noticed by keepalive, not by luck")


@pytest.mark.long
def test_it_refuses_the_user_for_a_while(make_stage, make_post, tmp_path):
    stage = make_stage("broker: refuses the password, then takes it", make_post(anonymous=False))
    post = stage.post
    passwords = tmp_path / "passwords"
    tool = shutil.which("mosquitto_passwd", path="/usr/bin:/usr/sbin:/usr/local/bin") or pytest.skip("mosquitto_passwd is not installed")

    def allow(*users):
        passwords.write_text("")
        passwords.chmod(0o600)
        for user, word in users:
            subprocess.run([tool, "-b", str(passwords), user, word], check=True, capture_output=True)
        post.broker.configure("max_inflight_messages 0", f"password_file {passwords}", anonymous=False)

    post.reader_user = ("reader", "r")
    allow(post.reader_user, ("edge", "another word"))
    post.start()
    (tmp_path / "secret").write_text("s3cret\n")
    stage.offer(10)
    daemon = stage.start(EDGEANNOT_SINKS__MQTT__USERNAME="edge", EDGEANNOT_SINKS__MQTT__PASSWORD_FILE=str(tmp_path / "secret"))
    daemon.wait_log("not authorised")
    stage.wait(lambda: len(stage.outbox()) == 10, "the results to wait")
    post.end()
    allow(post.reader_user, ("edge", "s3cret"))
    post.start()
    stage.wait_all()
    assert "s3cret" not in daemon.log
    stage.stop()
    stage.verdict("said by its meaning; no restart needed")


@pytest.mark.long
def test_its_certificate_has_expired(make_stage, make_post, certificates, tmp_path):
    stage = make_stage("broker: certificate expired, then a good one", make_post())
    post = stage.post

    def signed(days):
        """A certificate for the broker that ends in so many days; negative: it has ended."""
        request = ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
        (tmp_path / "extension").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        made = [*request, "-days", str(days), "-extfile", str(tmp_path / "extension"), "-out", str(tmp_path / "broker.crt")]
        subprocess.run(made, cwd=certificates, check=True, capture_output=True)

    signed(-1)
    # One port for us, one with TLS for the daemon.
    post.way.upstream = tls_port = free_port()
    tls = [f"listener {tls_port} 127.0.0.1", f"certfile {tmp_path}/broker.crt", f"keyfile {certificates}/server.key"]
    post.broker.configure("max_inflight_messages 0", *tls)
    post.start()
    stage.offer(10)
    url = post.url.replace("mqtt:", "mqtts:")
    daemon = stage.start(EDGEANNOT_SINKS__MQTT__URL=url, EDGEANNOT_SINKS__MQTT__CA_FILE=str(certificates / "ca.crt"))
    daemon.wait_log("certificate has expired")
    stage.wait(lambda: len(stage.outbox()) == 10, "the results to wait")
    post.end()
    signed(2)
    post.start()
    stage.wait_all()
    stage.stop()
    stage.verdict("nothing is sent over a link that is not trusted")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])  # 3.1.1 has to find out by trying, with the pauses that are the default
def test_it_takes_small_packets_only(make_stage, make_post, protocol):
    """Annotated pictures are larger than it takes: they are dropped and counted, each result arrives."""
    stage = make_stage(f"broker: packets of 2000 bytes at most, MQTT {protocol}", make_post("max_packet_size 2000"))
    stage.post.start()
    stage.jpeg = jpeg(160, 120)  # noise: over 4 kB when annotated
    stage.offer(5)
    pauses = {"EDGEANNOT_SINKS__MQTT__RETRY_MIN_S": "1", "EDGEANNOT_SINKS__MQTT__RETRY_MAX_S": "60"}
    daemon = stage.start(EDGEANNOT_SINKS__MQTT__IMAGES="true", EDGEANNOT_SINKS__MQTT__PROTOCOL=protocol, **pauses)
    daemon.wait_log("connected to")
    stage.wait_arrived(5, timeout_s=10)
    stage.wait_all()
    stage.wait(lambda: not stage.query("SELECT 1 FROM outbox"), "everything to be sent or refused")
    assert stage.query("SELECT value FROM counters WHERE name = 'mqtt.refused'") == [(5,)]
    assert not stage.post.payloads("image")
    daemon.wait_log("dropping a message")
    stage.stop()
    stage.verdict("5 oversize pictures dropped and counted; results within 10 s")


def test_everything_arrives_also_where_nothing_goes_wrong(make_stage):
    """The control: without a fault nothing is repeated either."""
    stage = make_stage("none")
    stage.post.start()
    stage.start()
    stage.offer(50)
    stage.wait_all()
    wait_until(lambda: "online" in states(stage.post), "the status", DEADLINE_S)
    stage.stop()
    assert stage.verdict().repeated == 0
