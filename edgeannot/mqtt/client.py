"""The only user of paho-mqtt's client: connect to a broker, publish, explain its reason codes.

paho is imported when a client is made, not before: reading the settings must stay light.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from edgeannot.base.connections.tls import tls_context
from edgeannot.base.errors import LinkError
from edgeannot.base.systemd import read_secret
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.storage.store import Message

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = [
    "connect",
    "is_topic",
    "loss",
    "meaning",
    "new_client",
    "properties",
    "publish",
    "publish_all",
    "size_of",
]

_MEANINGS: Final[Mapping[int, str]] = {
    # MQTT 5.0, 2.4 reason codes; paho translates those of 3.1.1 to these. docs/delivery.md says what is done at which.
    0x00: "the broker ended the connection",
    0x80: "the connection was lost",
    0x81: "the broker reports a malformed packet from us",
    0x82: "the broker reports a protocol error by us",
    0x83: "the broker does not accept it, for a reason of its own",
    0x84: 'the broker does not speak this version of MQTT: set protocol to "3.1.1" (or "5")',
    0x85: "the broker refuses the client id: set client_id to one that it allows",
    0x86: "the broker refuses the user name or the password: check username and password_file",
    0x87: "the broker does not let this user in (not authorised): check username, password_file and the broker's access list",
    0x88: "the broker reports that it is not available",
    0x89: "the broker reports that it is busy",
    0x8A: "the broker has banned this client",
    0x8B: "the broker is shutting down",
    0x8C: "the broker requires another login method than user name and password",
    0x8D: "no answer from the broker within the keepalive time",
    0x8E: "another client connected with the same client id: give each device its own name, or set client_id",
    0x8F: "the broker does not accept the topic filter",
    0x90: "the broker does not accept the topic",
    0x91: "the broker reports that a message's packet id is in use",
    0x92: "the broker does not know a message's packet id",
    0x93: "the broker reports too many unacknowledged messages",
    0x94: "the broker does not accept a topic alias",
    0x95: "a message was larger than the broker accepts",
    0x96: "the broker reports that messages come too fast",
    0x97: "the broker's quota for this client is used up",
    0x98: "the broker's administrator ended the connection",
    0x99: "the broker does not accept the payload",
    0x9A: "the broker keeps no retained messages",
    0x9B: "the broker does not support this QoS: set qos to a lower one",
    0x9C: "the broker redirects to another broker for now: set url to that",
    0x9D: "the broker has moved: set url to its new address",
    0x9E: "the broker does not support shared subscriptions ($share)",
    0x9F: "the broker reports too many connections",
    0xA0: "the broker ends each connection after a time",
    0xA1: "the broker does not support subscription identifiers",
    0xA2: "the broker does not allow + and # in topic filters",
}


_MEANINGS_OF_REFUSALS: Final[Mapping[tuple[str, int], str]] = {
    ("writing", 0x80): "the broker does not accept it, and does not say why",
    ("writing", 0x87): "the broker does not let us write there (not authorised): check its access list",
    ("reading", 0x80): "the broker does not let us read there (not authorised): check its access list",  # all that MQTT 3.1.1 has
    ("reading", 0x87): "the broker does not let us read there (not authorised): check its access list",
}


def new_client(
    options: BrokerOptions,
    client_id: str,
    will: Message | None = None,
    *,
    clean_session: bool | None = None,
    keep_bytes: int = 16 * 2**20,
) -> Client:
    """Make a client for one connection, which `connect` opens.

    will: what the broker publishes when this client vanishes.
    clean_session: for MQTT 3.1.1 only, whether the broker forgets the session with the connection (None: it does).
    keep_bytes: a larger payload that comes is read away, and `size_of` says how large it was.
    Raises ConfigError when a named file is missing or is not what it should be.
    """
    from paho.mqtt.client import MQTTv5, MQTTv311  # noqa: PLC0415
    from paho.mqtt.enums import CallbackAPIVersion  # noqa: PLC0415

    from edgeannot.mqtt.bounded_client import client_class  # noqa: PLC0415

    address = options.address
    client = client_class()(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id or client_id,
        clean_session=clean_session,
        protocol=MQTTv5 if options.protocol == "5" else MQTTv311,
        transport="websockets" if address.websocket else "tcp",
        reconnect_on_failure=False,
    )
    client.keep_bytes = keep_bytes  # type: ignore[attr-defined] # of no meaning to paho's own
    client.connect_timeout = options.connect_timeout_s
    client.suppress_exceptions = False
    if address.websocket:
        client.ws_set_options(path=address.path)
    if address.tls:
        client.tls_set_context(tls_context(options.ca_file, options.cert_file, options.key_file))
    username = options.username or address.username
    if username:
        password = read_secret("password_file", options.password_file) if options.password_file else None
        client.username_pw_set(username, password)
    if will is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    return client


def connect(client: Client, options: BrokerOptions, **session: Any) -> None:
    """Open the connection and send CONNECT; the broker's answer comes by `on_connect`. Raises LinkError with the cause.

    session: `clean_start` and `properties` of an MQTT 5 session, as paho takes them.
    """
    import ssl  # noqa: PLC0415 - a tenth of the time that `edgeannot --help` may take

    address = options.address
    try:
        client.connect(address.host, address.port, options.keepalive_s, **session)
    except ssl.SSLCertVerificationError as exc:
        raise LinkError(
            f"the certificate of {address} is not trusted ({exc.verify_message}); set ca_file to the authority that signed it"
        ) from exc
    except ssl.SSLError as exc:
        raise LinkError(f"no TLS connection to {address} ({_alert(exc)})") from exc
    except (OSError, ValueError) as exc:  # a host name that cannot be one is a ValueError
        raise LinkError(f"no connection to {address} ({getattr(exc, 'strerror', None) or exc})") from exc


def meaning(reason: ReasonCode, *, doing: Literal["connecting", "writing", "reading"] = "connecting") -> str:
    """Return what a reason code of the broker, or of paho, means to the operator; `doing`: what it is the answer to."""
    code = reason.value
    unknown = f"the broker gives an unknown reason code (0x{code:02X})"
    return _MEANINGS_OF_REFUSALS.get((doing, code)) or _MEANINGS.get(code, unknown)


def loss(client: Client, reason: ReasonCode) -> str:
    """Return why a connection is over: TLS's alert if there is one, else the meaning of the reason code."""
    import ssl  # noqa: PLC0415

    failure = getattr(client, "failure", None)
    return _alert(failure) if isinstance(failure, ssl.SSLError) else meaning(reason)


def _alert(failure: ssl.SSLError) -> str:
    """Return what an alert of TLS means: since TLS 1.3 a client learns only after its handshake that its certificate is not liked."""
    name = failure.reason or str(failure)
    if "CERTIFICATE_REQUIRED" in name or "HANDSHAKE_FAILURE" in name:
        return f"the broker requires a client certificate: set cert_file and key_file ({name})"
    if "ALERT" in name and ("CERTIFICATE" in name or "UNKNOWN_CA" in name):
        return f"the broker refuses the client certificate: check cert_file and key_file ({name})"
    return name


def properties(kind: str, **values: Any) -> Properties:
    """Return MQTT 5 properties of a packet; `kind` as in paho's PacketTypes ("PUBLISH"); values that are None are left out.

    They are packed here, once: paho would do it at each use, which costs more than the rest of a small message.
    """
    from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
    from paho.mqtt.properties import Properties  # noqa: PLC0415

    made = Properties(getattr(PacketTypes, kind))  # type: ignore[no-untyped-call] # paho has not typed it
    for name, value in values.items():
        if value is not None:
            setattr(made, name, value)
    packed = made.pack()  # type: ignore[no-untyped-call] # paho has not typed it
    object.__setattr__(made, "pack", lambda: packed)  # its own __setattr__ takes names of properties only
    return made


def publish(client: Client, message: Message, *, max_qos: int = 2, can_retain: bool = True) -> int:
    """Give a message to paho, whatever comes of it: only an acknowledgement counts. Returns paho's number for it."""
    made = None
    if client.protocol == 5:
        made = _publish_properties(message.content_type, message.expiry_s, message.correlation, message.properties)
    return client.publish(message.topic, message.payload, min(message.qos, max_qos), message.retain and can_retain, made).mid


@lru_cache(maxsize=16)
def _publish_properties(
    content_type: str, expiry_s: int | None, correlation: bytes | None, pairs: tuple[tuple[str, str], ...]
) -> Properties:
    """Remembered: they cost paho more time than the message, and are nearly always the same."""
    return properties(
        "PUBLISH",
        ContentType=content_type,
        PayloadFormatIndicator=1 if content_type == "application/json" else None,
        MessageExpiryInterval=expiry_s,
        CorrelationData=correlation,
        UserProperty=list(pairs) or None,
    )


def publish_all(
    options: BrokerOptions, client_id: str, messages: Iterable[Message], *, window: int = 8, timeout_s: float = 30.0
) -> Iterator[Message]:
    """Send messages over a connection of their own; gives each when the broker has it, in order. None may have QoS 0.

    window: messages on their way without an acknowledgement. Raises LinkError when the broker cannot be reached, refuses one or
    does not answer for `timeout_s`.
    """
    client = new_client(options, client_id)
    answers: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()  # paho's number (0: of the connection), and what is in the way
    client.on_connect = lambda _c, _d, _f, reason, _p: answers.put((0, meaning(reason) if reason.is_failure else ""))
    client.on_publish = lambda _c, _d, mid, reason, _p: answers.put((mid, meaning(reason, doing="writing") if reason.is_failure else ""))
    client.on_disconnect = lambda _c, _d, _f, reason, _p: answers.put((0, loss(client, reason)))
    answered: set[int] = set()

    def wait_for(mid: int) -> None:
        while mid not in answered:
            try:
                number, trouble = answers.get(timeout=timeout_s)
            except queue.Empty:
                trouble = "the broker does not answer"
            if trouble:
                raise LinkError(f"{options.address}: {trouble}")
            answered.add(number)
        answered.discard(mid)  # paho gives the number to another message one day

    connect(client, options)
    client.loop_start()
    try:
        wait_for(0)
        in_flight: deque[tuple[int, Message]] = deque()
        for message in messages:
            if len(in_flight) >= window:
                wait_for(in_flight[0][0])
                yield in_flight.popleft()[1]
            in_flight.append((publish(client, message), message))
        for mid, message in in_flight:
            wait_for(mid)
            yield message
    finally:
        client.disconnect()
        client.loop_stop()


def size_of(message: MQTTMessage) -> tuple[int, bool]:
    """Return the size of a message's payload, and whether it was kept whole: over the client's `keep_bytes` only the beginning is kept."""
    size = getattr(message.payload, "size", None)
    return (len(message.payload), True) if size is None else (size, False)


@lru_cache(maxsize=256)
def is_topic(topic: str) -> bool:
    """Return whether a text is a topic to publish to (MQTT 5.0, 4.7)."""
    try:
        return 0 < len(topic.encode()) <= 65535 and not any(c in topic for c in "+#\0")
    except UnicodeEncodeError:
        return False
