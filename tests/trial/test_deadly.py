"""Files that kill the runtime, never end or want all memory: a sentence, from every command that is given one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from edgeannot.base.errors import ModelError, ShortageError
from edgeannot.trial.cards import prove
from edgeannot.trial.loads import UntriedError, try_model
from edgeannot.vision.cards import read_card
from tests.bad_models import add_model, endless, nan_on_black, short_anchors, stride_zero
from tests.e2e.daemons import edgeannot
from tests.patience import DEADLINE_S

pytestmark = pytest.mark.runtime

PICTURE = np.zeros((1, 32, 32, 3), np.float32)


def one_sentence(done):
    """The last line of what a command said, which is all that it said of the failure."""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("edgeannot:") == 1
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("make", "name"), [(endless, "endless"), (short_anchors, "short-anchors")])
@pytest.mark.parametrize("command", ["add", "verify", "inspect"])
def test_a_file_that_kills_the_runtime_is_refused_with_the_signal_and_what_to_do(tmp_path, command, make, name):
    file = tmp_path / f"{name}.tflite"
    file.write_bytes(make())
    if command == "verify":
        add_model(tmp_path / "data/models", name, make(), size=1024 if make is short_anchors else 32)
        done = edgeannot("models", "verify", name, "--data-dir", tmp_path / "data")
        said = done.stdout
    elif command == "add":
        done = edgeannot("models", "add", file, "--data-dir", tmp_path / "data")
        said = one_sentence(done)
    else:
        done = edgeannot("inspect", file)
        said = " ".join(done.stdout.split())

    assert done.returncode == (0 if command == "inspect" else 78), done.stderr
    assert "(SIGSEGV)" in said or "(SIGBUS)" in said  # what lies behind the file in memory is the kernel's choice
    assert "convert it again" in said
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("make", "size"), [(endless, 32), (short_anchors, 1024)])
def test_the_runtime_dies_in_a_process_of_its_own(make, size):
    with pytest.raises(ModelError, match=r"died of .*\(SIG(SEGV|BUS)\) when it was tried in a process of its own; the file is damaged, or"):
        try_model("m", make(), [np.ones((1, size, size, 3), np.float32)])


def test_a_division_by_zero_in_the_runtime_is_refused(pytestconfig):
    old = pytestconfig.getoption("runtime_name") == "tflite-runtime"  # the newer one sees it coming
    with pytest.raises(ModelError, match=r"an arithmetic fault \(SIGFPE\)" if old else "stride_width > 0"):
        try_model("m", stride_zero(), [PICTURE])


def test_the_daemon_refuses_a_model_that_was_set_and_kills_the_runtime(tmp_path):
    (tmp_path / "in").mkdir()
    add_model(tmp_path / "data/models", "endless", endless())
    done = edgeannot("run", "--once", "--model", "endless", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")

    assert done.returncode == 78, done.stderr
    assert "(SIGSEGV)" in one_sentence(done)


def test_the_daemon_goes_on_with_the_next_where_the_choice_kills_the_runtime(tmp_path):
    """Twice: the second start knows it, and does not try again."""
    (tmp_path / "in").mkdir()
    add_model(tmp_path / "data/models", "aaa-endless", endless())
    add_model(tmp_path / "data/models", "bbb-sound", nan_on_black())
    run = ("run", "--once", "--task", "classify", "--labels", "class-1", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")
    first, second = edgeannot(*run), edgeannot(*run)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "(SIGSEGV)" in first.stderr
    assert "excluded from the choice" in first.stderr
    assert "bbb-sound with" in first.stderr
    assert "aaa-endless" not in second.stderr
    assert "never tried" not in second.stderr
    assert "bbb-sound with" in second.stderr


def test_what_was_tried_when_it_was_added_is_not_tried_again_by_the_daemon(tmp_path):
    (tmp_path / "in").mkdir()
    model = tmp_path / "sound.tflite"
    model.write_bytes(nan_on_black())
    added = edgeannot("models", "add", model, "--yes", "--data-dir", tmp_path / "data")
    ran = edgeannot("run", "--once", "--model", "sound", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data")

    assert (added.returncode, ran.returncode) == (0, 0), added.stderr + ran.stderr
    assert "sound with" in ran.stderr
    assert "first use with this runtime" not in ran.stderr


KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


def test_a_child_that_the_kernel_kills_is_a_shortage_that_may_pass():
    with pytest.raises(ShortageError, match="free some and try again"):
        try_model("m", nan_on_black(), [PICTURE], command=[sys.executable, "-c", KILLED])


def test_a_daemon_whose_model_meets_a_shortage_at_the_start_ends_so_that_it_is_started_again(tmp_path):
    """Not with 78: what else runs on the board at boot may want the memory for a minute only."""
    (tmp_path / "in").mkdir()
    add_model(tmp_path / "data/models", "sound", nan_on_black())
    code = (
        f"import sys; from edgeannot.trial import loads; loads.try_model.__kwdefaults__['command'] = [sys.executable, '-c', {KILLED!r}]; "
        "from edgeannot.cli.start import main; main()"
    )
    arguments = ["run", "--once", "--model", "sound", "--watch", tmp_path / "in", "--data-dir", tmp_path / "data"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 75, done.stderr
    assert "SIGKILL" in one_sentence(done)


def test_what_a_sound_file_gives_comes_back_and_it_is_not_tried_where_the_program_is_told_to_stop(tmp_path):
    card = read_card(add_model(tmp_path, "sound", nan_on_black()))
    ran = try_model("sound", card.model_path, [PICTURE + 0.5, PICTURE + 0.1])

    assert [values[0].shape for values in ran.values] == [(1, 4), (1, 4)]
    assert all(0.9 < values[0].sum() < 1.1 for values in ran.values)
    assert [spec.name for spec in ran.outputs] == ["scores"]
    prove(card)
    with pytest.raises(UntriedError, match="told to stop"):
        prove(card, stopped=lambda: True)


def test_a_number_that_is_not_finite_in_the_last_of_the_runs_is_seen(tmp_path):
    with pytest.raises(ModelError, match="holds numbers that are not finite"):
        try_model("sound", nan_on_black(), [PICTURE + 0.5, PICTURE + 0.1, PICTURE])


def fake(body):
    code = f"import json, os, sys, time\nfor n, line in enumerate(sys.stdin):\n    request = json.loads(line)\n    {body}"
    return [sys.executable, "-c", code]


SPEC = "{'name': '', 'index': 0, 'shape': [], 'dtype': 'int8', 'scale': 0, 'zero_point': 0}"
RAN = f"{{'ran': {{'digest': 'x', 'seconds': 1, 'outputs': [], 'input': {SPEC}}}}}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("time.sleep(600)", "gave no figures within 1 s.*too large for this board"),
        ("os.kill(os.getpid(), 9)", "SIGKILL.*may be too large for this board, or other programs take its memory"),
        ("raise MemoryError", "ended with exit code 1: MemoryError.*too large for this board"),
        ("print(json.dumps({'ran': 7}), flush=True)", "gave nothing that can be read"),
        ("print(json.dumps({'ran': {'digest': 'x'}}), flush=True)", "gave nothing that can be read"),
        (f"os.write(request['outputs'], b'PK rubbish'); print(json.dumps({RAN}), flush=True)", "gave nothing that can be read"),
        ("print(json.dumps({'refused': 'no \\x1b[31m good'}), flush=True)", "m: no \ufffd"),
    ],
)
def test_a_child_that_hangs_runs_out_of_memory_or_talks_nonsense_is_a_sentence(body, words):
    limit_s = 1 if "within" in words else DEADLINE_S
    with pytest.raises(ModelError, match=words):
        try_model("m", b"TFL3", [PICTURE], limit_s=limit_s, command=fake(body))
