"""Settings: the TOML file, the variables of the environment, the addresses in them, and command lines, as the command reads them."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import sys
import tomllib
from pathlib import Path
from random import Random
from unittest import mock

from edgeannot import probe
from edgeannot.base.errors import ConfigError
from edgeannot.base.streams import _Printable
from edgeannot.choice import auto_profile
from edgeannot.cli.app import app
from edgeannot.cli.start import guarded
from edgeannot.mqtt.options import Address
from edgeannot.settings import find_data_dir, load_settings
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.numbers import WORDS
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
after_folder = "done"

[sources.door]
kind = "camera"
url = "rtsp://user:word@127.0.0.1:554/stream?a=b"
max_fps = 2

[sources.post]
kind = "mqtt"
topic = "pictures/+"
group = "workers"
broker = { url = "mqtt://127.0.0.1:1883", username = "me" }

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

[sinks.webhook]
enabled = true
url = "https://example.org/hook?site=barn"
headers = { X-Site = "barn" }
header_files = { Authorization = "token" }
attempts = 5
"""
NAMED = b"""\
device = "caf\\u00e9 \\u0001"
data_dir = "."

[sources."front-door_1"]
kind = "camera"
url = "clip.mp4"
every_n = 3

[sources.replies]
kind = "directory"
path = "."

[sinks.mqtt]
url = "wss://me@[::1]:9001/mqtt"
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


OTHER_COMMANDS = (
    ["--version"],
    ["--help"],
    ["run", "--help"],
    ["run", "--config", "edgeannot.toml", "--watch", "in"],
    ["run", "--camera", "clip.mp4", "--every-n", "2", "--profile", "low", "--explain"],
    ["run", "--watch", "in", "--labels", "person, dog", "--explain"],
    ["config", "--profile", "mid", "--data-dir", "data"],
    ["probe", "--no-measure", "--data-dir", "data", "--json"],
    ["listen", "mqtts://127.0.0.1", "--device", "pi", "--count", "3", "--username", "me", "--password-file", "word", "--json"],
    ["models", "list", "--data-dir", "data"],
    ["models", "show", "yolov3-tiny@224", "--data-dir", "data"],
    ["inspect", "model.tflite", "--json"],
)
"""Whole command lines, of commands that measure nothing and send nothing; what they would wait for or work on is not there."""
ADDRESSES = (
    "mqtt://localhost",
    "mqtt://127.0.0.1:1883/",
    "mqtts://m%C3%A9@broker.local:8883",
    "ws://[fe80::1%25eth0]:80/mqtt",
    "wss://me@broker/a/b",
    "broker.local:1883",
)
PARTS_OF_ADDRESSES = (
    ("mqtt://", "mqtts://", "ws://", "wss://", "http://", "MQTT://", "//", ""),
    ("", "me@", "me:word@", ":@", "%00@", "a@b@"),
    ("h", "", "[::1]", "[::1", "[1.2.3.4]", "h h", "é", "a%2fb", "\udcff", "."),
    ("", ":", ":0", ":1883", ":65536", ":-1", ":x", ":²", ":1:2"),
    ("", "/", "/a", "//", "/%", "/\x1b"),
    ("", "?", "?a=b", "#", "#c"),
)


class TheDoor(Door):
    """`settings.load_settings`, `Address.parse`, and whole commands; the daemon and what waits for a broker are not started."""

    modules = (
        "edgeannot/settings/layers.py",
        "edgeannot/settings/problems.py",
        "edgeannot/settings/lines.py",
        "edgeannot/mqtt/options.py",
        "edgeannot/cli/start.py",
        "edgeannot/cli/app.py",
    )

    def seeds(self) -> list[Case]:
        parts = FULL.split(b"\n\n")
        files = [FULL, SMALL, NAMED, *(b"\n\n".join([parts[0], part]) for part in parts[1:])]
        return [
            *[Case("toml", text) for text in files],
            *[Case("environment", json.dumps(dict(list(ENVIRONMENT.items())[i : i + 5])).encode()) for i in (0, 4, 6, 9, 9, 0)],
            *[Case("arguments", json.dumps(words).encode()) for words in COMMAND_LINES],
            *[Case("command", json.dumps(words).encode()) for words in OTHER_COMMANDS],
            *[Case("address", json.dumps(text).encode()) for text in ADDRESSES],
        ]

    def mutate(self, rng: Random, case: Case) -> Case:
        if case.kind == "toml":
            choice = rng.random()
            if choice < 0.1:
                return Case("toml", _change_source(rng, case.body))
            if choice < 0.2:
                return Case("toml", _change_url(rng, case.body))
            return Case("toml", change_text(rng, case.body, (FULL, SMALL, NAMED)))
        value = json.loads(case.body)
        if isinstance(value, str):
            value = _address(rng) if rng.random() < 0.7 else change_text(rng, value.encode("utf-8", "replace")).decode("utf-8", "replace")
        elif isinstance(value, dict):
            name = rng.choice(list(value) or ["EDGEANNOT_X"])
            _change_variable(rng, value, name)
        else:
            at = rng.randrange(len(value)) if value else 0
            options = ("--labels", "--max-ms", "--config", "--every-n", "--profile", "a,,b", "\udcff")
            value[at : at + rng.randrange(2)] = [rng.choice((*WORDS, *NUMBERS, *value, *options))]
        return Case(case.kind, json.dumps(value).encode())

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        ways = {
            "toml": self._file,
            "environment": self._variables,
            "arguments": self._words,
            "command": self._line,
            "address": self._address,
        }
        ways[case.kind](case.body, folder, visit)

    def _file(self, text: bytes, folder: Path, visit: Visit) -> None:
        path = folder / "edgeannot.toml"
        path.write_bytes(text)
        with contextlib.suppress(ValueError, RecursionError):
            tomllib.loads(text.decode())
            visit.past_first = True
        _command(["config", "--config", str(path)])
        loaded = load_settings({}, path, grade=lambda: ("low", "as the test says"))
        assert list(loaded.rows())
        assert loaded.settings.out_folder.name
        if loaded.settings.sinks.mqtt.url:
            _same_again(Address.parse(loaded.settings.sinks.mqtt.url))

    def _variables(self, text: bytes, folder: Path, visit: Visit) -> None:
        values = {key: value for key, value in json.loads(text).items() if "\0" not in key + value and key and "=" not in key}
        visit.past_first = True
        with mock.patch.dict(os.environ, _encodable(values)):
            _command(["config"])
            assert list(load_settings({}, None, grade=lambda: ("low", "as the test says")).rows())
            assert find_data_dir(None) == load_settings({}, None, grade=lambda: ("low", "as the test says")).settings.data_dir

    def _words(self, text: bytes, folder: Path, visit: Visit) -> None:
        words = [word.replace("\0", "") for word in json.loads(text)]
        visit.past_first = True
        with contextlib.chdir(folder):
            _command(["run", "--data-dir", str(folder / "data"), *words])

    def _line(self, text: bytes, folder: Path, visit: Visit) -> None:
        words = [word.replace("\0", "") for word in json.loads(text)]
        visit.past_first = True
        state = {"XDG_STATE_HOME": str(folder / "state"), "XDG_CONFIG_HOME": str(folder / "config")}
        with contextlib.chdir(folder), mock.patch.dict(os.environ, state):
            _command(words)

    def _address(self, text: bytes, _: Path, visit: Visit) -> None:
        try:
            address = Address.parse(json.loads(text))
        except ValueError:  # what is foreseen here: the settings make a sentence of it
            return
        visit.past_first = True
        _same_again(address)


def _same_again(address: Address) -> None:
    """As it is shown it leads to the same broker."""
    again = Address.parse(str(address))
    wanted = (address.host, address.port, address.tls, address.websocket)
    assert (again.host, again.port, again.tls, again.websocket) == wanted, (address, again)


def _address(rng: Random) -> str:
    """Parts of which at most one or two are unusual."""
    return "".join(rng.choice(part) if rng.random() < 0.5 else part[0] for part in PARTS_OF_ADDRESSES)


def _change_url(rng: Random, text: bytes) -> bytes:
    """An address in a file replaced by one with unusual parts."""
    found = list(re.finditer(rb'"[a-z]+://[^"\n]*"', text))
    if not found:
        return change_text(rng, text, (FULL, SMALL, NAMED))
    match = rng.choice(found)
    return text[: match.start()] + json.dumps(_address(rng)).encode() + text[match.end() :]


def _change_source(rng: Random, text: bytes) -> bytes:
    """A section with another name, mostly one that no section may have."""
    names = (*WORDS, "a.b", "a" * 64, "a" * 65, "command", "reply", "-", "_a", "A", "é")
    found = list(re.finditer(rb"(?m)^\[(?:sources|sinks)\.([^\]\n]+)\]$", text))
    if not found:
        return change_text(rng, text, (FULL, SMALL, NAMED))
    match = rng.choice(found)
    return text[: match.start(1)] + json.dumps(rng.choice(names)).encode() + text[match.end(1) :]


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
        mock.patch.object(auto_profile, "micro_of", return_value=None),
        mock.patch.object(probe, "read_board", _board),
        mock.patch("edgeannot.daemon.run.run_daemon", return_value=0),
        mock.patch("edgeannot.choice.selection.explain_selection", return_value="as the test says"),
        mock.patch("edgeannot.cli.commands.probe.read_board", _board),
        mock.patch("edgeannot.cli.commands.probe.micro_of", return_value=None),
        mock.patch("edgeannot.cli.commands.probe._evaluate", side_effect=ConfigError("no model is measured here")),
        mock.patch("edgeannot.cli.commands.listen.listen", return_value=iter(["a line"])),
        mock.patch("edgeannot.daemon.monitoring.logs.set_up_logging"),
        contextlib.redirect_stderr(stream),
        contextlib.redirect_stdout(stream),
    ):
        try:
            guarded(app)
            code: object = 0
        except SystemExit as exc:
            code = exc.code or 0
    stream.flush()
    told = said.getvalue().decode()
    if code not in {0, 64, 65, 66, 78}:
        raise AssertionError(f"the command ended with {code}: {told[-1500:]}")
    raw = set(told) - {"\n", "\t"} - {letter for letter in told if letter.isprintable()}
    assert not raw, f"the command wrote {sorted(raw)!r}: {told[-1500:]!r}"
