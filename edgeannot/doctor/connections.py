"""Checks of connections: to the brokers (name, port, certificate, login, a message there and back), and of the ports to listen on."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import secrets
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgeannot.base.connections.http_server import listen_trouble
from edgeannot.base.connections.tls import tls_context
from edgeannot.base.errors import ConfigError, EdgeannotError
from edgeannot.base.places import CONFIG_FOLDER
from edgeannot.doctor.findings import ASK_ROOT, Examined, Finding, fine, problem, warning
from edgeannot.mqtt.client import connect, meaning, new_client, properties
from edgeannot.mqtt.options import BrokerOptions, escape_level
from edgeannot.settings import PageOptions, Settings
from edgeannot.sources import MqttSourceOptions

if TYPE_CHECKING:
    import ssl

__all__ = ["brokers", "ports"]

_Events = queue.SimpleQueue[tuple[str, Any]]

_CONNECT_S = 4.0
_ANSWER_S = 4.0
_SOON_S = 14 * 86400
_EXPIRED, _NOT_YET, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64
"""X509_V_ERR_ of OpenSSL's x509_vfy.h."""
_BYTES_A_PIXEL = 0.25
"""Of a JPEG with many details at quality 80."""


def brokers(examined: Examined) -> Iterator[Finding]:
    """Check each broker from its name to a message that comes back."""
    if examined.settings is None:
        return
    for what, options, topic, largest in _wanted(examined.settings):
        yield from _broker(examined, what, options, topic, largest)


def _wanted(settings: Settings) -> Iterator[tuple[str, BrokerOptions, str, int]]:
    """Yield name, options, a topic to try, and the size of the largest message, in bytes."""
    mqtt = settings.sinks.mqtt
    topic = f"{mqtt.prefix}/{escape_level(settings.device)}/doctor"
    if mqtt.enabled:
        side = mqtt.image_max_side
        yield "broker", mqtt, topic, round(side * side * 0.75 * _BYTES_A_PIXEL) if mqtt.images else 4096
    for name, source in settings.sources.items():
        if isinstance(source, MqttSourceOptions) and (source.broker is not None or mqtt.enabled):
            yield f"broker of {name}", source.broker or mqtt, topic, source.max_mb << 20


def _broker(examined: Examined, what: str, options: BrokerOptions, topic: str, largest: int) -> Iterator[Finding]:
    address, closed = options.address, ""
    for setting in ("ca_file", "cert_file", "key_file", "password_file"):
        path = getattr(options, setting)
        if examined.only_root_can_tell(path):
            closed = f"{setting} {path}"
        elif path is not None and not path.is_file():
            cure = f"correct {setting}, or put the file there"
            if examined.installed and len(path.parts) == 1:
                cure = f"put it at {CONFIG_FOLDER / path} and run {examined.unit.install}, which hands it over to the service"
            yield problem(f"broker-{setting.replace('_', '-')}", what, f"{setting} {path} is not there", cure)
            return
    try:
        connection = socket.create_connection((address.host, address.port), timeout=_CONNECT_S)
    except socket.gaierror:
        cure = f"correct url, or give the broker's address in numbers; `getent hosts {address.host}` shows what is known"
        yield problem("broker-dns", what, f"the name {address.host} is not known", cure)
        return
    except OSError as exc:
        cure = "start the broker (`systemctl status mosquitto`), have it listen there, and correct host and port in url or the firewall"
        yield problem("broker-port", what, f"no connection to {address.host} port {address.port} ({exc.strerror or 'no answer'})", cure)
        return
    if closed:
        connection.close()
        yield fine("broker-closed", what, f"{address} answers; {closed} {ASK_ROOT}")
        return
    with connection:
        found = list(_tls(what, options, connection)) if address.tls else []
    yield from found
    if not any(each.level == "problem" for each in found):
        yield _message(what, options, topic, largest)


def _tls(what: str, options: BrokerOptions, connection: socket.socket) -> Iterator[Finding]:
    import ssl

    address = options.address
    try:
        context = tls_context(options.ca_file, options.cert_file, options.key_file)
    except EdgeannotError as exc:
        yield problem("broker-tls-files", what, str(exc), "correct ca_file, cert_file and key_file")
        return
    try:
        with context.wrap_socket(connection, server_hostname=address.host) as secure:
            ends = ssl.cert_time_to_seconds(str((secure.getpeercert() or {}).get("notAfter", "Jan  1 00:00:00 2099 GMT")))
    except ssl.SSLCertVerificationError as exc:
        yield _certificate(what, address.host, exc)
        return
    except OSError as exc:
        cure = f"use the broker's port for TLS (8883), or mqtt:// without; found at port {address.port}"
        yield problem(
            "broker-tls", what, f"no TLS with {address.host} ({getattr(exc, 'reason', None) or exc.strerror or 'no answer'})", cure
        )
        return
    if ends - time.time() < _SOON_S:
        days = max(0, round((ends - time.time()) / 86400))
        yield warning("broker-certificate-ends", what, f"the certificate of {address.host} ends in {days} days", "renew it at the broker")


def _certificate(what: str, host: str, exc: ssl.SSLCertVerificationError) -> Finding:
    if exc.verify_code == _EXPIRED:
        return problem(
            "broker-certificate-expired", what, f"the certificate of {host} has expired", "renew it at the broker; check the clock here"
        )
    if exc.verify_code == _NOT_YET:
        return problem(
            "broker-certificate-early",
            what,
            f"the certificate of {host} is not valid yet",
            "set the clock here: `timedatectl set-ntp true`",
        )
    if exc.verify_code in (_OTHER_HOST, _OTHER_ADDRESS):
        cure = "put the name that stands in the certificate (subjectAltName) into url, or have a certificate made for this one"
        return problem("broker-certificate-host", what, f"the certificate is another host's than {host} ({exc.verify_message})", cure)
    cure = "set ca_file to the authority that signed it"
    return problem("broker-certificate-untrusted", what, f"the certificate of {host} is not trusted ({exc.verify_message})", cure)


class _StoppedError(Exception):
    """The exchange ends with this finding."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.found)
        self.finding = finding


def _message(what: str, options: BrokerOptions, topic: str, largest: int) -> Finding:
    """Log in under a name of its own, so that a daemon's session is left alone, and send a message of that size to itself."""
    events: _Events = queue.SimpleQueue()
    client = new_client(
        options.model_copy(update={"client_id": None}), f"edgeannot-doctor-{secrets.token_hex(4)}", keep_bytes=largest + 1024
    )
    client.on_connect = lambda _c, _d, _f, reason, given: events.put(("connect", (reason, given)))
    client.on_subscribe = lambda _c, _d, _m, reasons, _p: events.put(("subscribe", reasons))
    client.on_publish = lambda _c, _d, _m, reason, _p: events.put(("publish", reason))
    client.on_message = lambda _c, _d, message: events.put(("message", len(message.payload)))
    client.on_disconnect = lambda _c, _d, _f, reason, _p: events.put(("disconnect", reason))
    deadline = time.monotonic() + _ANSWER_S
    try:
        connect(client, options)
        client.loop_start()
        _log_in(what, options, largest, _next(events, deadline))
        client.subscribe(topic, 1)
        kind, value = _next(events, deadline)
        if kind == "subscribe" and any(each.is_failure for each in value):
            said = f"{options.address}: {meaning(value[0], doing='reading')} ({topic})"
            return problem("broker-read", what, said, "let this user read there (the broker's access list)")
        body = os.urandom(min(largest, 2 << 20))
        client.publish(topic, body, 1, properties=properties("PUBLISH", MessageExpiryInterval=10) if options.protocol == "5" else None)
        _await(what, options, topic, largest, events, deadline)
    except EdgeannotError as exc:
        return problem("broker-connection", what, str(exc), "check url and the broker's log")
    except _StoppedError as exc:
        return exc.finding
    finally:
        client.disconnect()
        client.loop_stop()
    return fine("broker", what, f"{options.address}: logged in; a message of {len(body) // 1024} KB came back")


def _log_in(what: str, options: BrokerOptions, largest: int, event: tuple[str, Any]) -> None:
    kind, value = event
    if kind != "connect":
        said = f"{options.address} does not answer as an MQTT broker"
        raise _StoppedError(problem("broker-silent", what, said, "check host and port in url, and the broker's log"))
    reason, given = value
    if reason.is_failure:
        raise _StoppedError(problem("broker-login", what, f"{options.address}: {meaning(reason)}", _LOGIN))
    limit = getattr(given, "MaximumPacketSize", None)
    if limit is not None and limit < largest:
        raise _StoppedError(_too_large(what, limit, largest))


def _await(what: str, options: BrokerOptions, topic: str, largest: int, events: _Events, deadline: float) -> None:
    """Wait until the message is acknowledged and has come back."""
    seen: set[str] = set()
    while not {"publish", "message"} <= seen:
        kind, value = _next(events, deadline)
        if kind == "publish" and value.is_failure:
            if value.value == _TOO_LARGE:
                raise _StoppedError(_too_large(what, None, largest))
            said = f"{options.address}: {meaning(value, doing='writing')} ({topic})"
            raise _StoppedError(problem("broker-write", what, said, "let this user write there (the broker's access list)"))
        if kind in ("", "disconnect"):
            if largest > _PLAIN:  # a broker may also throw away what is too large, or end the connection
                raise _StoppedError(_too_large(what, None, largest))
            cure = "let this user read and write there (the broker's access list)"
            raise _StoppedError(problem("broker-no-message", what, f"{options.address}: a message to {topic} does not come back", cure))
        seen.add(kind)


_LOGIN = "correct username and the file of password_file; at mosquitto: `mosquitto_passwd FILE NAME`, then reload it"
_TOO_LARGE = 0x95
_PLAIN = 8192


def _too_large(what: str, limit: int | None, largest: int) -> Finding:
    said = f"a limit of {limit // 1024} KB a message" if limit is not None else "a limit below that"
    cure = "raise it (mosquitto: max_packet_size, message_size_limit), or lower image_max_side, image_quality or max_mb"
    return problem("broker-packet-limit", what, f"pictures may have {largest // 1024} KB, and the broker has {said}", cure)


def _next(events: _Events, deadline: float) -> tuple[str, Any]:
    try:
        return events.get(timeout=max(0.05, deadline - time.monotonic()))
    except queue.Empty:
        return "", None


_ANSWER_S = 2.0


def ports(examined: Examined) -> Iterator[Finding]:
    """Check that the addresses can be had, or that edgeannot has them, and that the page's token can be used."""
    settings = examined.settings
    if settings is None:
        return
    for what, name, options in (("live page", "page", settings.page), ("monitoring", "health", settings.health)):
        if not options.enabled:
            continue
        found = f"{options.address} port {options.port}"
        if options.port and _is_ours(options.address, options.port):
            yield fine(f"{name}-port", what, f"edgeannot answers on {found}")
        elif why := listen_trouble(options.address, options.port):
            yield problem(f"{name}-port", what, f"cannot listen on {found} ({why})", f"set another address or port in [{name}]")
        else:
            yield fine(f"{name}-port", what, f"{found} is free")
    if settings.page.enabled and settings.page.token_file is not None:
        yield _token(examined, settings.page)


def _is_ours(address: str, port: int) -> bool:
    """Return whether an edgeannot answers there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - to ask there, not to listen
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection(host, port, timeout=_ANSWER_S)) as connection,
    ):
        connection.request("GET", "/login")
        return (connection.getresponse().headers.get("Server") or "").startswith("edgeannot")
    return False


def _token(examined: Examined, options: PageOptions) -> Finding:
    path = options.token_file
    if examined.only_root_can_tell(path):
        return fine("page-token", "token of the page", f"{path} {ASK_ROOT}")
    assert path is not None  # noqa: S101 - whoever calls looked
    what = "token of the page"
    if len(path.parts) == 1 and not path.is_file():  # of the service, which systemd reads as root
        path = CONFIG_FOLDER / path
    cure = f"make one with `openssl rand -hex 24 > {path}`"
    try:
        options.model_copy(update={"token_file": path}).read_token()
    except ConfigError as exc:
        return problem("page-token", what, str(exc), cure)
    return fine("page-token", what, f"{path}")
