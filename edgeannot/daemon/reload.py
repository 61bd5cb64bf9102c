"""A configuration that is read again while the daemon runs: SIGHUP asks, the main thread looks, a wrong one changes nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.systemd import REFUSED, Notifier
from edgeannot.settings import Loaded

__all__ = ["Reload"]

log = logging.getLogger(__name__)

_STATUS_LETTERS = 600


class Reload:
    """What was asked for, and the configuration that is to take over. `ask` is for a signal's handler, the rest for the main thread."""

    def __init__(self, load: Callable[[], Loaded], notifier: Notifier) -> None:
        self._load = load
        self._notifier = notifier
        self._asked = threading.Event()
        self._loaded: Loaded | None = None
        self.trouble = ""
        """Why the newest configuration is not the one in force; empty where it is."""

    def ask(self) -> None:
        """Have the configuration read at the next tick."""
        self._asked.set()

    def tick(self) -> bool:
        """Read the configuration if that was asked for; True if this run is to end for a new one. Feeds the watchdog for the change."""
        if not self._asked.is_set():
            return False
        self._asked.clear()
        self._notifier.send(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000), WATCHDOG="1")
        try:
            self._loaded = self._load()
        except EdgeannotError as exc:
            self.refused(exc)
            self._notifier.send(READY="1")
            return False
        self.trouble = ""
        log.info("the configuration was read again; starting over with it")
        return True

    def refused(self, exc: EdgeannotError) -> None:
        """Say that the new configuration cannot be used; `systemctl reload` itself ends well."""
        self.trouble = f"{REFUSED}: {exc}"
        log.error("%s", self.trouble)
        self._notifier.send(STATUS=self.status)

    @property
    def status(self) -> str:
        """Return the trouble as systemd takes it: one line, and not longer than a notification may be."""
        return " ".join(self.trouble.split())[:_STATUS_LETTERS]

    def take(self) -> Loaded | None:
        """Return the configuration that is to take over, once; None where there is none."""
        loaded, self._loaded = self._loaded, None
        return loaded
