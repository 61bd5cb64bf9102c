"""Checks of the folders: state, results, what is watched; and of the files that the settings name, such as those of passwords."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from edgeannot.base.foreign import as_int
from edgeannot.base.kernel import read
from edgeannot.base.places import CONFIG_FOLDER, default_data_dir
from edgeannot.doctor.findings import Examined, Finding, fine, nearest, problem, warning
from edgeannot.settings import Settings, named_files
from edgeannot.sources import DirectoryOptions

__all__ = ["results", "secrets", "state", "watched"]

_MB = 1 << 20
_STATE_MB = 64
"""The outbox holds 8 MB back; below this a day without a broker does not fit."""
_NETWORK = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "afs",
    "ceph",
    "glusterfs",
    "fuse.rclone",
    "fuse.glusterfs",
    "davfs",
}
_MOST_FOLDERS = 200_000
_WATCH = """import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
number = libc.inotify_init1(0)
sys.exit(ctypes.get_errno() if number < 0 or libc.inotify_add_watch(number, sys.argv[1].encode(), 0x100) < 0 else 0)"""
"""A process that ends with the number of the error with which the kernel refuses a watch (inotify(7); 0x100: IN_CREATE)."""
_IN_A_CONTAINER = {"max_user_watches": "max_inotify_watches", "max_user_instances": "max_inotify_instances"}
"""What a user namespace calls its own limits (namespaces(7))."""


def state(examined: Examined) -> Iterator[Finding]:
    """Check the state folder: owner, mode, space."""
    if examined.settings:
        yield from _written(examined, "state", "state folder", examined.settings.data_dir, _STATE_MB, "choose another by data_dir")


def results(examined: Examined) -> Iterator[Finding]:
    """Check the folders that results go to, and where pictures are moved."""
    settings = examined.settings
    for path, least_mb, setting in dict.fromkeys(_targets(settings)) if settings else ():
        yield from _written(examined, "results", "results", path, least_mb, f"choose another by {setting}")


def _targets(settings: Settings) -> Iterator[tuple[Path, int, str]]:
    for kind, options in settings.sinks.by_kind():
        if options.enabled:
            for path in options.written_paths(settings.out_folder):
                yield path.parent if kind == "jsonl" else path, getattr(options, "min_free_mb", 0), f"sinks.{kind}"
    for name, source in settings.sources.items():
        if isinstance(source, DirectoryOptions) and source.after_folder is not None:
            yield source.after_folder, 0, f"sources.{name}.after_folder"


def _written(examined: Examined, code: str, what: str, path: Path, least_mb: int, another: str) -> Iterator[Finding]:
    place, who = nearest(path), examined.who
    if who.uid is not None and not (made := default_data_dir()).exists() and path.is_relative_to(made):
        yield fine(code, what, f"{path} is not there yet: systemd makes {made} when the service starts")
        return
    free_mb = examined.free_bytes(place) // _MB
    if examined.read_only(place):
        yield problem(
            f"{code}-read-only", what, f"{path} is mounted read-only", f"mount it for writing (`mount -o remount,rw`), or {another}"
        )
    elif not who.may(place, "w", "x"):
        mode = place.stat()
        owner = f"it is {_name_of(mode.st_uid)}'s, mode {stat.S_IMODE(mode.st_mode):o}"
        cure = f"give it to that user (`chown`, `chmod`, or a group of SupplementaryGroups=), or {another}"
        yield problem(f"{code}-unwritable", what, f"{who.name} may not write to {place} ({owner})", cure)
    elif free_mb < max(least_mb, 1):
        wanted = f", {least_mb} MB are wanted" if least_mb else ""
        cure = "delete files, lower min_free_mb, or use a larger disk"
        yield problem(f"{code}-full", what, f"the disk of {place} is full: {free_mb} MB free{wanted}", cure)
    else:
        yield fine(code, what, f"{path} can be written, {free_mb} MB free")


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def watched(examined: Examined) -> Iterator[Finding]:
    """Check watched folders: there, readable by the service's user, watched by the kernel."""
    for name, options in (examined.settings.sources if examined.settings else {}).items():
        if isinstance(options, DirectoryOptions):
            yield from _watched(examined, name, options)


def _watched(examined: Examined, name: str, options: DirectoryOptions) -> Iterator[Finding]:
    what, path, who = f"folder {name}", options.path, examined.who
    if not path.is_dir():
        if nearest(path) != path and not who.may(nearest(path), "x"):
            pass  # told below
        else:
            yield problem(
                "watched-missing", what, f"{path} is not there, or no folder", f"make it, mount it, or correct sources.{name}.path"
            )
            return
    shut = next((place for place in reversed((path, *path.absolute().parents)) if place.exists() and not who.may(place, "x")), None)
    if shut is not None or not who.may(path, "r"):
        at = shut or path
        cure = f"let it in: `chmod o+rx {at}`, or `setfacl -m u:USER:rx {at}`, or add its group to SupplementaryGroups="
        yield problem("watched-unreadable", what, f"{who.name} may not read {at}", cure)
        return
    if options.after in ("move", "delete") and not who.may(path, "w"):
        cure = f'let it write there, or set sources.{name}.after = "keep"'
        yield problem("watched-unwritable", what, f'{who.name} may not write to {path}, which after = "{options.after}" needs', cure)
        return
    kind = _file_system(path, read(examined.root / "proc/self/mountinfo"))
    if kind in _NETWORK:
        found = f"{path} is on a network file system ({kind}): the kernel does not tell of files that other machines write"
        cure = f"set sources.{name}.rescan_s to the seconds that a picture may wait (now {options.rescan_s:g})"
        yield warning("watched-network", what, found, cure)
    yield _limits(examined, what, options)


def _limits(examined: Examined, what: str, options: DirectoryOptions) -> Finding:
    folders = 1
    if options.recursive:
        folders = sum(1 for _ in itertools.islice(os.walk(options.path), _MOST_FOLDERS)) or 1
    for limit, wanted, least in (("max_user_watches", folders, 8192), ("max_user_instances", 1, 128)):
        most = as_int(read(examined.root / "proc/sys/fs/inotify" / limit).strip())
        if most is not None and most < wanted + 1:
            found = f"{options.path} has {folders} folders, and the kernel watches {most} (fs.inotify.{limit})"
            more = max(least, 2 * folders)
            cure = f"raise it: `sysctl -w fs.inotify.{limit}={more}`, and for later starts in /etc/sysctl.d/edgeannot.conf"
            return problem("inotify-limit", what, found, cure)
    if limit := _used_up(examined, options.path):
        most = as_int(read(examined.root / "proc/sys/fs/inotify" / limit).strip()) or 4096
        found = (
            f"the kernel gives {examined.who.name} no watch for {options.path}: other programs of that user have all (fs.inotify.{limit})"
        )
        cure = (
            f"raise it: `sysctl -w fs.inotify.{limit}={2 * most}`, in a container also user.{_IN_A_CONTAINER[limit]}, or end such programs"
        )
        return problem("inotify-limit", what, found, cure)
    return fine("watched", what, f"{options.path} can be read, {folders} folders to watch")


def _used_up(examined: Examined, path: Path) -> str:
    """Return the limit that keeps the user from watching the folder now; empty where it can be watched, or another machine is looked at."""
    if examined.root != Path("/"):
        return ""
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _WATCH, str(path)], **examined.who.identity(), cwd="/", timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):  # the user may not run this Python: a service's unit says so
        return ""
    return {errno.ENOSPC: "max_user_watches", errno.EMFILE: "max_user_instances"}.get(done.returncode, "")


def _file_system(path: Path, mountinfo: str) -> str:
    """Return the type of the file system that a path is on, from the text of /proc/self/mountinfo (proc(5))."""
    found = ("", "")
    for line in mountinfo.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if dash and len(fields) >= 5:
            point = fields[4].replace("\\040", " ")
            if (path.absolute().is_relative_to(point)) and len(point) >= len(found[0]):
                found = (point, kind[0])
    return found[1]


def secrets(examined: Examined) -> Iterator[Finding]:
    """Check as root that the service's user may read passwords, tokens, keys and certificates; of other users the other checks tell.

    systemd reads a credential as root and hands it over. A file that is missing is a finding of the check of what needs it.
    """
    if examined.settings is None or examined.who.uid is None:
        return
    handed_over = os.environ.get("CREDENTIALS_DIRECTORY")
    readable = []
    for setting, path in named_files(examined.settings, in_use=True):
        if not path.is_file():
            continue
        if (handed_over and path.is_relative_to(handed_over)) or examined.who.may(path, "r"):
            readable.append(setting)
            continue
        move = "" if path.parent == CONFIG_FOLDER else f"move it into {CONFIG_FOLDER}, "
        cure = f'{move}set {setting} to its bare name, "{path.name}", and run {examined.unit.install}, which hands it over'
        yield problem("secret-unreadable", "secrets", f"{examined.who.name} may not read {path} ({setting})", cure)
    if readable:
        yield fine("secrets", "secrets", f"{examined.who.name} gets {', '.join(readable)}")
