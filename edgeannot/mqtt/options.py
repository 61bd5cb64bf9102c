"""The topics of a device; where a broker is (URLs mqtt://, mqtts://, ws://, wss://), how it is reached, and what is agreed with it.

Loads neither paho nor ssl."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edgeannot.base.connections.backoff import backoff_s
from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import os_bytes
from edgeannot.base.systemd import credential
from edgeannot.storage.store import Message

__all__ = ["Address", "BrokerOptions", "SessionOptions", "Topics", "escape_level", "reply_trouble", "unescape_level"]

_MAX_LEVEL_BYTES: Final = 1024
# MQTT 5.0, 1.5.4 and 4.7: the separator, the wildcards and NUL never pass; control and non-characters should not; "%" is the
# mark itself; "$" opens the broker's own topics; lone surrogates stand for bytes of a file name that is not UTF-8.
_UNSAFE: Final = re.compile("[/+#%$\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topic tree of one device, with names escaped."""

    device: str
    prefix: str = "edgeannot"
    """One or more levels, used as it is."""

    @property
    def base(self) -> str:
        """Return `edgeannot/<device>`."""
        return f"{self.prefix}/{escape_level(self.device)}"

    def of_device(self, leaf: str) -> str:
        """Return a topic of the device: status, info, telemetry."""
        return f"{self.base}/{leaf}"

    def of_source(self, source: str, leaf: str) -> str:
        """Return a topic of a source: detections, image, count."""
        return f"{self.base}/{escape_level(source)}/{leaf}"


def reply_trouble(topic: str, topics: Topics, other_trees: Sequence[str] = ("homeassistant",)) -> str:
    """Return what is wrong with an MQTT 5 response topic (4.7: no wildcards, not empty); empty if nothing is.

    other_trees: first levels of topics that a reply must not be sent to, beside our own prefix: others act on what they read there.
    """
    if not topic or any(c in topic for c in "+#\0"):
        return "cannot be published to: it is empty or contains a wildcard"
    if topic.startswith("$"):
        return "begins with $, which is reserved for the broker"
    if len(topic.encode("utf-8", "surrogatepass")) > 1024:
        return "is longer than 1024 bytes"
    if topic.startswith(f"{topics.base}/reply/"):
        return ""
    if any(topic == tree or topic.startswith(f"{tree}/") for tree in (topics.prefix, *other_trees)):
        own = f"{topics.base}/reply/..."
        return f"is among the topics of devices, where others would misread a reply; wanted {own} or another tree"
    return ""


def escape_level(word: str) -> str:
    """Return one topic level for any word: unsafe characters become %XX of their UTF-8 bytes, the empty word a lone "%".

    Raises ConfigError for a word whose escaped form is over 1024 bytes: cutting it short could give two words one topic.

    >>> escape_level("front/door #1")
    'front%2Fdoor %231'
    """
    escaped = _UNSAFE.sub(lambda match: "".join(f"%{byte:02X}" for byte in os_bytes(match[0])), word) or "%"
    if len(escaped.encode()) > _MAX_LEVEL_BYTES:
        raise ConfigError(
            f"the name {word[:40]!r}... is too long for a topic level: at most {_MAX_LEVEL_BYTES} bytes, found {len(escaped.encode())}"
        )
    return escaped


def unescape_level(level: str) -> str:
    """Return the word that `escape_level` was given.

    >>> unescape_level("front%2Fdoor %231")
    'front/door #1'
    """
    if level == "%":
        return ""
    raw = re.sub(b"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), level.encode())
    return raw.decode("utf-8", "surrogateescape")


_SCHEMES: Final[Mapping[str, tuple[bool, bool, int]]] = {
    # scheme: (TLS, WebSocket, port)
    "mqtt": (False, False, 1883),
    "mqtts": (True, False, 8883),
    "ws": (False, True, 80),
    "wss": (True, True, 443),
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker is."""

    host: str
    port: int
    tls: bool
    websocket: bool
    path: str
    username: str | None = None

    @classmethod
    def parse(cls, url: str) -> Self:
        """Return the address in a URL `mqtt|mqtts|ws|wss://[user@]host[:port][/path]`.

        Raises ValueError with what was wanted; a password in the URL is refused, because URLs are logged and shown.
        """
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        # What stands there may be the rest of a password: it is not repeated, here and below.
        if parts.query or parts.fragment:
            raise ValueError("wanted mqtt://[user@]host[:port] (ws:// and wss:// may have a path), found ? or # in it")
        try:
            given_port = parts.port
        except ValueError:
            raise ValueError("wanted a port from 1 to 65535, found something else") from None
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"wanted mqtt://, mqtts://, ws:// or wss://, found {parts.scheme}://")
        if parts.password is not None:
            raise ValueError("no password in the URL, which is logged and shown: put it into a file and set password_file")
        if not parts.hostname:
            raise ValueError("wanted a host, as in mqtt://localhost:1883")
        if given_port == 0:
            raise ValueError("wanted a port from 1 to 65535, found 0")
        tls, websocket, port = _SCHEMES[parts.scheme]
        if not websocket and parts.path not in {"", "/"}:
            raise ValueError("a path is for ws:// and wss:// only")
        path = parts.path if parts.path not in {"", "/"} else "/mqtt"
        user = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, given_port or port, tls, websocket, path, user)

    def __str__(self) -> str:
        scheme = next(name for name, (tls, websocket, _) in _SCHEMES.items() if (tls, websocket) == (self.tls, self.websocket))
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}" + (self.path if self.websocket else "")


class BrokerOptions(BaseModel):
    """How to reach an MQTT broker."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        json_schema_extra={"dependentRequired": {"cert_file": ["key_file"], "key_file": ["cert_file"]}},
    )

    other_names: ClassVar[Mapping[str, str]] = dict.fromkeys(("host", "hostname", "server", "broker", "address", "port"), "url") | {
        "user": "username",
        "login": "username",
        "password": "password_file",
        "passwd": "password_file",
        "cafile": "ca_file",
        "ca": "ca_file",
        "cert": "cert_file",
        "key": "key_file",
        "tls": "url",
        "topic": "prefix",
        "base_topic": "prefix",
        "version": "protocol",
    }

    url: str = "mqtt://localhost:1883"
    """mqtt://, mqtts:// (TLS), ws:// or wss:// (WebSocket), host and port; a user name may stand before the host."""
    protocol: Literal["5", "3.1.1"] = "5"
    """Version of MQTT."""
    username: str | None = None
    """User name at the broker."""
    password_file: Path | None = None
    """File that holds the password; read anew at each connection. A bare name, here and in the files below, is that of a systemd
    credential (LoadCredential=) where the service has one of it."""
    ca_file: Path | None = None
    """Certificates (PEM) of the authorities that may vouch for the broker; unset: those of the system."""
    cert_file: Path | None = None
    """Certificate (PEM) that this client shows."""
    key_file: Path | None = None
    """Key (PEM, without a passphrase) of cert_file."""
    client_id: str | None = Field(default=None, min_length=1, max_length=256)
    """Name at the broker, unlike that of any other client there; unset: made of the device's name."""
    keepalive_s: int = Field(default=30, ge=2, le=3600)
    """Silence in seconds after which the broker is asked for a sign of life; a dead link is known after twice that at most."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """How long one attempt to connect may take, in seconds."""
    retry_min_s: float = Field(default=1.0, gt=0)
    """Wait in seconds before the second attempt to connect; doubled at each further one."""
    retry_max_s: float = Field(default=60.0, gt=0)
    """Longest wait in seconds between attempts; each is shortened at random by up to half, so that a fleet does not come at once."""

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str) -> str:
        try:
            Address.parse(url)
        except ValueError as exc:
            raise PydanticCustomError("broker_url", "{reason}", {"reason": str(exc)}) from None
        return url

    _credential = field_validator("password_file", "ca_file", "cert_file", "key_file")(credential)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file: wanted both or neither")
        if not self.address.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file and cert_file are for TLS: wanted a URL that begins with mqtts:// or wss://")
        if self.address.username and self.username and self.address.username != self.username:
            raise ValueError(f"username is {self.username!r}, but the URL says {self.address.username!r}: wanted one")
        if self.password_file and not (self.username or self.address.username):
            raise ValueError("password_file needs a username")
        return self

    @property
    def address(self) -> Address:
        """Return the address of the broker."""
        return Address.parse(self.url)

    def retry_wait_s(self, failures: int) -> float:
        """Return the wait before the next attempt to connect, after so many failures in a row."""
        return backoff_s(failures, self.retry_min_s, self.retry_max_s)


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a subscriber agrees with the broker at each connection."""

    filters: tuple[tuple[str, int], ...] = ()
    """Topic filters to subscribe to, and the QoS for each."""
    needs_all_filters: bool = True
    """Whether one that is refused ends the connection; else only when all are."""
    dropped_filters: tuple[str, ...] = ()
    """Subscriptions of the session that are ended at once."""
    keep_bytes: int = 16 * 2**20
    """Of larger payloads only the beginning is kept."""
    window: int = 4
    """Messages that may be unacknowledged at a time (MQTT 5; the broker's own figure holds for 3.1.1)."""
    keep_s: int = 0
    """How long the session outlives a connection, in seconds; 0: not at all. MQTT 3.1.1 knows only "not" and "for ever"."""
    will: Message | None = None
    """What the broker publishes when this client vanishes."""
    greeting: Message | None = None
    """Published when the subscriptions are made."""
    greet_s: float = math.inf
    """Seconds after which it is published again, and so on."""
    lasting: bool = True
    """Whether a connection that is lost is made again."""
