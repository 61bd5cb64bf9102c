"""Measuring in a child process: that deaths, hangs and rubbish of the child are facts and not ends."""

from __future__ import annotations

import errno
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeannot.base.child import Child, Died, Refused
from edgeannot.choice.candidates import facts_of
from edgeannot.choice.measure import CHILD, Effort, ask_for_samples, measure_micro, measure_models
from edgeannot.choice.measure_plan import Point
from edgeannot.choice.measurements import Conditions, Measurements, Record
from edgeannot.vision.cards import find_card
from tests.choice.test_decision import YOLO, facts, requirements, sample
from tests.patience import DEADLINE_S

HERE = Conditions("x86_64 board", "0-1", None, "", "litert 2.3.0")
SAMPLE = {
    "ms": 5.0,
    "p95_ms": 6.0,
    "stages": {"decode": 1.0},
    "p95_stages": {},
    "cpu_ms": 5.0,
    "peak_bytes": 9,
    "runs": 3,
    "dtype": "int8",
}
ANSWER = f"print(json.dumps({{'samples': [{SAMPLE} for _ in request['points']]}}), flush=True)"


ONE = {"points": [{"model": "yolo@192", "threads": 1}]}


@pytest.fixture(scope="session")
def runtime_name(pytestconfig):
    """A child has its own idea of `auto`."""
    return pytestconfig.getoption("runtime_name")


def status_of(pid):
    """What the kernel says of a process; empty where there is none. One that nobody waits for stays as a zombie."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def fake(body):
    """A child that runs `body` for each request line; `n` counts them from 0, `request` is what was asked."""
    code = f"import json, os, signal, sys, time\nfor n, line in enumerate(sys.stdin):\n    request = json.loads(line)\n    {body}"
    return [sys.executable, "-c", code]


def test_where_no_process_can_be_started_nothing_is_measured_and_nothing_breaks(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("edgeannot.base.child.subprocess.Popen", refuse)
    known, progress = Measurements(tmp_path / "m.json", HERE), []
    measure_models([YOLO], [], known, requirements(ms=100), runtime="auto", deadline_s=DEADLINE_S, progress=progress.append)

    assert known.records == {}
    assert "cannot be started (Resource temporarily unavailable)" in progress[0]


@pytest.mark.parametrize(
    ("number", "killed", "said"),
    [(15, False, "SIGTERM"), (1, False, "SIGHUP"), (9, True, "SIGKILL"), (31, True, "SIGSYS"), (40, True, "signal 40")],
)
def test_a_child_that_was_stopped_with_the_service_says_nothing_of_the_model(number, killed, said):
    with Child(fake(f"os.kill(os.getpid(), {number})")) as child, pytest.raises(Died, match=said) as died:
        child.ask({}, 30)

    assert (died.value.killed, died.value.lasting) == (killed, False)


def test_a_child_needs_no_folder_that_can_be_written(monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr("edgeannot.base.child.tempfile.TemporaryFile", refuse)
    with Child(fake(ANSWER)) as child:
        assert child.ask(ONE, 30)["samples"] == [SAMPLE]


def test_a_child_answers_request_by_request():
    with Child(fake(ANSWER)) as child:
        assert child.ask(ONE, DEADLINE_S)["samples"] == [SAMPLE]
        assert child.ask(ONE, DEADLINE_S)["samples"] == [SAMPLE]


def test_a_refusal_comes_in_the_childs_own_words():
    with Child(fake("print(json.dumps({'refused': 'card x: no such file'}), flush=True)")) as child, pytest.raises(Refused, match="card x"):
        child.ask({}, DEADLINE_S)


@pytest.mark.parametrize(
    ("body", "words", "lasting"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", r"died of an illegal instruction.*\(SIGILL\)", True),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"died of SIGKILL, most often for want of memory", False),
        ("print('std::bad_alloc', file=sys.stderr); os.abort()", r"died of abort.*: std::bad_alloc", False),
        ("sys.exit(3)", "ended with exit code 3", False),
        ("while True: sys.stdout.write('rubbish' * 100000)", "printed something else than figures", True),
        ("while True: print('rubbish\\\\n' * 10, flush=True)", "gave no figures within 1 s", False),
        ("time.sleep(600)", "gave no figures within 1 s", False),
    ],
)
def test_a_child_that_dies_or_hangs_is_a_fact(body, words, lasting):
    limit_s = 1 if "within" in words else 30
    with Child(fake(body)) as child, pytest.raises(Died, match=words) as caught:
        child.ask({}, limit_s)

    assert caught.value.lasting == lasting


def test_lines_that_are_no_answer_are_passed_over():
    """Libraries print."""
    with Child(fake(f"print('INFO: created delegate'); print('[1]'); print('{{}}'); {ANSWER}")) as child:
        assert child.ask(ONE, DEADLINE_S)["samples"] == [SAMPLE]


def test_a_stop_ends_the_wait():
    with Child(fake("time.sleep(600)"), stopped=lambda: True) as child, pytest.raises(Died, match="told to stop"):
        child.ask({}, 60)


def test_memory_beyond_the_limit_kills_only_the_child():
    body = f"data = bytearray(1 << 30); {ANSWER}"
    with Child(fake(body), memory_bytes=256 << 20) as child, pytest.raises(Died, match="MemoryError"):
        child.ask({}, DEADLINE_S)


def test_a_child_ends_with_who_asked_it():
    """A model that takes minutes, or hangs, would not notice that nobody reads its answer."""
    child = (
        "import time; from edgeannot.base.child import end_with_parent; end_with_parent(); "
        "print('{\"micro\": 1}', flush=True); time.sleep(600)"
    )
    asking = (
        "import sys, time; from edgeannot.base.child import Child; c = Child([sys.executable, '-c', sys.argv[1]]); "
        "c.ask({}, 600); print(c._process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", asking, child], stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        assert status_of(pid)
        parent.terminate()
        parent.wait(DEADLINE_S)
    until = time.monotonic() + DEADLINE_S
    while (left := status_of(pid)) and "Z (zombie)" not in left and time.monotonic() < until:
        time.sleep(0.02)

    assert not left or "Z (zombie)" in left


def measure(command, cards, tmp_path, deadline_s=DEADLINE_S):
    known, progress = Measurements(tmp_path / "m.json", HERE), []
    measure_models(
        cards, [tmp_path], known, requirements(ms=100), runtime="auto", deadline_s=deadline_s, command=command, progress=progress.append
    )
    return known, progress


def test_nothing_to_measure_starts_no_child(tmp_path):
    assert measure(["/nonexistent"], [], tmp_path)[1] == []


def test_figures_from_before_a_death_are_kept(tmp_path):
    known, progress = measure(fake(f"if n == 2: os.kill(os.getpid(), signal.SIGILL)\n    {ANSWER}"), [YOLO], tmp_path)
    record = known.record(YOLO.key)

    assert len(record.samples) == 2
    assert record.lasting
    assert record.failure.startswith("died of an illegal instruction")
    assert "when it was tried as yolo@" in progress[0]


TIMES_MS = "times = {'yolo': 9.5, 'ssd': 9.8} if len(request['points']) == 1 else {'yolo': 9.9, 'ssd': 9.0}"
INTERLEAVED = (
    f"{TIMES_MS}; short = 'yolo' if request['points'][0]['model'].startswith('yolo') else 'ssd'; "
    f"print(json.dumps({{'samples': [{SAMPLE} | {{'ms': times[p['model']], 'peak_bytes': 7 + n, 'runs': int(10 * request['seconds'])}} "
    "for p in request['points']]}), flush=True)"
)


def rivals():
    """Two models of one size that are as accurate as each other."""
    return [facts("yolo", maps=((416, 0.40),)), facts("ssd", "ssd", maps=((416, 0.41),))]


def test_two_models_between_which_little_decides_are_measured_interleaved_and_for_longer(tmp_path):
    yolo, ssd = rivals()
    known, progress = measure(fake(INTERLEAVED), [yolo, ssd], tmp_path)
    found = [known.record(card.key).samples[0] for card in (yolo, ssd)]

    assert [(s.ms, s.thorough, s.runs) for s in found] == [(9.9, True, 12), (9.0, True, 12)]
    assert {s.peak_bytes for s in found} == {7}, "memory is that of each alone in a process"
    assert progress[-1] == "yolo with 1 thread, ssd with 1 thread: measured again interleaved, as their times are close"


def test_the_winner_near_the_budget_is_measured_for_longer(tmp_path):
    ssd = facts("ssd")
    known = Measurements(tmp_path / "m.json", HERE)
    progress = []
    body = f"print(json.dumps({{'samples': [{SAMPLE} | {{'runs': int(10 * request['seconds'])}}]}}), flush=True)"
    measure_models(
        [ssd],
        [tmp_path],
        known,
        requirements(ms=5.2),
        runtime="litert",
        deadline_s=DEADLINE_S,
        command=fake(body),
        progress=progress.append,
    )
    (found,) = known.record(ssd.key).samples

    assert (found.thorough, found.runs) == (True, 12)
    assert progress[-1] == "ssd with 1 thread: measured again longer, as the budget is near"


def test_models_that_die_only_interleaved_keep_their_figures_and_are_not_tried_so_again(tmp_path):
    cards = rivals()
    known, progress = measure(fake(f"if len(request['points']) > 1: os.abort()\n    {INTERLEAVED}"), cards, tmp_path)

    assert [known.record(card.key).samples[0].ms for card in cards] == [9.5, 9.8]
    assert not any(known.record(card.key).failure for card in cards)
    assert "could not be measured again (died of abort" in progress[-1]
    measure_models(cards, [], known, requirements(ms=100), runtime="auto", deadline_s=DEADLINE_S, command=["/nonexistent"])


@pytest.mark.parametrize("answer", ["{'samples': []}", "{'samples': 7}", "{'samples': [1, 2]}"])
def test_rubbish_interleaved_is_no_failure_of_a_model(tmp_path, answer):
    cards = rivals()
    rubbish = f"if len(request['points']) > 1: print(json.dumps({answer}), flush=True); continue"
    known, progress = measure(fake(f"{rubbish}\n    {INTERLEAVED}"), cards, tmp_path)

    assert [known.record(card.key).samples[0].ms for card in cards] == [9.5, 9.8]
    assert "could not be measured again" in progress[-1]


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_child_that_is_stopped_with_the_service_while_models_are_interleaved_leaves_the_doubt(tmp_path, number):
    cards = rivals()
    die = f"if len(request['points']) > 1: signal.signal(signal.{number}, signal.SIG_DFL); os.kill(os.getpid(), signal.{number})"
    known, progress = measure(fake(f"{die}\n    {INTERLEAVED}"), cards, tmp_path)

    assert not any(s.thorough for card in cards for s in known.record(card.key).samples)
    assert progress == ["yolo: 1 points measured", "ssd: 1 points measured"]


def test_where_no_process_can_be_started_interleaved_the_doubt_stays_and_it_ends(tmp_path):
    cards = rivals()
    known = Measurements(tmp_path / "m.json", HERE)
    for card in cards:
        known.records[card.key] = Record((sample(416, 9.0),))
    measure_models(cards, [], known, requirements(ms=100), runtime="auto", deadline_s=DEADLINE_S, command=["/nonexistent"])

    assert not any(s.thorough for card in cards for s in known.record(card.key).samples)


def test_a_stop_while_models_are_interleaved_leaves_the_doubt_for_another_time(tmp_path):
    cards = rivals()
    known = Measurements(tmp_path / "m.json", HERE)
    for card in cards:
        known.records[card.key] = Record((sample(416, 9.0),))
    stops = iter([False])
    measure_models(
        cards,
        [],
        known,
        requirements(ms=100),
        runtime="auto",
        deadline_s=DEADLINE_S,
        command=fake("time.sleep(600)"),
        stopped=lambda: next(stops, True),
    )

    assert not any(s.thorough for card in cards for s in known.record(card.key).samples)


def test_the_other_models_are_measured_after_a_death(tmp_path):
    die = "if request['points'][0]['model'] == 'bad': os.abort()"
    known, _ = measure(fake(f"{die}\n    {ANSWER}"), [facts("bad"), facts("good")], tmp_path)

    assert known.record(facts("bad").key).failure
    assert len(known.record(facts("good").key).samples) == 1


def test_figures_of_another_form_are_a_failure(tmp_path):
    known, _ = measure(fake("print(json.dumps({'samples': [{'ms': 1}]}), flush=True)"), [YOLO], tmp_path)

    assert known.record(YOLO.key).failure == "printed something else than figures"


def test_without_time_nothing_is_measured_and_that_is_said(tmp_path):
    known, progress = measure(fake(ANSWER), [YOLO], tmp_path, deadline_s=0)

    assert not known.records
    assert progress == ["yolo: not measured, no time is left"]


@pytest.mark.runtime
def test_a_real_model_is_measured_with_its_stages(tmp_path, models_dir, runtime_name):
    card = facts_of(find_card("ssdlite-mobilenet-v2-coco", [models_dir]))
    known = Measurements(tmp_path / "m.json", HERE)
    measure_models([card], [models_dir], known, requirements(ms=1000), runtime=runtime_name, deadline_s=DEADLINE_S)
    found, *_ = known.record(card.key).samples

    assert (found.threads, found.dtype) == (1, "int8")
    assert found.runs >= 2
    assert set(found.stages) == {"decode", "preprocess", "inference", "postprocess"}
    assert 0 < found.stages["inference"] < found.p95_ms
    assert found.cpu_ms > 0
    assert found.peak_bytes > card.file_bytes
    json.dumps(found.stages)


@pytest.mark.runtime
def test_real_models_take_turns_in_one_process_and_have_figures_of_their_own(models_dir, runtime_name):
    card = facts_of(find_card("yolov3-tiny", [models_dir]))
    with Child(CHILD) as child:
        small, large = ask_for_samples(
            child, [(card, Point(192, 1)), (card, Point(416, 1))], [models_dir], runtime_name, Effort(seconds=0.1), 60
        )

    assert (small.size, small.threads, large.size, large.threads) == (192, 1, 416, 1)
    assert small.runs == large.runs >= 2  # a slow machine makes no more in the time that there is
    assert small.stages["inference"] < large.stages["inference"]


@pytest.mark.runtime
def test_a_real_model_with_a_wrong_hash_is_refused(tmp_path, models_dir, runtime_name):
    for path in models_dir.glob("ssdlite*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = tmp_path / "ssdlite-mobilenet-v2-coco.toml"
    stated = find_card("ssdlite-mobilenet-v2-coco", [tmp_path]).sha256
    card.write_text(card.read_text().replace(stated, "0" * 8 + stated[8:]))
    read = facts_of(find_card("ssdlite-mobilenet-v2-coco", [tmp_path]))
    known = Measurements(tmp_path / "m.json", HERE)
    measure_models([read], [tmp_path], known, requirements(ms=1000), runtime=runtime_name, deadline_s=DEADLINE_S)

    assert "has sha256" in known.record(read.key).failure


@pytest.mark.runtime
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize("model", ["ssdlite-mobilenet-v2-coco", "efficientnet-lite0", "yolov3-tiny@192"])
def test_a_picture_is_decoded_into_memory_that_is_there(model, models_dir, runtime_name):
    """Otherwise one model pays 1,200 page faults a picture and another none, by what lies above it on the heap; the daemon has none."""
    body = f"""
import resource
from pathlib import Path
from edgeannot.vision.cards import find_card
from edgeannot.choice.measure_child import samples
from edgeannot.vision.decode import keep_freed_memory
from edgeannot.vision.pipeline import load_pipeline

keep_freed_memory()
pipeline = load_pipeline(find_card({model!r}, [Path({str(models_dir)!r})]), threads=2, runtime={runtime_name!r})
samples([pipeline], 0, mean=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
samples([pipeline], 0, mean=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    faults = int(subprocess.run([sys.executable, "-c", body], check=True, capture_output=True, text=True).stdout)

    assert faults < 4 * 100


@pytest.mark.runtime
def test_the_micro_benchmark_runs_in_a_child(runtime_name):
    assert measure_micro(1, runtime_name).int8_gops > 0


def test_a_quota_is_measured_over_several_of_its_periods():
    assert not Effort.under(None).mean
    assert Effort.under(0.25).mean
    assert Effort.under(0.25).seconds > 1
