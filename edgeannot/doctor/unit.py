"""Check of the service: the unit and its drop-ins against the settings; and who its user is."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import read_text
from edgeannot.base.places import CONFIG_FOLDER
from edgeannot.base.systemd import REFUSED, Unit
from edgeannot.doctor.findings import Examined, Finding, Who, fine, problem, warning

__all__ = ["find_unit", "service_folders", "service_user", "show_unit", "unit"]

_PROPERTIES = (
    "LoadState,ActiveState,SubState,Result,NRestarts,ExecMainStatus,User,DynamicUser,SupplementaryGroups,ReadWritePaths,ProtectSystem,"
    "DropInPaths,NeedDaemonReload,StateDirectory,FragmentPath,StatusText"
)
_CREDENTIAL = re.compile(r"^LoadCredential=([\w.-]+):(/.+?)\s*$", re.MULTILINE)
_DYNAMIC_UID = 61184
"""The first of those that systemd gives to DynamicUser= (systemd.exec(5)): it owns nothing."""


def find_unit(config: Path | None) -> Unit:
    """Return the service that has this configuration: an instance of the file's name, a user's own, else the one of the system."""
    if config is not None and config.parent == CONFIG_FOLDER:
        name = config.stem
        return Unit(
            "" if name == "edgeannot" or f"edgeannot@{name}.service.d" not in show_unit(Unit(name)).get("DropInPaths", "") else name
        )
    mine = Unit(user=True)
    return mine if os.geteuid() != 0 and show_unit(mine).get("LoadState") == "loaded" else Unit()


def show_unit(unit: Unit) -> Mapping[str, str]:
    """Return properties of a unit; empty where no systemd runs."""
    if not Path("/run/systemd/system").is_dir() or not (systemctl := shutil.which("systemctl")):
        return {}
    try:
        done = subprocess.run(
            [systemctl, *(["--user"] if unit.user else []), "show", unit.file, f"--property={_PROPERTIES}"],
            capture_output=True, text=True, timeout=5, check=False, encoding="utf-8",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def service_folders(unit_facts: Mapping[str, str], links: Path) -> Mapping[str, str]:
    """Return the variables by which systemd tells the service its folders, so that its settings can be read as it reads them.

    links: an empty folder for names of the credentials, which a service that does not run has nowhere.
    """
    for path in f"{unit_facts.get('FragmentPath', '')} {unit_facts.get('DropInPaths', '')}".split():  # `systemctl show` cannot print them
        with contextlib.suppress(EdgeannotError):
            for name, file in _CREDENTIAL.findall(read_text(Path(path), "the unit")):
                (links / name).unlink(missing_ok=True)
                (links / name).symlink_to(file)
    state = unit_facts.get("StateDirectory", "").split()
    return {"CREDENTIALS_DIRECTORY": str(links), **({"STATE_DIRECTORY": f"/var/lib/{state[0]}"} if state else {})}


def service_user(unit_facts: Mapping[str, str]) -> Who:
    """Return the user of the installed service where root asks, who can look with its eyes; else the one who asks."""
    if os.geteuid() != 0 or unit_facts.get("LoadState") != "loaded":
        return Who("this user")
    named, groups = unit_facts.get("User", ""), []
    for group in unit_facts.get("SupplementaryGroups", "").split():
        try:
            groups.append(grp.getgrnam(group).gr_gid)
        except KeyError:
            continue
    try:
        entry = pwd.getpwnam(named) if named else None
    except KeyError:
        entry = None
    if entry is not None:
        return Who(f"the service's user {named}", entry.pw_uid, entry.pw_gid, tuple({*groups, *os.getgrouplist(named, entry.pw_gid)}))
    if unit_facts.get("DynamicUser") == "yes":
        return Who("the service's user", _DYNAMIC_UID, _DYNAMIC_UID, tuple(groups))
    return Who("root", 0, 0)


def unit(examined: Examined) -> Iterator[Finding]:
    """Check that the unit is there, runs, is the one on the disk, and may write where the settings say."""
    service = examined.unit
    facts = show_unit(service)
    if not facts or facts.get("LoadState") == "not-found":
        yield fine("unit-none", "service", "not installed (`edgeannot service install` does so)" if facts else "no systemd here")
        return
    restarts = facts.get("NRestarts", "0")
    if facts.get("NeedDaemonReload") == "yes":
        yield warning(
            "unit-changed", "service", "the unit on the disk is newer than the one in force", "`systemctl daemon-reload` and restart it"
        )
    status = facts.get("StatusText", "")
    if status.startswith(REFUSED):
        cure = f"correct it, then `{service.systemctl('reload')}`; a secret that is new needs {service.install}"
        yield problem("unit-reload", "service", status, cure)
    if facts.get("ActiveState") == "failed":
        found = f"failed ({facts.get('Result')}, exit code {facts.get('ExecMainStatus')}, {restarts} restarts)"
        yield problem("unit-failed", "service", found, f"`journalctl {'--user ' if service.user else ''}-u {service.file} -n 50` says why")
    allowed = [Path(path.lstrip("-+")) for path in facts.get("ReadWritePaths", "").split()]
    for folder in examined.settings.written_folders() if examined.settings and facts.get("ProtectSystem") == "strict" else ():
        if not any(folder.is_relative_to(each) for each in allowed):
            cure = f"{service.install} writes the drop-in, or add ReadWritePaths={folder} ({service.systemctl('edit')})"
            yield problem("unit-paths", "service", f"its sandbox does not let it write to {folder}", cure)
    if facts.get("ActiveState") != "failed":
        drop_ins = len(facts.get("DropInPaths", "").split())
        yield fine("unit", "service", f"{facts.get('ActiveState')} ({facts.get('SubState')}), {restarts} restarts, {drop_ins} drop-ins")
