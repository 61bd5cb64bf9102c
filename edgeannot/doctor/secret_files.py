"""Check of the files that the settings name, such as those of passwords: whether the service's user may read them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from edgeannot.base.places import CONFIG_FOLDER
from edgeannot.doctor.findings import Examined, Finding, fine, problem
from edgeannot.service.install import named_files

__all__ = ["secrets"]


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
        cure = f'{move}set {setting} to its bare name, "{path.name}", and run `sudo edgeannot service install`, which hands it over'
        yield problem("secret-unreadable", "secrets", f"{examined.who.name} may not read {path} ({setting})", cure)
    if readable:
        yield fine("secrets", "secrets", f"{examined.who.name} gets {', '.join(readable)}")
