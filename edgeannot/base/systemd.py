"""systemd: what its units allow and give to the service, readiness and the watchdog, and whether the clock is synchronized.

Where the unit's sandbox or user is in the way, an error names the key: systemd.exec(5) ReadWritePaths=, SupplementaryGroups=,
ProtectSystem=. The notification protocol (sd_notify(3)) is one datagram of `KEY=VALUE` lines; a library would be longer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import as_int
from edgeannot.base.kernel import read
from edgeannot.base.places import CONFIG_FOLDER
from edgeannot.base.redaction import learn_secret

__all__ = [
    "REFUSED",
    "Notifier",
    "Unit",
    "clock_synced",
    "credential",
    "has_terminal",
    "is_read_only",
    "is_service",
    "is_service_of_the_system",
    "may_write",
    "read_advice",
    "read_secret",
    "unit_in",
    "write_advice",
]

REFUSED = "the new configuration is wrong, and the old one stays in force"
"""What the status of a service begins with after such a reload."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A service of edgeannot, by how `edgeannot service install` was told to make it."""

    name: str = ""
    """Of an instance; empty: the one service."""
    user: bool = False
    """Whether one user's own manager runs it."""

    @property
    def file(self) -> str:
        """Return the unit's name."""
        return f"edgeannot@{self.name}.service" if self.name else "edgeannot.service"

    @property
    def options(self) -> str:
        """Return what the commands of `edgeannot service` are told to mean it, with a blank before."""
        return " --user" if self.user else f" --name {self.name}" if self.name else ""

    @property
    def install(self) -> str:
        """Return the command that installs it."""
        return f"`{'' if self.user else 'sudo '}edgeannot service install{self.options}`"

    def systemctl(self, word: str) -> str:
        """Return what changes it, as "sudo systemctl edit edgeannot"."""
        return f"{'systemctl --user' if self.user else 'sudo systemctl'} {word} {self.file.removesuffix('.service')}"


def unit_in(cgroup: str) -> Unit:
    """Return the unit in the text of /proc/self/cgroup; the one service of the system where none is named."""
    found = re.search(r"/edgeannot(?:@([\w-]+))?\.service(?:/.*)?$", cgroup, re.MULTILINE)
    return Unit(
        (found and found[1]) or "", found is not None and bool(re.search(r"/user@\d+\.service/", found.string[: found.start() + 1]))
    )


def _own_unit() -> Unit:
    return unit_in(read(Path("/proc/self/cgroup")))


def is_service() -> bool:
    """Tell whether systemd started this process as a service. What a service starts, as a desktop's terminal, inherits its variables."""
    mine = os.environ.get("SYSTEMD_EXEC_PID", str(os.getpid())) == str(os.getpid())
    return "NOTIFY_SOCKET" in os.environ or ("INVOCATION_ID" in os.environ and mine)


def is_service_of_the_system() -> bool:
    """Tell whether the service has a user of its own, and a sandbox; one of a user has neither."""
    return is_service() and not _own_unit().user


def has_terminal() -> bool:
    """Tell whether a terminal controls this process, whose end SIGHUP tells. No service has one, nor what a boot script starts."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def credential(path: Path | None) -> Path | None:
    """Return the file that a setting names; a bare name means the systemd credential of that name, if there is one (LoadCredential=)."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")  # it is there for this service alone
    if path is None or not folder or len(path.parts) != 1 or not (found := Path(folder) / path).is_file():
        return path
    return found


def read_advice(setting: str, path: Path, exc: BaseException) -> str:
    """Return advice about a secret file that could not be read, to be put behind the reason; empty where there is none."""
    bare, unit = len(path.parts) == 1, _own_unit()
    hand_over = f"run {unit.install} again, which passes it on"
    if is_service() and bare and isinstance(exc, FileNotFoundError):
        if unit.user:
            return f"; set {setting} to its full path"
        return f"; the service has no credential of that name: put the file at {CONFIG_FOLDER / path} and {hand_over}"
    if not isinstance(exc, PermissionError):
        return ""
    if not is_service_of_the_system():
        return "; let this user read it"
    move = "" if path.parent == CONFIG_FOLDER else f"move it into {CONFIG_FOLDER}, "
    return f'; the service runs as a user of its own: {move}set {setting} = "{path.name}", and {hand_over}'


def read_secret(setting: str, path: Path) -> str:
    """Return the secret in a file that a setting names; nothing that is printed shows it from now on. Raises ConfigError."""
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.reason if isinstance(exc, UnicodeDecodeError) else exc.strerror
        raise ConfigError(f"{setting} {path} cannot be read ({why}){read_advice(setting, path, exc)}") from exc
    learn_secret(secret)
    return secret


def may_write(folder: Path) -> bool:
    """Tell whether files can be made in a folder and removed from it, as far as rights and mounts tell; of one that is not there: made."""
    place = _there(folder)
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def is_read_only(folder: Path) -> bool:
    """Tell whether the folder, or the nearest above it that is there, is mounted read-only, as ProtectSystem=strict mounts everything."""
    try:
        return bool(os.statvfs(_there(folder)).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def write_advice(folder: Path, exc: OSError | None = None) -> str:
    """Return advice to be put before another way: how this process may write to a folder, "let this user write there, or ".

    exc: the error that said so; empty where another is in the way than rights and mounts.
    """
    if exc is not None and exc.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ""
    if not is_service_of_the_system():
        return f"{'mount it for writing' if is_read_only(folder) else 'let this user write there'}, or "
    made = "" if folder.is_dir() else f"make {folder}, "
    if not is_read_only(folder):  # as after ReadWritePaths=, where the folder is somebody else's
        ways = f"`sudo setfacl -m u:edgeannot:rwx {folder}`, or SupplementaryGroups= with a group that may"
        return f"{made}let the service's user write there ({ways}), or "
    unit = _own_unit()
    sandbox = f"run {unit.install} again or add ReadWritePaths={folder} to the unit ({unit.systemctl('edit')})"
    return f"{made}{sandbox}, and let the service's user write there, or "


def _there(folder: Path) -> Path:
    """Return the folder, or the nearest above it that can be seen."""
    return next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place) or place == place.parent)


class Notifier:
    """Sends to systemd where it listens; does nothing anywhere else."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        microseconds = as_int(usec)
        mine = not pid or pid == str(os.getpid())
        self.watchdog_s: float | None = microseconds / 1e6 if microseconds and mine else None
        """Seconds without a sign of life after which systemd restarts the service; None: no watchdog."""

    def send(self, **fields: str) -> None:
        """Send fields such as READY="1" or STATUS="12 pictures"; never raises: systemd being deaf must not stop the work."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.connect(self._address)
                channel.sendall(text.encode())
        except OSError:
            return


_TIMEX_BYTES = 512  # more than struct timex has on any architecture
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_ADJTIMEX = getattr(ctypes.CDLL(None), "adjtimex", None)  # once, as each message asks


def clock_synced() -> bool:
    """Tell whether the kernel knows the clock as synchronized (NTP, PTP), or systemd-timesyncd says that it is."""
    if Path("/run/systemd/timesync/synchronized").exists():
        return True
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: only read
    return _ADJTIMEX is not None and _ADJTIMEX(buffer) not in {-1, _TIME_ERROR}
