"""Where configuration, state and models lie. Standard library only, as loading the settings takes 0.7 s on a PC."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgeannot.base.errors import ConfigError

__all__ = [
    "CONFIG_FOLDER",
    "NOT_SETTINGS",
    "SAMPLES",
    "bundled_folder",
    "data_dir_without_settings",
    "default_config_file",
    "default_data_dir",
    "model_folders",
    "nothing_is_configured",
    "packaged",
]

CONFIG_FOLDER = Path("/etc/edgeannot")
"""The configuration of the service, and its secrets."""

_PACKAGE = Path(__file__).resolve().parents[1]

NOT_SETTINGS = frozenset({"EDGEANNOT_TEST_DATA"})
"""Variables that look like settings: where the tests find their optional data."""

SAMPLES = _PACKAGE / "samples"
"""Photos to try a model with."""


def default_data_dir() -> Path:
    """Where state lives: systemd's StateDirectory, else the user's state folder (XDG base directories)."""
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0])
    if base := os.environ.get("XDG_STATE_HOME"):
        return Path(base) / "edgeannot"
    home = _home()
    if home is None:
        raise ConfigError("there is no folder for state, as this user has no home folder; set --data-dir or data_dir")
    return home / ".local" / "state" / "edgeannot"


def data_dir_without_settings(given: Path | None) -> Path | None:
    """Return the data directory where the settings need not be loaded to know it; None: they say. given: on the command line."""
    return given or (default_data_dir() if nothing_is_configured() else None)


def default_config_file() -> Path | None:
    """Return the first configuration file that exists: systemd's ConfigurationDirectory, /etc/edgeannot, the user's own."""
    folders = [Path(folder) for folder in os.environ.get("CONFIGURATION_DIRECTORY", str(CONFIG_FOLDER)).split(":") if folder]
    user = os.environ.get("XDG_CONFIG_HOME") or ((home := _home()) and home / ".config")
    own = [Path(user) / "edgeannot"] if user else []
    for path in (folder / "edgeannot.toml" for folder in folders + own):
        try:
            if stat.S_ISREG(path.stat().st_mode):
                return path
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as exc:
            if path.parent not in own:  # a user's own folder may be somebody else's: `sudo -u` keeps HOME
                raise ConfigError(f"the configuration file {path} cannot be looked at ({exc.strerror}); make it readable") from exc
    return None


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and the user is not in the password file
        return None


def nothing_is_configured() -> bool:
    """Tell whether neither a configuration file nor the environment says anything, so that the defaults hold and need not be loaded."""
    named = {name.upper() for name in os.environ} - NOT_SETTINGS
    return default_config_file() is None and not any(name.startswith("EDGEANNOT_") for name in named)


def bundled_folder() -> Path:
    """Return the folder of the models that ship with the package."""
    return packaged("models")


def packaged(name: str) -> Path:
    """Return a folder that ships with the package: inside it when installed, beside it in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def model_folders(data_dir: Path) -> list[Path]:
    """Where model cards are looked for: the user's own first."""
    return [data_dir / "models", bundled_folder()]
