"""What the daemon says to the broker when messages were lost on the disk."""

from __future__ import annotations

import json

from tests.e2e.daemons import copy_samples, edgeannot


def test_a_damaged_database_is_told_to_the_broker_until_it_is_removed(tmp_path, broker, make_subscriber):
    pictures, data = tmp_path / "in", tmp_path / "data"
    names = copy_samples(pictures)
    data.mkdir()
    (data / "state.sqlite").write_bytes(b"no database" * 1000)
    subscriber = make_subscriber(broker, "edgeannot/pi/#")

    def infos() -> list[dict]:
        return [json.loads(payload) for payload in subscriber.payloads("edgeannot/pi/info")]

    arguments = ("run", "--once", "--watch", pictures, "--data-dir", data, "--mqtt", broker.url, "--profile", "low")
    done = edgeannot(*arguments, EDGEANNOT_DEVICE="pi")
    assert done.returncode == 0, done.stderr
    assert "set aside" in done.stderr
    subscriber.wait_for(lambda s: len(s.payloads("edgeannot/pi/inbox/detections")) == len(names), "all pictures")
    [damaged] = infos()[-1]["damaged"]
    assert (data / damaged).read_bytes() == b"no database" * 1000

    (data / damaged).unlink()
    copy_samples(pictures, 2)
    assert edgeannot(*arguments, EDGEANNOT_DEVICE="pi").returncode == 0
    subscriber.wait_for(lambda s: "damaged" not in infos()[-1], "an info without it")
