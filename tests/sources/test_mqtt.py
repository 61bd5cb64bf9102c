"""Pictures as messages, with a real mosquitto: what comes, what is acknowledged when, and who works off what a gone worker left."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from datetime import UTC, datetime

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pydantic import ValidationError

from edgeannot.base.errors import ConfigError, FrameError, LinkError
from edgeannot.base.places import SAMPLES
from edgeannot.mqtt.group import Group, successor
from edgeannot.mqtt.options import BrokerOptions, SessionOptions
from edgeannot.mqtt.subscriber import Subscriber
from edgeannot.payload import encode, message_id, refused_payload
from edgeannot.sources import Context, MqttSourceOptions, open_source
from edgeannot.sources.arrival import matches, named_level, read_arrival
from edgeannot.sources.quarantine import folder_bytes
from edgeannot.vision.data import Failure, Frame
from tests.brokers import wait_until
from tests.patience import DEADLINE_S

MODEL = "0" * 64
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


class Camera:
    """Sends pictures as a small camera does, and knows that the broker has them."""

    def __init__(self, broker, protocol=paho.MQTTv5):
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        connected = threading.Event()
        self._client.on_connect = lambda *_: connected.set()
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        self._protocol = protocol
        assert connected.wait(DEADLINE_S)

    def send(self, data, topic="edgeannot/pictures/door", qos=1, reply=None, **words):
        properties = None
        if self._protocol == paho.MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)
            if reply is not None:
                properties.ResponseTopic, properties.CorrelationData = reply
            properties.UserProperty = list(words.items())
        self._client.publish(topic, data, qos, properties=properties).wait_for_publish(DEADLINE_S)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def camera(broker):
    made = Camera(broker)
    yield made
    made.close()


class Worker:
    """A source whose items are pulled by the test, and finished when it says so."""

    def __init__(self, broker, pull, stop, tmp_path, device="one", once=False, protocol="5", **options):
        self.quarantine = tmp_path / f"quarantine-{device}"
        context = Context(
            quarantine=self.quarantine,
            once=once,
            device=device,
            refusal=lambda *told: encode(refused_payload(device, *told)),
        )
        own = BrokerOptions(url=broker.url, protocol=protocol, retry_min_s=0.05, retry_max_s=0.2)
        self.source = open_source("pictures", MqttSourceOptions(**options).beside_results(own, "edgeannot"), context)
        self.stop = stop
        self.pull = pull(self.source)

    def begin(self):
        """Pull until the subscription is granted."""
        self.pull.until(lambda tick: self.source._subscriber.online)
        return self

    def take(self, count, **options):
        return self.pull.take(count, **options)

    def finish(self, *items):
        for item in items:
            self.source.finish(item)

    def die(self):
        """As a power cut would: the connection ends without a word, and nothing of it is used again."""
        subscriber = self.source._subscriber
        subscriber._closing.set()
        sock = subscriber._connection.client.socket()
        sock.shutdown(2)
        subscriber._thread.join(DEADLINE_S)

    def leave(self):
        self.pull.items.close()


@pytest.fixture
def worker(broker, pull_from, stop, tmp_path):
    made = []

    def make(device="one", at=broker, **options):
        made.append(Worker(at, pull_from, stop, tmp_path, device, **options))
        return made[-1]

    yield make
    for each in made:
        each.source._under_way.clear()  # nobody finishes any more
        each.leave()


@pytest.fixture
def pull_from(stop):
    from tests.sources.conftest import Pull

    return lambda source: Pull(source, stop)


# Nothing yet


def test_without_pictures_there_are_only_ticks(worker):
    made = worker().begin()

    made.pull.idle(ticks=2)

    assert made.pull.ticks[-1].trouble == ""


def test_once_without_pictures_ends(worker):
    made = worker(once=True)

    assert not [item for item in made.pull.items if isinstance(item, Frame | Failure)]


def test_once_a_connection_that_is_made_again_is_no_error(worker, make_wire, broker, camera, jpeg):
    wire = make_wire(broker.port)
    made = worker(at=wire, once=True)
    camera_sent = made.pull.until(lambda tick: made.source._subscriber.online)
    camera.send(jpeg())
    frame = made.take(1)[0]
    lost = made.source._subscriber._connection
    wire.cut()
    wait_until(lambda: made.source._subscriber.online and made.source._subscriber._connection is not lost, "the next connection")
    made.finish(frame)

    rest = made.pull.rest()

    assert camera_sent.trouble == ""
    assert all(item.identity == frame.identity for item in rest)


def test_once_without_a_broker_is_an_error_that_names_the_source(worker, broker):
    broker.stop()
    made = worker(once=True)

    with pytest.raises(LinkError, match=r"no connection to mqtt://127.0.0.1:\d+.*sources\.pictures"):
        made.take(1)


def test_a_broker_that_is_away_is_told_by_ticks_and_waited_for(worker, broker, camera, jpeg):
    broker.stop()
    made = worker()
    made.pull.until(lambda tick: "no pictures come: no connection to" in tick.trouble)

    broker.start()
    made.begin()
    sender = Camera(broker)
    sender.send(jpeg())

    assert made.take(1)[0].sender.device == "door"
    sender.close()


# One worker


def test_a_picture_comes_with_what_its_sender_says(worker, camera, jpeg):
    made = worker().begin()
    camera.send(jpeg(7), id="p-1", captured_at="2026-07-01T14:00:00+02:00", device="ignored: the topic names it")

    frame = made.take(1)[0]

    assert (frame.sender.device, frame.sender.topic, frame.sender.id) == ("door", "edgeannot/pictures/door", "p-1")
    assert (frame.captured_at, frame.sender.dated) == (NOON, True)
    assert frame.image.shape == (8, 8, 3)
    assert frame.name.startswith("door/2026-07-01/120000-")
    assert frame.name.endswith(".jpg")


def test_a_picture_of_a_sender_without_properties_has_the_time_of_arrival(worker, camera, jpeg):
    before = datetime.now(UTC)
    made = worker().begin()
    camera.send(jpeg())

    frame = made.take(1)[0]

    assert before <= frame.captured_at <= datetime.now(UTC)
    assert (frame.sender.dated, frame.sender.id) == (False, None)


def test_only_the_window_is_taken_until_results_are_committed(worker, camera, jpeg):
    """The broker holds the rest: a slow worker fills neither its memory nor the queue of another program."""
    made = worker(window=2).begin()
    for i in range(5):
        camera.send(jpeg(i), id=f"{i}")

    first = made.take(2)
    made.pull.idle(ticks=2)
    made.finish(*first)
    rest = made.take(2)
    made.finish(*rest)
    last = made.take(1)

    assert [frame.sender.id for frame in (*first, *rest, *last)] == list("01234")


def test_acknowledgements_leave_in_the_order_of_arrival(worker, camera, jpeg):
    made = worker(window=2).begin()
    for i in range(3):
        camera.send(jpeg(i), id=f"{i}")
    first, second = made.take(2)

    made.finish(second)
    made.pull.idle(ticks=2)  # the window is still full: nothing was acknowledged
    made.finish(first)

    assert made.take(1)[0].sender.id == "2"


def test_what_was_not_committed_comes_again_after_a_death_and_has_the_same_message_id(worker, camera, jpeg):
    made = worker().begin()
    for i in range(3):
        camera.send(jpeg(i), id=f"{i}")
    frames = made.take(3)
    made.finish(frames[0])
    made.pull.idle(ticks=1)
    made.die()

    again = worker().take(2)

    assert [message_id("one", f, MODEL) for f in again] == [message_id("one", f, MODEL) for f in frames[1:]]


def test_pictures_that_come_while_the_worker_is_away_wait_at_the_broker(worker, camera, jpeg):
    worker().begin().leave()
    for i in range(3):
        camera.send(jpeg(i), id=f"{i}")

    assert [frame.sender.id for frame in worker().take(3)] == ["0", "1", "2"]


def test_a_picture_under_way_that_comes_again_is_done_once_and_acknowledged(worker, broker, camera, jpeg):
    broker.configure("persistence true", f"persistence_location {broker.folder}/", "autosave_interval 1")
    broker.stop()
    broker.start()
    sender = Camera(broker)
    made = worker(window=1).begin()
    sender.send(jpeg(1), id="first")
    frame = made.take(1)[0]
    broker.stop()
    made.pull.until(lambda tick: tick.trouble)
    broker.start()
    made.begin()
    made.pull.until(lambda tick: made.source._subscriber.pending == 1)
    made.pull.idle(ticks=1)

    made.finish(frame)
    again = Camera(broker)
    again.send(jpeg(2), id="second")

    assert made.take(1)[0].sender.id == "second"
    sender.close()
    again.close()


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"no picture", "not-a-picture"), (None, "truncated"), (b"\xff\xd8" + bytes(2 << 20), "too-large")],
)
def test_a_picture_that_cannot_be_one_is_set_aside_and_does_not_come_again(worker, camera, jpeg, data, reason):
    made = worker(window=1, max_mb=1).begin()
    data = (SAMPLES / "cat.jpg").read_bytes()[:9000] if data is None else data
    camera.send(data)
    camera.send(jpeg())
    failure = made.take(1)[0]

    assert (failure.reason, failure.source) == (reason, "pictures")
    assert (failure.quarantined is not None) == (bool(data) and reason != "too-large"), "what is over the limit is not kept"
    if failure.quarantined:
        assert failure.quarantined.read_bytes() == data
        assert "from: edgeannot/pictures/door" in failure.quarantined.with_name(failure.quarantined.name + ".reason.txt").read_text()
    made.finish(failure)
    assert isinstance(made.take(1)[0], Frame)


def test_a_sender_named_like_the_folder_above_stays_inside_the_quarantine(worker, camera):
    made = worker().begin()
    camera.send(b"no picture", topic="edgeannot/pictures/..")

    kept = made.take(1)[0].quarantined

    assert kept.resolve().is_relative_to((made.quarantine / "pictures").resolve())


def test_a_line_that_breaks_again_and_again_does_not_pile_up_pictures_that_nobody_opens(worker, broker, camera, jpeg):
    made = worker(window=2).begin()
    for number in range(4):
        camera.send(jpeg(number), id=str(number))
    first = made.take(1)
    subscriber = made.source._subscriber
    for _ in range(3):
        lost = subscriber._connection
        lost.client.socket().shutdown(2)
        wait_until(lambda lost=lost: subscriber._connection not in (None, lost) and subscriber.pending == 2, "both pictures to come again")

    assert len(made.source._arrived) <= 3  # the one that was opened may be there once more
    seen = {first[0].sender.id}
    made.finish(*first)
    while len(seen) < 4:
        frame = made.take(1)[0]
        seen.add(frame.sender.id)
        made.finish(frame)


def test_pictures_of_a_sender_that_cannot_be_named_are_all_acknowledged(worker, camera, jpeg):
    made = worker(window=2).begin()
    for i in range(2):
        camera.send(jpeg(i), id="i" * 300)
    camera.send(jpeg(3))
    failures = made.take(2)
    made.finish(*failures)

    assert [failure.reason for failure in failures] == ["sender", "sender"]
    assert made.take(1)[0].image[0, 0, 0] == 3


def test_a_picture_beyond_all_measure_is_refused_and_blocks_nobody(worker, camera, jpeg):
    """A bound on packets in CONNECT would have mosquitto 2.0.11 keep the message's place in the window for ever."""
    made = worker(window=1, max_mb=1).begin()
    camera.send(bytes(20 << 20))
    camera.send(jpeg(3))
    (failure,) = made.take(1)
    made.finish(failure)

    assert failure.reason == "too-large"
    assert made.take(1)[0].image[0, 0, 0] == 3


def test_a_picture_that_is_text_is_read_and_its_identity_is_that_of_the_message(worker, camera, jpeg):
    text = json.dumps({"camera": "door", "image": base64.b64encode(jpeg(size=32)).decode()}).encode()
    made = worker().begin()
    camera.send(text)
    camera.send(b"\n" + jpeg(size=16))
    encoded, stray = made.take(2)

    assert (encoded.size_wh, stray.size_wh) == ((32, 32), (16, 16))
    assert encoded.name.endswith(".jpg")
    assert encoded.identity == read_arrival("edgeannot/pictures/door", text, {}, 2, NOON).identity


def test_the_sender_of_a_text_is_told_what_was_found(worker, broker, camera, make_subscriber):
    made = worker().begin()
    reader = make_subscriber(broker, "edgeannot/#")
    camera.send(b'{"temperature": 21.5}')
    made.finish(*made.take(1))
    reader.wait_for(lambda s: s.payloads("edgeannot/door/pictures/refused"), "an answer")
    [error] = [json.loads(payload)["error"] for payload in reader.payloads("edgeannot/door/pictures/refused")]

    assert error["code"] == "not-a-picture"
    assert error["message"].startswith("the message is JSON without a picture (its keys: 'temperature'); wanted the bytes of a picture")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_sender_of_a_picture_that_is_refused_is_told_why(worker, broker, make_subscriber, jpeg, protocol):
    version = paho.MQTTv5 if protocol == "5" else paho.MQTTv311
    made = worker(max_mb=1, protocol=protocol).begin()
    camera = Camera(broker, version)
    reader = make_subscriber(broker, "edgeannot/#")
    camera.send(bytes(4 << 20))
    camera.send(b"no picture", qos=0)
    failures = made.take(2)
    made.finish(*failures)
    reader.wait_for(lambda s: len(s.payloads("edgeannot/door/pictures/refused")) == 2, "two answers")
    camera.close()

    large, other = (json.loads(payload) for payload in reader.payloads("edgeannot/door/pictures/refused"))
    assert large["error"] == {"code": "too-large", "message": "the file has 4 MB, allowed are 1 MB"}
    assert (large["device"], large["source"], large["sender"]["device"]) == ("one", "pictures", "door")
    assert other["error"]["code"] == "not-a-picture"
    assert [failure.quarantined is None for failure in failures] == [True, False], "what was not kept is not set aside"


@pytest.mark.parametrize(
    ("asked", "topic"),
    [("camera/7/answers", "camera/7/answers"), ("edgeannot/pi/command/pause", "edgeannot/door/pictures/refused"),
     ("edgeannot/pictures/door", "edgeannot/door/pictures/refused")],
)  # fmt: skip
def test_a_refusal_goes_to_the_response_topic_unless_that_is_somebody_elses(worker, broker, camera, make_subscriber, asked, topic):
    made = worker().begin()
    reader = make_subscriber(broker)
    camera.send(b"no picture", reply=(asked, b"\0no 7"), id="7")
    made.finish(*made.take(1))
    reader.wait_for(lambda s: [m for m in s.messages if b"not-a-picture" in m.payload], "the answer")

    [answer] = [m for m in reader.messages if b"not-a-picture" in m.payload]
    assert (answer.topic, answer.properties.CorrelationData) == (topic, b"\0no 7")
    assert json.loads(answer.payload)["sender"]["id"] == "7"


def test_a_broker_that_refuses_the_login_is_told_by_its_meaning(worker, make_broker):
    made = worker(at=make_broker(anonymous=False).start())

    made.pull.until(lambda tick: "the broker does not let this user in" in tick.trouble)


def test_refused_pictures_fill_the_quarantine_only_up_to_its_cap(worker, camera):
    made = worker(quarantine_mb=1).begin()
    for i in range(3):
        camera.send(b"x%d" % i + bytes(600_000))

    failures = made.take(3)

    assert [failure.quarantined is not None for failure in failures] == [True, False, False]
    assert folder_bytes(made.quarantine) < 1 << 20
    assert "not kept" in failures[1].message


def test_many_small_refused_messages_fill_no_disk(worker, camera):
    """Each takes two blocks: one for the reason."""
    made = worker(quarantine_mb=1, window=64).begin()
    for number in range(160):
        camera.send(b"%d" % number, qos=1)

    kept = [failure.quarantined for failure in _all_of(made, 160)]

    assert kept[0] is not None
    assert kept[-1] is None
    assert folder_bytes(made.quarantine) <= 1 << 20


def _all_of(made, count):
    found = []
    while len(found) < count:
        found += made.take(1)
        made.finish(found[-1])
    return found


def test_a_flood_without_guarantee_is_skipped_and_counted(worker, camera, jpeg):
    made = worker(window=1).begin()
    for i in range(10):
        camera.send(jpeg(i), qos=0, id=f"{i}")
    camera.send(jpeg(), id="last")  # on the same connection: all before it have come by then
    wait_until(lambda: made.source.skipped + len(made.source._arrived) == 11, "all to arrive")

    assert made.source.skipped == 8


def test_a_broker_that_speaks_3_1_1_gives_pictures_too(worker, broker, jpeg):
    sender = Camera(broker, paho.MQTTv311)
    made = worker(protocol="3.1.1").begin()
    sender.send(jpeg())
    frame = made.take(1)[0]
    made.finish(frame)
    made.leave()
    sender.send(jpeg(3))

    assert frame.sender.device == "door"
    assert worker(protocol="3.1.1").take(1)[0].image[0, 0, 0] == 3
    sender.close()


# A group


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_peer_works_off_what_a_dead_worker_left_and_its_session_ends(worker, broker, camera, jpeg, protocol):
    one, two = (worker(name, group="g", grace_s=0.3, protocol=protocol).begin() for name in ("one", "two"))
    for worker_ in (one, two):
        worker_.pull.until(lambda tick, w=worker_: w.source._group.others_here() and w.source._group.knows_me)
    for i in range(12):
        camera.send(jpeg(i), topic=f"edgeannot/pictures/cam{i}")
    first = one.take(1)[0]
    one.finish(first)
    one.die()

    answered = {first.image[0, 0, 0]}
    while len(answered) < 12:
        frame = two.take(1)[0]
        answered.add(frame.image[0, 0, 0])
        two.finish(frame)
    two.pull.until(lambda tick: not two.source._takeover.busy)

    assert not session_present(broker, one.source._subscriber.client_id, protocol)
    camera.send(jpeg(99))  # all of the share is its own now
    assert two.take(1)[0].image[0, 0, 0] == 99


def test_what_a_worker_held_that_died_with_the_broker_is_worked_off(worker, make_broker, jpeg, tmp_path, monkeypatch):
    """A broker whose power failed sends no will: the dead worker stays "here" for it."""
    monkeypatch.setattr("edgeannot.mqtt.group._SILENT_S", 1.5)
    monkeypatch.setattr("edgeannot.mqtt.group._ECHO_S", 0.1)
    monkeypatch.setattr("edgeannot.sources.mqtt.GREET_S", 0.5)
    broker = make_broker("persistence true", "autosave_interval 1", "autosave_on_changes true", f"persistence_location {tmp_path}/")
    broker.start()
    one, two = (worker(name, at=broker, group="g", grace_s=0.1, window=1).begin() for name in ("one", "two"))
    sender = Camera(broker)
    for number in range(6):
        sender.send(jpeg(number), id=str(number))
    sender.close()
    two.take(1)
    begun = one.take(1)
    database = tmp_path / "mosquitto.db"
    before = database.stat().st_mtime_ns if database.exists() else 0
    wait_until(lambda: database.exists() and database.stat().st_mtime_ns > before, "the broker to have saved what it has")

    broker.kill()
    two.source._subscriber._closing.set()
    two.source._subscriber._thread.join(DEADLINE_S)
    broker.start()
    one.finish(*begun)

    seen = {begun[0].sender.id}
    while len(seen) < 6:
        frame = one.take(1)[0]
        seen.add(frame.sender.id)
        one.finish(frame)


def test_a_worker_that_stops_in_order_hands_over_at_once_what_it_has_not_done(worker, camera, jpeg):
    one, two = (worker(name, group="g", grace_s=600).begin() for name in ("one", "two"))
    for worker_ in (one, two):
        worker_.pull.until(lambda tick, w=worker_: w.source._group.others_here() and w.source._group.knows_me)
    for i in range(6):
        camera.send(jpeg(i))
    one.take(1)
    one.leave()
    camera.send(jpeg(6))

    answered = set()
    while len(answered) < 7:
        frame = two.take(1)[0]
        answered.add(frame.image[0, 0, 0])
        two.finish(frame)


def test_a_worker_that_comes_back_gets_its_session_again(worker, camera, jpeg):
    one, two = (worker(name, group="g", grace_s=0).begin() for name in ("one", "two"))
    two.pull.until(lambda tick: two.source._group.others_here() and two.source._group.knows_me)
    one.pull.until(lambda tick: one.source._group.others_here())
    for i in range(12):
        camera.send(jpeg(i))
    one.die()
    mine = two.take(5)  # its own window is full: one at least is from the other's session
    back = worker("one", group="g", grace_s=600)

    answered = {frame.image[0, 0, 0] for frame in mine}
    two.finish(*mine)
    pullers = [two, back]
    while len(answered) < 12:
        for each in pullers:
            item = next(each.pull.items)
            if isinstance(item, Frame):
                answered.add(item.image[0, 0, 0])
                each.finish(item)


def test_pictures_wait_for_a_group_that_is_away_altogether(worker, camera, jpeg):
    worker("one", group="g").begin().leave()
    camera.send(jpeg(5))

    assert worker("one", group="g").take(1)[0].image[0, 0, 0] == 5


def test_the_broker_may_be_trusted_with_the_handing_over(worker, camera, jpeg):
    made = worker(group="g", hand_over="broker").begin()
    camera.send(jpeg(5))

    made.finish(*made.take(1))

    assert made.source._group is None


def test_a_session_counts_as_empty_only_when_the_broker_has_answered(broker):
    """What was sent before the answer has come by then: a large picture on a slow line is not taken for nothing."""
    options = BrokerOptions(url=broker.url)
    subscriber = Subscriber(options, "gone", SessionOptions(dropped_filters=("a/+",), keep_s=60, lasting=False), lambda _: None)
    subscriber.start()
    wait_until(lambda: subscriber.online, "the broker")
    broker.pause()

    asked = [subscriber.is_drained() for _ in range(100)]
    broker.resume()

    assert not any(asked)
    wait_until(subscriber.is_drained, "the answer")
    subscriber.close(end_session=True)


def session_present(broker, client_id, protocol):
    """Whether the broker keeps anything for that client."""
    version = paho.MQTTv5 if protocol == "5" else paho.MQTTv311
    clean = {} if protocol == "5" else {"clean_session": False}
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=version, **clean)
    found = []
    client.on_connect = lambda _client, _data, flags, *_: found.append(flags.session_present)
    client.connect("127.0.0.1", broker.port, **({"clean_start": False} if protocol == "5" else {}))
    client.loop_start()
    wait_until(lambda: found, "the broker's answer")
    client.disconnect()
    client.loop_stop()
    return found[0]


# Members of a group, without a broker


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def group_of(me, clock, *others):
    group = Group("edgeannot", "g", f"edgeannot-group-g-{me}", "f/+", clock)
    for name, state in {me: "here", **dict(others)}.items():
        tell(group, name, state)
    return group


def tell(group, name, state, topic_filter="f/+"):
    other = Group("edgeannot", "g", f"edgeannot-group-g-{name}", topic_filter)
    return group.heard(other.topic(other.me), other.message(state).payload if state else b"")


def test_nobody_inherits_before_anybody_is_there():
    assert Group("edgeannot", "g", "edgeannot-group-g-a", "f/+").to_take_over(0) == []


def test_one_that_vanished_is_given_time_and_one_that_left_is_not():
    clock = Clock()
    group = group_of("a", clock, ("b", "away"), ("c", "leaving"))

    at_once = group.to_take_over(10)
    clock.now += 0.5
    soon = group.to_take_over(10)
    clock.now += 9.5

    assert at_once == []
    assert soon == ["edgeannot-group-g-c"]
    assert sorted(group.to_take_over(10)) == ["edgeannot-group-g-b", "edgeannot-group-g-c"]


def test_one_that_is_silent_for_long_is_gone_unless_the_line_is_silent_altogether():
    now = [0.0]
    group = Group("edgeannot", "g", "edgeannot-group-g-me", "f", clock=lambda: now[0])
    other = "edgeannot-group-g-other"
    here = group.message("here").payload
    for name in (group.me, other):
        group.heard(group.topic(name), here)
    now[0] = 100.0
    assert group.others_here()
    assert group.to_take_over(1.0) == []

    group.heard(group.topic(group.me), here)  # the line is back, and what the broker keeps is on its way
    assert group.to_take_over(1.0) == []
    now[0] = 102.0
    assert group.to_take_over(1.0) == [other]
    assert not group.others_here()

    group.heard(group.topic(other), here)
    assert group.to_take_over(1.0) == []
    assert group.others_here()


def test_the_number_of_members_that_are_remembered_is_bounded():
    group = Group("edgeannot", "g", "edgeannot-group-g-me", "f")
    for number in range(2000):
        group.heard(f"edgeannot/groups/g/edgeannot-group-g-{number}", group.message("away").payload)

    assert len(group._members) == 1000


def test_exactly_one_of_those_who_are_there_inherits_and_all_agree():
    names = [f"edgeannot-group-g-{name}" for name in "abcdefgh"]

    successors = [successor(gone, [name for name in names if name != gone]) for gone in names]

    assert successors == [successor(gone, [name for name in reversed(names) if name != gone]) for gone in names]
    assert len(set(successors)) > 2


def test_a_message_cannot_lead_a_worker_to_connect_as_another_program():
    group = group_of("a", Clock())
    other = Group("edgeannot", "g", "homeassistant", "f/+")

    assert group.heard(other.topic("homeassistant"), other.message("leaving").payload)
    assert group.to_take_over(0) == []


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"5", b'{"state":"gone","filter":"f/+"}', b'{"state":"leaving","filter":5}'])
def test_what_is_no_state_is_passed_over(payload):
    group = group_of("a", Clock())

    assert group.heard("edgeannot/groups/g/edgeannot-group-g-b", payload)
    assert group.to_take_over(0) == []


def test_a_member_with_another_filter_is_not_inherited_from():
    group = group_of("a", Clock())
    tell(group, "b", "leaving", "other/+")

    assert group.to_take_over(0) == []


# What a message says, without a broker


@pytest.mark.parametrize(
    ("topic", "level", "properties", "device"),
    [
        ("p/door", 1, {}, "door"),
        ("p/door", None, {}, "door"),
        ("p/x", None, {"device": "porch"}, "porch"),
        ("p/front%2Fdoor", 1, {"device": "other"}, "front/door"),
        ("p", 4, {}, "p"),
        ("p/", 1, {}, ""),
    ],
)
def test_the_sender_is_named_by_its_level_else_by_its_property_else_by_the_last_level(topic, level, properties, device):
    assert read_arrival(topic, b"x", properties, level, NOON).sender.device == device


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-07-01T12:00:00Z", NOON),
        ("1782907200", NOON),
        ("1782907200.0", NOON),
        ("2026-07-01T12:00:00", None),
        ("yesterday", None),
        ("nan", None),
        ("1e99", None),
        ("-inf", None),
    ],
)
def test_the_time_is_rfc_3339_or_unix_seconds_and_anything_else_is_complained_of(text, moment):
    arrived = datetime(2027, 1, 1, tzinfo=UTC)

    found = read_arrival("p/door", b"x", {"captured_at": text}, 1, arrived)

    assert found.captured_at == (moment or arrived)
    assert found.sender.dated == (moment is not None)
    assert bool(found.complaint) == (moment is None)


def test_the_same_picture_is_the_same_for_every_worker_and_another_time_or_sender_makes_another():
    def identity(topic="p/door", payload=b"x", **words):
        return read_arrival(topic, payload, words, 1, datetime.now(UTC)).identity

    assert identity(id="1") == identity(id="1")
    assert (
        len({identity(), identity(id="1"), identity(id="2"), identity("p/porch"), identity(payload=b"y"), identity(captured_at="1")}) == 6
    )


@pytest.mark.parametrize("words", [{"id": "i" * 257}, {"device": "ü" * 129}])
def test_a_sender_with_words_that_fit_no_topic_is_refused(words):
    with pytest.raises(FrameError, match=r"257 bytes|258 bytes"):
        read_arrival("p", b"x", words, None, NOON)


@pytest.mark.parametrize(
    ("topic_filter", "topic", "fits"),
    [("#", "a/b", True), ("a/+", "a/b", True), ("a/+", "a/b/c", False), ("a/#", "a", True), ("+/b", "a/b", True), ("a", "b", False)],
)
def test_filters_match_as_the_protocol_says(topic_filter, topic, fits):
    assert matches(topic_filter, topic) == fits


def test_the_first_wildcard_names_the_sender():
    assert [named_level(text) for text in ("a/b", "a/+/+", "+/#", "#")] == [None, 1, 0, None]


# Settings


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"topic": ""}, "wanted a topic filter"),
        ({"topic": "a/b+"}, "wanted a topic filter"),
        ({"topic": "a/#/b"}, "wanted a topic filter"),
        ({"topic": "$SYS/#"}, "wanted a topic filter"),
        ({"topic": "$share/g/a/+"}, "set the name of the group in group"),
        ({"group": "a/b"}, "match pattern"),
        ({"device_level": 3}, "levels count from 0"),
        ({"broker": {"url": "mqtt://u:p@host"}}, "no password in the URL"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(options, wanted):
    with pytest.raises(ValidationError, match=wanted):
        MqttSourceOptions(**options)


@pytest.mark.parametrize("topic", ["#", "edgeannot/#", "edgeannot/+/+/+", "+/+/pictures/image"])
def test_a_filter_that_brings_results_back_as_pictures_is_refused(topic):
    with pytest.raises(ConfigError, match="results would come in as pictures"):
        open_source("pictures", MqttSourceOptions(topic=topic))


def test_a_device_whose_own_messages_would_come_in_as_pictures_is_refused():
    with pytest.raises(ConfigError, match="edgeannot/pictures/status"):
        open_source("cameras", MqttSourceOptions(), Context(device="pictures"))


def test_a_client_id_of_ones_own_is_refused_where_peers_must_know_it():
    options = MqttSourceOptions(group="g", broker=BrokerOptions(client_id=f"mine-{uuid.uuid4().hex[:4]}"))

    with pytest.raises(ConfigError, match="leave client_id out"):
        open_source("pictures", options)
