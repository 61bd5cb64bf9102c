"""The main thread's look at everything, about once a second."""

import threading
from types import SimpleNamespace

from edgeannot.base.errors import ConfigError
from edgeannot.crash_guard import AtWork
from edgeannot.daemon.reload import Reload
from edgeannot.daemon.supervisor import Supervisor
from edgeannot.daemon.worker_pool import Heartbeats


class Ticks:
    """A finished-event that is set after some looks; what happens at each is the test's."""

    def __init__(self, looks, at_each=lambda: None):
        self.looks = looks
        self.at_each = at_each

    def wait(self, timeout):
        self.looks -= 1
        self.at_each()
        return self.looks < 0


class GovernorLoop:
    def __init__(self, fault=None):
        self.fault = fault
        self.ticks = self.steps = 0

    def tick(self):
        self.ticks += 1
        if self.fault:
            raise self.fault

    def figures(self):
        return {"governor": {"step": self.steps}}


def watch(looks, governor_loop, said, at_each=lambda: None, heartbeats=None, watchdog_s=None, reload=None):
    stop = threading.Event()
    pool = SimpleNamespace(
        finished=Ticks(looks, at_each), progress=SimpleNamespace(annotated=7, files_waiting=0), figures=lambda: {"fps": 1},
        start=lambda: said.append("start"), frames=SimpleNamespace(cancel=lambda: said.append("cancel")), join=lambda: said.append("join"),
    )  # fmt: skip
    supervisor = Supervisor(
        pool=pool,
        stop=stop,
        heartbeats=heartbeats or Heartbeats(),
        notifier=SimpleNamespace(watchdog_s=watchdog_s, send=lambda **fields: said.append(fields)),
        announcer=SimpleNamespace(heard=True, telemetry=said.append),
        active_model=SimpleNamespace(card=SimpleNamespace(name="m")),
        at_work=AtWork(),
        governor_loop=governor_loop,
        reload=reload,
    )
    return supervisor, stop


def test_a_run_that_ends_at_once_is_ready_stopping_and_joined():
    said = []
    watch(0, GovernorLoop(), said)[0].run()

    assert said == ["start", {"READY": "1"}, {"STOPPING": "1"}, "join"]


def test_while_every_thread_lives_the_watchdog_is_fed():
    said = []
    watch(2, GovernorLoop(), said, watchdog_s=30.0)[0].run()

    assert said[2:4] == [{"WATCHDOG": "1", "STATUS": "7 pictures annotated with m"}] * 2


def test_a_reload_that_was_refused_stays_in_the_status_until_one_is_good():
    said, wrong = [], [ConfigError("min_scor: unknown setting"), None]

    def load():
        if error := wrong.pop(0):
            raise error
        return "new"

    reload = Reload(load, SimpleNamespace(send=lambda **_: None))
    reload.ask()
    watch(3, GovernorLoop(), said, watchdog_s=30.0, reload=reload)[0].run()

    refused = "the new configuration is wrong, and the old one stays in force: min_scor: unknown setting"
    assert said[2:5] == [{"WATCHDOG": "1", "STATUS": refused}] * 3
    reload.ask()
    watch(1, GovernorLoop(), said, watchdog_s=30.0, reload=reload)[0].run()
    assert {"WATCHDOG": "1", "STATUS": "7 pictures annotated with m"} in said


def test_a_thread_that_is_silent_for_too_long_is_named_once_and_the_watchdog_is_not_fed(caplog):
    now = [0.0]
    heartbeats = Heartbeats(clock=lambda: now[0])
    heartbeats.begin("infer")
    now[0] = 16.0
    said = []
    watch(3, GovernorLoop(), said, heartbeats=heartbeats, watchdog_s=30.0)[0].run()

    assert caplog.text.count("no heartbeat of infer for 16 s: the watchdog is no longer fed") == 1
    assert not any("WATCHDOG" in fields for fields in said if isinstance(fields, dict))


def test_a_step_of_the_governor_is_published_at_once():
    said, governor_loop = [], GovernorLoop()
    watched, _ = watch(3, governor_loop, said, at_each=lambda: setattr(governor_loop, "steps", 1))
    watched.run()

    assert said.count({"fps": 1, "governor": {"step": 1}}) == 1


def test_a_governor_that_breaks_is_said_once_and_the_work_goes_on(caplog):
    governor_loop = GovernorLoop(ZeroDivisionError())
    watch(5, governor_loop, [])[0].run()

    assert governor_loop.ticks == 5
    assert caplog.text.count("internal error of the governor (please report)") == 1


def test_a_stop_is_passed_down_the_line():
    said = []
    watched, stop = watch(1, GovernorLoop(), said)
    stop.set()
    watched.run()

    assert "cancel" in said


def test_a_minute_with_pictures_is_one_line_and_one_without_is_none(caplog, monkeypatch):
    supervisor, _ = watch(3, GovernorLoop(), [])
    supervisor.summary = True
    monkeypatch.setattr("edgeannot.daemon.supervisor._SUMMARY_S", -1.0)  # each look is a minute
    supervisor._summary_at = 0.0
    with caplog.at_level("INFO"):
        supervisor.run()

    lines = [record for record in caplog.records if "in the last minute" in record.message]
    assert [line.fields["pictures"] for line in lines] == [7]
    assert lines[0].message == "7 pictures in the last minute, 0 ms each; since the start 7, 0 not annotated; 0 messages unsent"
