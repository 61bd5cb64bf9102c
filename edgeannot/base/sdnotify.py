"""Talk to systemd: readiness, status and the watchdog, over the socket that it names (sd_notify(3)).

The protocol is one datagram of `KEY=VALUE` lines; a library would be longer than this file.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from edgeannot.base.foreign import as_int

__all__ = ["Notifier"]


class Notifier:
    """Sends to systemd where it listens; does nothing anywhere else."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        microseconds = as_int(usec)
        mine = not pid or pid == str(os.getpid())
        self.watchdog_s: float | None = microseconds / 1e6 if microseconds and mine else None
        """Seconds without a sign of life after which systemd restarts the service; None: no watchdog."""

    def send(self, **fields: str) -> None:
        """Send fields such as READY="1" or STATUS="12 pictures"; never raises: systemd being deaf must not stop the work."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in fields.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.connect(self._address)
                channel.sendall(text.encode())
        except OSError:
            return
