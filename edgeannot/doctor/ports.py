"""Check of what the daemon listens on: the live page and the monitoring."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator

from edgeannot.base.errors import ConfigError
from edgeannot.doctor.findings import Examined, Finding, fine, problem
from edgeannot.http_server import listen_trouble
from edgeannot.service.units import CONFIG_FOLDER
from edgeannot.settings import PageOptions

__all__ = ["ports"]

_ANSWER_S = 2.0


def ports(examined: Examined) -> Iterator[Finding]:
    """Check that the addresses can be had, or that edgeannot has them, and that the page's token can be used."""
    settings = examined.settings
    if settings is None:
        return
    for what, name, options in (("live page", "page", settings.page), ("monitoring", "health", settings.health)):
        if not options.enabled:
            continue
        found = f"{options.address} port {options.port}"
        if options.port and _is_ours(options.address, options.port):
            yield fine(f"{name}-port", what, f"edgeannot answers on {found}")
        elif why := listen_trouble(options.address, options.port):
            yield problem(f"{name}-port", what, f"cannot listen on {found} ({why})", f"set another address or port in [{name}]")
        else:
            yield fine(f"{name}-port", what, f"{found} is free")
    if settings.page.enabled and settings.page.token_file is not None:
        yield _token(examined, settings.page)


def _is_ours(address: str, port: int) -> bool:
    """Return whether an edgeannot answers there."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - to ask there, not to listen
    with (
        contextlib.suppress(OSError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection(host, port, timeout=_ANSWER_S)) as connection,
    ):
        connection.request("GET", "/login")
        return (connection.getresponse().headers.get("Server") or "").startswith("edgeannot")
    return False


def _token(examined: Examined, options: PageOptions) -> Finding:
    path = options.token_file
    assert path is not None  # noqa: S101 - whoever calls looked
    what, is_credential = "token of the page", len(path.parts) == 1 and not path.is_file()
    if is_credential:  # of the service, which systemd reads as root
        path = CONFIG_FOLDER / path
    cure = f"make one with `openssl rand -hex 24 > {path}`"
    try:
        options.model_copy(update={"token_file": path}).read_token()
    except ConfigError as exc:
        return problem("page-token", what, str(exc), cure)
    if not is_credential and not examined.who.may(path, "r"):
        return problem("page-token-right", what, f"{examined.who.name} may not read {path}", f"let it: `setfacl -m u:edgeannot:r {path}`")
    return fine("page-token", what, f"{path}")
