"""The first quiet moment of a daemon that knows nothing of its board yet."""

from __future__ import annotations

import json
from contextlib import ExitStack

from tests.brokers import Subscriber
from tests.e2e.daemons import Daemon, copy_samples


def test_in_the_first_quiet_moment_it_measures_pictures_wait_and_the_better_model_comes_into_force(tmp_path, broker):
    with ExitStack() as stack:
        subscriber = Subscriber(broker)
        stack.callback(subscriber.close)
        (tmp_path / "in").mkdir()
        daemon = Daemon(tmp_path / "daemon", "--profile", "mid", "--watch", tmp_path / "in", "--mqtt", broker.url)
        stack.callback(daemon.kill)
        daemon.wait_log("nothing was measured")
        daemon.wait_log("idle: benchmarking the models once, input paused")
        names = copy_samples(tmp_path / "in")
        daemon.wait_log(": measured: ")

        def results():
            return [json.loads(m.payload) for m in list(subscriber.messages) if m.topic.endswith("/detections")]

        subscriber.wait_for(lambda _: len(results()) == len(names), "the pictures that waited")
        assert daemon.stop() == 0
        info = [json.loads(m.payload) for m in subscriber.messages if m.topic.endswith("/info")]
        assert "choice" in info[-1]
        assert info[-1]["reasons"][-1].startswith("measured: ")
        assert {result["model"]["name"] for result in results()} == {info[-1]["model"]["name"]}
