"""What monitors ask over HTTP: /healthz, /readyz and /metrics. Off unless switched on; for this machine unless set otherwise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgeannot.base.errors import LinkError
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.governor_loop import GovernorLoop
from edgeannot.daemon.monitoring.metrics import CONTENT_TYPE, exposition
from edgeannot.daemon.worker_pool import WorkerPool
from edgeannot.mqtt.publisher import Publisher
from edgeannot.remote.control import Control
from edgeannot.settings import HealthOptions, Loaded

if TYPE_CHECKING:
    from edgeannot.base.connections.http_server import Reply, Request

__all__ = ["HealthServer", "serve_health"]

log = logging.getLogger(__name__)

_SILENT_S = 60.0
"""As the watchdog of the unit."""


class HealthServer:
    """Answers monitors; `close` ends it. Raises ConfigError where the address cannot be had."""

    def __init__(self, options: HealthOptions, trouble: Callable[[], str], ready: Callable[[], str], metrics: Callable[[], str]) -> None:
        """trouble, ready: why the daemon is not alive, and why it is not ready; empty where it is. metrics: the page for Prometheus."""
        from edgeannot.base.connections.http_server import Reply, Server, is_known, own_names  # noqa: PLC0415 - 1 MB, if on

        pages = {"/healthz": trouble, "/readyz": ready}
        # A stranger's page whose name was made to point here gets nothing. On other addresses monitors ask by names that nobody knows here.
        names = own_names() if options.is_local else None

        def answer(request: Request) -> Reply:
            host = request.headers.get("host")  # a probe may leave it out, a browser does not
            if names is not None and host is not None and not is_known(host, names):
                return Reply(403, b"this name is not known here: ask by the machine's name or address\n")
            if request.method == "GET" and request.path == "/metrics":
                return Reply(200, metrics().encode(), CONTENT_TYPE)
            if request.method == "GET" and request.path in pages:
                why = pages[request.path]()
                return Reply(503 if why else 200, f"{why or 'ok'}\n".encode())
            return Reply(404, b"wanted /healthz, /readyz or /metrics\n")

        self._server = Server("health", options.address, options.port, answer)
        self.port = self._server.port
        self.close = self._server.close
        log.info("monitoring on http://%s:%d/metrics, /healthz and /readyz", options.address, self.port)


def serve_health(
    loaded: Loaded,
    pool: WorkerPool,
    active_model: ActiveModel,
    governor_loop: GovernorLoop,
    control: Control,
    publisher: Publisher | None,
) -> Callable[[], None]:
    """Start the server if it is switched on; return what ends it. Raises ConfigError where the address cannot be had."""
    if not loaded.settings.health.enabled:
        return lambda: None

    def trouble() -> str:
        silence_s, name = pool.heartbeats.silence_s()
        return f"no heartbeat of {name} for {silence_s:.0f} s" if silence_s > _SILENT_S else ""

    def ready() -> str:
        return trouble() or ("paused" if control.now().paused else "") or ("" if active_model.card else "no model")

    def metrics() -> str:
        try:
            figures = pool.figures()
        except LinkError:  # the disk is not available: counts and times are told all the same
            figures = pool.telemetry.snapshot()
        return exposition(
            {**figures, **governor_loop.figures()},
            pool.telemetry.distributions,
            profile=loaded.profile,
            connections=publisher.connections if publisher else None,
        )

    return HealthServer(loaded.settings.health, trouble, ready, metrics).close
