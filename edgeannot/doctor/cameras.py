"""Checks of the cameras: device and group, server, one frame."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.redaction import redacted
from edgeannot.doctor.findings import ASK_ROOT, Examined, Finding, fine, problem
from edgeannot.sources import CameraOptions
from edgeannot.sources.capture import Target, device_trouble
from edgeannot.sources.stills import CameraOpener

__all__ = ["cameras"]

_OPEN_S, _READ_S = 5.0, 2.0
"""Shorter than a daemon waits: a frozen stream is noticed after three times the second."""
_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443, "rtmp": 1935, "rtmps": 443}


def cameras(examined: Examined) -> Iterator[Finding]:
    """Check each camera: that its device may be used or its server answers, and that it gives a frame."""
    for name, options in (examined.settings.sources if examined.settings else {}).items():
        if isinstance(options, CameraOptions):
            yield _camera(examined, name, options)


def _camera(examined: Examined, name: str, options: CameraOptions) -> Finding:
    what = f"camera {name}"
    for setting, path in (("credentials_file", options.credentials_file), ("ca_file", options.ca_file)):
        if examined.only_root_can_tell(path):
            return fine("camera-closed", what, f"{setting} {path} {ASK_ROOT}")
    try:
        target = options.target(f"sources.{name}")
    except EdgeannotError as exc:
        return problem("camera-login", what, str(exc), "correct credentials_file")
    kinds = {"device": _device, "stream": _stream, "file": _file}
    if target.kind in kinds and (found := kinds[target.kind](examined, what, target)):
        return found
    return _frame(what, replace(target, open_timeout_s=min(target.open_timeout_s, _OPEN_S), read_timeout_s=_READ_S))


def _file(examined: Examined, what: str, target: Target) -> Finding | None:
    path = Path(target.address)
    if not path.is_file():
        return problem(
            "camera-file", what, f"no video file at {path}", "correct its url: a device begins with /dev/, a stream with rtsp:// or http://"
        )
    if not examined.who.may(path, "r"):
        return problem("camera-file", what, f"{examined.who.name} may not read {path}", f"let it: `chmod o+r {path}`")
    return None


def _device(examined: Examined, what: str, target: Target) -> Finding | None:
    path = Path(target.address)
    if not path.exists():
        cure = "plug it in, or correct its url; a name in /dev/v4l/by-id stays the same over restarts"
        return problem("camera-gone", what, f"{path}: {device_trouble(target)}", cure)
    if not examined.who.may(path, "r", "w"):
        gid = path.stat().st_gid
        try:
            group = grp.getgrgid(gid).gr_name
        except KeyError:
            group = str(gid)
        cure = f"add the user to the group: `sudo usermod -aG {group} USER` and log in anew; in the unit SupplementaryGroups={group}"
        return problem("camera-group", what, f"{examined.who.name} may not use {path}, which is the group {group}'s", cure)
    if holders := _holders(path):
        cure = "stop that program (`systemctl stop`), or let it share the camera as a stream; a V4L2 device serves one program"
        return problem("camera-busy", what, f"{path} is in use by {', '.join(holders)}", cure)
    return None


def _holders(path: Path) -> list[str]:
    """Return the programs that have a device open, but for a daemon of ours, which is told apart by its name."""
    wanted = path.stat().st_rdev
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            handles = list((entry / "fd").iterdir())
            name = (entry / "comm").read_text().strip()
        except OSError:
            continue
        for handle in handles:
            try:
                state = handle.stat()
            except OSError:
                continue
            if stat.S_ISCHR(state.st_mode) and state.st_rdev == wanted and wanted:
                found.append(f"{name} (process {entry.name})")
                break
    return found


def _stream(examined: Examined, what: str, target: Target) -> Finding | None:
    del examined
    url = urlsplit(target.address)
    port = url.port or _PORTS.get(url.scheme.lower(), 0)
    if not url.hostname or not port or url.scheme.lower() in {"udp", "rtp", "srt"}:
        return None
    try:
        socket.create_connection((url.hostname, port), timeout=_OPEN_S / 2).close()
    except socket.gaierror:
        cure = "correct the name, or give the camera's address in numbers; `getent hosts NAME` shows what is known"
        return problem("camera-dns", what, f"the name {url.hostname} is not known", cure)
    except OSError as exc:
        cure = "check its power, its network and the port in its url"
        return problem("camera-unreachable", what, f"no connection to {url.hostname}:{port} ({exc.strerror or 'no answer'})", cure)
    return None


def _frame(what: str, target: Target) -> Finding:
    shown = redacted(target.address)
    opener = CameraOpener()
    try:
        capture = opener(target)
    except EdgeannotError as exc:
        return problem("camera-login", what, str(exc), "correct the login in its url or in credentials_file")
    try:
        there = capture.isOpened() and capture.grab() and capture.retrieve()[0]
        why = getattr(capture, "trouble", "")
    finally:
        capture.release()
        opener.close()
    if there:
        return fine("camera", what, f"{shown} gives a frame")
    if target.kind == "device" and (holders := _holders(Path(target.address))):
        return problem(
            "camera-busy", what, f"{shown} is in use by {', '.join(holders)}", "stop that program, or share the camera as a stream"
        )
    known, _, cure = why.partition("; ")
    cure = cure or "look at it with `ffplay` or `v4l2-ctl`; check login and path in its url, and width, height, fps and fourcc"
    return problem("camera-no-frame", what, f"{shown} {known or 'gives no frame'}", cure)
