"""The first quiet moment of a daemon that knows nothing of its board yet."""

from __future__ import annotations

import json
from contextlib import ExitStack

from tests.brokers import Subscriber
from tests.e2e.daemons import Daemon, copy_samples


def test_the_first_pictures_are_the_priors_and_in_the_first_quiet_moment_it_measures_and_the_better_model_comes_into_force(
    tmp_path, broker
):
    """On a busy machine the measurements are noisy, and the model stays: that is one line and one info as well."""
    with ExitStack() as stack:
        subscriber = Subscriber(broker)
        stack.callback(subscriber.close)
        first = copy_samples(tmp_path / "in")
        daemon = Daemon(tmp_path / "daemon", "--profile", "low", "--watch", tmp_path / "in", "--mqtt", broker.url)
        stack.callback(daemon.kill)

        def results():
            return [json.loads(m.payload) for m in list(subscriber.messages) if m.topic.endswith("/detections")]

        subscriber.wait_for(lambda _: len(results()) == len(first), f"pictures before anything is measured: {daemon.log}")
        daemon.wait_log("idle: benchmarking the models once, input paused")
        later = copy_samples(tmp_path / "in" / "later")
        daemon.wait_log(": measured: ")
        subscriber.wait_for(lambda _: len(results()) == len(first) + len(later), "the pictures that waited")
        assert daemon.stop() == 0
        info = [json.loads(m.payload) for m in subscriber.messages if m.topic.endswith("/info")]
        assert len(info) == 2
        assert "nothing was measured" in info[0]["reasons"]
        assert {result["model"]["name"] for result in results()[: len(first)]} == {info[0]["model"]["name"]} == {"nanodet-g@224"}
        assert "choice" in info[1]
        assert info[1]["reasons"][-1].startswith("measured: ")
        assert {result["model"]["name"] for result in results()[len(first) :]} == {info[1]["model"]["name"]}
        assert daemon.log.count(": measured: ") == 1
        ids = {(found["label"], found["class_id"]) for result in results() for found in result["detections"]}
        assert len(ids) == len(dict(ids)) > 0, "a label has one id, whichever model runs"
