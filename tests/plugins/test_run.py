"""A package that adds a source, a sink and a head: seen in settings, errors and `models add`, and used in a run with a broker."""

from __future__ import annotations

import json

import pytest

from edgeannot.sources import SOURCES, SourceKind, SourceOptions
from tests.brokers import Subscriber
from tests.conftest import ROOT
from tests.docs_pages import DOCS, settings_page
from tests.e2e.daemons import Daemon, edgeannot
from tests.plugins.packages import HEAD_PARTS, install, write_package

TICKER = """
from datetime import UTC, datetime
from typing import Literal
import numpy as np
from edgeannot.plugin import Frame, PluginSource, SourceKind, SourceOptions

class Options(SourceOptions):
    kind: Literal["ticker"] = "ticker"
    pictures: int = 2

class Ticker(PluginSource):
    def __init__(self, name, options, context):
        self.name, self.count, self.done = name, options.pictures, []

    def items(self, stop):
        for number in range(self.count):
            yield Frame(np.full((64, 64, 3), 90, np.uint8), self.name, number, datetime.now(UTC), str(number), name=f"{number}.jpg")

KIND = SourceKind(Options, Ticker)
"""
DIARY = """
from pathlib import Path
from edgeannot.plugin import PluginSink, SinkKind, SinkOptions

class Options(SinkOptions):
    file: Path = Path("diary.txt")
    words: tuple[str, ...] = ("saw",)

class Diary(PluginSink):
    def __init__(self, options, context):
        self.path, self.words = context.out_dir / options.file, options.words
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, annotation):
        with self.path.open("a") as file:
            print(*self.words, annotation.frame.name, *annotation.labels, file=file)

KIND = SinkKind(Options, Diary)
"""
FIRST = (
    """
from dataclasses import dataclass
from typing import Literal
import numpy as np
from edgeannot.plugin import Detections, TensorRef

@dataclass(frozen=True, slots=True, kw_only=True)
class First:
    kind: Literal["first-class"] = "first-class"
    output: TensorRef
    score: float = 0.9

    def decode(self, outputs, input_wh, min_score):
        return Detections(np.array([[0, 0, *input_wh]], np.float32), np.array([self.score], np.float32), np.array([0]))

"""
    + HEAD_PARTS
)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Where the packages are installed."""
    folder = tmp_path_factory.mktemp("plugins")
    kinds = {"sources": {"ticker": "ticker:KIND"}, "sinks": {"diary": "diary:KIND"}, "heads": {"first-class": "first:First"}}
    install(write_package(folder, "three-kinds", {"ticker": TICKER, "diary": DIARY, "first": FIRST}, kinds), folder / "site")
    install(ROOT / "examples" / "edgeannot-example-plugin", folder / "site")
    return {"PYTHONPATH": str(folder / "site")}


def settings(tmp_path, text):
    path = tmp_path / "edgeannot.toml"
    path.write_text(f'data_dir = "{tmp_path}/data"\nout_dir = "{tmp_path}/out"\nprofile = "low"\n{text}')
    return path


def test_the_settings_have_its_kinds(tmp_path, site):
    path = settings(tmp_path, '[sources.clock]\nkind = "ticker"\npictures = 5\n[sinks.diary]\nenabled = true')
    done = edgeannot("config", "--config", path, **site, EDGEANNOT_SINKS__DIARY__FILE="other.txt")

    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert rows["sources.clock.kind"][0] == '"ticker"'
    assert rows["sources.clock.pictures"] == ["5", str(path)]
    assert rows["sinks.diary.file"] == ['"other.txt"', "environment"]
    assert rows["sinks.diary.words"][:2] == ['["saw"]', "default"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[sources.clock]\nkind = "ticker"\npicture = 5', "sources.clock.picture: unknown setting; did you mean pictures? ("),
        ('[sources.clock]\nkind = "ticker"\npictures = "x"', "sources.clock.pictures: wanted a whole number, found 'x'"),
        ("[sinks.diary]\nenable = true", "sinks.diary.enable: unknown setting; did you mean enabled? ("),
        ('[sinks.diary]\nwords = "x"', 'sinks.diary.words: wanted a list like ["a", "b"], found \'x\' ('),
        ("[sinks.diar]\nenabled = true", "sinks.diar: unknown setting ("),
    ],
)
def test_what_is_wrong_in_its_settings_is_said_with_its_place(tmp_path, site, text, said):
    done = edgeannot("config", "--config", settings(tmp_path, text), **site)

    assert (done.returncode, said in done.stderr) == (78, True), done.stderr


def test_without_the_package_the_kind_is_unknown(tmp_path):
    done = edgeannot("config", "--config", settings(tmp_path, '[sources.clock]\nkind = "ticker"'))

    assert done.returncode == 78
    assert (
        'sources.clock: wanted a source out of "directory", "camera", "files" or "mqtt", or one that an installed package adds; found'
        in done.stderr
    )


def test_a_kind_that_is_built_in_and_not_on_the_page_turns_the_test_of_the_page_red(monkeypatch):
    class Telescope(SourceOptions):
        """A telescope."""

        kind: str = "telescope"

    monkeypatch.setattr(SOURCES, "built_in", {**SOURCES.built_in, "telescope": SourceKind(Telescope, lambda *_: None)})

    assert '## `kind = "telescope"`: A telescope' in settings_page()
    assert settings_page() != (DOCS / "settings.md").read_text(encoding="utf-8")


def add_model(tmp_path, site, head, *words):
    return edgeannot(
        "models", "add", ROOT / "models" / "efficientnet-lite0.tflite", "--name", "mine", "--head", head, "--yes",
        "--labels", ROOT / "models" / "efficientnet-lite0.labels.txt", "--set", "defaults.max_detections=3", *words,
        "--data-dir", tmp_path / "data", **site,
    )  # fmt: skip


def test_models_add_takes_its_head_on_the_users_word(tmp_path, site):
    missing = add_model(tmp_path, site, "first-class")
    unknown = add_model(tmp_path, site, "first-clas")
    added = add_model(tmp_path, site, "first-class", "--set", "head.output=logits")

    assert (missing.returncode, unknown.returncode) == (65, 65)
    assert "--head first-class: output: wanted a value" in missing.stderr
    assert "--head: wanted one of" in unknown.stderr
    assert added.returncode == 0, added.stderr
    assert "added mine" in added.stdout
    listed = edgeannot("models", "verify", "mine", "--data-dir", tmp_path / "data", **site)
    assert (listed.returncode, listed.stdout.startswith("mine: ok")) == (0, True), listed.stdout


@pytest.mark.parametrize(
    ("source", "sink", "head", "lines"),
    [
        ('kind = "ticker"', '[sinks.diary]\nenabled = true\nfile = "seen.txt"', "first-class", ["saw 0.jpg tench", "saw 1.jpg tench"]),
        (
            'kind = "generator"\npictures = 2',
            '[sinks.lines]\nenabled = true\nfile = "seen.txt"',
            "centre-box",
            ["clock/0000.jpg: ", "clock/0001.jpg: "],
        ),
    ],
    ids=["written", "example"],
)
def test_a_run_uses_all_three_with_a_broker(tmp_path, site, broker, source, sink, head, lines):
    added = add_model(tmp_path, site, head, "--set", "head.output=logits")
    assert added.returncode == 0, added.stderr
    subscriber = Subscriber(broker)
    text = f'model = "mine"\ndevice = "pi"\n[sources.clock]\n{source}\n[sinks.mqtt]\nurl = "{broker.url}"\n{sink}'
    done = edgeannot("run", "--once", "--config", settings(tmp_path, text), **site)

    assert done.returncode == 0, done.stderr
    seen = (tmp_path / "out" / "seen.txt").read_text().splitlines()
    assert [line.startswith(start) for line, start in zip(seen, lines, strict=True)] == [True, True], seen
    subscriber.wait_for(lambda s: len(s.payloads("edgeannot/pi/clock/detections")) == 2, "both results")
    objects = json.loads(subscriber.payloads("edgeannot/pi/clock/detections")[0])
    assert objects["model"]["name"] == "mine"
    subscriber.close()


def test_a_daemon_with_a_source_that_never_ends_stops_when_it_is_told(tmp_path, site):
    path = settings(
        tmp_path, '[sources.clock]\nkind = "generator"\npictures = 1\n[sinks.mqtt]\nenabled = false\n[sinks.lines]\nenabled = true'
    )
    daemon = Daemon(tmp_path, "--config", path, **site)
    daemon.wait_log(" thread")

    assert daemon.stop() == 0, daemon.log
