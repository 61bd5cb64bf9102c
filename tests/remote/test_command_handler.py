"""Commands over a real broker: each is carried out and answered once, whatever comes, and nothing waits for anything it need not."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from random import Random
from types import SimpleNamespace

import cv2
import jsonschema
import numpy as np
import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edgeannot.base.errors import ModelError
from edgeannot.crash_guard import AtWork, of_content
from edgeannot.mqtt.options import BrokerOptions, Topics
from edgeannot.mqtt.publisher import Publisher
from edgeannot.payload import Origin
from edgeannot.remote.command_handler import CommandHandler
from edgeannot.remote.commands import Pause, Reply, Request
from edgeannot.remote.control import Control, Defaults
from edgeannot.remote.teaching import Teacher
from edgeannot.sinks.mqtt import CommandOptions
from edgeannot.storage.store import Message, Store
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from tests.brokers import status_of, wait_until
from tests.crash_guard.dying import die
from tests.patience import DEADLINE_S

ORIGIN, TOPICS = Origin("pi", "boot-1"), Topics("pi")
BASE = "edgeannot/pi"
MODEL = ModelFacts("yolov3-tiny@224", "ab" * 32, "yolo", "low")
SAMPLE = Path(str(resources.files("edgeannot").joinpath("samples/cameraman.jpg")))
REPLY = jsonschema.Draft202012Validator(json.loads(resources.files("edgeannot").joinpath("schema/reply-1.json").read_text()))
DETECTIONS = jsonschema.Draft202012Validator(json.loads(resources.files("edgeannot").joinpath("schema/detections-1.json").read_text()))


def annotate(frame: Frame) -> Annotation:
    height, width = frame.image.shape[:2]
    found = Detections(np.array([[0, 0, width, height]], np.float32), np.array([0.5], np.float32), np.array([0]))
    return Annotation(frame, found, ("person",), MODEL)


def frame(source="porch") -> Frame:
    return Frame(np.zeros((40, 60, 3), np.uint8), source, 0, datetime.now(UTC), "x", name="x.jpg")


def load(name: str) -> str:
    if name != "yolov3-tiny@320":
        raise ModelError(f"no model called {name!r}")
    return name


class Board:
    """A device without a model: a control whose requests a thread serves, a publisher, and a handler between them."""

    def __init__(
        self,
        folder: Path,
        url: str,
        control: Control | None = None,
        protocol="5",
        at_work: AtWork | None = None,
        command=("false",),
        **options,
    ) -> None:
        self.control = control or Control()
        self.model = "yolov3-tiny@224"
        self.store = Store.open(folder / "state.sqlite")
        broker = BrokerOptions(url=url, protocol=protocol, retry_min_s=0.02, retry_max_s=0.05)
        self.publisher = Publisher(broker, self.store.queue("mqtt"), "pi", status_of("pi"))
        self.handler = CommandHandler(
            CommandOptions(enabled=True, **options),
            self.control,
            lambda: Defaults(self.model, 0.3),
            ORIGIN,
            TOPICS,
            self.publisher.send_now,
            lambda message: self.store.commit(None, (message,)),
            jpeg=lambda _: b"\xff\xd8 drawn",
            teacher=Teacher(CommandOptions(**options), folder, {}, command),
            other_trees=("homeassistant",),
            at_work=at_work,
        )
        self.publisher.subscribe(self.handler.topic_filter, self.handler.take, max_bytes=self.handler.max_bytes, as_published=True)
        self.serving = threading.Event()
        self.serving.set()
        self._ended = threading.Event()
        self._model_thread = threading.Thread(target=self._serve, daemon=True)
        self._model_thread.start()
        self.handler.start()
        self.publisher.start()
        self.wait_subscribed()

    def wait_subscribed(self) -> None:
        """The broker has our subscriptions when it has acknowledged a message that followed them."""
        assert self.publisher.wait_online(DEADLINE_S)
        self.store.commit(None, (Message("ready", b""),))
        assert self.store.queue("mqtt").wait_empty(DEADLINE_S)

    def _serve(self) -> None:
        while not self._ended.wait(0.005):
            if self.serving.is_set():
                self.control.serve(self._load, annotate)

    def _load(self, name: str, *_: str) -> str:
        self.model = load(name)
        return self.model

    def close(self) -> None:
        self._ended.set()
        self._model_thread.join(DEADLINE_S)
        self.control.close()
        self.handler.stop()
        self.publisher.stop(1)
        self.store.close()


class Asker:
    """Somebody who gives commands and waits for the replies."""

    def __init__(self, port: int, protocol=paho.MQTTv5) -> None:
        self._v5 = protocol == paho.MQTTv5
        self.topic = f"answers/{uuid.uuid4().hex}" if self._v5 else f"{BASE}/reply/#"
        self.got: list[paho.MQTTMessage] = []
        self._changed = threading.Condition()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        ready = threading.Event()
        self._client.on_connect = lambda *_: self._client.subscribe([(self.topic, 1), (f"{BASE}/reply/#", 1)])
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(DEADLINE_S)

    def _take(self, _client, _data, message) -> None:
        with self._changed:
            self.got.append(message)
            self._changed.notify_all()

    def send(self, command: str, payload: bytes | dict = b"", *, response: str | None = "", correlation=b"\0c", retain=False) -> None:
        properties = None
        if self._v5 and response is not None:
            properties = Properties(PacketTypes.PUBLISH)
            properties.ResponseTopic = response or self.topic
            properties.CorrelationData = correlation
        body = json.dumps(payload).encode() if isinstance(payload, dict) else payload
        self.publish(f"{BASE}/command/{command}", body, retain, properties)

    def publish(self, topic: str, payload: bytes, retain: bool = False, properties: Properties | None = None) -> None:
        self._client.publish(topic, payload, 1, retain, properties).wait_for_publish(DEADLINE_S)

    def wait(self, count: int = 1) -> list[paho.MQTTMessage]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.got) >= count, DEADLINE_S), f"{len(self.got)} of {count} replies"
            taken, self.got[:] = self.got[:count], self.got[count:]
            return taken

    def ask(self, command: str, payload: bytes | dict = b"", **how) -> dict:
        self.send(command, payload, **how)
        reply = json.loads(self.wait()[0].payload)
        REPLY.validate(reply)
        return reply

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        self._client.on_connect = self._client.on_subscribe = self._client.on_message = None  # so that paho closes its sockets now


@pytest.fixture
def make_board(tmp_path, broker) -> Iterator[Callable[..., Board]]:
    made: list[Board] = []

    def make(url=broker.url, **how) -> Board:
        made.append(Board(tmp_path, url, **how))
        return made[-1]

    yield make
    for board in made:
        board.close()


@pytest.fixture
def asker(broker) -> Iterator[Asker]:
    asker = Asker(broker.port)
    yield asker
    asker.close()


def states(subscriber) -> list[dict]:
    return [json.loads(payload) for payload in subscriber.payloads(f"{BASE}/state")]


def test_the_state_is_retained_before_any_command(make_board, broker, make_subscriber):
    make_board()
    subscriber = make_subscriber(broker)
    subscriber.wait_for(states, "the state")

    assert states(subscriber)[0] | {"boot_id": 0} == {
        "schema": 1, "device": "pi", "boot_id": 0, "paused": False, "min_score": 0.3, "classes": [], "interval": None,
        "model": "yolov3-tiny@224",
    }  # fmt: skip
    assert subscriber.messages[-1].retain


def test_pause_set_and_resume_change_what_control_says_and_the_state_follows(make_board, broker, asker, make_subscriber):
    board = make_board()
    subscriber = make_subscriber(broker)

    assert asker.ask("pause")["result"]["paused"] is True
    assert board.control.now().paused
    assert asker.ask("set", {"min_score": 0.5, "labels": ["cat"], "interval_s": 2})["result"]["min_score"] == 0.5
    assert (board.control.now().labels, board.control.now().interval_s) == (("cat",), 2.0)
    assert asker.ask("set", {"min_score": None})["result"]["min_score"] == 0.3
    assert asker.ask("resume")["result"]["paused"] is False
    assert not board.control.now().paused
    subscriber.wait_for(lambda s: states(s) and states(s)[-1]["classes"] == ["cat"] and not states(s)[-1]["paused"], "the last state")
    assert any(state["paused"] for state in states(subscriber))


def test_an_old_name_is_warned_of_once(make_board, asker, caplog):
    make_board()
    for _ in range(2):
        assert asker.ask("set", {"classes": ["cat"]})["ok"]

    assert caplog.text.count("classes is now called labels") == 1


def test_a_change_by_somebody_else_gets_into_the_state(make_board, broker, make_subscriber):
    board = make_board()
    subscriber = make_subscriber(broker)
    board.control.change(min_score=0.7)

    subscriber.wait_for(lambda s: states(s) and states(s)[-1]["min_score"] == 0.7, "the change")


def test_the_reply_goes_to_the_response_topic_with_the_correlation_data(make_board, asker):
    make_board()
    asker.send("ping", {"id": "a"}, correlation=b"\xff\0\x01")
    [message] = asker.wait()

    assert message.topic == asker.topic
    assert message.properties.CorrelationData == b"\xff\0\x01"
    assert message.properties.ContentType == "application/json"
    assert json.loads(message.payload)["id"] == "a"
    assert not message.retain


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_without_a_response_topic_the_plain_one_is_used_and_the_id_comes_back(make_board, broker, protocol):
    make_board(protocol=protocol)
    old = Asker(broker.port, paho.MQTTv311)
    old.send("ping", {"id": 7})
    [message] = old.wait()
    old.close()

    assert message.topic == f"{BASE}/reply/ping"
    assert json.loads(message.payload)["id"] == 7


def test_a_model_is_switched_and_one_that_does_not_exist_is_refused(make_board, asker, broker, make_subscriber):
    make_board()
    subscriber = make_subscriber(broker)

    assert asker.ask("model", {"name": "yolov3-tiny@320"})["result"] == {"model": "yolov3-tiny@320"}
    subscriber.wait_for(lambda s: states(s) and states(s)[-1]["model"] == "yolov3-tiny@320", "the state")
    refused = asker.ask("model", {"name": "nothing"})
    assert refused["error"]["code"] == "model"
    assert "nothing" in refused["error"]["message"]


def test_while_a_model_is_taught_other_commands_are_answered(make_board, asker, tmp_path):
    (tmp_path / "sets" / "gate").mkdir(parents=True)
    script = f"import pathlib, time\nwhile not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(.01)\nprint('accuracy .93')"
    make_board(command=(sys.executable, "-c", script), teach_root=tmp_path / "sets")

    asker.send("teach", {"task": "classify", "data": "gate", "name": "gate", "id": 1})
    assert asker.ask("ping")["command"] == "ping"
    (tmp_path / "go").touch()

    [message] = asker.wait()
    reply = json.loads(message.payload)
    REPLY.validate(reply)
    assert (reply["id"], reply["result"]) == (1, {"model": "gate", "said": ["accuracy .93"]})


def test_a_picture_in_the_message_is_annotated(make_board, asker):
    board = make_board()
    asker.send("detect", SAMPLE.read_bytes())
    [message] = asker.wait()
    reply = json.loads(message.payload)

    assert message.properties.CorrelationData == b"\0c"
    REPLY.validate(reply)
    DETECTIONS.validate(reply["result"])
    assert (reply["result"]["source"], reply["result"]["detections"][0]["label"]) == ("detect", "person")
    assert board.store.queue("mqtt").wait_empty(DEADLINE_S)


def test_a_picture_that_the_program_died_of_twice_is_refused_with_the_reason(make_board, asker, tmp_path):
    picture = SAMPLE.read_bytes()
    for _ in range(2):  # two lives that end in the decoder
        die(tmp_path, "pictures", of_content(hashlib.blake2b(picture, digest_size=16).digest()), "the same picture")
    at_work = AtWork(tmp_path)
    make_board(at_work=at_work)

    reply = asker.ask("detect", picture)
    again = asker.ask("detect", Path(SAMPLE).with_name("cat.jpg").read_bytes())
    at_work.close()

    assert reply["error"]["code"] == "picture"
    assert "died 2 times while it processed this picture" in reply["error"]["message"]
    assert again["ok"]


def test_the_result_of_detect_survives_a_broken_connection(make_board, make_wire, broker, asker):
    wire = make_wire(broker.port)
    board = make_board(url=wire.url)
    board.serving.clear()
    asker.send("detect", SAMPLE.read_bytes())
    wait_until(lambda: board.control._asked, "the picture to be asked for")
    wire.connected = False
    wire.cut()
    wait_until(lambda: board.publisher.state == "away", "the connection to be lost")
    board.serving.set()
    wait_until(lambda: board.store.pending().rows, "the result to wait in the outbox")
    wire.connected = True

    [message] = asker.wait()
    assert message.properties.CorrelationData == b"\0c"
    assert json.loads(message.payload)["ok"]


def test_a_file_under_the_root_is_annotated_and_nothing_outside_of_it(make_board, asker, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.jpg").write_bytes(SAMPLE.read_bytes())
    (root / "out.jpg").symlink_to(SAMPLE)
    (root / "text.jpg").write_text("no picture")
    make_board(root=root)

    assert asker.ask("detect", {"path": "a.jpg"})["result"]["image"]["path"] == "a.jpg"
    for path, code in (
        ("out.jpg", "not-allowed"), (str(SAMPLE), "not-allowed"), ("../root/a.jpg", "not-allowed"), ("/dev/zero", "not-allowed"),
        ("b.jpg", "no-such-file"), ("a.jpg/b", "no-such-file"), ("text.jpg", "picture"), ("x" * 500, "not-allowed"),
    ):  # fmt: skip
        refused = asker.ask("detect", {"path": path})
        assert refused["error"]["code"] == code, path
        assert str(tmp_path) not in refused["error"]["message"]


def test_without_a_root_no_file_is_allowed(make_board, asker):
    make_board()

    assert asker.ask("detect", {"path": "a.jpg"})["error"]["code"] == "not-allowed"


def test_a_picture_that_would_unpack_to_too_much_is_refused_before_it_is_decoded(make_board, asker):
    make_board(max_megapixels=0.01)
    ok, bomb = cv2.imencode(".png", np.zeros((4000, 4000), np.uint8))

    assert ok
    assert len(bomb) < 50_000
    assert asker.ask("detect", bomb.tobytes())["error"]["code"] == "too-large"
    assert asker.ask("detect", SAMPLE.read_bytes()[:100])["error"]["code"] == "picture"


def test_a_snapshot_is_the_next_picture_drawn_or_its_result(make_board, asker):
    board = make_board()
    asker.send("snapshot")
    wait_until(lambda: board.control._snapshots, "the request")
    board.control.saw(annotate(frame()))
    [message] = asker.wait()

    assert message.payload == b"\xff\xd8 drawn"
    assert (message.properties.ContentType, message.properties.CorrelationData) == ("image/jpeg", b"\0c")
    assert ("source", "porch") in message.properties.UserProperty
    asker.send("snapshot", {"format": "json"})
    wait_until(lambda: board.control._snapshots, "the request")
    assert asker.ask("ping")["ok"], "a ping does not wait behind a snapshot"
    board.control.saw(annotate(frame()))
    DETECTIONS.validate(json.loads(asker.wait()[0].payload)["result"])


def test_each_wrong_message_gets_one_reply_and_the_desk_goes_on(make_board, asker):
    make_board(max_picture_mb=1)
    wrong = [
        ("format", b"", {}, "unknown-command"),
        ("pause", b"ON", {}, "invalid"),
        ("set", b'{"min_score": 2}', {}, "invalid"),
        ("detect", b"\xff\xd8\xff" + bytes(2**20), {}, "too-large"),
        ("detect", b"\xff\xd8\xff\xe0", {}, "picture"),
        ("ping", b"", {"response": f"{BASE}/status"}, "response-topic"),
    ]
    for command, payload, how, code in wrong:
        assert asker.ask(command, payload, **how)["error"]["code"] == code
    assert asker.ask("ping")["ok"]
    assert not asker.got, "one reply each"


def test_messages_of_many_times_the_limit_are_read_away_and_answered_however_many(make_board, asker):
    """Left at the broker by a bound in CONNECT, each would keep its place in the window: after 20, mosquitto 2.0.11 sends no command."""
    make_board(max_picture_mb=1)
    replies = [asker.ask("detect", b"\xff\xd8\xff" + bytes(3 * 2**20)) for _ in range(22)]

    assert {reply["error"]["message"] for reply in replies} == {f"the payload has {3 * 2**20 + 3} bytes, allowed are {2**20}"}
    assert asker.ask("ping", {"id": "after"})["id"] == "after"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_retained_command_is_not_carried_out_at_each_connection(make_board, asker, protocol):
    asker.send("pause", {"id": "old"}, retain=True)
    board = make_board(protocol=protocol)
    [message] = asker.wait()

    assert json.loads(message.payload)["error"]["code"] == "retained"
    assert not board.control.now().paused


def test_a_retained_command_is_not_carried_out_at_once_either_nor_when_it_is_cleared(make_board, asker):
    """Whoever clears a retained `pause` publishes an empty `pause`."""
    board = make_board()
    for payload in (b"{}", b""):
        asker.send("pause", payload, retain=True)
        assert json.loads(asker.wait()[0].payload)["error"]["code"] == "retained"

    assert not board.control.now().paused


def test_a_flood_is_answered_busy_and_every_message_once(make_board, asker):
    board = make_board(queue=4)
    board.serving.clear()
    for _ in range(40):
        asker.send("detect", SAMPLE.read_bytes())
    busy = [json.loads(message.payload) for message in asker.wait(36)]
    assert {reply["error"]["code"] for reply in busy} == {"busy"}
    board.serving.set()

    last = [json.loads(message.payload) for message in asker.wait(4)]
    assert sum(reply["ok"] for reply in last) >= 3, "one that comes while another is taken up may be refused early"
    assert asker.ask("ping")["ok"]
    assert not asker.got


def test_pictures_are_decoded_one_after_the_other_and_other_commands_pass_them(make_board, asker):
    """Eight decoded pictures of twelve megapixels would be more than a small board has."""
    board = make_board()
    board.serving.clear()
    for _ in range(3):
        asker.send("detect", SAMPLE.read_bytes())
    assert asker.ask("ping")["ok"]
    assert len(board.control._asked) == 1
    board.serving.set()

    assert all(json.loads(message.payload)["ok"] for message in asker.wait(3))


def test_what_takes_too_long_is_given_up_and_makes_room(make_board, asker):
    board = make_board(queue=1, timeout_s=0.2)
    board.serving.clear()

    assert asker.ask("detect", SAMPLE.read_bytes())["error"]["code"] == "timeout"
    board.serving.set()
    assert asker.ask("detect", SAMPLE.read_bytes())["ok"]


def test_rubbish_of_every_kind_gets_a_reply_each_and_the_link_stays(make_board, asker):
    board = make_board(queue=16)
    random = Random(7)
    names = ["pause", "detect", "model", "ä b", "$SYS", "%00", "x" * 300, " "]
    for _ in range(30):
        rubbish = [random.randbytes(random.randrange(200)), b'{"path": "../../etc/passwd"}', b'{"id": "\\ud800"}', b"\xff\xd8\xff"]
        payload = random.choice(rubbish)
        asker.send(random.choice(names), payload, correlation=random.randbytes(random.randrange(1, 30)))
        assert not json.loads(asker.wait()[0].payload)["ok"] or payload == b""

    assert asker.ask("ping")["ok"]
    assert (board.publisher.connections, asker.got) == (1, [])


def test_commands_work_again_after_the_broker_was_restarted(make_board, broker):
    board = make_board()
    broker.kill()
    wait_until(lambda: board.publisher.state == "away", "the connection to be lost")
    broker.start()
    board.wait_subscribed()
    again = Asker(broker.port)

    assert again.ask("pause")["ok"]
    again.close()


def test_a_stop_answers_what_is_not_done(tmp_path, broker, asker):
    board = Board(tmp_path, broker.url)
    board.serving.clear()
    asker.send("detect", SAMPLE.read_bytes())
    wait_until(lambda: board.control._asked, "the request")
    board.close()

    assert json.loads(asker.wait()[0].payload)["error"]["code"] == "unavailable"


@pytest.fixture(scope="module")
def quiet_desk(tmp_path_factory) -> Iterator[tuple[CommandHandler, list[Message]]]:
    """A handler without a publisher: what it says goes into a list."""
    root = tmp_path_factory.mktemp("handler")
    (root / "secret.jpg").write_bytes(SAMPLE.read_bytes())
    (root / "in").mkdir()
    said: list[Message] = []
    control = Control()
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(0.001):
            control.serve(lambda name, *_: load(name), annotate)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    options = CommandOptions(enabled=True, root=root / "in", max_megapixels=1)
    handler = CommandHandler(
        options,
        control,
        lambda: Defaults("m", 0.3),
        ORIGIN,
        TOPICS,
        said.append,
        said.append,
        jpeg=lambda _: b"\xff\xd8",
        teacher=Teacher(options, root, {}, ("false",)),
    )
    handler.start()
    yield handler, said
    handler.stop()
    ended.set()
    thread.join(DEADLINE_S)


PATHS = st.lists(st.sampled_from(["..", ".", "secret.jpg", "/", "\0", "in", "~", "%00", "/dev/zero", "*"]), max_size=4).map("/".join)
PAYLOADS = (
    st.binary(max_size=300)
    | st.builds(lambda path: json.dumps({"path": path}).encode(), PATHS | st.text(max_size=30))
    | st.builds(lambda head, rest: head + rest, st.sampled_from([b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"RIFF"]),
                st.binary(max_size=300))
    | st.builds(lambda cut: SAMPLE.read_bytes()[:cut], st.integers(0, 3000))
)  # fmt: skip


@settings(max_examples=60)
@given(
    st.sampled_from(["ping", "pause", "resume", "set", "model", "detect", "x"]), PAYLOADS, st.booleans(), st.none() | st.text(max_size=20)
)
def test_no_message_kills_the_desk_or_reads_a_file_outside(quiet_desk, command, payload, retain, response):
    handler, said = quiet_desk
    said.clear()
    properties = SimpleNamespace(ResponseTopic=response) if response is not None else None
    handler.take(SimpleNamespace(topic=f"{BASE}/command/{command}", payload=payload, retain=retain, properties=properties))

    wait_until(lambda: [m for m in said if m.kind == "reply"], "the reply")
    [reply] = [m for m in said if m.kind == "reply"]
    answer = json.loads(reply.payload)
    REPLY.validate(answer)
    assert not (command == "detect" and answer["ok"]), "nothing here is a picture, and the only one is outside"


def test_a_command_from_elsewhere_has_its_reply_there_alone(quiet_desk):
    """As the live page gives them: the same checks, the same work, and nothing but the state goes to the broker."""
    handler, said = quiet_desk
    said.clear()
    done = [handler.ask("pause"), handler.ask("resume"), handler.ask("model", b'{"name": "/etc/passwd"}'), handler.ask("x" * 100)]
    replies = [json.loads(each.result(DEADLINE_S).payload) for each in done]

    for reply in replies:
        REPLY.validate(reply)
    assert [reply["ok"] for reply in replies] == [True, True, False, False]
    assert replies[0]["result"]["paused"] is True
    assert [m for m in said if m.kind == "reply"] == []


def test_a_request_that_breaks_the_program_is_answered_and_the_next_is_served(quiet_desk, caplog):
    handler, said = quiet_desk
    said.clear()
    handler._put(Request(object(), Reply("t", "ping")))
    wait_until(lambda: said, "a reply")
    handler._put(Request(Pause(), Reply("t", "pause")))
    wait_until(lambda: any(b'"paused":true' in m.payload for m in said), "the next")
