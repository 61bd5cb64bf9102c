"""The command `teach`: what it refuses, and the process that does it. A script stands for `edgeannot teach`, which has its own tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgeannot.remote.commands import Teach
from edgeannot.remote.replies import RefusedError
from edgeannot.remote.teaching import Teacher
from edgeannot.sinks.mqtt import CommandOptions
from tests.brokers import wait_until
from tests.patience import DEADLINE_S


def teacher(tmp_path, script="print('taught', *sys.argv[1:])", **options) -> Teacher:
    (tmp_path / "sets" / "gate").mkdir(parents=True, exist_ok=True)
    options = {"teach_root": tmp_path / "sets", **options}
    command = [sys.executable, "-c", f"import os, signal, sys, time\n{script}"]
    return Teacher(CommandOptions(**options), tmp_path / "state", {"EDGEANNOT_RUNTIME": "litert"}, command)


def wanted(data="gate", **more) -> Teach:
    return Teach(task="classify", data=data, name="gate", **more)


def test_without_an_allowed_folder_nothing_is_taught(tmp_path):
    with pytest.raises(RefusedError, match="no folder is allowed"):
        teacher(tmp_path, teach_root=None).teach(wanted())


@pytest.mark.parametrize("data", ["..", "/etc", "gate/../../state", "out", "a\0b"])
def test_a_set_elsewhere_is_refused(tmp_path, data):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "out").symlink_to("/etc")

    with pytest.raises(RefusedError, match="allowed folder") as refused:
        teacher(tmp_path).teach(wanted(data))

    assert refused.value.code == "not-allowed"


def test_a_set_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RefusedError) as refused:
        teacher(tmp_path).teach(wanted("door"))

    assert refused.value.code == "no-such-file"


def test_the_command_gets_the_set_the_name_and_the_daemons_own_folder(tmp_path):
    done = teacher(tmp_path).teach(wanted(replace=True)).result(DEADLINE_S)

    words = f"teach classify {tmp_path}/sets/gate --name gate --data-dir {tmp_path}/state --replace"
    assert done == {"model": "gate", "said": [f"taught {words}"]}


def test_it_has_a_low_priority_ends_first_where_memory_ends_and_has_the_daemons_runtime(tmp_path):
    nice = min(os.getpriority(os.PRIO_PROCESS, 0) + 7, 19)  # only root could take a higher priority than the tests have
    script = f"""
place = lambda: (os.getpriority(os.PRIO_PROCESS, 0), open("/proc/self/oom_score_adj").read().strip())
while place() != ({nice}, "1000"): time.sleep(.01)
print(os.environ["EDGEANNOT_RUNTIME"])
"""

    done = teacher(tmp_path, script, teach_nice=nice).teach(wanted()).result(DEADLINE_S)

    assert done["said"] == ["litert"]


def test_its_last_sentence_is_the_reason_of_a_refusal(tmp_path):
    script = "print('reading'); print('edgeannot: the class cat has 1 picture, wanted 2 or more \\x1b[31m', file=sys.stderr); sys.exit(65)"

    with pytest.raises(RefusedError, match=r"^teach: the class cat has 1 picture, wanted 2 or more") as refused:
        teacher(tmp_path, script).teach(wanted()).result(DEADLINE_S)

    assert refused.value.code == "invalid"
    assert "\x1b" not in str(refused.value)


def test_a_process_that_is_killed_is_said(tmp_path):
    with pytest.raises(RefusedError, match="signal 9, most often for want of memory") as refused:
        teacher(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)").teach(wanted()).result(DEADLINE_S)

    assert refused.value.code == "unavailable"


def test_one_model_is_taught_at_a_time(tmp_path):
    busy = teacher(tmp_path, "time.sleep(600)")
    first = busy.teach(wanted())

    with pytest.raises(RefusedError, match="a model is being taught"):
        busy.teach(wanted())
    busy.stop()

    with pytest.raises(RefusedError, match="the daemon is stopping"):
        first.result(DEADLINE_S)


def test_what_takes_too_long_is_ended(tmp_path):
    with pytest.raises(RefusedError, match="not done within") as refused:
        teacher(tmp_path, "time.sleep(600)", teach_minutes=0.01).teach(wanted()).result(DEADLINE_S)

    assert refused.value.code == "timeout"


def test_a_stop_ends_the_process_and_its_children(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"os.fork()\nwith open({str(pid_file)!r}, 'a') as file: file.write(f'{{os.getpid()}} ')\ntime.sleep(600)"
    running = teacher(tmp_path, script)
    future = running.teach(wanted())
    wait_until(lambda: pid_file.exists() and len(pid_file.read_text().split()) == 2, "both processes")

    running.stop()

    assert isinstance(future.exception(DEADLINE_S), RefusedError)
    wait_until(lambda: not any(map(_runs, pid_file.read_text().split())), "their end")


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
