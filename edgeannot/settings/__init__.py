"""The settings: the tree of them, the layers that they come from, and what is wrong with them.

Command line > environment (`EDGEANNOT_`, nested by `__`) > TOML file > the profile's defaults > the field's default. An unknown
key is an error that names its place.
"""

from __future__ import annotations

from edgeannot.base.places import default_config_file, default_data_dir
from edgeannot.settings.layers import find_data_dir, find_problems, find_runtime, load_settings
from edgeannot.settings.tree import HealthOptions, Loaded, PageOptions, Settings, named_files
from edgeannot.vision.profiles import PROFILE_DEFAULTS

__all__ = [
    "PROFILE_DEFAULTS",
    "HealthOptions",
    "Loaded",
    "PageOptions",
    "Settings",
    "default_config_file",
    "default_data_dir",
    "find_data_dir",
    "find_problems",
    "find_runtime",
    "load_settings",
    "named_files",
]
