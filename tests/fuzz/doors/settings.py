"""Settings: the TOML file, the variables of the environment, and the command line of `edgeannot run`, as the command reads them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import sys
import tomllib
from pathlib import Path
from random import Random
from unittest import mock

from tests.fuzz.dtype import WORDS

from edgeannot import probe
from edgeannot.base.streams import _Printable
from edgeannot.choice import auto_profile as judge
from edgeannot.cli.app import app
from edgeannot.cli.exits import guarded
from edgeannot.settings import load_settings
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.words import NUMBERS, change_text

FULL = b"""\
device = "pi"
data_dir = "data"
out_dir = "out"
profile = "low"
task = "detect"
model = "yolov3-tiny@224"
max_ms = 300
min_fps = 1.5
runtime = "auto"
threads = 2
max_threads = 4
max_fps = 5.0
min_score = 0.4
iou = 0.5
labels = ["person", "dog"]
log_level = "info"

[sources.inbox]
kind = "directory"
path = "in"
after = "move"

[sources.door]
kind = "camera"
url = "rtsp://user:word@127.0.0.1:554/stream?a=b"
max_fps = 2

[sources.post]
kind = "mqtt"
url = "mqtt://127.0.0.1:1883"
topics = ["pictures/+"]

[sinks.mqtt]
url = "mqtts://127.0.0.1:8883"
username = "me"
prefix = "site/edgeannot"
qos = 1
expiry_s = 3600
images = true
image_quality = 80

[sinks.mqtt.commands]
enabled = true
root = "in"
max_megapixels = 12.5
timeout_s = 60

[sinks.mqtt.home_assistant]
enabled = true
prefix = "homeassistant"
max_labels = 20

[sinks.images]
enabled = true

[sinks.labels]
enabled = true

[sinks.jsonl]
enabled = true
"""
SMALL = b'profile = "mid"\nlabels = []\nsources.a = { kind = "directory", path = "/tmp/x" }\nsinks.jsonl.enabled = false\n'
ENVIRONMENT = {
    "EDGEANNOT_PROFILE": "low",
    "EDGEANNOT_DEVICE": "pi",
    "EDGEANNOT_MAX_MS": "250.5",
    "EDGEANNOT_THREADS": "2",
    "EDGEANNOT_LABELS": "person,dog",
    "EDGEANNOT_MIN_SCORE": "0.5",
    "EDGEANNOT_SOURCES": '{"inbox": {"kind": "directory", "path": "in"}}',
    "EDGEANNOT_SOURCES__DOOR__KIND": "camera",
    "EDGEANNOT_SOURCES__DOOR__URL": "rtsp://127.0.0.1/stream",
    "EDGEANNOT_SINKS__MQTT__URL": "mqtt://127.0.0.1",
    "EDGEANNOT_SINKS__MQTT__COMMANDS__ENABLED": "true",
    "EDGEANNOT_SINKS__MQTT__QOS": "1",
    "EDGEANNOT_SINKS__IMAGES": '{"enabled": true}',
    "EDGEANNOT_OUT_DIR": "out",
}
COMMAND_LINES = (
    [
        "--profile",
        "low",
        "--watch",
        "in",
        "--mqtt",
        "mqtt://127.0.0.1:1883",
        "--min-score",
        "0.4",
        "--threads",
        "2",
        "--labels",
        "person,dog",
    ],
    ["--profile", "mid", "--camera", "rtsp://127.0.0.1/stream", "--every-n", "2", "--out", "out", "--device", "pi", "--log-level", "debug"],
    ["--profile", "high", "--model", "yolov3-tiny@224", "--task", "detect", "--max-ms", "200", "--min-fps", "2", "--watch", "in", "--once"],
)


class TheDoor(Door):
    """`settings.load_settings`, and the whole of `edgeannot run` up to the daemon, which is not started."""

    modules = ("edgeannot/settings.py", "edgeannot/mqtt/address.py", "edgeannot/cli/exits.py", "edgeannot/cli/app.py")

    def seeds(self) -> list[Case]:
        parts = FULL.split(b"\n\n")
        files = [FULL, SMALL, *(b"\n\n".join([parts[0], part]) for part in parts[1:])]
        return [
            *[Case("toml", text) for text in files],
            *[Case("environment", json.dumps(dict(list(ENVIRONMENT.items())[i : i + 5])).encode()) for i in (0, 3, 6, 9, 9, 0)],
            *[Case("arguments", json.dumps(words).encode()) for words in COMMAND_LINES],
        ]

    def mutate(self, rng: Random, case: Case) -> Case:
        if case.kind == "toml":
            return Case("toml", change_text(rng, case.body, (FULL, SMALL)))
        value = json.loads(case.body)
        if isinstance(value, dict):
            name = rng.choice(list(value) or ["EDGEANNOT_X"])
            _change_variable(rng, value, name)
        else:
            at = rng.randrange(len(value)) if value else 0
            value[at : at + rng.randrange(2)] = [rng.choice((*WORDS, *NUMBERS, *value, "--labels", "--max-ms", "--config", "\udcff"))]
        return Case(case.kind, json.dumps(value).encode())

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        {"toml": self._file, "environment": self._variables, "arguments": self._words}[case.kind](case.body, folder, visit)

    def _file(self, text: bytes, folder: Path, visit: Visit) -> None:
        path = folder / "edgeannot.toml"
        path.write_bytes(text)
        with contextlib.suppress(ValueError, RecursionError):
            tomllib.loads(text.decode())
            visit.past_first = True
        _command(["config", "--config", str(path)])
        loaded = load_settings({}, path, grade=lambda: ("low", "as the test says"))
        assert list(loaded.rows())

    def _variables(self, text: bytes, folder: Path, visit: Visit) -> None:
        values = {key: value for key, value in json.loads(text).items() if "\0" not in key + value and key and "=" not in key}
        visit.past_first = True
        with mock.patch.dict(os.environ, _encodable(values)):
            _command(["config"])
            assert list(load_settings({}, None, grade=lambda: ("low", "as the test says")).rows())

    def _words(self, text: bytes, folder: Path, visit: Visit) -> None:
        words = [word.replace("\0", "") for word in json.loads(text)]
        visit.past_first = True
        with contextlib.chdir(folder):
            _command(["run", "--data-dir", str(folder / "data"), *words])


def _change_variable(rng: Random, values: dict[str, str], name: str) -> None:
    choice = rng.random()
    old = values.pop(name, "")
    if choice < 0.5:
        changed = change_text(rng, old.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")
        values[name] = changed[:100_000]
    elif choice < 0.75:
        values[name] = rng.choice((*WORDS, *NUMBERS, "\udcff", "[1]", "{}", "true", '{"kind": 1}', '["a", NaN]'))
    elif choice < 0.9:
        values[rng.choice(list(ENVIRONMENT))] = old
    else:
        values[name + rng.choice(("__X", "__", "²", "__ENABLED", "x"))] = old


def _encodable(values: dict[str, str]) -> dict[str, str]:
    """What the system can carry: any bytes but NUL, each variable up to 128 KB."""
    return {key: value for key, value in values.items() if len(value) < 100_000 and not _lone(key + value)}


def _lone(text: str) -> bool:
    """Whether it holds halves of characters that are not those of undecodable bytes."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return True
    return False


_board = functools.cache(probe.read_board)


def _command(words: list[str]) -> None:
    """Run the command without the daemon and without measuring; raises what it would not have foreseen."""
    said = io.BytesIO()
    stream = _Printable(said, io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))  # as the command makes its own streams
    with (
        mock.patch.object(sys, "argv", ["edgeannot", *words]),
        mock.patch.object(judge, "micro_of", return_value=None),
        mock.patch.object(probe, "read_board", _board),
        mock.patch("edgeannot.daemon.run.run_daemon", return_value=0),
        mock.patch("edgeannot.base.streams.set_up_logging"),
        contextlib.redirect_stderr(stream),
        contextlib.redirect_stdout(stream),
    ):
        try:
            guarded(app)
            code: object = 0
        except SystemExit as exc:
            code = exc.code or 0
    stream.flush()
    progress = said.getvalue().decode()
    if code not in {0, 64, 66, 78}:
        raise AssertionError(f"the command ended with {code}: {progress[-1500:]}")
    raw = set(progress) - {"\n", "\t"} - {letter for letter in progress if letter.isprintable()}
    assert not raw, f"the command wrote {sorted(raw)!r}: {progress[-1500:]!r}"
