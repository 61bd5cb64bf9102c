"""paho's client, quicker in the two places where a backlog spends its time. For a caller that runs the loop itself (`Session.turn`).

For each packet paho asks the system for one byte, for one byte more, and for the rest; and for each acknowledgement it builds two
tables of what MQTT 5 knows. A third of the time of sending a small message goes there. Both places are methods that begin with an
underscore, so a later paho may have others: then `client_class` gives paho's own, and only the speed is less.
"""

from __future__ import annotations

from typing import Final, Literal

from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

__all__ = ["QuickClient", "client_class"]

_READ_BYTES: Final = 65536

_SUCCESS: Final = ReasonCode(PacketTypes.PUBACK)
_NO_PROPERTIES: Final = Properties(PacketTypes.PUBACK)  # type: ignore[no-untyped-call] # paho has not typed it


class QuickClient(Client):
    """Reads ahead: `has_input` says whether more can be read although the socket has nothing."""

    _ahead: memoryview = memoryview(b"")
    failure: OSError | None = None
    """What ended the connection, where the system or TLS said it; paho only tells that it is over."""

    @property
    def has_input(self) -> bool:
        """Whether bytes are here that were read and not looked at."""
        return len(self._ahead) > 0

    def _sock_recv(self, bufsize: int) -> bytes:
        if not self._ahead:
            try:
                self._ahead = memoryview(super()._sock_recv(max(bufsize, _READ_BYTES)))
            except BlockingIOError:
                raise
            except OSError as exc:
                self.failure = exc
                raise
        data, self._ahead = bytes(self._ahead[:bufsize]), self._ahead[bufsize:]
        return data

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        # MQTT 5.0, 3.4.2: two bytes are a success; a third is the reason, of which those below 0x80 are successes, too.
        if len(packet) not in {2, 3} or (len(packet) == 3 and packet[2] >= 0x80):
            return super()._handle_pubackcomp(cmd)
        mid = int.from_bytes(packet[:2], "big")
        with self._out_message_mutex:
            if mid in self._out_messages:
                return self._do_on_publish(mid, _SUCCESS, _NO_PROPERTIES)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def client_class(*, websocket: bool) -> type[Client]:
    """The class to make clients of: paho's own for WebSockets, which have their own frames, and where paho is another."""
    used = ("_sock_recv", "_handle_pubackcomp", "_do_on_publish")
    return QuickClient if not websocket and all(hasattr(Client, name) for name in used) else Client
