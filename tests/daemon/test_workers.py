"""The three loops between the queues: everything passes in order, and stopping runs down the line."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeannot.base.errors import LinkError
from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.crash_guard import AtWork
from edgeannot.crash_guard.record import Record
from edgeannot.daemon import writer
from edgeannot.daemon.bounded_queue import BoundedQueue, Closed, MemoryLimiter
from edgeannot.daemon.monitoring.telemetry import Telemetry
from edgeannot.daemon.worker_pool import Heartbeats, Worker
from edgeannot.daemon.workers import Inference, PauseGate, Reader, frame_of
from edgeannot.daemon.writer import Writer, ledger_entry, prune
from edgeannot.remote.control import Control
from edgeannot.scene.tracking import Tracking
from edgeannot.scene.tracking_options import TrackingOptions
from edgeannot.sources import CameraOptions, DirectoryOptions, Tick, open_source
from edgeannot.storage.store import Store
from edgeannot.vision.data import Annotation, Detections, Failure, FileKey, Frame, ModelFacts, TensorSpec
from edgeannot.vision.news import Lost
from edgeannot.vision.preprocess import ToTensor
from edgeannot.vision.views import Preparation
from tests.patience import DEADLINE_S


def key(name):
    return FileKey(name, FileSignature(1, 2, 3))


def frame(name, source="door"):
    return Frame(np.zeros((4, 4, 3), np.uint8), source, 0, datetime.now(UTC), name, name=name, key=key(name))


def annotate(seen):
    return Annotation(frame_of(seen), Detections.empty(), (), ModelFacts("m", "0" * 64, "yolo", "low"))


def failure(name):
    return Failure("door", name, "truncated", "it ends too early", Path("/x") / name, key=key(name))


class ListSource:
    """A source of given items, with the whole contract."""

    name = "door"
    skipped = 0
    done_before = 0

    def __init__(self, items, live=False, removes_input=False):
        self.removes_input = removes_input
        self._items = items
        self.live = live
        self.finished = []

    def items(self, stop):
        yield from self._items

    def is_gone(self, path):
        return path == "gone"

    def finish(self, frame):
        self.finished.append(frame.name)


class ListStore:
    """Keeps commits; fails the first `fail` of them as a full disk does."""

    def __init__(self, fail=0):
        self.fail = fail
        self.entries = []
        self.broken_disk = False
        self.synced = 0

    def sync(self):
        if self.broken_disk:
            raise LinkError("the disk fails")
        self.synced += 1

    def commit(self, done, messages, scenes=()):
        if self.fail:
            self.fail -= 1
            raise LinkError("the disk is full")
        self.entries.append((done.path, list(messages)))

    def sync_if_due(self):
        pass


class Broken:
    def __init__(self, only_files):
        self.only_files = only_files

    def write(self, annotation):
        return 1 / 0


class OneMessage:
    def __init__(self):
        self.flushed = 0

    def flush(self):
        self.flushed += 1

    def write(self, annotation):
        return [f"message of {annotation.frame.name}"]


def nothing(*_):
    pass


def drain(queue):
    items = []
    try:
        while True:
            items.append(queue.take(timeout_s=0))
    except Closed:
        return items


PREPARATION = Preparation(ToTensor(TensorSpec("in", 0, (1, 4, 4, 3), np.dtype(np.float32), 0.0, 0), (4, 4)), views=1)


def noted(folder):
    """Return the stages of the pictures in the record."""
    return [note.stage for note in Record(folder / "at-work").read()[1]]


def read(source, frames, limiter, stop=None, at_work=None):
    """Read the source to its end, as for a model with an input of 4x4 pixels; the reader."""
    reader = Reader(
        source=source, frames=frames, gate=PauseGate(source, Control()), limiter=limiter, at_work=at_work or AtWork(),
        stop=stop or threading.Event(), heartbeat=nothing, prepare=PREPARATION,
    )  # fmt: skip
    reader.run()
    return reader


class Model:
    """An active model that does as the test says."""

    def __init__(self, annotate):
        self._annotate = annotate

    def __call__(self, frame):
        return self._annotate(frame)

    def limit(self, wanted):
        pass

    def use(self, name, reason):
        pass


def infer(frames, results, annotate, source=None, at_work=None):
    inference = Inference(
        frames=frames, results=results, active_model=Model(annotate), control=Control(), sources={"door": source or ListSource([])},
        limiter=MemoryLimiter(100), at_work=at_work or AtWork(), heartbeat=nothing,
    )  # fmt: skip
    inference.run()


def write(results, sinks, store, source, stop=None, heartbeat=nothing, **options):
    """Write what the queue has; the telemetry."""
    telemetry, shared = Telemetry(), {"limiter": MemoryLimiter(100), "at_work": AtWork(), "stop": stop or threading.Event()}
    Writer(
        results=results, sources={"door": source}, sinks=sinks, store=store, telemetry=telemetry, heartbeat=heartbeat, **shared, **options
    ).run()
    return telemetry


def run_write(items, source, store, stop=None, sink=None):
    results = BoundedQueue(depth=10)
    for item in items:
        results.put(item)
    results.end()
    return write(results, [sink or OneMessage()], store, source, stop)


def test_a_source_without_pictures_gives_none():
    inbox = BoundedQueue()
    read(ListSource([]), inbox, MemoryLimiter(10**6))

    assert len(inbox) == 0


def test_frames_and_failures_are_handed_over_and_ticks_are_signs_of_life():
    inbox = BoundedQueue(depth=5)
    items = [frame("a"), failure("b"), Tick(waiting=7), frame("c")]
    reader = read(ListSource(items), inbox, MemoryLimiter(10**6))
    inbox.end()

    first, second, third = drain(inbox)
    assert (first.frame.name, second.name, third.frame.name) == ("a", "b", "c")
    assert [tensor.shape for tensor in first.tensors] == [(1, 4, 4, 3)]
    assert reader.files_waiting == 7


def test_a_live_source_is_asked_for_its_newest_frame_when_the_last_one_was_taken():
    """What nobody can annotate is neither unpacked nor kept, and no frame waits behind another."""
    asked = threading.Semaphore(0)

    class Asked(ListSource):
        def items(self, stop):
            for item in super().items(stop):
                asked.release()
                yield item

    inbox = BoundedQueue()
    reader = threading.Thread(target=read, args=(Asked([frame("a"), frame("b")], live=True), inbox, MemoryLimiter(10**6)))
    reader.start()
    assert asked.acquire(timeout=DEADLINE_S)
    assert not asked.acquire(timeout=0.2)

    assert inbox.take(DEADLINE_S).frame.name == "a"
    assert inbox.take(DEADLINE_S).frame.name == "b"
    reader.join(DEADLINE_S)
    assert not reader.is_alive()


def test_pictures_over_the_limit_wait_until_others_are_done():
    inbox, limiter = BoundedQueue(depth=5), MemoryLimiter(frame("a").image.nbytes)
    reader = threading.Thread(target=read, args=(ListSource([frame("a"), frame("b")]), inbox, limiter))
    reader.start()
    assert inbox.take(10).frame.name == "a"
    assert inbox.take(0) is None
    limiter.release(frame("a").image.nbytes)

    assert inbox.take(10).frame.name == "b"
    reader.join(DEADLINE_S)


def test_nothing_is_decoded_beside_a_picture_that_is_over_the_limit_by_itself():
    """Two of 42 megapixels at a time, one decoded and one drawn on, would take 630 MB."""
    asked = threading.Semaphore(0)

    class Counting(ListSource):
        def items(self, stop):
            for item in super().items(stop):
                asked.release()
                yield item

    size = frame("a").image.nbytes
    inbox, limiter = BoundedQueue(depth=5), MemoryLimiter(size - 1)
    reader = threading.Thread(target=read, args=(Counting([frame("a"), frame("b")]), inbox, limiter))
    reader.start()
    assert inbox.take(10).frame.name == "a"
    assert asked.acquire(timeout=DEADLINE_S)
    assert not asked.acquire(timeout=0.2)
    limiter.release(size)

    assert inbox.take(10).frame.name == "b"
    limiter.release(size)
    reader.join(DEADLINE_S)


@pytest.mark.parametrize(("live", "stage"), [(False, "inferring"), (True, "decoding")])
def test_a_picture_that_waits_for_the_model_is_noted_as_inferring_a_cameras_only_when_the_model_has_it(tmp_path, live, stage):
    at_work, inbox, stages, stop = AtWork(tmp_path), BoundedQueue(), [], threading.Event()
    stop.set()  # so that the reader does not wait until its frame is taken
    ticket = at_work.enter("door", "a", "a")
    source = ListSource([replace(frame("a"), ticket=ticket)], live=live)
    read(source, inbox, MemoryLimiter(10**6), stop, at_work)
    stages += noted(tmp_path)
    inbox.end()
    infer(inbox, BoundedQueue(), lambda seen: stages.extend(noted(tmp_path)) or annotate(seen), source, at_work)
    at_work.close()

    assert stages == [stage, "inferring"]


def test_inference_keeps_the_order_and_ends_its_output():
    """Of pictures that are prepared and of those that were not."""
    inbox, results = BoundedQueue(depth=4), BoundedQueue(depth=4)
    for item in (PREPARATION(frame("a")), failure("b"), frame("c"), PREPARATION(frame("d"))):
        inbox.put(item)
    inbox.end()
    infer(inbox, results, annotate)

    assert [(type(item), item.name if isinstance(item, Failure) else item.frame.name) for item in drain(results)] == [
        (Annotation, "a"), (Failure, "b"), (Annotation, "c"), (Annotation, "d"),
    ]  # fmt: skip


def test_when_the_inference_breaks_the_writer_is_still_told_that_the_end_has_come():
    inbox, results = BoundedQueue(), BoundedQueue()
    inbox.put(frame("a"))

    with pytest.raises(ZeroDivisionError):
        infer(inbox, results, lambda _: 1 / 0)
    assert drain(results) == []


def test_when_the_inference_breaks_nobody_waits_to_give_it_more():
    inbox = BoundedQueue(depth=1)
    inbox.put(frame("a"))

    with pytest.raises(ZeroDivisionError):
        infer(inbox, BoundedQueue(), lambda _: 1 / 0)
    with pytest.raises(Closed):
        inbox.put(frame("b"), timeout_s=0)


def test_when_a_sink_breaks_the_picture_is_named_and_nobody_waits_to_give_the_writer_more():
    results = BoundedQueue(depth=1)
    results.put(annotate(frame("a")))

    with pytest.raises(ZeroDivisionError) as raised:
        write(results, [Broken(False)], ListStore(), ListSource([]))
    assert raised.value.__notes__ == ["while storing the results of door: a"]
    with pytest.raises(Closed):
        results.put(annotate(frame("b")), timeout_s=0)


def test_a_sink_of_files_that_breaks_costs_files_but_no_message(caplog):
    results, store = BoundedQueue(depth=2), ListStore()
    for name in ("a", "b"):
        results.put(annotate(frame(name)))
    results.end()
    write(results, [Broken(True), OneMessage()], store, ListSource([]))

    assert store.entries == [("a", ["message of a"]), ("b", ["message of b"])]
    assert [(record.args[1], bool(record.exc_info)) for record in caplog.records] == [("a", True), ("b", False)]


@pytest.mark.parametrize("ahead", [lambda frame: frame, PREPARATION])
def test_a_picture_that_breaks_the_inference_is_set_aside_when_another_does_not(ahead):
    inbox, results = BoundedQueue(depth=3), BoundedQueue(depth=3)
    poison = replace(frame("poison"), image=np.full((1, 9, 3), 7, np.uint8))
    for item in (frame("a"), poison, frame("c")):
        inbox.put(ahead(item))
    inbox.end()
    infer(inbox, results, lambda seen: 1 / 0 if frame_of(seen).size_wh == (9, 1) else annotate(seen))

    first, second, third = drain(results)
    assert (first.frame.name, third.frame.name) == ("a", "c")
    assert second.key == key("poison")
    assert (second.name, second.reason) == ("poison", "error")
    assert "ZeroDivisionError" in second.message


def test_results_and_ledger_go_into_one_commit_and_only_then_is_the_input_finished():
    source, store = ListSource([]), ListStore()
    telemetry = run_write([annotate(frame("a")), failure("b")], source, store)

    assert store.entries == [("a", ["message of a"]), ("b", [])]
    assert source.finished == ["a", "b"]
    assert telemetry.snapshot()["rejected"] == {"truncated": 1}


def test_the_ledger_remembers_what_has_a_key_and_is_still_there():
    """What was moved, deleted or never a file is not looked for again."""
    source = ListSource([])

    assert ledger_entry(source, replace(frame("a"), content_hash=b"h")) == LedgerEntry("door", "a", FileSignature(1, 2, 3), b"h")
    assert ledger_entry(source, failure("b")) == LedgerEntry("door", "b", FileSignature(1, 2, 3), b"", "truncated")
    assert ledger_entry(source, frame("gone")) is None
    assert ledger_entry(source, replace(frame("a"), key=None)) is None


def test_an_input_that_will_be_removed_waits_for_the_disk():
    source, store, sink = ListSource([], removes_input=True), ListStore(), OneMessage()
    run_write([annotate(frame("a"))], source, store, sink=sink)
    assert (sink.flushed, store.synced, source.finished) == (1, 1, ["a"])

    store.broken_disk = True
    run_write([annotate(frame("b"))], source, store)
    assert source.finished == ["a"]


def test_an_input_that_will_be_removed_stays_where_a_sink_cannot_bring_its_results_to_the_disk():
    class Failing(OneMessage):
        def flush(self):
            raise LinkError("the disk fails")

    source = ListSource([], removes_input=True)
    run_write([annotate(frame("a"))], source, ListStore(), sink=Failing())

    assert source.finished == []


def test_what_a_failing_disk_did_not_confirm_is_finished_when_it_is_well_again_also_where_nothing_follows():
    """A picture that came as a message is acknowledged then, and its place in the window is free again."""
    source, store = ListSource([], removes_input=True), ListStore()
    store.broken_disk = True
    results = BoundedQueue(depth=10)
    for name in "ab":
        results.put(annotate(frame(name)))
    heartbeats = []

    def heartbeat():
        heartbeats.append(1)
        if len(heartbeats) == 4:  # both were tried in vain, and once more
            assert source.finished == []
            store.broken_disk = False
        if source.finished or len(heartbeats) > 20:
            results.end()

    write(results, [OneMessage()], store, source, heartbeat=heartbeat)

    assert source.finished == ["a", "b"]


def test_pictures_that_are_too_many_to_wait_for_a_failing_disk_are_said_once(monkeypatch, caplog):
    monkeypatch.setattr(writer, "_MOST_AWAITING", 1)
    source, store = ListSource([], removes_input=True), ListStore()
    store.broken_disk = True
    finisher = writer.PostCommit(store, [], 60.0)
    for name in "abc":
        finisher.finish(source, frame(name))
    store.broken_disk = False
    finisher.again()

    assert source.finished == ["c"]
    assert caplog.text.count("the oldest stay where they are until the next start") == 1


def test_a_run_that_is_to_end_waits_only_so_long_for_a_disk_that_confirms_nothing():
    source, store = ListSource([], removes_input=True), ListStore()
    store.broken_disk = True
    results = BoundedQueue(depth=10)
    results.put(annotate(frame("a")))

    with pytest.raises(LinkError, match="the disk fails"):
        write(results, [OneMessage()], store, source, patience_s=0.1)
    assert source.finished == []


def test_a_full_disk_is_tried_again_and_nothing_is_lost():
    class NoWait(threading.Event):
        def wait(self, timeout=None):
            return self.is_set()

    source, store = ListSource([]), ListStore(fail=3)
    run_write([annotate(frame("a"))], source, store, NoWait())

    assert store.entries == [("a", ["message of a"])]


def test_told_to_stop_before_a_full_disk_the_picture_is_left_for_later():
    source, store, stop = ListSource([]), ListStore(fail=1000), threading.Event()
    stop.set()
    run_write([annotate(frame("a"))], source, store, stop)

    assert store.entries == []
    assert source.finished == []


def test_a_run_that_is_to_end_gives_a_full_disk_only_so_long():
    source, store = ListSource([]), ListStore(fail=1000)
    results = BoundedQueue(depth=10)
    results.put(annotate(frame("a")))
    results.end()

    with pytest.raises(LinkError, match=r"given up after 0\.1 s, the next run does the rest"):
        write(results, [OneMessage()], store, source, patience_s=0.1)
    assert store.entries == []
    assert source.finished == []


def test_a_worker_keeps_the_error_that_ended_it_and_owes_no_more_signs_of_life():
    heartbeats, failed = Heartbeats(), threading.Event()
    worker = Worker("w", lambda: 1 / 0, heartbeats, failed.set)
    worker.start()
    worker.join(DEADLINE_S)

    assert isinstance(worker.error, ZeroDivisionError)
    assert failed.is_set()
    assert heartbeats.silence_s() == (0.0, "")


def test_the_longest_silence_is_named():
    now = [0.0]
    heartbeats = Heartbeats(clock=lambda: now[0])
    heartbeats.begin("read")
    now[0] = 2.0
    heartbeats.begin("infer")
    now[0] = 3.0

    assert heartbeats.silence_s() == (3.0, "read")


@pytest.fixture
def folder_and_store(tmp_path):
    """A watched folder and a store that says that 2500 files of it are done."""
    (tmp_path / "in").mkdir()
    source = open_source("door", DirectoryOptions(path=tmp_path / "in"))
    with Store.open(tmp_path / "state.sqlite") as store:
        for number in range(2500):
            store.commit(LedgerEntry("door", f"{number:04}.jpg", FileSignature(1, 2, 3), b""), [])
        yield source, store


def test_files_that_are_gone_are_forgotten_so_that_the_ledger_does_not_grow_for_ever(tmp_path, folder_and_store):
    source, store = folder_and_store
    for number in (7, 2400):
        (tmp_path / "in" / f"{number:04}.jpg").touch()

    assert prune(store, source, nothing) == 2498
    assert store.ledger_paths("door") == ["0007.jpg", "2400.jpg"]
    assert prune(store, source, nothing) == 0


def test_where_not_one_file_is_there_the_medium_is_taken_to_be_away(folder_and_store):
    source, store = folder_and_store

    assert prune(store, source, nothing) == 0
    assert len(store.ledger_paths("door", limit=9999)) == 2500


def test_a_source_that_removes_its_files_itself_is_always_forgotten(tmp_path, folder_and_store):
    _, store = folder_and_store
    source = open_source("door", DirectoryOptions(path=tmp_path / "in", after="delete"))

    assert prune(store, source, nothing) == 2500
    assert store.ledger_paths("door") == []


class Gate:
    """A motion gate that does as the test says."""

    def __init__(self, *opens):
        self._opens = list(opens)

    def opens(self, image, at_s):
        return self._opens.pop(0)


def read_gated(source, frames, *opens):
    Reader(
        source=source, frames=frames, gate=PauseGate(source, Control()), limiter=MemoryLimiter(10**6), at_work=AtWork(),
        stop=threading.Event(), heartbeat=nothing, motion=Gate(*opens),
    ).run()  # fmt: skip


def test_a_live_frame_without_a_change_goes_no_further():
    inbox = BoundedQueue()
    read_gated(ListSource([frame("same"), frame("same")], live=True), inbox, False, False)

    assert len(inbox) == 0


def test_a_file_without_a_change_is_finished_without_inference_and_without_a_message():
    inbox, results = BoundedQueue(depth=5), BoundedQueue(depth=5)
    source, store = ListSource([frame("a"), frame("same"), frame("c")]), ListStore()
    read_gated(source, inbox, True, False, True)
    inbox.end()
    annotated = []
    infer(inbox, results, lambda item: annotated.append(item.name) or annotate(item))
    telemetry = write(results, [OneMessage()], store, source)

    assert annotated == ["a", "c"]
    assert store.entries == [("a", ["message of a"]), ("same", []), ("c", ["message of c"])]
    assert source.finished == ["a", "same", "c"]
    assert telemetry.pictures == 2


def test_a_frame_has_the_region_and_the_score_of_its_source():
    inbox, source = BoundedQueue(), ListSource([frame("a")])
    options = CameraOptions(url="0", region=(0, 0.5, 1, 1), min_score=0.7)
    Reader(
        source=source, frames=inbox, gate=PauseGate(source, Control()), limiter=MemoryLimiter(10**6), at_work=AtWork(),
        stop=threading.Event(), heartbeat=nothing, options=options,
    ).run()  # fmt: skip

    found = inbox.take()
    assert (found.region, found.min_score) == ((0, 0.5, 1, 1), 0.7)
    image, corner = found.seen
    assert (image.shape, corner) == ((2, 4, 3), (0, 2))


def tracked(name, x):
    """A picture of a dog at x."""
    item = replace(frame(name), image=np.zeros((100, 400, 3), np.uint8), captured_at=datetime.fromtimestamp(int(name) / 5, UTC))
    found = Detections(np.array([[x, 10, x + 40, 50]], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int64))
    return Annotation(item, found, ("dog",), ModelFacts("m", "0" * 64, "yolo", "low"))


class NamedModel(Model):
    """One with a name, labels and a smallest score."""

    min_score = 0.4
    labels = ("dog",)

    def __init__(self, annotate):
        super().__init__(annotate)
        self.card = SimpleNamespace(name="first", label_names=lambda: ["dog"])


class Telling(OneMessage):
    def tell(self, news):
        return [(event.kind, event.reason) for event in news.events]


class SceneStore(ListStore):
    """Keeps the states of scenes as well."""

    def __init__(self):
        super().__init__()
        self.states = []

    def commit(self, done, messages, scenes=()):
        self.states.append(scenes)
        self.entries.append((done and done.path, list(messages)))


def track(items, model):
    """What is stored of pictures of one tracked source."""
    inbox, results, store = BoundedQueue(depth=99), BoundedQueue(depth=99), SceneStore()
    for item in items:
        inbox.put(item, "door")
    inbox.end()
    tracking = Tracking("door", TrackingOptions(enabled=True))
    Inference(
        frames=inbox, results=results, active_model=model, control=Control(), sources={"door": ListSource([])},
        limiter=MemoryLimiter(100), at_work=AtWork(), heartbeat=nothing, tracking={"door": tracking},
    ).run()  # fmt: skip
    write(results, [Telling()], store, ListSource([]))
    return store


def test_events_go_into_the_transaction_of_their_picture_with_the_state_of_the_tracking():
    asked = []

    def annotate(seen):
        item = seen.frame
        asked.append((item.min_score, item.any_label))
        return tracked(item.name, 10 * int(item.name))

    pictures = [PREPARATION(tracked(str(n), 0).frame) for n in range(12)]
    store = track([*pictures, Lost("door"), Lost("unknown")], NamedModel(annotate))

    told = [message for _, messages in store.entries for message in messages if isinstance(message, tuple)]
    assert told == [("appeared", ""), ("left", "source")]
    assert [bool(scenes) for scenes in store.states] == [True, False, False, False, False, True, *[False] * 6, True]
    assert set(asked) == {(0.1, True)}, "low scores continue tracks, and other labels show where they go"


def test_a_change_of_the_model_ends_what_the_new_one_does_not_know():
    def annotate(item):
        if item.name == "11":
            model.card = SimpleNamespace(name="second", label_names=lambda: ["cat"])
        return tracked(item.name, 100)

    model = NamedModel(annotate)
    store = track([tracked(str(n), 0).frame for n in range(12)] + [failure("x")], model)

    told = [message for _, messages in store.entries for message in messages if isinstance(message, tuple)]
    assert told == [("appeared", ""), ("left", "model")]


def test_a_source_that_is_in_trouble_for_long_is_said_to_be_lost_once():
    inbox = BoundedQueue(depth=9)
    source = ListSource([Tick(trouble="away"), Tick(trouble="away, too"), Tick(), Tick(trouble="away again")], live=True)
    Reader(
        source=source, frames=inbox, gate=PauseGate(source, Control()), limiter=MemoryLimiter(10**6), at_work=AtWork(),
        stop=threading.Event(), heartbeat=nothing, lost_after_s=[0.0],
    ).run()  # fmt: skip
    inbox.end()

    assert drain(inbox) == [Lost("door", 0.0), Lost("door", 0.0)]


def test_a_source_that_is_away_is_told_after_each_length_of_time_that_somebody_wants():
    inbox = BoundedQueue(depth=9)
    ticks = [Tick(trouble="away")] * 3
    reader = Reader(
        source=ListSource(ticks, live=True), frames=inbox, gate=PauseGate(ListSource([]), Control()), limiter=MemoryLimiter(10**6),
        at_work=AtWork(), stop=threading.Event(), heartbeat=nothing, lost_after_s=[0.0, 0.0, 1e6],
    )  # fmt: skip
    reader.run()
    inbox.end()

    assert drain(inbox) == [Lost("door", 0.0), Lost("door", 0.0)]
