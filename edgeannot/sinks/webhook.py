"""Webhook: the detections of each picture as an HTTP POST, the same JSON that MQTT subscribers get, from a queue of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import Field, field_validator, model_validator

from edgeannot.base.systemd import credential
from edgeannot.payload import detections_payload, encode
from edgeannot.sinks.base import SinkContext
from edgeannot.sinks.durable import DeliveryOptions, DurableSink
from edgeannot.storage.store import Message
from edgeannot.vision.data import Annotation

if TYPE_CHECKING:
    from edgeannot.sinks.http_post import HttpPost

__all__ = ["WebhookOptions", "WebhookSink"]

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE: Final = re.compile(r"[\x20-\x7e]{0,4000}")
_OURS: Final = {"connection", "content-length", "content-type", "host", "idempotency-key", "transfer-encoding", "upgrade"}
_SECRET: Final = re.compile(r"auth|cookie|credential|key|passw|pwd|secret|signature|token", re.IGNORECASE)


class WebhookOptions(DeliveryOptions):
    """Results as HTTP requests."""

    enabled: bool = False
    """Whether results are kept for the server and sent to it."""
    url: str = ""
    """Address to POST to: http:// or https:// (TLS, always verified), host, port, path."""
    headers: dict[str, str] = Field(default={})
    """Headers to send along, such as { X-Site = "barn" }; put secrets into header_files."""
    header_files: dict[str, Path] = Field(default={})
    """Headers whose values stand in files, such as { Authorization = "/etc/edgeannot/webhook-token" } with "Bearer ..." in it; read anew
    at each connection. A bare name, here and in the files below, is that of a systemd credential (LoadCredential=) where the service has
    one of it."""
    ca_file: Path | None = None
    """Certificates (PEM) of the authorities that may vouch for the server; unset: those of the system."""
    cert_file: Path | None = None
    """Certificate (PEM) that this client shows."""
    key_file: Path | None = None
    """Key (PEM, without a passphrase) of cert_file."""
    images: bool = False
    """Also POST the annotated picture as JPEG, as a request of its own."""
    image_quality: int = Field(default=80, ge=1, le=100)
    """JPEG quality of those pictures."""
    image_max_side: int = Field(default=1280, ge=16)
    """Longest side in pixels of those pictures; larger ones are made smaller."""

    @field_validator("url")
    @classmethod
    def _readable(cls, url: str) -> str:
        if url:
            _split(url)
        return url

    @field_validator("headers", "header_files")
    @classmethod
    def _named(cls, headers: dict[str, Any]) -> dict[str, Any]:
        for name in headers:  # it is not repeated: it may be a secret in the wrong place
            if not _NAME.fullmatch(name):
                raise ValueError('wanted names of headers, such as { X-Site = "barn" }, found something else')
            if name.lower() in _OURS:
                raise ValueError(f"the header {name} is set by edgeannot itself: leave it out")
        return headers

    @field_validator("headers")
    @classmethod
    def _open(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if _SECRET.search(name):
                raise ValueError(f"{name} may be a secret, and settings are shown: put it into a file and set header_files")
            if not _VALUE.fullmatch(value):
                raise ValueError(f"the value of {name}: wanted one line of ASCII")
        return headers

    @field_validator("header_files")
    @classmethod
    def _credentials(cls, files: dict[str, Path]) -> dict[str, Path]:
        return {name: credential(path) or path for name, path in files.items()}

    _credential = field_validator("ca_file", "cert_file", "key_file")(credential)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.enabled and not self.url:
            raise ValueError('wanted a url, such as "https://example.org/hook"')
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file: wanted both or neither")
        if (self.ca_file or self.cert_file) and not self.url.startswith("https://"):
            raise ValueError("ca_file and cert_file are for TLS: wanted a URL that begins with https://")
        return self

    @property
    def parts(self) -> SplitResult:
        """Return the parts of the URL."""
        return _split(self.url)


class WebhookSink(DurableSink):
    """Makes a message of each result, and POSTs it."""

    def __init__(self, options: WebhookOptions, context: SinkContext) -> None:
        """Raises ConfigError when a file that the options name is unusable."""
        url = options.parts
        super().__init__("webhook", url._replace(query="").geturl(), options, context)
        self._options = options
        self._post = self._connect(url)

    def _connect(self, url: SplitResult) -> HttpPost:
        from edgeannot.sinks.http_post import HttpPost  # noqa: PLC0415 - loads ssl, a tenth of the time that `edgeannot --help` may take

        options = self._options
        return HttpPost(
            url,
            headers=options.headers,
            header_files=options.header_files,
            tls_files=(options.ca_file, options.cert_file, options.key_file),
            timeout_s=options.timeout_s,
        )

    def write(self, annotation: Annotation) -> Sequence[Message]:
        """Return the messages, to go into the queue."""
        payload = detections_payload(annotation, self._origin)
        messages = [Message(payload["id"], encode(payload), sink=self.name)]
        if self._options.images:
            from edgeannot.vision.draw import annotated_jpeg  # noqa: PLC0415 - loads OpenCV, which reading the settings must not

            jpeg = annotated_jpeg(annotation, self._options.image_quality, self._options.image_max_side)
            about = (("id", payload["id"]), ("captured_at", payload["captured_at"]))
            key = f"{payload['id']}-image"
            messages.append(Message(key, jpeg, "image", content_type="image/jpeg", properties=about, sink=self.name))
        return messages

    def deliver(self, message: Message) -> None:
        """POST one message. Raises AwayError, RejectedError, or ConfigError if a file of the settings is missing."""
        headers = {"Content-Type": message.content_type, "Idempotency-Key": message.key}
        headers |= {f"Edgeannot-{name.replace('_', '-').title()}": value for name, value in message.properties}
        self._post(message.payload, headers)

    def interrupt(self) -> None:
        """Close the connection from another thread; a running request ends with it."""
        self._post.interrupt()

    def close(self) -> None:
        """Close the connection."""
        self._post.close()


def _split(url: str) -> SplitResult:
    """Return the parts of a URL that can be posted to. Raises ValueError, which does not repeat it: it may hold a secret."""
    wanted = "wanted http:// or https://, a host, and no user or #, such as https://example.org/hook"
    if not re.fullmatch(r"[\x21-\x7e]{1,4000}", url):
        raise ValueError(f"{wanted}; found a blank or another character that no URL has")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("wanted a port from 1 to 65535 and a host, found something else") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user in the URL, which is logged and shown: set header_files to a file with the header")
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or "#" in url:
        raise ValueError(f"{wanted}; found something else")
    return parts
