"""The whole product in a bad environment: nobody reads, nobody answers, pictures and parts that break. It ends, in order, and says why."""

from __future__ import annotations

import contextlib
import signal
import socket
import sqlite3
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from tests.brokers import wait_until
from tests.e2e.daemons import COMMAND, SAMPLES, Daemon, copy_samples, edgeannot
from tests.patience import DEADLINE_S


def broken(part):
    """The command with a part that raises, as a fault of the program would."""
    module, _, name = part.rpartition(".")
    patch = f"from {module} import {name}\ndef broken(*_):\n    raise ZeroDivisionError('by design')\n"
    method = "__call__" if name == "Pipeline" else "write"
    return [sys.executable, "-c", f"{patch}{name}.{method} = broken\nfrom edgeannot.cli.start import main\nmain()"]


@pytest.mark.parametrize(
    ("part", "doing"), [("edgeannot.vision.pipeline.Pipeline", "annotating"), ("edgeannot.sinks.mqtt.MqttSink", "storing")]
)
def test_a_part_that_breaks_ends_the_run_with_a_sentence_that_names_the_picture(tmp_path, part, doing):
    """More pictures than the queues hold: no thread may wait for one that has gone."""
    copy_samples(tmp_path / "in", copies=3)
    command = [*broken(part), "run", "--once", "--profile", "low", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 70, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"edgeannot: internal error (please report) while {doing}")
    assert "inbox: 000-astronaut.jpg" in last
    with sqlite3.connect(tmp_path / "data" / "state.sqlite") as database:
        assert database.execute("SELECT count(*) FROM ledger").fetchone() == (0,), "it is done again at the next start"
    database.close()


def test_a_sink_of_files_that_breaks_costs_files_only(tmp_path):
    names = copy_samples(tmp_path / "in")
    command = [*broken("edgeannot.sinks.images.ImagesSink"), "run", "--once", "--profile", "low", "--watch", tmp_path / "in"]
    command += ["--out", tmp_path / "out", "--data-dir", tmp_path / "data"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/annotations.jsonl").read_text().count("\n") == len(names)
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.count("ImagesSink: internal error (please report) for") == len(names)


def test_names_and_shapes_at_the_edge_of_what_is_possible_are_pictures_like_others(tmp_path):
    inbox = tmp_path / "in"
    inbox.mkdir()
    photo = (SAMPLES / "cat.jpg").read_bytes()
    for name in ("x" * 251 + ".jpg", "-rf.jpg", "a#b+c%d$e.jpg", "line\nbreak.jpg", "back\\slash.jpg"):
        (inbox / name).write_bytes(photo + name.encode())  # what follows a picture in its file is no part of it
    (inbox / "longer than a JPEG can be.png").write_bytes(cv2.imencode(".png", np.zeros((1, 70_000, 3), np.uint8))[1].tobytes())
    (inbox / "pixel.png").write_bytes(cv2.imencode(".png", np.zeros((1, 1, 3), np.uint8))[1].tobytes())
    done = edgeannot("run", "--once", "--profile", "low", "--watch", inbox, "--out", tmp_path / "out", "--data-dir", tmp_path / "data")

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("7 pictures annotated, in ")
    assert len(lines) == 8
    assert len(list((tmp_path / "out/annotated/inbox").iterdir())) == 7
    assert len([path for path in (tmp_path / "out/labels/inbox").iterdir() if path.name != "classes.txt"]) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_told_to_stop_while_it_waits_for_the_broker_it_ends_in_order(tmp_path, number):
    names = copy_samples(tmp_path / "in")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"mqtt://127.0.0.1:{silent.getsockname()[1]}"
        daemon = Daemon(tmp_path / "daemon", "--once", "--profile", "low", "--watch", tmp_path / "in", "--mqtt", url)
        try:
            said = tmp_path / "daemon" / "daemon.out"
            wait_until(lambda: " annotated, " in said.read_text(), "the last line", DEADLINE_S)
            daemon.process.send_signal(number)

            assert daemon.process.wait(DEADLINE_S) == 0
        finally:
            daemon.kill()
    assert "Traceback" not in daemon.log
    with sqlite3.connect(daemon.data_dir / "state.sqlite") as database:
        assert database.execute("SELECT count(*) FROM outbox WHERE kind = 'detections'").fetchone() == (len(names),)
    database.close()


def test_a_broker_that_takes_its_time_to_answer_is_waited_for(tmp_path, broker):
    """Longer than one that refuses: it is there, at the far end of a slow network."""
    copy_samples(tmp_path / "in")
    broker.pause()
    daemon = Daemon(tmp_path / "daemon", "--once", "--profile", "low", "--watch", tmp_path / "in", "--mqtt", broker.url)
    answer = threading.Timer(3.5, broker.resume)
    try:
        said = tmp_path / "daemon" / "daemon.out"
        wait_until(lambda: " annotated, " in said.read_text(), "the last line", DEADLINE_S)
        answer.start()

        assert daemon.process.wait(DEADLINE_S) == 0, daemon.log
    finally:
        answer.cancel()
        daemon.kill()


@pytest.mark.parametrize(("redirection", "said"), [("| head -n 1 >/dev/null", ""), (">/dev/full", "cannot write to standard output")])
def test_whoever_reads_the_lines_may_go_away(tmp_path, redirection, said):
    names = copy_samples(tmp_path / "in")
    words = ["run", "--once", "--profile", "low", "--watch", tmp_path / "in", "--out", tmp_path / "out", "--data-dir", tmp_path / "data"]
    script = f'{{ "$@"; echo "exit code $?" >&2; }} {redirection}'
    command = ["sh", "-c", script, "sh", *COMMAND, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.stderr.splitlines()[-1] == "exit code 0"
    assert said in done.stderr
    assert "Broken" not in done.stderr
    assert (tmp_path / "out/annotations.jsonl").read_text().count("\n") == len(names)


def test_a_database_that_is_removed_as_soon_as_it_is_there_is_written_anew(tmp_path):
    names = copy_samples(tmp_path / "in", copies=2)
    daemon = Daemon(tmp_path / "daemon", "--profile", "low", "--watch", tmp_path / "in", "--mqtt", "mqtt://127.0.0.1:1")
    database = daemon.data_dir / "state.sqlite"
    try:
        wait_until((daemon.data_dir / "state.sqlite-wal").exists, "the database", DEADLINE_S)
        for path in daemon.data_dir.glob("state.sqlite*"):
            path.unlink(missing_ok=True)
        names += [f"more/{name}" for name in copy_samples(tmp_path / "in" / "more")]
        daemon.wait_log("was removed while in use; restored with all its data")
        wait_until(lambda: ledger_paths(database) == sorted(names), f"the whole ledger: {daemon.log}", DEADLINE_S)

        assert daemon.stop() == 0
    finally:
        daemon.kill()
    assert ledger_paths(database) == sorted(names)
    assert "Traceback" not in daemon.log


def ledger_paths(database):
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return sorted(path.decode() for (path,) in db.execute("SELECT path FROM ledger"))
