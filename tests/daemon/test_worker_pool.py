"""What the daemon's threads show of themselves, for telemetry."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import numpy as np

from edgeannot.crash_guard import AtWork
from edgeannot.daemon.bounded_queue import BoundedQueue, MemoryLimiter
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.daemon.worker_pool import Heartbeats, WorkerPool
from edgeannot.daemon.workers import Inference
from edgeannot.daemon.writer import Writer
from edgeannot.payload import Origin
from edgeannot.sinks import JsonlOptions, LabelsOptions, SinkContext, WebhookOptions
from edgeannot.sinks.jsonl import JsonlSink
from edgeannot.sinks.labels import LabelsSink
from edgeannot.sinks.queue_sender import QueueSender
from edgeannot.sinks.webhook import WebhookSink
from edgeannot.storage.store import Caps, Message, Store
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from tests.brokers import free_port, wait_until


def pool_of(store, *sinks) -> WorkerPool:
    """One that is never started, with no source."""
    frames, results, telemetry, stop = BoundedQueue(), BoundedQueue(), Telemetry(), threading.Event()
    shared = {"limiter": MemoryLimiter(1), "at_work": AtWork(), "heartbeat": lambda: None}
    return WorkerPool(
        readers=[],
        inference=Inference(frames=frames, results=results, active_model=None, control=None, sources={}, **shared),
        writer=Writer(results=results, sources={}, sinks=sinks, store=store, telemetry=telemetry, stop=stop, **shared),
        frames=frames,
        results=results,
        telemetry=telemetry,
        heartbeats=Heartbeats(),
        stop=stop,
    )


def annotation() -> Annotation:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), "door", 0, datetime.now(UTC), "x", name="cat.jpg")
    return Annotation(frame, Detections.empty(), (), ModelFacts("m", "0" * 64, "yolo", "low"), {})


def test_nothing_is_amiss_at_the_start(tmp_path):
    with Store.open(tmp_path / "state.sqlite") as store:
        figures = pool_of(store).figures()

    assert figures["outbox"] == {"rows": 0, "bytes": 0, "dropped": 0, "refused": 0}
    assert (figures["damaged"], figures["folders"]) == ([], [])


def test_messages_that_were_dropped_or_lost_with_a_database_are_told(tmp_path):
    path = tmp_path / "state.sqlite"
    path.write_bytes(b"no database" * 1000)
    with Store.open(path) as store:
        store.queue("mqtt", Caps(rows=1))
        store.commit(None, [Message("t", b"1"), Message("t", b"2")])
        figures = pool_of(store).figures()

    assert figures["outbox"]["dropped"] == 1
    [name] = figures["damaged"]
    assert name.startswith("state.sqlite.damaged-")


def test_the_queues_of_sinks_and_their_deliveries_are_told(tmp_path):
    options = WebhookOptions(enabled=True, url=f"http://127.0.0.1:{free_port()}/", retry_min_s=60)
    sink = WebhookSink(options, SinkContext(Origin("pi", "b"), tmp_path))
    with Store.open(tmp_path / "state.sqlite") as store:
        sender = QueueSender(sink, store.queue("webhook", options.caps), tmp_path / "undelivered")
        pool = pool_of(store, sink)
        none = {"rows": 0, "bytes": 0, "dropped": 0, "refused": 0}
        assert pool.figures()["sinks"] == {"mqtt": none, "webhook": {**none, "sent": 0, "trouble": ""}}

        store.commit(None, [Message("k", b"{}", sink="webhook"), Message("t", b"12")])
        sender.start()
        wait_until(lambda: sink.status.trouble, "a first attempt")
        figures = pool.figures()
        sender.stop()

    assert figures["sinks"]["mqtt"] == {**none, "rows": 1, "bytes": 2}
    assert figures["sinks"]["webhook"] == {**none, "rows": 1, "bytes": 2, "sent": 0, "trouble": sink.status.trouble}
    assert (figures["outbox"]["rows"], figures["outbox"]["bytes"]) == (2, 4)
    assert "Connection refused" in sink.status.trouble


def test_folders_that_take_no_files_are_told_and_that_they_do_again(tmp_path, monkeypatch):
    context = SinkContext(Origin("pi", "b"), tmp_path)
    sinks = [LabelsSink(LabelsOptions(min_free_mb=10**9), context), JsonlSink(JsonlOptions(min_free_mb=10**9), context)]
    with Store.open(tmp_path / "state.sqlite") as store:
        pool = pool_of(store, *sinks)
        for sink in sinks:
            sink.write(annotation())
        labels, lines = pool.figures()["folders"]
        assert labels == {"path": str(tmp_path / "labels"), "unwritten": 1, "trouble": f"less than {10**9} MB are free"}
        assert lines == {"path": str(tmp_path / "annotations.jsonl"), "unwritten": 1, "trouble": f"less than {10**9} MB are free"}

        for sink in sinks:
            free_again(sink, monkeypatch)
            sink.write(annotation())
            sink.close()
        assert [(each["unwritten"], each["trouble"]) for each in pool.figures()["folders"]] == [(1, ""), (1, "")]


def free_again(sink, monkeypatch) -> None:
    """As if somebody had tidied up."""
    monkeypatch.setattr("edgeannot.sinks.files.OutputFolder.has_room", lambda self, size: True)
