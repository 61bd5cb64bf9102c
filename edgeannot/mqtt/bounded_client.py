"""paho's client with a bound on what it keeps of a message that comes, and with its own reading of acknowledgements.

paho gathers a packet in memory until it is whole, however large it is: anyone who may publish could fill the memory. `BoundedClient`
reads a message over its limit away in pieces, and hands on the beginning with its size, so that it is acknowledged and answered like
any other.

For each acknowledgement paho builds two tables of what MQTT 5 knows, which takes a quarter of the time of sending a small message
(docs/design.md has the figure), and it hangs up at a reason that is not in them.

All these places are methods that begin with an underscore, so a later paho may have others: then `client_class` gives paho's own.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["BoundedClient", "LeftOut", "client_class"]

_READ_BYTES: Final = 65536
_HEAD_BYTES: Final = 2 * 65536
"""Kept of a packet that is too large: topic (up to 64 KB), number and properties, unless those are absurd themselves."""
_SHOWN_BYTES: Final = 64
"""Kept of its payload: enough to tell a picture from a text."""
_PUBLISH: Final = 0x30

_SUCCESS: Final = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES: Final = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call] # paho has not typed it


class LeftOut(bytes):
    """The first bytes of a payload that was not kept."""

    size: int = 0
    """Bytes of the whole, roughly: what a broker calls the length of the packet, less the topic's."""


class _Kept(bytearray):
    """What is kept of the packet that a client reads."""

    def __init__(self, client: BoundedClient) -> None:
        super().__init__()
        self._client = client
        self.left_out = 0

    def __iadd__(self, data: Any) -> _Kept:  # type: ignore[misc] # paho gives bytes
        facts = self._client._in_packet
        is_large = facts["command"] & 0xF0 == _PUBLISH and facts["remaining_length"] > self._client.keep_bytes + _HEAD_BYTES
        fits = max(0, _HEAD_BYTES - len(self)) if is_large else len(data)
        self.left_out += max(0, len(data) - fits)
        self.extend(data[:fits])
        return self


class BoundedClient(Client):
    """A payload of more than `keep_bytes`, and a little, comes as `LeftOut`; acknowledgements are read quickly, whatever their reason."""

    keep_bytes: int = 16 * 2**20
    failure: OSError | None = None
    """What ended the connection, where the system or TLS said it; paho only tells that it is over."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._left_out: dict[int, LeftOut] = {}
        """By number of the message (0 at QoS 0): at QoS 2 it is handed on two packets later."""
        super().__init__(*args, **options)

    def _sock_recv(self, bufsize: int) -> bytes:
        try:
            return super()._sock_recv(min(bufsize, _READ_BYTES))  # it makes room for all that is asked for
        except BlockingIOError:
            raise
        except OSError as exc:
            self.failure = exc
            raise

    def _packet_read(self) -> MQTTErrorCode:
        if not isinstance(self._in_packet["packet"], _Kept):
            self._in_packet["packet"] = _Kept(self)
        return super()._packet_read()

    def _handle_publish(self) -> MQTTErrorCode:
        kept = self._in_packet["packet"]
        if isinstance(kept, _Kept) and kept.left_out:
            head, number, payload = _head(kept, self._in_packet["command"], has_properties=self._protocol == MQTTv5)
            self._left_out[number] = shown = LeftOut(payload[:_SHOWN_BYTES])
            shown.size = len(payload) + kept.left_out
            self._in_packet["packet"] = bytearray(head)
        return super()._handle_publish()

    def _handle_on_message(self, message: MQTTMessage) -> None:
        message.payload = self._left_out.pop(message.mid, message.payload)
        super()._handle_on_message(message)

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        # MQTT 5.0, 3.4.2: two bytes are a success; a third is the reason, of which those below 0x80 are successes, too.
        code = packet[2] if len(packet) > 2 else 0
        if len(packet) < 2 or (len(packet) > 3 and code < 0x80):
            return super()._handle_pubackcomp(cmd)
        return self._answered(packet, code)

    def _handle_pubrec(self) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        if len(packet) > 2 and packet[2] >= 0x80:  # 3.5.2.1: the message is refused, and nothing follows; paho goes on
            return self._answered(packet, packet[2])
        return super()._handle_pubrec()

    def _answered(self, packet: bytearray, code: int) -> MQTTErrorCode:
        """Handle the acknowledgement or refusal of a message. paho ends the connection at a reason that it does not expect there, such as
        mosquitto's 0x95 (packet too large) in a PUBACK: the message would come again and again."""
        mid = int.from_bytes(packet[:2], "big")
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, _failure(code) if code >= 0x80 else _SUCCESS, _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def _failure(code: int) -> ReasonCode:
    reason = ReasonCode(PacketTypes.PUBACK)
    reason.value = code  # its own ways to set it refuse those that are not in its table
    return reason


def _head(kept: bytearray, command: int, *, has_properties: bool) -> tuple[bytes, int, bytes]:
    """Return a PUBLISH without its payload, the number of the message, and what was kept of its payload (MQTT 5.0, 3.3).

    Properties that are not there as a whole are left out as well.
    """
    place = 2 + int.from_bytes(kept[:2], "big")
    number = 0
    if command & 0x06:
        number = int.from_bytes(kept[place : place + 2], "big")
        place += 2
    if not has_properties:
        return bytes(kept[:place]), number, bytes(kept[place:])
    length = shift = 0
    for used, byte in enumerate(kept[place : place + 4], 1):  # a variable byte integer
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if (end := place + used + length) <= len(kept):
                return bytes(kept[:end]), number, bytes(kept[end:])
            break
    return bytes(kept[:place]) + b"\0", number, b""


def client_class() -> type[Client]:
    """Return the class to make clients of: paho's own where a later paho has other methods within."""
    used = ("_sock_recv", "_packet_read", "_handle_publish", "_handle_on_message", "_handle_pubackcomp", "_handle_pubrec", "_do_on_publish")
    return BoundedClient if all(hasattr(Client, name) for name in used) else Client
