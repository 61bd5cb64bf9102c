"""The command: help is light, mistakes end in one sentence and their exit code."""

import json
import os
import subprocess
import sys

import pytest

from tests.patience import DEADLINE_S


def edgeannot(*args, env=None):
    command = [sys.executable, "-c", "from edgeannot.cli.start import main; main()", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, env={**os.environ, **(env or {})}, check=False)


@pytest.mark.parametrize("args", [["--help"], ["run", "--help"], ["--version"]])
def test_help_loads_neither_opencv_nor_numpy_nor_the_runtime(args):
    code = (
        "import sys, json\nfrom edgeannot.cli.start import main\nsys.argv = ['edgeannot', *sys.argv[1:]]\n"
        "try: main()\nexcept SystemExit as exc: code = exc.code\n"
        "print(json.dumps([code, [m for m in ('cv2', 'numpy', 'ai_edge_litert', 'tflite_runtime', 'paho') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=DEADLINE_S, check=True)

    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


@pytest.mark.parametrize(("command", "package"), [("quantize", "yaml"), ("evaluate", "tomlkit"), ("datasets", "yaml")])
def test_a_tool_whose_packages_are_missing_says_what_to_install(command, package):
    code = f"import sys\nsys.modules[{package!r}] = None\nfrom edgeannot.cli.start import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 78
    assert f"`edgeannot {command}` needs the Python package '{package}': install `edgeannot[tools]`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_settings_are_read_without_opencv_numpy_or_the_runtime():
    code = (
        "import sys, json\nfrom edgeannot.settings import load_settings\nload_settings({}, grade=lambda: ('low', ''))\n"
        "print(json.dumps([m for m in ('cv2', 'ai_edge_litert', 'tflite_runtime', 'paho') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True)

    assert json.loads(done.stdout) == []


def test_it_is_a_module_as_well():
    done = subprocess.run([sys.executable, "-P", "-m", "edgeannot", "--help"], capture_output=True, text=True, check=True)

    assert "python -m edgeannot [OPTIONS] COMMAND" in done.stdout


def test_every_command_has_help():
    listed = edgeannot("--help").stdout.split("Commands:")[1]

    for line in listed.strip().splitlines():
        assert len(line.split()) > 1, line


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["nonsense"], 64, "No such command"),
        (["run", "--nonsense"], 64, "No such option"),
        (["run", "--profile", "medium"], 78, 'profile: wanted "auto", "low", "mid" or "high", found \'medium\''),
        (["run", "--config", "/nonexistent.toml"], 66, "no configuration file at /nonexistent.toml"),
        (["run", "--model", "nonsense"], 78, "no model called 'nonsense'; known are:"),
        (["run", "--model", "ssd-mobilenet-v2-oid"], 78, "`edgeannot models pull NAME` fetches one of `edgeannot models catalogue`"),
        (["run", "--labels", "unicorn"], 78, "unicorn"),
        (["run", "--labels", ""], 78, "--labels: wanted names with commas between them"),
        (["run", "--labels", "cat,,dog"], 78, "--labels: wanted names with commas between them"),
        (["run", "--model", "yolov3-tiny@"], 78, "input size '' is not offered; choose from: 192"),
        (["run", "--model", "yolov3-tiny@\u00b2"], 78, "input size '\u00b2' is not offered; choose from: 192"),
        (["run", "--model", "yolov3-tiny", "--task", "classify"], 78, "is for the task 'detect', the command line says 'classify'"),
        (["run", "--threads", "100000"], 78, "threads: wanted a number of 256 or less, found 100000"),
        (["run", "--mqtt", "mqtt://localhost:0"], 78, "wanted a port from 1 to 65535, found 0"),
        (["listen", "mqtt://localhost", "--password-file", "/x"], 78, "the broker's address: password_file needs a username"),
        (["config", "--config", "/"], 66, "no configuration file at /"),
        (["run", "--once", "--watch", "/nonexistent-folder"], 66, "/nonexistent-folder"),
        (["run", "--mqtt", "http://localhost"], 78, "wanted mqtt://, mqtts://, ws:// or wss://"),
        (["run", "--mqtt", "mqtt://user:secret@localhost"], 78, "password"),
        (["run", "--every-n", "5"], 78, "--every-n is for a video file"),
        (["run", "--camera", "/dev/video0", "--every-n", "5"], 78, "every_n is for a file, and /dev/video0 is a device"),
        (["run", "/nonexistent.jpg"], 66, "/nonexistent.jpg cannot be read: No such file or directory"),
        (["run", "/"], 65, "/ is a folder: wanted picture files; annotate a folder with --watch / --once"),
        (["run", "/dev/null"], 65, "/dev/null is no file: wanted picture files"),
        (["run", "a.jpg", "--watch", "/"], 64, "FILE and --watch do not go together"),
        (["run", "a.jpg", "--mqtt", "mqtt://h"], 64, "use `edgeannot send`"),
        (["send", "/nonexistent.jpg"], 66, "no file or folder at /nonexistent.jpg"),
        (["send", "/dev/null", "--topic", "cameras/+"], 78, "--topic: wanted a topic, found 'cameras/+'"),
        (["send", "/dev/null", "--mqtt", "http://localhost"], 78, "wanted mqtt://, mqtts://, ws:// or wss://"),
        (["send"], 64, "FILE"),
    ],
)
def test_a_mistake_ends_in_one_sentence_and_its_exit_code(tmp_path, args, code, said):
    done = edgeannot(*args, env={"XDG_STATE_HOME": str(tmp_path)})

    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize("stream", [0, 1, 2])
def test_a_closed_standard_stream_is_no_obstacle(tmp_path, stream):
    code = "import os, sys\nfrom edgeannot.cli.start import main\nsys.argv = ['edgeannot', 'config']\nmain()"
    command = ["sh", "-c", f'exec "$@" {stream}>&-', "sh", sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=DEADLINE_S, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)}, check=False
    )

    assert done.returncode == 0, done.stderr
    assert (stream == 1) != ("min_score" in done.stdout)
    assert done.stderr == ""


def test_a_fault_of_the_program_ends_with_a_sentence_and_its_own_exit_code():
    code = (
        "from edgeannot import settings\nfrom edgeannot.cli.start import main\n"
        "def broken(*_, **__):\n    raise ZeroDivisionError('by design')\n"
        "settings.load_settings = broken\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code, "config"], capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 70
    assert done.stderr.splitlines()[-1] == "edgeannot: internal error (please report): ZeroDivisionError: by design"


def test_config_shows_every_value_and_its_origin(tmp_path):
    done = edgeannot("config", "--profile", "low", env={"EDGEANNOT_MIN_SCORE": "0.4", "XDG_STATE_HOME": str(tmp_path)})

    table, _, summary = done.stdout.partition("\n\n")
    rows = {line.split()[0]: line for line in table.splitlines()}
    assert summary == "profile in force: low (set by the command line)\n"
    assert rows["min_score"].split()[1:] == ["0.4", "environment"]
    assert rows["profile"].split()[1:] == ['"low"', "command", "line"]
    assert rows["max_fps"].split()[1:] == ["2.0", "profile", "low"]
    assert rows["sinks.mqtt.url"].split()[1:] == ['"mqtt://localhost:1883"', "default"]


def test_a_package_adds_a_command_and_one_that_is_broken_is_named_when_it_is_called(tmp_path):
    (tmp_path / "thing-1.dist-info").mkdir()
    (tmp_path / "thing-1.dist-info/entry_points.txt").write_text(
        "[edgeannot.commands]\nhello = thing:hello\nlame = no_such_package:x\nrun = thing:hello\n"
    )
    (tmp_path / "thing.py").write_text(
        "import typer\n\n"
        "def hello():\n    '''Say hello.\n\n    More.'''\n    app = typer.Typer()\n    app.command()(lambda: print('hi'))\n    return app\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}

    listed = edgeannot("--help", env=env).stdout
    assert "  hello     Say hello.\n" in listed
    assert listed.count("\n  run  ") == 1
    assert edgeannot("hello", env=env).stdout == "hi\n"
    lame = edgeannot("lame", env=env)
    assert lame.returncode == 78
    assert lame.stderr == "edgeannot: `edgeannot lame` needs the Python package 'no_such_package': install it, or thing again\n"
