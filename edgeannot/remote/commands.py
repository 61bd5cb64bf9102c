"""Commands over MQTT: parse and check a message, and build its one reply. No I/O.

A command comes on `<prefix>/<device>/command/<name>`. Its reply goes to the MQTT 5 response topic with the correlation data, where
the message has one, else to `<prefix>/<device>/reply/<name>`; the `id` of a JSON payload comes back in every case.
`schema/command-1.json` and `schema/reply-1.json` say the same for other languages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from edgeannot.base.errors import ConfigError, EdgeannotError, FrameError, LinkError, MissingError, ModelError
from edgeannot.base.foreign import valid_text
from edgeannot.mqtt.options import Topics, reply_trouble
from edgeannot.payload import SCHEMA, Origin
from edgeannot.storage.queue import Message
from edgeannot.vision.picture_header import begins_as_picture

if TYPE_CHECKING:
    from paho.mqtt.client import MQTTMessage

__all__ = [
    "OLD_NAMES",
    "Body",
    "Code",
    "CommandError",
    "DetectFile",
    "Limits",
    "Model",
    "Pause",
    "Ping",
    "Reply",
    "Request",
    "Resume",
    "Set",
    "Snapshot",
    "Teach",
    "code_of",
    "error_payload",
    "read_command",
    "reply_payload",
    "reply_to",
    "wanted_reply",
]

Code = Literal[
    "invalid", "unknown-command", "too-large", "retained", "response-topic", "busy", "not-allowed", "no-such-file", "picture", "model",
    "unavailable", "timeout", "failed",
]  # fmt: skip
"""Why a command was refused, for programs; the message beside it is for people."""

_Label = Annotated[str, Field(min_length=1, max_length=200)]
_Labels = Annotated[tuple[_Label, ...], Field(max_length=1000)]
_Interval = Annotated[float, Field(ge=0, le=86400)]

OLD_NAMES: Final[Mapping[str, str]] = {"classes": "labels", "interval": "interval_s"}
"""Of parameters of `set`, before they had the names of the settings; they still work."""


class Body(BaseModel):
    """What every JSON payload may carry."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    id: Annotated[str, Field(max_length=128)] | Annotated[int, Field(ge=-(2**53), le=2**53)] | None = None
    """Comes back in the reply."""


class Ping(Body):
    """Asks for a reply, to see that the daemon runs."""


class Pause(Body):
    """Stops annotating until `resume` or a restart."""


class Resume(Body):
    """Continues annotating."""


class Set(Body):
    """Changes the given values until a restart; null restores the value of the settings."""

    paused: bool = False
    """The same as `pause` and `resume`."""
    min_score: Annotated[float, Field(ge=0, le=1)] | None = None
    """Smallest score that is reported."""
    labels: _Labels | None = None
    """Report only these labels; an empty list: all labels of the model."""
    interval_s: _Interval | None = None
    """Least seconds between two pictures of a live source."""
    classes: _Labels | None = None
    """The old name of `labels`."""
    interval: _Interval | None = None
    """The old name of `interval_s`."""

    @model_validator(mode="after")
    def _changes_something(self) -> Set:
        given = self.model_fields_set - {"id"}
        if not given:
            raise ValueError("wanted at least one of paused, min_score, labels, interval_s")
        if twice := next((old for old in self.old_names if OLD_NAMES[old] in given), None):
            raise ValueError(f"{twice} is the old name of {OLD_NAMES[twice]}: wanted one of them")
        return self

    @property
    def old_names(self) -> list[str]:
        """Return the old names that were given."""
        return [name for name in OLD_NAMES if name in self.model_fields_set]

    def changes(self) -> dict[str, object]:
        """Return what was given, by the names of `control.RuntimeSettings`."""
        return {OLD_NAMES.get(name, name): getattr(self, name) for name in self.model_fields_set - {"id"}}


class Model(Body):
    """Switches to another model."""

    # A card's name, never a card's file: with `/` or `.toml` in it the name would be one to who looks for the card.
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*(@[0-9]{1,5})?$", max_length=100)]
    """NAME or NAME@SIZE, as `edgeannot models list` shows it."""

    @model_validator(mode="after")
    def _is_no_file(self) -> Model:
        if self.name.endswith(".toml"):
            raise ValueError("name: wanted the name of a model, found that of a file")
        return self


class DetectFile(Body):
    """Annotates a file under the folder that the settings allow."""

    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """Relative to that folder."""


class Teach(Body):
    """Teaches a model from a labelled set under the folder that the settings allow, as `edgeannot teach` does."""

    task: Literal["classify", "detect"]
    """`classify`: classes of whole pictures; `detect`: objects."""
    data: Annotated[str, Field(min_length=1, max_length=1024)]
    """The set, relative to that folder."""
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)]
    """Of the new model."""
    replace: bool = False
    """Whether an added model of that name may be replaced."""


class Snapshot(Body):
    """Asks for the next picture that is annotated, or the last."""

    format: Literal["jpeg", "json"] = "jpeg"
    """The annotated picture, or its result."""


_BODIES: Final[Mapping[str, type[Body]]] = {
    "ping": Ping,
    "pause": Pause,
    "resume": Resume,
    "set": Set,
    "model": Model,
    "detect": DetectFile,
    "snapshot": Snapshot,
    "teach": Teach,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """Where the reply to a message goes."""

    topic: str
    command: str
    """The last level of the message's topic, whatever was written there."""
    correlation: bytes | None = None
    """MQTT 5 correlation data."""
    id: str | int | None = None
    answer: Callable[[Message], None] | None = None
    """Takes the reply to a command that came another way than over MQTT; None: it is published."""


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A command that may be carried out. `body` is bytes for a picture that is to be annotated."""

    body: Body | bytes
    to: Reply


@dataclass(frozen=True, slots=True)
class CommandError:
    """A command that is not carried out, with its error code."""

    code: Code
    message: str
    to: Reply


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits checked before a message is parsed."""

    json_bytes: int = 4096
    picture_bytes: int = 8 * 2**20
    other_trees: Sequence[str] = field(default=("homeassistant",))
    """First levels of topics that a reply must not be sent to, beside our own prefix: others act on what they read there."""


def read_command(
    topic: str, payload: bytes, *, retained: bool, to: Reply | CommandError, limits: Limits, size: int | None = None
) -> Request | CommandError:
    """Return what a message on a command topic asks for. `to`: what `reply_to` gave for it. size: that of a payload of which only the
    beginning was kept."""
    if isinstance(to, CommandError):
        return to
    if retained:
        return CommandError(
            "retained", "retained commands are ignored, as each new connection would repeat them; publish without retain", to
        )
    is_picture = topic.endswith("/detect") and begins_as_picture(payload[:16])
    limit = limits.picture_bytes if is_picture else limits.json_bytes
    if (size or len(payload)) > limit:
        return CommandError("too-large", f"the payload has {size or len(payload)} bytes, allowed are {limit}", to)
    return Request(payload, to) if is_picture else _read_json(payload, replace(to, id=_id_in(payload)))


def _read_json(payload: bytes, to: Reply) -> Request | CommandError:
    """Return the command with a JSON payload; nothing at all stands for an empty object."""
    kind = _BODIES.get(to.command)
    if kind is None:
        return CommandError("unknown-command", f"wanted one of {', '.join(_BODIES)}, found {to.command!r:.80}", to)
    try:
        return Request(kind.model_validate_json(payload or b"{}"), to)
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False)[0]
        return CommandError("invalid", f"{to.command}: {_explain(error, to.command)}", to)


def wanted_reply(message: MQTTMessage) -> tuple[str | None, bytes | None]:
    """Return response topic and correlation data of MQTT 5."""
    properties = getattr(message, "properties", None)
    return getattr(properties, "ResponseTopic", None), getattr(properties, "CorrelationData", None)


def reply_to(topic: str, response_topic: str | None, correlation: bytes | None, topics: Topics, limits: Limits) -> Reply | CommandError:
    """Return where the reply goes. Refuses a response topic that cannot be published to, or where others would misread the reply."""
    command = topic.rpartition("/")[2]
    plain = Reply(topics.of_device(f"reply/{command}"), command, correlation)
    if response_topic is None:
        return plain
    trouble = reply_trouble(response_topic, topics, limits.other_trees)
    if trouble:
        return CommandError("response-topic", f"the response topic {trouble}; this reply goes to the default reply topic", plain)
    return Reply(response_topic, command, correlation)


def _id_in(payload: bytes) -> str | int | None:
    """Return the `id` of a payload that may be wrong in everything else."""
    try:
        return Body.model_validate({"id": from_json(payload).get("id")}).id if payload else None
    except (ValueError, AttributeError):  # no JSON, no object, or an id that cannot be one
        return None


def _explain(error: ErrorDetails, command: str) -> str:
    """Return one sentence about what is wrong, quoting nothing of the payload but the name of an unknown key."""
    key = ".".join(str(part) for part in error["loc"][:1])[:40]
    if error["type"] == "extra_forbidden":
        known = ", ".join(name for name in _BODIES[command].model_fields if name not in OLD_NAMES)
        return f"{key!r} is unknown; wanted {known}"
    if error["type"] == "json_invalid":
        wanted = "a picture or a JSON object with `path`" if command == "detect" else "a JSON object"
        return f"wanted {wanted}, found something else"
    if error["type"] == "missing" and command == "detect":
        return "wanted a picture or a JSON object with `path`, found neither"
    message = error["msg"].removeprefix("Value error, ")
    return f"{key}: {message[:1].lower()}{message[1:]}" if key else message


def reply_payload(to: Reply, origin: Origin, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the reply to a command that was carried out, ready for JSON."""
    return {**_head(to, origin), "ok": True, "result": dict(result)}


def error_payload(refusal: CommandError, origin: Origin) -> dict[str, Any]:
    """Return the reply to a command that was refused, ready for JSON."""
    return {**_head(refusal.to, origin), "ok": False, "error": {"code": refusal.code, "message": valid_text(refusal.message)}}


def _head(to: Reply, origin: Origin) -> dict[str, Any]:
    head = {"schema": SCHEMA, "device": valid_text(origin.device), "boot_id": origin.boot_id, "command": valid_text(to.command)[:64]}
    return head | ({} if to.id is None else {"id": to.id})


def code_of(exc: Exception) -> Code:
    """Return the reply's error code for an exception."""
    kinds: tuple[tuple[type[EdgeannotError], Code], ...] = (
        (ConfigError, "invalid"),
        (ModelError, "model"),
        (MissingError, "model"),
        (FrameError, "picture"),
        (LinkError, "unavailable"),
    )
    return next((code for kind, code in kinds if isinstance(exc, kind)), "failed")
