"""TLS of our connections to others: verified, always, by the system's authorities or by those that the settings name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from edgeannot.base.errors import ConfigError
from edgeannot.base.systemd import read_advice

if TYPE_CHECKING:
    import ssl

__all__ = ["tls_context"]


def tls_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Return verified TLS 1.2 or later: the chain and the host name are always checked.

    Raises ConfigError where a file cannot be used; it calls the file by the setting of the same name.
    """
    import ssl  # noqa: PLC0415 - a tenth of the time that `edgeannot --help` may take

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:  # ssl.SSLError is one
        advice = _advice(exc, ca_file=ca_file)
        raise ConfigError(f"ca_file {ca_file} cannot be used ({_why(exc)}); wanted certificates in PEM form{advice}") from exc
    context.sslsocket_class = _closed_on_failure()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 and later want extensions (RFC 5280) that authorities of one's own often lack; they were good before.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if cert_file is not None:
        try:
            context.load_cert_chain(cert_file, key_file, password=lambda: "")
        except OSError as exc:
            advice = _advice(exc, cert_file=cert_file, key_file=key_file)
            raise ConfigError(f"cert_file {cert_file} with key_file {key_file} cannot be used ({_why(exc)}){advice}") from exc
    return context


def _closed_on_failure() -> type[ssl.SSLSocket]:
    """Return a socket class that is closed where no handshake comes about; CPython and paho leave that to the garbage collector."""
    import ssl  # noqa: PLC0415 - as above

    class Socket(ssl.SSLSocket):
        def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:  # CPython looks before the handshake whether something was sent
            try:
                return super().recv(buflen, flags)
            except ConnectionResetError:
                if self.version() is None:
                    self.close()
                raise

        def do_handshake(self, block: bool = False) -> None:
            try:
                super().do_handshake(block)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):  # it goes on
                raise
            except (OSError, ValueError):
                self.close()
                raise

    return Socket


def _advice(exc: OSError, **files: Path | None) -> str:
    """For the first of the files, by their settings, that cannot be opened: TLS does not say which it was."""
    shut = ((name, path) for name, path in files.items() if path is not None and not os.access(path, os.R_OK))
    return next((read_advice(name, path, exc) for name, path in shut), "")


def _why(exc: OSError) -> str:
    return getattr(exc, "reason", None) or exc.strerror or str(exc)
