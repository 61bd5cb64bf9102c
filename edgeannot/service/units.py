"""The texts of the units: the one that ships, made into one for several instances or for one user, and the drop-in by the settings.

Keys are those of systemd.unit(5), systemd.service(5) and systemd.exec(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from edgeannot.base.places import CONFIG_FOLDER, packaged
from edgeannot.settings import Settings

__all__ = ["drop_in", "instance_unit", "secret_files", "system_unit", "user_unit"]

_ONLY_SYSTEM = re.compile(
    r"^(?:User|Group|SupplementaryGroups|StateDirectory|StateDirectoryMode|ConfigurationDirectory|RuntimeDirectory|DevicePolicy|DeviceAllow|"
    r"CapabilityBoundingSet|Private\w+|Protect\w+|RemoveIPC|KeyringMode|RestrictSUIDSGID|OOMPolicy|Wants|After)=.*\n",
    re.MULTILINE,
)
"""What a user's own manager cannot give without root's rights, or does for itself."""


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
    return sorted({str(path) for path in _secrets(settings) if len(path.parts) == 1})


def _secrets(section: BaseModel) -> Iterator[Path]:
    """Yield the files that the settings name apart from folders: `ca_file`, `header_files` and the like, of every section."""
    for name, value in section:
        if isinstance(value, Path) and name.endswith("_file"):
            yield value
        for each in value.values() if isinstance(value, Mapping) else (value,):
            if isinstance(each, BaseModel):
                yield from _secrets(each)
            elif name.endswith("_files") and isinstance(each, Path):
                yield each
