"""The live page as one part of a run: its feed is a sink, its server answers browsers.

What it needs is loaded where it is switched on: with the HTTP server it takes 2 MB that most runs do not need.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from edgeannot.daemon.page.figures import Shown
from edgeannot.remote.command_handler import CommandHandler
from edgeannot.settings import PageOptions
from edgeannot.sinks import Sink

__all__ = ["LivePage"]

log = logging.getLogger(__name__)

_MOST_CONNECTIONS: Final = 32


class LivePage:
    """The page of one run, or none where it is switched off: `sinks` are to be added to the others, `serve` begins to answer."""

    def __init__(self, options: PageOptions, *, off: bool = False) -> None:
        """off: whatever the options say, as beside another daemon that has the port. Raises ConfigError for a token that cannot be used."""
        self._options = options
        self._on = options.enabled and not off
        self._token = options.read_token() if self._on else None
        self.sinks: list[Sink] = []
        if self._on:
            from edgeannot.daemon.page.feed import Feed  # noqa: PLC0415 - as the module says

            self._feed = Feed(options.max_fps)
            self.sinks.append(self._feed)

    def serve(self, shown: Shown, handler: CommandHandler | None) -> Callable[[], None]:
        """Start listening, and return what ends it. Raises ConfigError where the address cannot be had."""
        if not self._on:
            return lambda: None
        from edgeannot.base.connections.http_server import Server  # noqa: PLC0415
        from edgeannot.daemon.page.access import Access  # noqa: PLC0415 - as the module says
        from edgeannot.daemon.page.site import Site  # noqa: PLC0415

        options, feed = self._options, self._feed
        access = Access(self._token, options.port, options.hosts)
        site = Site(feed, access, handler.ask if handler is not None and options.controls else None)
        server = Server("page", options.address, options.port, site.answer, most=_MOST_CONNECTIONS)
        feed.start(shown.figures)
        where = f"[{options.address}]" if ":" in options.address else options.address
        log.info("live page on http://%s:%d/%s", where, server.port, ", with a login" if access.locked else "")

        def close() -> None:
            server.close()
            feed.close()

        return close
