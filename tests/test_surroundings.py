"""The tests pass whatever a user has in the environment: here the suite runs a test of the command in a hostile one."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.e2e.daemons import ROOT
from tests.patience import DEADLINE_S

PROBED = (
    "tests/e2e/test_run.py::test_an_empty_folder_is_nothing_to_do",
    "tests/library/test_fetch.py::test_a_file_arrives_whole_under_its_hash_and_progress_is_told",
    "tests/tools/convert/test_convert.py::test_an_output_below_a_file_is_refused_before_the_work",
)


def test_settings_colours_and_proxies_of_the_user_do_not_reach_the_tests(tmp_path):
    (tmp_path / "edgeannot").mkdir()
    (tmp_path / "edgeannot" / "edgeannot.toml").write_text("nonsense = [")
    hostile = {
        "EDGEANNOT_NONSENSE": "1",
        "EDGEANNOT_MIN_SCORE": "none",
        "EDGEANNOT_TEST_DATA": str(tmp_path / "nowhere"),
        "CONFIGURATION_DIRECTORY": str(tmp_path / "edgeannot"),
        "XDG_CONFIG_HOME": str(tmp_path),
        "NOTIFY_SOCKET": str(tmp_path / "nobody"),
        "http_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "COLUMNS": "40",
        "FORCE_COLOR": "1",
        "GITHUB_ACTIONS": "true",
        "LC_ALL": "C",
        "TZ": "Asia/Kathmandu",
        "HOME": "/nonexistent",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PROBED]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **hostile}, capture_output=True, text=True, timeout=DEADLINE_S, check=False)

    assert done.returncode == 0, done.stdout[-4000:]
