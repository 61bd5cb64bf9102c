"""What ledger, outbox and publisher do: pictures a second, wear of the disk, growth, resending after an outage, and what a kill costs.

    .venv/bin/python -m benchmarks.store [--part NAME ...] [--scale 0.01]

Needs mosquitto for the parts `resend` and `kill`; counts system calls with strace where it is installed. Prints a table; a whole run
(all parts, scale 1) also writes it into docs/delivery.md. Each measurement has a process of its own, so that one does not warm another.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.store.broker import DEADLINE_S, MOSQUITTO, TOPIC, Listener, mosquitto
from edgeannot.base.file_signature import FileSignature, LedgerEntry
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.mqtt.publisher import Publisher
from edgeannot.storage import store as store_module
from edgeannot.storage.store import Message, Store

PAGE = Path(__file__).resolve().parents[2] / "docs" / "delivery.md"
BEGIN, END = "<!-- made by benchmarks/store -->", "<!-- end of benchmarks/store -->"

Row = tuple[str, str, str]
"""What, target, measured."""


def picture(number: int) -> tuple[LedgerEntry, list[Message]]:
    """A picture as the daemon stores it: five objects (a payload of 1 KB) and its retained counts, new with each picture."""
    entry = LedgerEntry("inbox", f"2026-01-01/{number:08}.jpg", FileSignature(200_000 + number, number, number), number.to_bytes(16, "big"))
    found = [
        {"label": "person", "class_id": 0, "score": 0.9, "box": {"x1": 1.5, "y1": 2.5, "x2": 300.5, "y2": 400.5}, "track_id": None}
    ] * 5
    detections = json.dumps({"id": f"{number:032x}", "seq": number, "detections": found, "timing_ms": {"total": 30.1}}).encode()
    count = Message(TOPIC.replace("detections", "count"), b'{"total":5,"seq":%d}' % number, "count", retain=True)
    return entry, [Message(TOPIC, detections), count]


# What runs in a process of its own; each prints one JSON object.


def child_commit(folder: Path, pictures: int, pace_s: float) -> dict[str, Any]:
    """Commit pictures. pace_s: seconds between them by the store's own clock, 0: as they really come."""
    made = [picture(number) for number in range(pictures)]
    if pace_s:
        store_module.time = _Clock(pace_s)  # type: ignore[assignment] # only its monotonic and time are used there
    with Store.open(folder / "state.sqlite") as store:
        written, began = _written_bytes(), time.perf_counter()
        for entry, messages in made:
            if pace_s:
                store_module.time.tick()  # type: ignore[attr-defined] # the clock above
            store.commit(entry, messages)
        seconds = time.perf_counter() - began
        return {"per_s": pictures / seconds, "written": _written_bytes() - written}


class _Clock:
    """The time module with a clock that moves by steps."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._now = 1000.0

    def tick(self) -> None:
        self._now += self._step_s

    def monotonic(self) -> float:
        return self._now

    time = monotonic


def child_through(folder: Path, pictures: int) -> dict[str, Any]:
    """Commit pictures while another thread takes their messages out, as the publisher does."""
    made = [picture(number) for number in range(pictures)]
    with Store.open(folder / "state.sqlite") as store:
        woken, done = threading.Event(), threading.Event()
        store.queue("mqtt").add_listener(woken.set)

        def take() -> None:
            while not (done.is_set() and not store.pending().rows):
                woken.wait(0.01)
                woken.clear()
                while batch := store.queue("mqtt").next_messages(0, 64):
                    store.queue("mqtt").delete([message.id for message in batch])

        thread = threading.Thread(target=take)
        thread.start()
        began = time.perf_counter()
        for entry, messages in made:
            store.commit(entry, messages)
        done.set()
        thread.join()
        return {"per_s": pictures / (time.perf_counter() - began)}


def child_growth(folder: Path, messages: int) -> dict[str, Any]:
    """Send many messages in waves of 2,000; the sizes of database and log in bytes after a hundredth, a tenth and all of them."""
    path, sizes, wave = folder / "state.sqlite", {}, 2000
    marks = [max(messages // part // wave, 1) * wave for part in (100, 10, 1)]
    with Store.open(path) as store:
        for sent in range(wave, messages + 1, wave):
            for number in range(wave // 4):
                store.commit(None, picture(number)[1][:1] * 4)  # a camera's frames: the ledger grows with the folder, not with time
            while batch := store.queue("mqtt").next_messages(0, 256):
                store.queue("mqtt").delete([message.id for message in batch])
            if sent in marks:
                sizes[str(sent)] = sum(Path(f"{path}{tail}").stat().st_size for tail in ("", "-wal"))
    return {"sizes": sizes}


def child_resend(folder: Path, messages: int, port: int) -> dict[str, Any]:
    """Fill the outbox while there is no broker, then send it all; the rate, and the peak of resident memory above that at the start."""
    with Store.open(folder / "state.sqlite") as store:
        for number in range(messages):
            entry, made = picture(number)
            store.commit(entry, made[:1])
    with Store.open(folder / "state.sqlite") as store:
        publisher = _publisher(store, port)
        before = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here (proc(5))
        began = time.perf_counter()
        publisher.start()
        assert publisher.wait_drained(DEADLINE_S), "the broker did not take everything"
        seconds, peak = time.perf_counter() - began, _memory("VmHWM")
        publisher.stop()
        return {"per_s": messages / seconds, "peak": peak, "grown": peak - before, "sent": publisher.sent}


def child_fill_ours(folder: Path, messages: int, port: int) -> dict[str, Any]:
    """Take `messages` results while the broker is away, with a link that tries to reach it; then wait to be killed, or for the broker."""
    with Store.open(folder / "state.sqlite") as store:
        publisher = _publisher(store, port)
        publisher.start()
        for number in range(messages):
            entry, made = picture(number)
            store.commit(entry, made[:1])
        print("filled", flush=True)
        publisher.wait_drained(DEADLINE_S)
        publisher.stop()
    return {}


def child_fill_paho(_folder: Path, messages: int, port: int) -> dict[str, Any]:
    """The same with paho's own queue: a lasting session, QoS 1, its thread's loop, nothing else."""
    client = Client(CallbackAPIVersion.VERSION2, client_id="bench-paho", clean_session=False, protocol=MQTTv311)
    client.max_inflight_messages_set(64)
    client.reconnect_delay_set(1, 1)
    taken, all_taken = [0], threading.Event()
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()

    def on_publish(*_: object) -> None:
        taken[0] += 1
        if taken[0] >= messages:
            all_taken.set()

    client.on_publish = on_publish
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    for number in range(messages):
        client.publish(TOPIC, picture(number)[1][0].payload, qos=1)
    print("filled", flush=True)
    (all_taken.wait(DEADLINE_S) if messages else connected.wait(DEADLINE_S))
    client.disconnect()
    client.loop_stop()
    return {}


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {
    name.removeprefix("child_"): function for name, function in globals().items() if name.startswith("child_")
}


def _publisher(store: Store, port: int) -> Publisher:
    options = BrokerOptions(url=f"mqtt://127.0.0.1:{port}", retry_min_s=0.2, retry_max_s=1)
    return Publisher(options, store.queue("mqtt"), "bench", str.encode)


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _written_bytes() -> int:
    """Bytes that this process gave to the system to write (proc(5), wchar)."""
    found = re.search(r"wchar: (\d+)", Path("/proc/self/io").read_text())
    return int(found[1]) if found else 0


def run_child(name: str, folder: Path, *arguments: object, prefix: Sequence[str] = ()) -> dict[str, Any]:
    """Run a child to its end; what it found."""
    command = [*prefix, sys.executable, "-m", "benchmarks.store", "--child", name, str(folder), *map(str, arguments)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
    return found


# The parts of the table.


def part_store(work: Path, scale: float) -> Iterator[Row]:
    """Pictures a second, and the wear of the disk."""
    count = int(20_000 * scale)
    yield "pictures a second into ledger and outbox", ">= 2,000", f"{run_child('commit', fresh(work), count, 0)['per_s']:,.0f}"
    rate = run_child("through", fresh(work), count)["per_s"]
    yield "the same while another thread takes the messages out again", ">= 2,000", f"{rate:,.0f}"
    for pace_s, what in ((0.0, "as fast as it goes"), (1.0, "at one picture a second")):
        written, syncs, how = wear(work, max(int(5000 * scale), 200), pace_s)
        yield f"bytes written a picture, {what}", "", f"{written:,.0f} ({how})"
        yield f"fsyncs a picture, {what}", "", f"{syncs:.4f}" if syncs is not None else "strace is not installed"


def wear(work: Path, pictures: int, pace_s: float) -> tuple[float, float | None, str]:
    """Bytes written and fsyncs a picture, and how that was found out."""
    strace = shutil.which("strace")
    if strace is None:
        found = run_child("commit", fresh(work), pictures, pace_s)
        return found["written"] / pictures, None, "/proc/self/io"
    log = work / "strace.log"
    traced = [strace, "-f", "-y", "-o", str(log), "-e", "trace=write,pwrite64,fsync,fdatasync"]
    run_child("commit", fresh(work), pictures, pace_s, prefix=traced)
    written = syncs = 0
    for line in log.read_text().splitlines():
        if "state.sqlite" not in line:
            continue
        syncs += "sync(" in line
        if found_size := re.search(r"write(?:64)?\(.* = (\d+)$", line):
            written += int(found_size[1])
    return written / pictures, syncs / pictures, "strace"


def part_growth(work: Path, scale: float) -> Iterator[Row]:
    """The size of the files when all that was stored is sent."""
    for sent, size in run_child("growth", fresh(work), int(1_000_000 * scale))["sizes"].items():
        yield f"database and log after {int(sent):,} messages sent", "bounded", f"{size / 1e6:.1f} MB"


def part_resend(work: Path, scale: float) -> Iterator[Row]:
    """The rate and the memory after a short and after a long outage."""
    for count in (int(10_000 * scale), int(100_000 * scale)):
        with mosquitto(fresh(work)) as broker:
            found = run_child("resend", fresh(work), count, broker.port)
        assert found["sent"] == count
        yield f"messages a second after an outage of {count:,} messages", ">= 5,000", f"{found['per_s']:,.0f}"
        memory = f"{found['peak'] / 1e6:.1f} MB, of which {found['grown'] / 1e6:.1f} MB since before the sending"
        yield f"peak memory of the process meanwhile ({count:,} messages)", "by the window", memory


def part_kill(work: Path, scale: float) -> Iterator[Row]:
    """What a lasting subscriber misses of messages that were published in an outage: ours against paho's own queue."""
    count = int(5000 * scale)
    for killed in (False, True):
        for name, label in (("fill_ours", "edgeannot"), ("fill_paho", "paho's own queue")):
            lost, repeated = outage(work, name, count, killed=killed)
            what = "the client is killed (SIGKILL) in it" if killed else "the client lives on"
            wanted = "0 lost" if label == "edgeannot" else ""
            yield f"{label}: {count:,} messages in an outage, {what}", wanted, f"{lost:,} lost, {repeated:,} repeated"


def outage(work: Path, name: str, count: int, *, killed: bool) -> tuple[int, int]:
    """Messages lost and repeated."""
    folder = fresh(work)
    with mosquitto(fresh(work), "persistence true") as broker:
        with Listener(broker.port):
            pass  # its session stays, and lasts over the restart
        broker.stop()
        command = [sys.executable, "-m", "benchmarks.store", "--child", name, str(folder)]
        with subprocess.Popen([*command, str(count), str(broker.port)], stdout=subprocess.PIPE, text=True) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == "filled\n", f"{name} failed"
            if killed:
                client.send_signal(signal.SIGKILL)
                client.wait()
            broker.start()
            assert killed or client.wait(DEADLINE_S) == 0
        if killed:
            subprocess.run([*command, "0", str(broker.port)], check=True, stdout=subprocess.DEVNULL, timeout=DEADLINE_S)
        with Listener(broker.port) as listener:
            seen = listener.until_quiet()
    return count - len(set(seen)), len(seen) - len(set(seen))


def fresh(work: Path) -> Path:
    """An empty folder."""
    return Path(tempfile.mkdtemp(dir=work))


PARTS: dict[str, Callable[[Path, float], Iterator[Row]]] = {
    "store": part_store,
    "growth": part_growth,
    "resend": part_resend,
    "kill": part_kill,
}


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    return "\n".join(["| what | wanted | measured |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def write_page(rows: Sequence[Row]) -> None:
    """Put the table between the marks of docs/delivery.md."""
    head, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{table(rows)}\n{END}{tail}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be given again")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the usual numbers of pictures and messages, for a trial")
    parser.add_argument("--work", type=Path, help="folder for the databases, on the disk that is meant")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, folder, *numbers = options.child
        print(json.dumps(CHILDREN[name](Path(folder), *(float(n) if "." in n else int(n) for n in numbers))))
        return
    wanted = options.part or [name for name in PARTS if MOSQUITTO or name not in {"resend", "kill"}]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        for name in wanted:
            for row in PARTS[name](Path(work), options.scale):
                rows.append(row)
                print(f"{row[0]:80} {row[1]:14} {row[2]}", flush=True)
    print(f"\n{table(rows)}")
    if options.scale == 1 and set(wanted) == set(PARTS):
        write_page(rows)


if __name__ == "__main__":
    main()
