"""A small HTTP server for monitoring: /healthz, /readyz and /metrics. Off unless switched on; for this machine unless set otherwise."""

from __future__ import annotations

import http.server
import logging
import threading
from collections.abc import Callable

from edgeannot.base.errors import ConfigError, LinkError
from edgeannot.daemon.active_model import ActiveModel
from edgeannot.daemon.governor_loop import GovernorLoop
from edgeannot.daemon.monitoring.metrics import CONTENT_TYPE, exposition
from edgeannot.daemon.worker_pool import WorkerPool
from edgeannot.mqtt.publisher import Publisher
from edgeannot.remote.control import Control
from edgeannot.settings import HealthOptions, Loaded

__all__ = ["HealthServer", "serve_health"]

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
_SILENT_S = 60.0
"""As the watchdog of the unit."""
_PLAIN = "text/plain; charset=utf-8"


class HealthServer:
    """Answers in threads of its own; `close` ends it. Raises ConfigError where the address cannot be had."""

    def __init__(self, options: HealthOptions, trouble: Callable[[], str], ready: Callable[[], str], metrics: Callable[[], str]) -> None:
        """trouble, ready: why the daemon is not alive, and why it is not ready; empty where it is. metrics: the page for Prometheus."""
        pages = {"/healthz": trouble, "/readyz": ready}

        class Handler(http.server.BaseHTTPRequestHandler):
            """One request."""

            timeout = _TIMEOUT_S
            server_version = "edgeannot"
            sys_version = ""

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, metrics(), CONTENT_TYPE)
                elif path in pages:
                    why = pages[path]()
                    self._answer(503 if why else 200, f"{why or 'ok'}\n", _PLAIN)
                else:
                    self._answer(404, "wanted /healthz, /readyz or /metrics\n", _PLAIN)

            def _answer(self, code: int, text: str, kind: str) -> None:
                body = text.encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing: it is asked every few seconds."""

        try:
            self._server = http.server.ThreadingHTTPServer((options.address, options.port), Handler)
        except OSError as exc:
            where = f"{options.address} port {options.port}"
            raise ConfigError(f"[health]: wanted to listen on {where}, which fails ({exc.strerror}); set another address or port") from exc
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()
        log.info("monitoring on http://%s:%d/metrics, /healthz and /readyz", options.address, self.port)

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


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
