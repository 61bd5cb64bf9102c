"""The image and the compose file: `make container-test` builds the image with buildah on a local base, and annotates a picture in it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from edgeannot.settings import load_settings
from tests.patience import DEADLINE_S
from tests.service.container import BASE, ROOT, needs_container
from tests.surroundings import asked

WHEELS = asked("WHEELS") or ""


def test_the_compose_file_has_settings_that_can_be_used(monkeypatch):
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    for name, value in services["edgeannot"]["environment"].items():
        monkeypatch.setenv(name, value)

    settings = load_settings({}, grade=lambda: ("low", "")).settings
    assert (settings.sinks.mqtt.url, settings.health.enabled) == ("mqtt://broker", True)
    assert settings.sources["inbox"].path == Path("/pictures")
    assert f":{settings.health.port}/healthz" in services["edgeannot"]["healthcheck"]["test"][-1]


@pytest.fixture
def buildah(tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    places = ["--storage-driver", "vfs", "--root", str(tmp_path / "images"), "--runroot", str(tmp_path / "run")]

    def run(command, *words):
        signed = ["--signature-policy", str(policy)] if command in {"from", "commit", "bud"} else []
        alone = ["--isolation", "chroot"] if command in {"bud", "run"} else []
        done = subprocess.run(
            ["buildah", *places, command, *signed, *alone, *words], capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout.strip()

    yield run
    shutil.rmtree(tmp_path, ignore_errors=True)  # 2 GB


@pytest.mark.service
@needs_container
@pytest.mark.skipif(not WHEELS, reason="there is no folder of wheels: `make container-test` fills it")
@pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not here")
def test_the_image_builds_on_a_local_base_and_annotates_a_picture(buildah):
    empty = buildah("from", "scratch")
    buildah("add", empty, BASE, "/")
    buildah("commit", "--rm", empty, "localhost/base")
    given = ["BASE=localhost/base", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels"]
    words = [word for value in given for word in ("--build-arg", value)]
    buildah(
        "bud",
        *words,
        "--pull-never",
        "-v",
        f"{WHEELS}:/wheels:ro",
        "-f",
        str(ROOT / "Containerfile"),
        "-t",
        "localhost/edgeannot",
        str(ROOT),
    )

    made = buildah("from", "--pull-never", "localhost/edgeannot")
    assert buildah("run", made, "--", "id", "-un") == "edgeannot"
    photo = "/opt/edgeannot/lib/python3.11/site-packages/edgeannot/samples/astronaut.jpg"
    assert "person" in buildah("run", made, "--", "edgeannot", "run", photo, "--model", "nanodet-g")
    assert "/var/lib/edgeannot" in buildah("run", made, "--", "edgeannot", "config")
