"""`edgeannot send`: send picture files to a broker, as a camera without a model would."""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from edgeannot.base.errors import ConfigError, InputError, MissingError
from edgeannot.base.foreign import number_of
from edgeannot.cli.commands.listen import broker_options
from edgeannot.mqtt.client import is_topic, publish_all
from edgeannot.mqtt.options import BrokerOptions, escape_level
from edgeannot.payload import rfc3339
from edgeannot.storage.store import Message
from edgeannot.vision.picture_header import begins_as_picture

__all__ = ["Parcel", "deliver", "parcels", "send_app"]

send_app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class Parcel:
    """One picture to be sent."""

    path: Path
    id: str
    captured_at: datetime


def parcels(files: Iterable[Path], run: str) -> Iterator[Parcel]:
    """Yield a parcel for each file, and for each picture in each folder, by name; ids are unique to `run`.

    Raises MissingError where a file is not there, InputError where one named is no picture.
    """
    number = 0
    for given in files:
        if not given.exists():
            raise MissingError(f"no file or folder at {given}")
        inside = given.is_dir()
        for path in sorted(given.iterdir()) if inside else [given]:
            if not path.is_file() or not _is_picture(path):
                if not inside:
                    raise InputError(f"{path} is not a picture")
                continue
            yield Parcel(path, f"{run}-{number:06d}", datetime.fromtimestamp(path.stat().st_mtime, UTC))
            number += 1


def deliver(
    options: BrokerOptions, topic: str, device: str, pictures: Iterable[Parcel], timeout_s: float = 30.0
) -> Iterator[tuple[Parcel, int]]:
    """Send pictures with QoS 1; yield each with its size in bytes once the broker has acknowledged it, in order.

    Raises LinkError when the broker cannot be reached, refuses a picture or does not answer for `timeout_s`.
    """
    on_their_way: deque[Parcel] = deque()

    def messages() -> Iterator[Message]:
        for parcel in pictures:
            on_their_way.append(parcel)
            yield _message(topic, device, parcel)

    for message in publish_all(options, f"edgeannot-send-{secrets.token_hex(4)}", messages(), timeout_s=timeout_s):
        yield on_their_way.popleft(), len(message.payload)


def _message(topic: str, device: str, parcel: Parcel) -> Message:
    try:
        data = parcel.path.read_bytes()
    except OSError as exc:
        raise InputError(f"{parcel.path} cannot be read: {exc.strerror}") from exc
    kind = "image/png" if parcel.path.suffix.lower() == ".png" else "image/jpeg"
    pairs = (("id", parcel.id), ("captured_at", rfc3339(parcel.captured_at)), ("device", device))
    return Message(topic, data, "image", content_type=kind, properties=pairs)


def _is_picture(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return begins_as_picture(file.read(16))
    except OSError as exc:
        raise InputError(f"{path} cannot be read: {exc.strerror}") from exc


@send_app.command()
def send(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Pictures, or folders of pictures.")],
    mqtt: Annotated[str, typer.Option(metavar="URL", help="Broker, e.g. mqtt://localhost.")] = "mqtt://localhost",
    topic: Annotated[str | None, typer.Option(metavar="TOPIC", help="Topic to send to; by default edgeannot/pictures/DEVICE.")] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the sender; by default the host name.")] = None,
    protocol: Annotated[str, typer.Option(metavar="5|3.1.1", help="MQTT version; 3.1.1 sends neither id nor time.")] = "5",
    username: Annotated[str | None, typer.Option(metavar="NAME", help="User name at the broker.")] = None,
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File that holds the password.")] = None,
    ca_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate authority of the broker (PEM).")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the last line only.")] = False,
) -> None:
    """Send pictures to a broker, for daemons with a source of kind "mqtt"."""
    import platform  # noqa: PLC0415 - for the default only

    name = device or platform.node().split(".")[0] or "edgeannot"
    where = topic or f"edgeannot/pictures/{escape_level(name)}"
    if not is_topic(where):
        raise ConfigError(f"--topic: wanted a topic, found {where!r}; + and # are for subscribers only")
    options = broker_options(url=mqtt, protocol=protocol, username=username, password_file=password_file, ca_file=ca_file)
    began, count, total = time.monotonic(), 0, 0
    for parcel, size in deliver(options, where, name, _all(files)):
        count, total = count + 1, total + size
        if not quiet:
            typer.echo(f"{parcel.path}  {size / 1000:.0f} kB  {parcel.id}")
    typer.echo(f"{number_of(count, 'picture')} sent to {where}, {total / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")


def _all(files: Sequence[Path]) -> list[Parcel]:
    """Return all parcels before the first is sent. Raises InputError if there is none."""
    found = list(parcels(files, secrets.token_hex(4)))
    if not found:
        raise InputError(f"no picture in {', '.join(map(str, files))}")
    return found
