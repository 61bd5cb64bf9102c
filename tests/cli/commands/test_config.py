"""`edgeannot config`: every mistake with its line, a commented file, a schema; and what all commands have in common."""

import json
import os
import tomllib

import pytest
from typer.testing import CliRunner

from edgeannot.cli.app import app
from tests.cli.test_cli import edgeannot


@pytest.fixture
def env(tmp_path):
    for name in [name for name in os.environ if name.startswith("EDGEANNOT_")]:
        raise AssertionError(name)
    return {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "CONFIGURATION_DIRECTORY": str(tmp_path / "etc"),
    }


def test_check_names_every_mistake_and_ends_with_the_code_of_settings(tmp_path, env):
    path = tmp_path / "my.toml"
    path.write_text('min_score = 3\n[sources.front]\nkind = "camera"\ndevice = "/dev/video0"\n')

    done = edgeannot("config", "check", path, env=env)

    assert done.stdout.splitlines() == [
        f'sources.front.device: unknown setting; did you mean url = "/dev/video0"? ({path}, line 4)',
        f"min_score: wanted a number of 1 or less, found 3 ({path}, line 1)",
    ]
    assert (done.returncode, done.stderr) == (78, f"edgeannot: 2 mistakes in {path}\n")
    assert edgeannot("config", "--config", path, "check", env=env).stdout == done.stdout


def test_check_of_a_good_file_says_so(tmp_path, env):
    path = tmp_path / "my.toml"
    path.write_text('profile = "low"\n')

    assert edgeannot("config", "check", path, env=env).stdout == f"{path}: nothing wrong\n"
    assert edgeannot("config", "check", tmp_path / "none.toml", env=env).returncode == 66


def test_init_writes_a_file_once_that_check_accepts(tmp_path, env):
    path = tmp_path / "new" / "edgeannot.toml"

    assert edgeannot("config", "init", path, env=env).returncode == 0
    assert edgeannot("config", "check", path, env=env).returncode == 0
    again = edgeannot("config", "init", path, env=env)
    assert (again.returncode, again.stderr) == (
        65,
        f"edgeannot: {path} is there already: name another FILE, or write over it with --force\n",
    )
    assert tomllib.loads(edgeannot("config", "init", "-", env=env).stdout) == {}


def test_the_schema_is_printed(env):
    assert json.loads(edgeannot("config", "schema", env=env).stdout)["title"] == "edgeannot.toml"


@pytest.mark.parametrize(
    "command", [[], ["run"], ["probe"], ["config"], ["config", "check"], ["models"], ["models", "add"], ["inspect"], ["version"]]
)
def test_every_command_has_the_short_form_of_help_in_one_form(command):
    short, long = (CliRunner().invoke(app, [*command, option]) for option in ("-h", "--help"))

    assert (short.exit_code, short.stdout) == (0, long.stdout)
    assert short.stdout.startswith("Usage: ")
    assert "-h, --help" in short.stdout


def test_version_names_the_runtimes_and_python():
    rows = dict(line.split(maxsplit=1) for line in edgeannot("version").stdout.splitlines())

    assert {"edgeannot", "litert", "tflite-runtime", "Python", "numpy", "system"} <= set(rows)


@pytest.mark.parametrize(
    ("words", "position", "offered"),
    [("edgeannot con", 1, "config"), ("edgeannot config ch", 2, "check"), ("edgeannot run --wat", 2, "--watch")],
)
def test_a_shell_completes_commands_and_options(words, position, offered):
    env = {"_EDGEANNOT_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    import subprocess
    import sys

    code = "import sys; sys.argv = ['edgeannot']; from edgeannot.cli.start import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **env})
    assert offered in done.stdout.split()
