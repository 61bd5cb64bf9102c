"""Installs and removes the service by systemd's own commands.

The unit that ships is made into one for several instances or for one user; a drop-in has what the configuration demands. Keys are those
of systemd.unit(5), systemd.service(5) and systemd.exec(5).
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgeannot.base import atomicfile
from edgeannot.base.errors import ConfigError, EdgeannotError, RightsError
from edgeannot.base.places import CONFIG_FOLDER, packaged
from edgeannot.base.systemd import Unit
from edgeannot.settings import Settings, load_settings, named_files
from edgeannot.settings.template import commented_settings

__all__ = [
    "Place",
    "drop_in",
    "install",
    "instance_unit",
    "run_systemctl",
    "secret_files",
    "system_unit",
    "uninstall",
    "user_unit",
]

USER = "edgeannot"
_NOLOGIN = "/usr/sbin/nologin"
_DYNAMIC_UIDS = range(61184, 65520)
"""Those that systemd gives to DynamicUser= (systemd.exec(5)), and of which no file knows."""
_DROP_IN = "50-edgeannot.conf"
_ONLY_SYSTEM = re.compile(
    r"^(?:User|Group|SupplementaryGroups|StateDirectory|StateDirectoryMode|ConfigurationDirectory|RuntimeDirectory|DevicePolicy|DeviceAllow|"
    r"CapabilityBoundingSet|Private\w+|Protect\w+|RemoveIPC|KeyringMode|RestrictSUIDSGID|OOMPolicy|Wants|After)=.*\n",
    re.MULTILINE,
)
"""What a user's own manager cannot give without root's rights, or does for itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service's files go, and who manages it."""

    name: str = ""
    """Of an instance; empty: the one service."""
    user: bool = False
    """Whether one user's own manager runs it."""
    root: Path = Path("/")
    """In front of /etc; another one in tests and for images of a disk."""

    @property
    def unit(self) -> str:
        """Return the unit's name."""
        return f"edgeannot@{self.name}.service" if self.name else "edgeannot.service"

    @property
    def advice(self) -> Unit:
        """Return the service as messages name its commands."""
        return Unit(self.name, self.user)

    @property
    def folder(self) -> Path:
        """Return the folder of the unit."""
        if self.user:
            base = os.environ.get("XDG_CONFIG_HOME")
            return (Path(base) if base else Path.home() / ".config") / "systemd" / "user"
        return self.root / "etc/systemd/system"

    @property
    def unit_file(self) -> Path:
        """Return the file of the unit; of an instance that of its template."""
        return self.folder / ("edgeannot@.service" if self.name else "edgeannot.service")

    @property
    def drop_in_file(self) -> Path:
        """Return the file that holds what the configuration demands."""
        return self.folder / f"{self.unit}.d" / _DROP_IN

    @property
    def default_config(self) -> Path | None:
        """Return the configuration file that the service finds itself; None: a user's, which is found by the user's own rules."""
        return None if self.user else CONFIG_FOLDER / f"{self.name or 'edgeannot'}.toml"

    @property
    def state(self) -> str:
        """Return the folder for state."""
        return f"/var/lib/edgeannot{f'-{self.name}' if self.name else ''}"


def install(place: Place, config: Path | None, profile: str | None, *, start: bool = True) -> list[str]:
    """Write unit, drop-in and, where there is none, a commented configuration; enable and start it. Returns what was done, in lines.

    Raises RightsError for a user without the rights, ConfigError for a configuration that is wrong or a systemd that refuses.
    """
    if not place.user and os.geteuid() != 0:
        raise RightsError("wanted root to install a service of the system, found another user: use sudo, or --user for one of your own")
    done = []
    command = _command()
    if config is not None:
        config = config.resolve()
    path = config or place.default_config
    settings = _settings(place, path if path is None or config is not None or path.exists() else None, profile)
    if not place.user:
        _check_reachable(command)
        done += _make_user(place)
    if path is not None and not path.exists() and config is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomicfile.write(path, commented_settings().encode(), durable=True)
        path.chmod(0o644)
        done.append(f"{path}: written, all of it comments; set sources and broker there")
    text = user_unit(command) if place.user else instance_unit(command) if place.name else system_unit(command)
    extra = drop_in(settings, config=path, profile=profile, command=command, config_set=config is not None)
    for file, content in ((place.unit_file, text), (place.drop_in_file, extra)):
        file.parent.mkdir(parents=True, exist_ok=True)
        atomicfile.write(file, content.encode(), durable=True)
        file.chmod(0o644)
        done.append(f"{file}: written")
    if start:
        run_systemctl(place, "daemon-reload")
        run_systemctl(place, "enable", place.unit)
        run_systemctl(place, "restart", place.unit)
        done.append(
            f"{place.unit}: enabled and ready; `edgeannot service status{place.advice.options}` shows it, "
            f"`{place.advice.systemctl('reload')}` reads the configuration again"
        )
    return done


def uninstall(place: Place, *, purge: bool = False) -> list[str]:
    """Stop the service and remove unit and drop-in; purge: the state as well. Configuration and user stay. Returns what was done."""
    if not place.user and os.geteuid() != 0:
        raise RightsError("wanted root to remove a service of the system, found another user: use sudo, or --user for one of your own")
    done = []
    run_systemctl(place, "disable", "--now", place.unit, fails=False)
    others = list(place.folder.glob("edgeannot@?*.service.d")) if place.name else []
    last = not [folder for folder in others if folder.name != f"{place.unit}.d"]
    for file in (place.drop_in_file, *([place.unit_file] if last else [])):
        if file.exists():
            file.unlink()
            done.append(f"{file}: removed")
    shutil.rmtree(place.drop_in_file.parent, ignore_errors=True)
    run_systemctl(place, "daemon-reload", fails=False)
    run_systemctl(place, "reset-failed", place.unit, fails=False)
    if purge and not place.user:
        state = Path(place.state)
        if state.is_symlink():  # of an earlier release, whose user systemd made at each start
            shutil.rmtree(state.resolve(), ignore_errors=True)
            state.unlink()
        shutil.rmtree(state, ignore_errors=True)
        done.append(f"{place.state}: removed")
    elif not place.user:
        done.append(f"{place.state} and {CONFIG_FOLDER} are kept; --purge removes the first")
    return done


def run_systemctl(place: Place, *words: str, fails: bool = True) -> int:
    """Run systemctl for this service; its exit code. Raises ConfigError with what systemd said where it fails and `fails` is set."""
    systemctl = shutil.which("systemctl")
    if systemctl is None and not fails:  # as in an image that gets its systemd later
        return 1
    if systemctl is None:
        raise ConfigError("there is no systemd here: start `edgeannot run` by the means of this system")
    done = subprocess.run([systemctl, *(["--user"] if place.user else []), *words], capture_output=True, text=True, check=False)
    if done.returncode and fails:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        logs = f"`edgeannot service logs{place.advice.options}`"
        raise ConfigError(f"`systemctl {' '.join(words)}` failed ({said:.300}); {logs} and `edgeannot doctor` say more")
    return done.returncode


def _command() -> str:
    """Return the command that starts this installation, as an absolute path without blanks."""
    script = Path(sys.argv[0])
    if script.name == "edgeannot" and script.is_file() and os.access(script, os.X_OK):
        return str(script.absolute())
    beside = Path(sys.executable).with_name("edgeannot")
    return str(beside) if os.access(beside, os.X_OK) else f"{sys.executable} -P -m edgeannot"


def _check_reachable(command: str) -> None:
    """Raise ConfigError where the service's user cannot come to the program or its Python, as in a home that is shut."""
    program = Path(command.split(maxsplit=1)[0]).resolve()
    for path in (program, Path(sys.prefix).resolve(), Path(sys.executable).resolve()):
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & stat.S_IXOTH:
                raise ConfigError(
                    f"the service's user {USER} may not enter {folder}, where {path} is: install edgeannot where everybody may read, "
                    "as in /opt/edgeannot, or use --user for a service of your own"
                )


def _make_user(place: Place) -> list[str]:
    """Make the system's user and group of the service where they are not there.

    The unit of an earlier release had systemd make that user at each start, and it counts as there while that service runs: this one is
    stopped first. systemd itself then gives the state to the new user at the next start (systemd.exec(5), StateDirectory=).
    """
    try:
        known = pwd.getpwnam(USER).pw_uid
    except KeyError:
        known = None
    if known in _DYNAMIC_UIDS:
        run_systemctl(place, "stop", place.unit)
    elif known is not None:
        return []
    useradd = shutil.which("useradd") or "/usr/sbin/useradd"
    words = ("--system", "--user-group", "--no-create-home", "--home-dir", "/var/lib/edgeannot", "--shell", _NOLOGIN, USER)
    try:
        subprocess.run([useradd, *words], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as exc:
        raise ConfigError(f"the user {USER} cannot be made ({exc}); make a system user of that name") from exc
    return [f"user and group {USER}: made; members of the group may read the results in /var/lib/edgeannot"]


def _settings(place: Place, path: Path | None, profile: str | None) -> Settings:
    """Load the settings as the service will: with its state folder and without this user's environment."""
    for name in [name for name in os.environ if name.startswith("EDGEANNOT_")]:
        del os.environ[name]
    if not place.user:
        os.environ["STATE_DIRECTORY"] = place.state
    overrides = {"profile": profile} if profile else {}
    try:
        return load_settings(overrides, path, grade=lambda: ("low", "not judged")).settings
    except EdgeannotError as exc:
        raise type(exc)(f"{exc}; nothing was installed") from exc


def system_unit(command: str) -> str:
    """Return edgeannot.service with this command in place of /opt/edgeannot/bin/edgeannot."""
    text = (packaged("systemd") / "edgeannot.service").read_text(encoding="utf-8")
    return text.replace("/opt/edgeannot/bin/edgeannot", command)


def instance_unit(command: str) -> str:
    """Return edgeannot@.service: each instance has a configuration file and a state folder by its name."""
    text = system_unit(f"{command}")
    for key in ("StateDirectory", "RuntimeDirectory"):
        text = text.replace(f"\n{key}=edgeannot\n", f"\n{key}=edgeannot-%i\n")
    text = re.sub(r"^(ExecStart=.* run)$", rf"\1 --config {CONFIG_FOLDER}/%i.toml", text, flags=re.MULTILINE)
    return text.replace("Description=edgeannot:", "Description=edgeannot (%i):")


def user_unit(command: str) -> str:
    """Return the unit for one user's manager: without what only root can give."""
    text = _ONLY_SYSTEM.sub("", system_unit(command)).replace("WantedBy=multi-user.target", "WantedBy=default.target")
    return re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)


def drop_in(settings: Settings, *, config: Path | None, profile: str | None, command: str, config_set: bool) -> str:
    """Return the drop-in by the configuration: folders to write to, credentials, and what was asked for on the command line.

    config_set: whether the file is another than the one that the service finds itself.
    """
    folders = settings.written_folders()
    lines = [
        "# Written by `edgeannot service install` from the configuration; written anew by the next one. Own additions: `systemctl edit`."
    ]
    mounts = [*folders, *(folder.absolute() for source in settings.sources.values() for folder in source.read_folders)]
    if mounts:
        lines += ["[Unit]", *(f"RequiresMountsFor={_quoted(path)}" for path in dict.fromkeys(mounts))]
    lines.append("[Service]")
    if config_set:
        lines += ["ExecStart=", f"ExecStart={command} run --config {_quoted(config or Path())}"]
    if profile is not None:
        lines.append(f"Environment=EDGEANNOT_PROFILE={profile}")
    # With - a folder that is not there keeps the service from nothing else.
    lines += [f"ReadWritePaths=-{_quoted(path)}" for path in folders]
    lines += [f"LoadCredential={name}:{CONFIG_FOLDER / name}" for name in secret_files(settings) if (CONFIG_FOLDER / name).is_file()]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    text = str(path).replace("%", "%%")
    return f'"{text}"' if re.search(r"\s", text) else text


def secret_files(settings: Settings) -> list[str]:
    """Return the bare names among the files of secrets: those of credentials, which lie in /etc/edgeannot for root alone."""
    return sorted({str(path) for _, path in named_files(settings) if len(path.parts) == 1})
