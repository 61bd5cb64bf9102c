"""A secret planted in each setting, in a file and in the environment, and in each option of each command: none is ever printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.patience import DEADLINE_S

ROOT = Path(__file__).resolve().parent.parent


def test_no_setting_and_no_option_gives_a_secret_away(tmp_path: Path):
    command = [sys.executable, "-c", "import sys; from tests.planted_secrets import main; main(sys.argv[1])", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * DEADLINE_S, check=False, cwd=ROOT)
    said = done.stdout + done.stderr

    assert re.findall(r".{0,60}hunter[0-9]{5}.{0,20}", said) == []
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(re.findall(r"([0-9]+) cases", done.stdout)[-1]) > 500
    assert done.stderr.count("***") > 100, "else the secrets did not get as far as a message"
