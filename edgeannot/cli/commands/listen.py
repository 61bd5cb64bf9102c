"""What a subscriber sees, as lines for a person or as JSON lines."""

from __future__ import annotations

import queue
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from edgeannot.base.errors import LinkError
from edgeannot.base.foreign import json_text, printable
from edgeannot.mqtt.client import connect, meaning, new_client, size_of
from edgeannot.mqtt.options import BrokerOptions
from edgeannot.payload import SCHEMA, decode, escape_level, unescape_level

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage
    from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["Reader", "listen"]

_REMEMBERED_IDS: Final = 10_000


def _now() -> datetime:
    return datetime.now().astimezone()


@dataclass(slots=True)
class Reader:
    """Turns messages into lines; remembers ids, to tell repeats."""

    prefix: str = "edgeannot"
    json_lines: bool = False
    name_device: bool = False
    """Whether lines say which device a picture comes from."""
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
                yield from self.notice(f"a message on {topic} has {size / 1e6:.0f} MB: it is passed over")
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
                yield self._line("!", f"a message on {topic} is not understood ({exc!r:.80})")

    def notice(self, text: str) -> Iterator[str]:
        """Return a line about the connection itself; none among JSON lines."""
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
        notes += ["a repeat"] if again else []
        notes += [f"schema {payload['schema']}, this listener knows {SCHEMA}"] if payload["schema"] != SCHEMA else []
        device = payload.get("sender", payload)["device"]
        yield self._line(self._where(device, payload["source"]), f"{name}  {found}" + (f"  ({', '.join(notes)})" if notes else ""))

    def _where(self, device: str, source: str) -> str:
        return f"{device}/{source}" if self.name_device else source

    def _line(self, who: str, text: str) -> str:
        # Words in messages come from anywhere: nothing in them may steer the terminal.
        return printable(f"{self.clock():%H:%M:%S} {who}  {text}")


def listen(
    options: BrokerOptions,
    *,
    prefix: str = "edgeannot",
    device: str | None = None,
    json_lines: bool = False,
    count: int | None = None,
) -> Iterator[str]:
    """Yield lines for what `device` (None: every device) publishes, as it comes, for ever or until `count` pictures were seen.

    A broker that goes away later is waited for; raises LinkError when it cannot be reached at first or refuses.
    """
    events: queue.SimpleQueue[Callable[[], Iterator[str]]] = queue.SimpleQueue()
    reader = Reader(prefix, json_lines, device is None)
    client = _subscriber(options, f"{prefix}/{'+' if device is None else escape_level(device)}", reader, events)
    connect(client, options)
    client.loop_start()
    try:
        while count is None or reader.pictures < count:
            yield from events.get()()
    finally:
        client.disconnect()
        client.loop_stop()


def _subscriber(options: BrokerOptions, base: str, reader: Reader, events: queue.SimpleQueue[Callable[[], Iterator[str]]]) -> Client:
    """Return a client that puts what happens into `events`, as functions that give the lines for it, or raise."""
    alone = options.model_copy(update={"client_id": None})  # the daemon may be there under that id
    client = new_client(alone, f"edgeannot-listen-{secrets.token_hex(4)}", reconnects=True)

    def fail(text: str) -> Iterator[str]:
        raise LinkError(f"{options.address}: {text}")

    def on_connect(_client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object) -> None:
        if reason.is_failure:
            events.put(lambda: fail(meaning(reason)))
            return
        client.subscribe([(f"{base}/{leaf}", 1) for leaf in ("status", "info", "+/detections", "+/image")])
        events.put(lambda: reader.notice(f"listening at {options.address} for {base}"))

    def on_subscribe(_client: Client, _data: object, _mid: int, reasons: list[ReasonCode], _properties: object) -> None:
        if all(reason.is_failure for reason in reasons):
            events.put(lambda: fail("the broker does not let this user read: check username, password_file and the broker's access list"))

    def on_disconnect(_client: Client, _data: object, _flags: object, reason: ReasonCode, _properties: object) -> None:
        if reason.is_failure:
            events.put(lambda: reader.notice(f"{meaning(reason)}; trying again"))

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        size, is_whole = size_of(message)
        events.put(lambda: reader.lines(message.topic, bytes(message.payload), None if is_whole else size))

    client.on_connect, client.on_subscribe, client.on_disconnect, client.on_message = on_connect, on_subscribe, on_disconnect, on_message
    return client


def _describe(info: Mapping[str, Any]) -> str:
    model = info["model"]
    sources = ", ".join(f"{source['name']} ({source['kind']})" for source in info["sources"]) or "no source"
    return f"edgeannot {info['version']}, model {model['name']}, profile {model['profile']}; watches {sources}"
