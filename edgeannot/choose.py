"""Which model a board should run: a pure function of its profile, the cards there are and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeannot.cards import ModelCard
from edgeannot.data import Profile
from edgeannot.errors import ConfigError

__all__ = ["Choice", "choose"]

_PRIOR: dict[str, dict[Profile, tuple[str, ...]]] = {
    # "SSD on a good microprocessor, else YOLO": the rule of the comparison this project goes back to, as the prior.
    "detect": {"low": ("yolo", "ssd"), "mid": ("yolo", "ssd"), "high": ("ssd", "yolo")},
    "classify": {"low": ("mobilenet",), "mid": ("mobilenet",), "high": ("mobilenet",)},
}
_INPUT_SIZE: dict[Profile, int] = {"low": 224, "mid": 320, "high": 416}


@dataclass(frozen=True, slots=True)
class Choice:
    """A card at its input size, and why it was taken, one sentence a reason."""

    card: ModelCard
    reasons: tuple[str, ...]


def choose(profile: Profile, cards: Iterable[ModelCard], task: str = "detect", labels: tuple[str, ...] = ()) -> Choice:
    """The card for a profile. Only cards that do the task and know all the labels asked for come into question.

    Raises ConfigError when none does.
    """
    fitting = [card for card in cards if card.task == task]
    if not fitting:
        raise ConfigError(f"no model for the task {task!r} is installed; add one with `edgeannot models add FILE.tflite`")
    knowing = [card for card in fitting if not labels or set(labels) <= set(card.label_names())]
    if not knowing:
        raise ConfigError(
            f"no model for the task {task!r} knows all of the labels {', '.join(labels)}; "
            "`edgeannot models show NAME` prints what a model knows"
        )
    prior = _PRIOR.get(task, {}).get(profile, ())
    rank = {family: i for i, family in enumerate(prior)}
    card = min(knowing, key=lambda c: (rank.get(c.family, len(rank)), c.name))
    reasons = [" before ".join(prior)] if len(prior) > 1 else []
    sizes = [size for size in card.input.sizes if size <= _INPUT_SIZE[profile]]
    if sizes:
        card = card.at_size(max(sizes))
        reasons.append(f"input {card.input.width} px: the largest offered up to {_INPUT_SIZE[profile]} px for this profile")
    return Choice(card, tuple(reasons))
