"""Settings for the checks, without the environment."""

import os

import pytest

from edgeannot.doctor.findings import Examined
from edgeannot.settings import load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("EDGEANNOT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def examine(tmp_path):
    """What a check looks at, by the text of a configuration file; further fields as given."""

    def make(text="", **given):
        path = tmp_path / "edgeannot.toml"
        if "[sinks.mqtt]" not in text:
            text += "\n[sinks.mqtt]\nenabled = false\n"
        path.write_text(f'data_dir = "{tmp_path}/data"\n{text}')
        settings = load_settings({}, path, grade=lambda: ("low", "")).settings
        return Examined(settings, path, **given)

    return make
