"""The door to paho-mqtt: how a broker is named and reached, and what its answers mean.

paho is imported when a client is made, not before: reading the settings must stay light.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from edgeannot.errors import ConfigError, LinkError

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.client import Client
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["Address", "BrokerOptions", "Will", "connect", "meaning", "new_client", "properties", "redact"]

_SCHEMES: Final[Mapping[str, tuple[bool, bool, int]]] = {
    # scheme: (TLS, WebSocket, port)
    "mqtt": (False, False, 1883),
    "mqtts": (True, False, 8883),
    "ws": (False, True, 80),
    "wss": (True, True, 443),
}

_MEANINGS: Final[Mapping[str, str]] = {
    # MQTT 5.0, 2.4 reason codes, by the names that paho gives them; those of 3.1.1 are translated to these by paho.
    "Not authorized": "the broker does not let this user in (not authorised): check username, password_file and the broker's access list",
    "Bad user name or password": "the broker refuses the user name or the password: check username and password_file",
    "Bad authentication method": "the broker wants another way to log in than a user name and a password",
    "Client identifier not valid": "the broker refuses the client id: set client_id to one that it allows",
    "Unsupported protocol version": 'the broker does not speak this version of MQTT: set protocol to "3.1.1" (or "5")',
    "Server unavailable": "the broker says that it is not available",
    "Server busy": "the broker says that it is busy",
    "Server shutting down": "the broker is shutting down",
    "Banned": "the broker has banned this client",
    "Connection rate exceeded": "the broker says that connections come too often",
    "Quota exceeded": "the broker's quota for this client is used up",
    "Session taken over": "another client came with the same client id: give each device its own name, or set client_id",
    "Packet too large": "a message was larger than the broker takes",
    "Keep alive timeout": "nothing was heard from the broker for too long",
    "Topic name invalid": "the broker does not accept the topic",
    "Payload format invalid": "the broker does not accept the payload",
    "Unspecified error": "the connection was lost",
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
        """The address in a URL `mqtt|mqtts|ws|wss://[user@]host[:port][/path]`.

        Raises ValueError with what was wanted; a password in the URL is refused, because URLs are logged and shown.
        """
        parts = urlsplit(url if "://" in url else f"mqtt://{url}")
        if parts.scheme not in _SCHEMES:
            raise ValueError(f"wanted mqtt://, mqtts://, ws:// or wss://, found {parts.scheme}://")
        if parts.password is not None:
            raise ValueError(
                "a password does not belong into the URL, which is logged and shown: put it into a file and name that in password_file"
            )
        if not parts.hostname:
            raise ValueError("wanted a host, as in mqtt://localhost:1883")
        if parts.port == 0:
            raise ValueError("wanted a port from 1 to 65535, found 0")
        tls, websocket, port = _SCHEMES[parts.scheme]
        if not websocket and parts.path not in {"", "/"}:
            raise ValueError(f"a path is for ws:// and wss:// only, found {parts.path}")
        path = parts.path if parts.path not in {"", "/"} else "/mqtt"
        user = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, parts.port or port, tls, websocket, path, user)

    def __str__(self) -> str:
        scheme = next(name for name, (tls, websocket, _) in _SCHEMES.items() if (tls, websocket) == (self.tls, self.websocket))
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}" + (self.path if self.websocket else "")


class BrokerOptions(BaseModel):
    """How to reach an MQTT broker."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    url: str = "mqtt://localhost:1883"
    """mqtt://, mqtts:// (TLS), ws:// or wss:// (WebSocket), host and port; a user name may stand before the host."""
    protocol: Literal["5", "3.1.1"] = "5"
    """Version of MQTT."""
    username: str | None = None
    """User name at the broker."""
    password_file: Path | None = None
    """File that holds the password, such as a systemd credential; read anew at each connection."""
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
        """Where the broker is."""
        return Address.parse(self.url)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes, retained, when this client vanishes."""

    topic: str
    payload: bytes


def new_client(options: BrokerOptions, client_id: str, will: Will | None = None, *, reconnects: bool = False) -> Client:
    """A client that is not connected yet; `connect` connects it. `reconnects`: whether paho's own loop brings it back after a loss.

    Raises ConfigError when a named file is missing or is not what it should be.
    """
    from paho.mqtt.client import Client, MQTTv5, MQTTv311  # noqa: PLC0415
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415

    address = options.address
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id or client_id,
        protocol=MQTTv5 if options.protocol == "5" else MQTTv311,
        transport="websockets" if address.websocket else "tcp",
        reconnect_on_failure=reconnects,
    )
    client.connect_timeout = options.connect_timeout_s
    client.suppress_exceptions = False
    if address.websocket:
        client.ws_set_options(path=address.path)
    if address.tls:
        client.tls_set_context(_tls_context(options))
    username = options.username or address.username
    if username:
        client.username_pw_set(username, _password(options.password_file))
    if will is not None:
        client.will_set(will.topic, will.payload, qos=1, retain=True)
    return client


def connect(client: Client, options: BrokerOptions) -> None:
    """Open the connection and send CONNECT; the broker's answer comes by `on_connect`. Raises LinkError with what was in the way."""
    import ssl  # noqa: PLC0415 - a tenth of the time that `edgeannot --help` may take

    address = options.address
    try:
        client.connect(address.host, address.port, options.keepalive_s)
    except ssl.SSLCertVerificationError as exc:
        raise LinkError(
            f"the certificate of {address} is not trusted ({exc.verify_message}); set ca_file to the authority that signed it"
        ) from exc
    except ssl.SSLError as exc:
        raise LinkError(f"no TLS connection to {address} ({exc.reason or exc})") from exc
    except (OSError, ValueError) as exc:  # a host name that cannot be one is a ValueError
        raise LinkError(f"no connection to {address} ({getattr(exc, 'strerror', None) or exc})") from exc


def meaning(reason: ReasonCode, *, writing: bool = False) -> str:
    """What a reason code of the broker, or of paho, means to the operator; `writing`: it answers a message, not a connection."""
    name = reason.getName()
    if writing and name == "Not authorized":
        return "the broker does not let us write there (not authorised): check its access list"
    return _MEANINGS.get(name, f"the broker says: {name}")


def properties(kind: str, **values: Any) -> Properties:
    """MQTT 5 properties of a packet; `kind` as in paho's PacketTypes ("PUBLISH"); values that are None are left out."""
    from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
    from paho.mqtt.properties import Properties  # noqa: PLC0415

    made = Properties(getattr(PacketTypes, kind))  # type: ignore[no-untyped-call] # paho has not typed it
    for name, value in values.items():
        if value is not None:
            setattr(made, name, value)
    return made


def redact(url: str) -> str:
    """A URL without its password, for logs and `config`."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=f"{parts.username}:***@{parts.netloc.rpartition('@')[2]}").geturl()


def _tls_context(options: BrokerOptions) -> ssl.SSLContext:
    """Verified TLS 1.2 or later: the chain and the host name are always checked."""
    import ssl  # noqa: PLC0415

    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigError(f"ca_file {options.ca_file} cannot be used ({_why(exc)}); wanted certificates in PEM form") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.cert_file is not None:
        try:
            context.load_cert_chain(options.cert_file, options.key_file, password=lambda: "")
        except OSError as exc:
            raise ConfigError(f"cert_file {options.cert_file} with key_file {options.key_file} cannot be used ({_why(exc)})") from exc
    return context


def _password(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"password_file {path} cannot be read ({_why(exc)})") from exc


def _why(exc: Exception) -> str:
    return getattr(exc, "reason", None) or getattr(exc, "strerror", None) or str(exc)
