"""The settings tree: every setting with its default, and the settings of one run with the origin of each value."""

from __future__ import annotations

import ipaddress
import platform
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    SerializeAsAny,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import json_text
from edgeannot.base.options import Options
from edgeannot.base.places import default_data_dir
from edgeannot.base.redaction import redacted_setting
from edgeannot.base.systemd import credential, read_secret
from edgeannot.scene.classify_options import ClassifyOptions, StateOptions
from edgeannot.sinks import SinkSections
from edgeannot.sources import SourceOptions, read_source
from edgeannot.sources.directory_options import named_folder
from edgeannot.vision.data import Profile

__all__ = ["PREFIX", "SOURCE_NAME", "HealthOptions", "Loaded", "PageOptions", "Settings", "Source", "flatten", "named_files"]

PREFIX = "EDGEANNOT_"
"""What the environment's variables begin with."""

SOURCE_NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
RESERVED_NAMES = ("command", "reply")
"""Not for sources: the MQTT topics of commands have them."""


def _source_name(name: str) -> str:
    if not re.fullmatch(SOURCE_NAME, name):
        raise ValueError(f"the source name {name!r}: wanted 1 to 64 letters, digits, - or _; it is a level of the MQTT topic")
    if name in RESERVED_NAMES:
        raise ValueError(f"the source name {name!r} is that of the MQTT topics of commands: choose another")
    return name


Source = Annotated[SerializeAsAny[SourceOptions], PlainValidator(read_source), WithJsonSchema({"type": "object"})]
"""The section of one source, read by its kind."""

_StateName = Annotated[str, Field(pattern=f"^{SOURCE_NAME}$")]
_SourceName = Annotated[str, AfterValidator(_source_name)]

LOG_LEVELS = ("debug", "info", "warning", "error")


def _lower(level: object) -> object:
    return level.lower() if isinstance(level, str) else level


_LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"],
    BeforeValidator(_lower),
    WithJsonSchema({"enum": [*LOG_LEVELS, *map(str.upper, LOG_LEVELS), *map(str.capitalize, LOG_LEVELS)]}),
]
"""As journald and other programs write them, in capitals as well."""


def _default_device() -> str:
    # A host name is what tells one board from another without asking; only characters that need no escaping in a topic.
    return re.sub(r"[^A-Za-z0-9_-]", "-", platform.node().split(".")[0]) or "edgeannot"


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name, which may mean any address
        return False


class HealthOptions(Options):
    """Monitoring over HTTP: /metrics for Prometheus, /healthz and /readyz."""

    enabled: bool = False
    """Whether the daemon listens."""
    address: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; 127.0.0.1 is for this machine alone, 0.0.0.0 for everybody, without login or encryption."""
    port: int = Field(default=9464, ge=0, le=65535)
    """Port to listen on; 0: any that is free, which the log names."""
    max_labels: int = Field(default=100, ge=0, le=10_000)
    """Labels that are counted each for itself; further ones are counted as "other"."""

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can reach it."""
        return _is_loopback(self.address)


LEAST_TOKEN = 16
"""Characters of the live page's token: as many as nobody guesses."""


_BLOCKED_PORTS: Final = {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, *range(6665, 6670), 6679, 6697, 10080}
"""Those from 1024 on that no browser opens (WHATWG Fetch, "bad port")."""


class PageOptions(Options):
    """The live page: the last pictures, figures and buttons in a browser."""

    other_names: ClassVar[Mapping[str, str]] = {
        "token": "token_file",
        "password": "token_file",
        "password_file": "token_file",
        "host": "address",
    }

    enabled: bool = False
    """Whether the page is served."""
    address: str = Field(default="127.0.0.1", min_length=1)
    """Address to listen on; 127.0.0.1 is for this machine alone, any other needs token_file. There is no encryption."""
    port: int = Field(default=8464, ge=0, le=65535)
    """Port to listen on; 0: any that is free, which the log names."""
    token_file: Path | None = Field(default=None, examples=["/etc/edgeannot/page-token"])
    """File that holds the token by which people log in, 16 characters or more. A bare name is that of a systemd credential
    (LoadCredential=) where the service has one of it."""
    hosts: tuple[str, ...] = ()
    """Names under which browsers reach the page, beside this machine's own name and addresses; such as that of a proxy."""
    controls: bool = True
    """Whether the page has the buttons for pause, snapshot and model."""
    max_fps: float = Field(default=2.0, gt=0, le=30)
    """Most pictures a second that are drawn for the page while somebody looks at it, of all sources together; fewer where drawing them
    would take more than 1 % of the cores' time."""

    @property
    def has_controls(self) -> bool:
        """Return whether commands may come from the page."""
        return self.enabled and self.controls

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can reach the page."""
        return _is_loopback(self.address)

    def read_token(self) -> str | None:
        """Return the token; None where none is set. Raises ConfigError for a file that cannot be read, and for a short token."""
        if self.token_file is None:
            return None
        token = read_secret("page.token_file", self.token_file).strip()
        if len(token) < LEAST_TOKEN or not token.isascii():
            what = f"wanted {LEAST_TOKEN} letters and digits or more, found {len(token)} characters"
            raise ConfigError(f"page.token_file {self.token_file}: {what}; make one with `openssl rand -hex 24`")
        return token

    _credential = field_validator("token_file")(credential)

    @model_validator(mode="after")
    def _can_be_opened(self) -> Self:
        if self.enabled and self.port in _BLOCKED_PORTS:
            raise ValueError(f"wanted another port than {self.port}, which browsers refuse, as the program of that port could be misled")
        return self

    @model_validator(mode="after")
    def _is_locked(self) -> Self:
        if self.enabled and self.token_file is None and not self.is_local:
            raise ValueError(f'wanted token_file, as others reach the page at the address {self.address}, or address = "127.0.0.1"')
        return self


class Settings(BaseModel):
    """Every setting with its default. A section of its own for each source and each sink."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    device: str = Field(default_factory=_default_device, min_length=1, examples=["porch"])
    """Name of this device in topics and messages; by default the host name."""
    data_dir: Path = Field(default_factory=default_data_dir, examples=["/var/lib/edgeannot"], json_schema_extra={"minLength": 1})
    """Folder for the ledger, messages to be sent, quarantined files and added models."""
    out_dir: Path | None = Field(default=None, examples=["/srv/annotated"], json_schema_extra={"minLength": 1})
    """Folder that relative folders and files of the sinks lie in; unset: out/ in data_dir."""
    profile: Literal["auto", "low", "mid", "high"] = "auto"
    """Class of the board; auto grades the board by its facts, its limits and the measurements of `edgeannot probe`."""
    task: Literal["detect", "classify"] = "detect"
    """Boxes round objects, or one class for the picture."""
    model: str | None = Field(default=None, examples=["ssdlite-mobilenet-v2-coco"])
    """Name of a model, also NAME@SIZE; unset: chosen by the profile. `edgeannot models list` shows what there is."""
    max_ms: float | None = Field(default=None, gt=0, allow_inf_nan=False, examples=[200])
    """Longest time in ms for one picture, by which the model is chosen; unset: the profile's, 500, 200 or 67."""
    min_fps: float | None = Field(default=None, ge=0.001, allow_inf_nan=False, examples=[5])
    """Pictures a second that the chosen model must reach, another way to say max_ms; of both the stricter counts."""
    runtime: Literal["auto", "litert", "tflite-runtime"] = "auto"
    """The TFLite runtime; auto takes LiteRT where it is installed and runs the bundled models."""
    threads: int | None = Field(default=None, ge=1, le=256)
    """Threads for one inference; unset: the number of cores, at most max_threads."""
    max_threads: int = Field(default=4, ge=1, le=256)
    """Upper bound of threads when threads is unset; set by the profile."""
    max_fps: float = Field(default=5.0, gt=0)
    """Pictures a second taken from a live camera whose own section says nothing; set by the profile. Files are never skipped."""
    min_score: float | None = Field(default=None, ge=0, le=1, examples=[0.5])
    """Smallest score that is reported; unset: the model card's."""
    iou: float | None = Field(default=None, gt=0, le=1, examples=[0.5])
    """Boxes of one label that overlap more than this are one object; unset: the model card's."""
    labels: tuple[str, ...] = ()
    """Report only these labels; empty: all that the model knows."""
    sources: dict[_SourceName, Source] = {}
    """Where pictures come from, by name: [sources.NAME] with a kind."""
    classify: dict[str, ClassifyOptions] = {}
    """A second stage for what is detected, by label: [classify.LABEL] with a model."""
    states: dict[_StateName, StateOptions] = {}
    """States of parts of the picture, by name: [states.NAME] with a source and a region."""
    sinks: SinkSections = SinkSections()
    """Where results go: [sinks.KIND]."""
    health: HealthOptions = HealthOptions()
    """Monitoring over HTTP: [health]."""
    page: PageOptions = PageOptions()
    """The live page: [page]."""
    log_level: _LogLevel = "info"
    """How much is logged."""

    @property
    def out_folder(self) -> Path:
        """Return the folder for results."""
        return self.out_dir or self.data_dir / "out"

    _somewhere = field_validator("data_dir", "out_dir", mode="before")(named_folder)

    def written_folders(self) -> list[Path]:
        """Return the folders outside the data directory that a service has to write to, as its ReadWritePaths= have to name them."""
        wanted = [path.parent if path.suffix else path for path in self.sinks.written_paths(self.out_folder)]
        wanted += [folder for source in self.sources.values() for folder in source.written_folders]
        outside = [path.absolute() for path in wanted if not path.absolute().is_relative_to(self.data_dir.absolute())]
        return [path for path in dict.fromkeys(outside) if not any(path != other and path.is_relative_to(other) for other in outside)]


class Loaded(BaseModel):
    """The settings, the layer that each given value came from, and what the profile follows from."""

    model_config = ConfigDict(arbitrary_types_allowed=True, frozen=True)

    settings: Settings
    profile: Profile
    """The profile in force: the one set, or what auto found."""
    profile_reason: str
    origins: dict[str, str]
    """Dotted key -> layer, for every value that is not a field's default."""

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield key, value in TOML (or "unset") and layer of every setting, in the order of the tree."""
        for key, value in flatten(self.settings.model_dump(mode="json")):
            shown = redacted_setting(key, value) if isinstance(value, str) else value
            yield key, "unset" if shown is None else json_text(shown), self.origins.get(key, "default")


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of each setting in nested tables; an empty table is a value."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def named_files(section: BaseModel, *above: str, in_use: bool = False) -> Iterator[tuple[str, Path]]:
    """Yield the files that the settings name apart from folders, by their setting: `sinks.mqtt.ca_file` and the like, of every section.

    in_use: without those of sections that are switched off.
    """
    for name, value in section:
        if isinstance(value, Path) and name.endswith("_file"):
            yield ".".join((*above, name)), value
        for key, each in value.items() if isinstance(value, Mapping) else (("", value),):
            below = (*above, name, *([str(key)] if key else []))
            if isinstance(each, BaseModel):
                if not in_use or getattr(each, "enabled", True):
                    yield from named_files(each, *below, in_use=in_use)
            elif name.endswith("_files") and isinstance(each, Path):
                yield ".".join(below), each
