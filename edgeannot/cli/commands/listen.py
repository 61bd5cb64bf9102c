"""`edgeannot listen`: print received results as text or as JSON lines."""

from __future__ import annotations

import contextlib
import queue
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from edgeannot.base.errors import ConfigError, LinkError
from edgeannot.base.foreign import json_text, printable
from edgeannot.base.options import wanted
from edgeannot.mqtt.incoming import IncomingMessage
from edgeannot.mqtt.options import BrokerOptions, SessionOptions, escape_level, unescape_level
from edgeannot.mqtt.subscriber import Subscriber
from edgeannot.payload import SCHEMA, decode

__all__ = ["Reader", "broker_options", "listen"]

_REMEMBERED_IDS: Final = 10_000
_WINDOW: Final = 64
"""Messages that the broker may send before the first is acknowledged."""
_TICK_S: Final = 0.1
"""How often the state of the connection is looked at."""


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(slots=True)
class Reader:
    """Turns messages into lines; remembers ids, to tell repeats."""

    prefix: str = "edgeannot"
    json_lines: bool = False
    name_device: bool = False
    """Whether lines name the device of a picture."""
    clock: Callable[[], datetime] = _now
    pictures: int = 0
    """Detections seen, repeats not counted."""
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    def lines(self, topic: str, payload: bytes, size: int | None = None) -> Iterator[str]:
        """Return the lines for one message: none, or one. size: that of a payload of which only the beginning was kept."""
        device, _, leaf = topic.removeprefix(f"{self.prefix}/").partition("/")
        source, _, kind = leaf.rpartition("/")
        try:
            if size is not None and kind != "image":
                yield from self.notice(f"a message on {topic} ignored: {size / 1e6:.0f} MB is too large")
            elif kind == "detections":
                yield from self._detections(decode(payload))
            elif self.json_lines:
                return
            elif leaf == "status":
                yield self._line(unescape_level(device), f"is {decode(payload)['state']}")
            elif leaf == "info":
                yield self._line(unescape_level(device), _describe(decode(payload)))
            elif kind == "image":
                yield self._line(
                    self._where(unescape_level(device), unescape_level(source)),
                    f"annotated picture, {(size or len(payload)) / 1000:.0f} kB",
                )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            if not self.json_lines:
                yield self._line("!", f"a message on {topic} cannot be read ({exc!r:.80})")

    def notice(self, text: str) -> Iterator[str]:
        """Yield a line about the connection itself; none for JSON lines."""
        if not self.json_lines:
            yield self._line("!", text)

    def _detections(self, payload: Mapping[str, Any]) -> Iterator[str]:
        again = payload["id"] in self._seen
        self._seen[payload["id"]] = None
        if len(self._seen) > _REMEMBERED_IDS:
            self._seen.popitem(last=False)
        self.pictures += not again
        if self.json_lines:
            yield json_text(payload)
            return
        found = "  ".join(f"{item['label']} {item['score']:.2f}" for item in payload["detections"]) or "nothing found"
        name = payload["image"]["path"] or f"#{payload['seq']}"
        notes = [f"{payload['timing_ms']['total']:.0f} ms"] if "total" in payload["timing_ms"] else []
        notes += ["repeat"] if again else []
        notes += [f"schema {payload['schema']}, this version reads {SCHEMA}"] if payload["schema"] != SCHEMA else []
        device = payload.get("sender", payload)["device"]
        yield self._line(self._where(device, payload["source"]), f"{name}  {found}" + (f"  ({', '.join(notes)})" if notes else ""))

    def _where(self, device: str, source: str) -> str:
        return f"{device}/{source}" if self.name_device else source

    def _line(self, who: str, text: str) -> str:
        # Text in messages is untrusted: it must not send control codes to the terminal.
        return printable(f"{self.clock():%H:%M:%S} {who}  {text}")


def listen(
    options: BrokerOptions,
    *,
    prefix: str = "edgeannot",
    device: str | None = None,
    json_lines: bool = False,
    count: int | None = None,
) -> Iterator[str]:
    """Yield lines for the messages of `device` (None: every device), for ever or until `count` pictures were seen.

    A broker that goes away later is waited for; raises LinkError when it cannot be reached at first, or refuses then.
    """
    base = f"{prefix}/{'+' if device is None else escape_level(device)}"
    reader = Reader(prefix, json_lines, device is None)
    came: queue.SimpleQueue[IncomingMessage] = queue.SimpleQueue()

    def take(incoming: IncomingMessage) -> None:
        incoming.finish()
        came.put(incoming)

    filters = tuple((f"{base}/{leaf}", 1) for leaf in ("status", "info", "+/detections", "+/image"))
    session = SessionOptions(filters=filters, needs_all_filters=False, window=_WINDOW)
    own_id = f"edgeannot-listen-{secrets.token_hex(4)}"  # the daemon may be there under the client_id of the settings
    subscriber = Subscriber(options, own_id, session, take)
    subscriber.start()
    try:
        while not subscriber.online:
            if subscriber.trouble:
                raise LinkError(subscriber.trouble)
            time.sleep(_TICK_S)
        trouble: str | None = None
        while count is None or reader.pictures < count:
            if subscriber.trouble != trouble:
                trouble = subscriber.trouble
                yield from reader.notice(f"{trouble}; trying again" if trouble else f"listening at {options.address} for {base}")
            with contextlib.suppress(queue.Empty):
                incoming = came.get(timeout=_TICK_S)
                yield from reader.lines(incoming.topic, incoming.payload, incoming.size)
    finally:
        subscriber.close()


def broker_options(**given: Any) -> BrokerOptions:
    """Return the options of the command line. Raises ConfigError with what is wrong with the first of them."""
    try:
        return BrokerOptions.model_validate(given)
    except ValidationError as exc:
        raise ConfigError(f"the broker's address: {wanted(exc.errors()[0])}") from exc


def _describe(info: Mapping[str, Any]) -> str:
    model = info["model"]
    sources = ", ".join(f"{source['name']} ({source['kind']})" for source in info["sources"]) or "no source"
    return f"edgeannot {info['version']}, model {model['name']}, profile {model['profile']}; watches {sources}"
