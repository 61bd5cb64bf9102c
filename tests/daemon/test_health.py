"""Monitoring over HTTP: pages, the text that Prometheus reads, and labels that stay few."""

from __future__ import annotations

import json
import re
import socket
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.daemon.monitoring.health import HealthServer
from edgeannot.daemon.monitoring.metrics import Distributions, exposition
from edgeannot.settings import HealthOptions
from tests.docs_pages import DOCS
from tests.patience import DEADLINE_S

FIGURES = {
    "pictures": 7, "detections": 9, "rejected": {"truncated": 2}, "skipped": 1, "queues": {"files": 3, "frames": 0, "results": 1},
    "sinks": {"mqtt": {"rows": 4, "bytes": 512, "dropped": 0, "refused": 1}}, "rss_bytes": 1000, "cpu_temperature_c": None,
    "model": {"name": "nanodet-g@224", "sha256": "x", "threads": 2}, "governor": {"step": 1, "rate": 0.5}, "throttled": False,
}  # fmt: skip

LINE = re.compile(
    r"(# (HELP|TYPE) [a-z_]+ .+"
    r'|[a-z_]+(\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\})? (-?[0-9.]+(e[+-]?[0-9]+)?|\+Inf))'
)


def page(distributions=None, figures=FIGURES, connections=2):
    return exposition(figures, distributions or Distributions(), profile="low", connections=connections)


def annotated(*labels, ms=30.0):
    return SimpleNamespace(labels=labels, timing_ms={"inference": ms, "total": 2 * ms})


def test_without_a_picture_the_page_is_whole():
    text = exposition({}, Distributions(), profile="low", connections=None)

    assert "edgeannot_pictures_total 0" in text.splitlines()
    assert all(LINE.fullmatch(line) for line in text.splitlines())


def test_every_line_is_as_prometheus_reads_it():
    distributions = Distributions()
    distributions.annotated(annotated("cat", 'a "label"\\\n'))
    lines = page(distributions).splitlines()

    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert 'edgeannot_rejected_total{reason="truncated"} 2' in lines
    assert 'edgeannot_outbox_rows{sink="mqtt"} 4' in lines
    assert "edgeannot_broker_connections_total 2" in lines
    assert any(line.startswith("edgeannot_info{") and 'model="nanodet-g@224"' in line and 'profile="low"' in line for line in lines)
    assert "temperature" not in "".join(lines)  # not known: no line, rather than a wrong one


def test_a_histogram_counts_up_to_its_bounds():
    distributions = Distributions()
    for ms in (0.5, 30.0, 30.0, 9999.0):
        distributions.annotated(annotated(ms=ms))
    lines = page(distributions).splitlines()

    assert 'edgeannot_stage_seconds_bucket{stage="inference",le="0.001"} 1' in lines
    assert 'edgeannot_stage_seconds_bucket{stage="inference",le="0.05"} 3' in lines
    assert 'edgeannot_stage_seconds_bucket{stage="inference",le="+Inf"} 4' in lines
    assert 'edgeannot_stage_seconds_count{stage="inference"} 4' in lines


def test_labels_stay_few():
    distributions = Distributions(max_labels=2)
    for number in range(50):
        distributions.annotated(annotated(f"label{number}"))
    lines = [line for line in page(distributions).splitlines() if line.startswith("edgeannot_detections_total{")]

    assert sorted(lines) == [
        'edgeannot_detections_total{label="label0"} 1',
        'edgeannot_detections_total{label="label1"} 1',
        'edgeannot_detections_total{label="other"} 48',
    ]


@pytest.fixture
def state():
    return {"trouble": "", "ready": ""}


@pytest.fixture
def server(state):
    made = HealthServer(HealthOptions(enabled=True, port=0), lambda: state["trouble"], lambda: state["ready"], page)
    yield made
    made.close()


def asked(server, path, **headers):
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()


def test_the_pages(server, state):
    assert asked(server, "/healthz") == (200, "ok\n")
    state["ready"] = "paused"
    assert (asked(server, "/healthz")[0], asked(server, "/readyz")) == (200, (503, "paused\n"))
    state["trouble"] = "no heartbeat of infer for 70 s"
    assert asked(server, "/healthz") == (503, "no heartbeat of infer for 70 s\n")
    assert "edgeannot_pictures_total 7" in asked(server, "/metrics")[1]
    assert asked(server, "/state.sqlite")[0] == 404


def test_a_strangers_name_that_was_made_to_point_here_gets_nothing_of_this_machine(server):
    assert asked(server, "/metrics", Host="rebound.example:9464")[0] == 403
    assert asked(server, "/metrics", Host=f"LOCALHOST:{server.port}")[0] == 200
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S) as bare:
        bare.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert bare.recv(99).startswith(b"HTTP/1.0 200")


def test_on_another_address_monitors_ask_by_the_names_of_their_network():
    made = HealthServer(HealthOptions(enabled=True, address="0.0.0.0", port=0), str, str, page)
    try:
        assert asked(made, "/metrics", Host="edgeannot.monitored.example")[0] == 200
    finally:
        made.close()


def test_an_address_that_is_taken_is_one_sentence(server):
    with pytest.raises(ConfigError, match=rf"\[health\]: wanted to listen on 127\.0\.0\.1 port {server.port}, .* set another"):
        HealthServer(HealthOptions(enabled=True, port=server.port), str, str, str)


def test_it_is_off_and_for_this_machine_by_default():
    assert (HealthOptions().enabled, HealthOptions().address) == (False, "127.0.0.1")


def test_the_dashboard_asks_for_metrics_that_are_there():
    distributions = Distributions()
    distributions.annotated(annotated("cat"))
    text = page(distributions, {**FIGURES, "cpu_temperature_c": 50.0})
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    asked_for = set(re.findall(r"(?:edgeannot|process)_[a-z_]+", " ".join(t["expr"] for p in dashboard["panels"] for t in p["targets"])))

    assert len(asked_for) >= 10
    assert {name for name in asked_for if not re.search(rf"^{name}[ {{]", text, re.MULTILINE)} == set()
