"""What the tests find round them: nothing that the user has set for edgeannot, Python's libraries or systemd reaches what they test.

Imported by conftest.py before any test. What is meant for the tests themselves (`EDGEANNOT_TEST_DATA` and its like) is kept here, as
the command refuses names in its environment that are no settings.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

__all__ = ["asked"]

OWN = (
    "TEST_DATA",
    "TEST_RUN",
    "LEFT_OUT",
    "ONNX2TF",
    "TENSORFLOW",
    "LITERT_QUANTIZER",
    "HOMEASSISTANT",
    "FORMAT_READERS",
    "PAGE_DRIVER",
    "SERVICE_ROOT",
    "SERVICE_ROOT_13",
    "WHEELS",
    "ARM",
    "CAMERA_ROOT",
    "DEB",
)
KEPT = {"EDGEANNOT_RUNTIME"}
"""Said to the tests and to what they start alike."""
FOREIGN = {
    # systemd, where the tests run in a unit
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "CONFIGURATION_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY"),
    *("CREDENTIALS_DIRECTORY", "INVOCATION_ID", "SYSTEMD_EXEC_PID", "JOURNAL_STREAM"),
    # how text is laid out for a terminal
    *("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "TERMINAL_WIDTH", "GITHUB_ACTIONS"),
    # C libraries keep what they print, as they do for users, until it is asked for
    "PYTHONUNBUFFERED",
    # options of the run that would reach the pytest that a test starts
    "PYTEST_ADDOPTS",
    # a proxy would be asked for addresses of this machine, too
    *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
}

_asked = {name: os.environ[f"EDGEANNOT_{name}"] for name in OWN if os.environ.get(f"EDGEANNOT_{name}")}
for _name in list(os.environ):
    if (_name.startswith("EDGEANNOT_") and _name not in KEPT) or _name in FOREIGN or _name.lower() in FOREIGN:
        del os.environ[_name]

# Runs side by side have folders of their own: pytest removes old ones while it ends, and stumbles over what another run removes.
_root = f"{tempfile.gettempdir()}/edgeannot-{os.getuid()}-{_asked.get('TEST_RUN', 'run')}"
os.makedirs(_root, exist_ok=True)  # noqa: PTH103 - no Path this early
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _root)

# No file of a user, or of a service that is installed here, is read or written where a test names none.
_place = tempfile.mkdtemp(prefix="edgeannot-tests-")
atexit.register(shutil.rmtree, _place, ignore_errors=True)
os.environ |= {
    "CONFIGURATION_DIRECTORY": f"{_place}/etc",
    "XDG_CONFIG_HOME": f"{_place}/config",
    "XDG_STATE_HOME": f"{_place}/state",
    "XDG_CACHE_HOME": f"{_place}/cache",
}


def asked(name: str) -> str | None:
    """The value of EDGEANNOT_<name> as the tests were started, for names of OWN; None where it was empty or not set."""
    return _asked.get(name)
