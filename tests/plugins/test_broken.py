"""Plug-ins that are broken: a clear sentence at the start, and at run time set aside by name while everybody else goes on."""

from __future__ import annotations

import sys
import threading
from datetime import UTC, datetime

import numpy as np
import pytest

from edgeannot.base import isolation
from edgeannot.base.errors import CardError, ConfigError, LinkError, OutputError, PluginError
from edgeannot.base.isolation import Isolated
from edgeannot.sinks.isolated import IsolatedSink, PluginSink
from edgeannot.sources import Tick, isolated
from edgeannot.sources.isolated import IsolatedSource, PluginSource
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts, Outputs, TensorSpec
from edgeannot.vision.heads._isolated import IsolatedHead
from tests.brokers import Subscriber
from tests.conftest import ROOT
from tests.e2e.daemons import copy_samples, edgeannot
from tests.patience import DEADLINE_S


@pytest.fixture
def brief(monkeypatch):
    """Nobody waits long for a plug-in, and what hangs is let go at the end."""
    monkeypatch.setattr(isolation, "PATIENCE_S", 0.2)
    monkeypatch.setattr(isolated, "PATIENCE_S", 0.2)
    monkeypatch.setattr(isolated, "_LOOK_S", 0.05)
    over = threading.Event()
    yield over
    over.set()


def frame(number=0, source="s"):
    return Frame(np.zeros((8, 8, 3), np.uint8), source, number, datetime.now(UTC), str(number), name=f"{number}.jpg")


def annotation():
    return Annotation(frame(), Detections.empty(), (), ModelFacts("m", "0" * 64, "other", "low"))


def raising(exc):
    def fail(*_):
        raise exc

    return fail


# What all have in common: a thread of its own.


def test_what_a_function_returns_is_handed_on_and_what_it_raises_is_named():
    calls = Isolated("the sink 'x' of the package y")

    assert calls.call(lambda a, b: a + b, 1, 2) == 3
    with pytest.raises(PluginError, match=r"^the sink 'x' of the package y failed: ValueError: a b$"):
        calls.call(raising(ValueError("a\nb")))
    with pytest.raises(PluginError, match="failed: SystemExit: 3"):
        calls.call(sys.exit, 3)
    assert calls.call(threading.get_ident) == calls.call(threading.get_ident) != threading.get_ident()


def test_what_hangs_is_not_called_again(brief):
    calls = Isolated("x")

    with pytest.raises(PluginError, match=r"^x has not returned for 0\.2 s; it is set aside until the next start$"):
        calls.call(brief.wait)
    with pytest.raises(PluginError, match="x is set aside until the next start, as it hangs"):
        calls.call(int)


def test_the_thread_ends_with_its_owner():
    calls = Isolated("gone")
    thread = calls.call(threading.current_thread)
    del calls

    thread.join(DEADLINE_S)
    assert not thread.is_alive()


# Sinks


class Moody(PluginSink):
    """Takes what it is told to."""

    def __init__(self):
        self.trouble = None

    def write(self, annotation):
        if self.trouble:
            raise self.trouble


def test_results_are_lost_for_a_broken_sink_alone_said_once_and_counted(caplog):
    moody = Moody()
    sink = IsolatedSink("moody", "some-package", lambda: moody)
    for trouble in (None, ValueError("no ink"), LinkError("no paper"), None):
        moody.trouble = trouble
        assert sink.write(annotation()) == ()

    said = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert said == [
        "the sink 'moody' of the package some-package failed: ValueError: no ink; its results are lost for this sink only, and counted"
    ]
    (state,) = sink.folders()
    assert (str(state.path), state.unwritten, state.trouble) == ("sinks.moody", 2, "")


def test_a_sink_that_hangs_is_set_aside(brief):
    class Stuck(PluginSink):
        write = flush = close = brief.wait

    sink = IsolatedSink("stuck", "some-package", Stuck)
    sink.write(annotation())
    sink.write(annotation())
    sink.flush()
    sink.close()

    (state,) = sink.folders()
    assert (state.unwritten, "set aside" in state.trouble) == (2, True)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (raising(KeyError("x")), "sinks.bad: the sink 'bad' of the package p failed: KeyError: 'x'"),
        (raising(ConfigError("set it")), "failed: ConfigError: set it"),
        (dict, "made a dict, wanted a PluginSink"),
    ],
)
def test_a_sink_that_cannot_be_made_is_an_error_of_the_settings(make, said):
    with pytest.raises(ConfigError, match=said):
        IsolatedSink("bad", "p", make)


# Sources


def source(generator, *, once=True):
    class Given(PluginSource):
        def items(self, stop):
            return generator(stop)

        def finish(self, item):
            raise ValueError("not now")

    return IsolatedSource("s", "given", "p", Given, once=once)


def test_its_pictures_bear_the_name_in_the_settings(caplog):
    given = source(lambda stop: iter([frame(0, source="other"), Tick(3)]))
    first, second = given.items(threading.Event())

    assert (first.source, second) == ("s", Tick(3))
    assert given.is_gone("anything")
    given.finish(first)
    assert "0.jpg: the source 'given' of the package p failed: ValueError: not now" in caplog.text


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        (raising(ValueError("no film")), "failed: ValueError: no film; it is set aside until the next start, the other sources continue"),
        (lambda stop: iter([frame(), {"a": 1}]), "failed: TypeError: it gave a dict, wanted a Frame, a Failure or a Tick"),
        (lambda stop: None, "failed: TypeError: 'NoneType' object is not iterable"),
    ],
)
def test_a_source_that_raises_ends_with_a_sentence(generator, said):
    *_, last = source(generator).items(threading.Event())

    assert said in last.trouble


def test_a_daemon_waits_though_its_source_failed(brief):
    stop = threading.Event()
    items = source(raising(ValueError("no film")), once=False).items(stop)
    troubles = [next(items).trouble for _ in range(3)]
    stop.set()

    assert len(set(troubles)) == 1
    assert "no film" in troubles[0]
    assert list(items) == []


def test_a_source_that_hangs_is_named_and_one_that_comes_back_is_well_again(brief):
    def slow(stop):
        yield frame(0)
        brief.wait()
        yield frame(1)

    stop = threading.Event()
    items = source(slow).items(stop)
    assert next(items).seq == 0
    troubles = {next(items).trouble for _ in range(8)}
    brief.set()

    assert troubles == {"", "the source 'given' of the package p sends no heartbeat"}
    assert [item.seq for item in items if isinstance(item, Frame)] == [1]


@pytest.mark.parametrize(("make", "said"), [(raising(KeyError("x")), "failed: KeyError"), (dict, "made a dict, wanted a PluginSource")])
def test_a_source_that_cannot_be_made_is_an_error_of_the_settings(make, said):
    with pytest.raises(ConfigError, match=rf"sources\.s: the source 'given' of the package p {said}"):
        IsolatedSource("s", "given", "p", make, once=True)


# Heads

SPEC = TensorSpec("out", 0, (1, 3), np.dtype(np.float32), 0.0, 0)


class Given:
    """A head that does what a test wants."""

    kind = "given"
    score_outputs = (0,)
    suppress = False

    def __init__(self, check=lambda *_: 3, decode=lambda *_: Detections.empty()):
        self.check, self.decode = check, decode


def head(**parts):
    return IsolatedHead(Given(**parts), "p")


def test_a_head_that_works_reads_as_it_says():
    given = head()

    assert given.check((SPEC,), (8, 8)) == 3
    assert len(given.decode(Outputs(()), (8, 8), 0.5)) == 0


def test_a_head_that_breaks_at_load_is_an_error_of_the_card():
    with pytest.raises(CardError, match=r"^wrong shape$"):
        head(check=raising(CardError("wrong shape"))).check((SPEC,), (8, 8))
    with pytest.raises(CardError, match="the head 'given' of the package p failed: KeyError"):
        head(check=raising(KeyError(1))).check((SPEC,), (8, 8))
    with pytest.raises(CardError, match="the head 'given' of the package p reads the output 0, which the model does not have"):
        head().check((), (8, 8))


def test_a_head_that_breaks_at_a_picture_is_an_error_of_the_outputs(brief):
    for decode, said in (
        (raising(KeyError(1)), "the head 'given' of the package p failed: KeyError: 1"),
        (lambda *_: None, "gave a NoneType, wanted Detections"),
        (lambda *_: brief.wait(), "has not returned for 0.2 s"),
    ):
        with pytest.raises(OutputError, match=said):
            head(decode=decode).decode(Outputs(()), (8, 8), 0.5)


# All of them in a daemon

CODE = """
from dataclasses import dataclass
from typing import Literal
import numpy as np
from edgeannot.plugin import *

class BadSource(PluginSource):
    def __init__(self, name, options, context): pass
    def items(self, stop): raise RuntimeError("the film is torn")
class SourceSettings(SourceOptions):
    kind: Literal["bad"] = "bad"
SOURCE = SourceKind(SourceSettings, BadSource)

class BadSink(PluginSink):
    def __init__(self, options, context): pass
    def write(self, annotation): raise RuntimeError("out of ink")
SINK = SinkKind(SinkOptions, BadSink)

@dataclass(frozen=True)
class BadHead:
    kind: Literal["bad"] = "bad"
    score_outputs = (0,)
    suppress = False
    def check(self, outputs, input_wh): return None
    def decode(self, outputs, input_wh, min_score):
        raise RuntimeError("misread")
"""


@pytest.fixture
def bad(tmp_path):
    """The environment with a package of that code."""
    (tmp_path / "site" / "bad_package-1.0.dist-info").mkdir(parents=True)
    (tmp_path / "site" / "bad_package.py").write_text(CODE)
    (tmp_path / "site" / "bad_package-1.0.dist-info" / "entry_points.txt").write_text(
        "[edgeannot.sources]\nbad = bad_package:SOURCE\n[edgeannot.sinks]\nbad = bad_package:SINK\nodd = bad_package:SOURCE\n"
        "lost = bad_package:NOTHING\n[edgeannot.heads]\nbad = bad_package:BadHead\n"
    )
    return {"PYTHONPATH": str(tmp_path / "site")}


def run(tmp_path, text, environment):
    (tmp_path / "e.toml").write_text(f'device = "pi"\nprofile = "low"\ndata_dir = "{tmp_path}/data"\n{text}')
    return edgeannot("run", "--once", "--config", tmp_path / "e.toml", **environment)


def test_a_broken_source_and_a_broken_sink_cost_nobody_else_anything(tmp_path, broker, bad):
    names = copy_samples(tmp_path / "in")
    subscriber = Subscriber(broker)
    text = f'[sources.torn]\nkind = "bad"\n[sources.well]\nkind = "directory"\npath = "{tmp_path}/in"\n'
    done = run(tmp_path, f'{text}[sinks.bad]\nenabled = true\n[sinks.mqtt]\nurl = "{broker.url}"', bad)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the source 'bad' of the package bad-package failed: RuntimeError: the film is torn; it is set aside") == 1
    assert (
        done.stderr.count(
            "the sink 'bad' of the package bad-package failed: RuntimeError: out of ink; its results are lost for this sink only"
        )
        == 1
    )
    subscriber.wait_for(lambda s: len(s.payloads("edgeannot/pi/well/detections")) == len(names), "all results")
    subscriber.close()


@pytest.mark.parametrize(
    ("sink", "said"),
    [
        ("odd", "the sink 'odd' of the package bad-package cannot be used: bad_package:SOURCE is not a SinkKind"),
        ("lost", "the sink 'lost' of the package bad-package cannot be imported (AttributeError: "),
    ],
)
def test_a_package_that_does_not_fit_is_a_sentence(tmp_path, bad, sink, said):
    done = run(tmp_path, f"[sinks.{sink}]\nenabled = true", bad)

    assert (done.returncode, done.stderr.count("\n")) == (78, 1), done.stderr
    assert f"edgeannot: sinks: {said}" in done.stderr


def test_a_model_whose_head_fails_is_refused_by_the_heads_name(tmp_path, bad):
    text = (ROOT / "models" / "efficientnet-lite0.toml").read_text()
    start, rest = text.split("[head]")
    card = f'{start}[head]\nkind = "bad"\n\n[labels]{rest.split("[labels]")[1]}'
    for name in ("efficientnet-lite0.tflite", "efficientnet-lite0.labels.txt"):
        (tmp_path / name).symlink_to(ROOT / "models" / name)
    (tmp_path / "mine.toml").write_text(card)
    copy_samples(tmp_path / "in")
    done = run(tmp_path, f'task = "classify"\nmodel = "{tmp_path}/mine.toml"\n[sources.s]\nkind = "directory"\npath = "{tmp_path}/in"', bad)

    assert done.returncode == 78, done.stderr
    assert "the head 'bad' of the package bad-package failed: RuntimeError: misread" in done.stderr
    assert "Traceback" not in done.stderr
