"""Select the model that runs: from the settings by requirements and evaluation, or the one that the settings name.

The way of a choice: `candidates` (facts of the cards, requirements) -> `measure_plan`, `measure`, `measure_child` ->
`measurements` (remembered) -> `decision` (the rule) -> `evaluation` -> `selection`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeannot.base.errors import ConfigError
from edgeannot.base.places import model_folders
from edgeannot.choice.auto_profile import Measuring
from edgeannot.choice.candidates import Requirements
from edgeannot.choice.decision import budget_of
from edgeannot.choice.evaluation import Evaluation, evaluate
from edgeannot.choice.measurements import Record, thread_counts
from edgeannot.probe import Board, read_board

if TYPE_CHECKING:
    from edgeannot.settings import Loaded
    from edgeannot.vision.cards import ModelCard

__all__ = ["Choice", "exclude", "explain_selection", "measuring_at_start", "requirements_of", "select_model"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """The card to run at its input size, with how many threads, and why, one sentence a reason."""

    card: ModelCard
    threads: int
    reasons: tuple[str, ...]
    evaluation: Evaluation | None = None
    """None: the model is set, nothing was compared."""

    @property
    def pinned(self) -> bool:
        """Whether the user set the model: then it is neither measured nor replaced by another."""
        return self.evaluation is None

    def threads_for(self, name: str) -> int:
        """Return the best thread count of any model, as far as it was measured; else that of the model chosen."""
        candidates = () if self.evaluation is None else self.evaluation.decision.candidates
        return next((c.threads for c in candidates if c.name == name), self.threads)

    def as_dict(self) -> dict[str, Any] | None:
        """Return the candidates and why each won or lost, ready for JSON; None where the model is set."""
        return None if self.evaluation is None else self.evaluation.as_dict()


def measuring_at_start(loaded: Loaded, *, remeasure: bool = False) -> Measuring:
    """Return what a start measures: without a budget nothing, as it goes by what is remembered, else by the profile."""
    asked = loaded.settings.max_ms is not None or loaded.settings.min_fps is not None
    return "again" if remeasure else "missing" if asked else "no"


def select_model(
    loaded: Loaded, measuring: Measuring, *, board: Board | None = None, stopped: Callable[[], bool] = lambda: False
) -> Choice:
    """Return the model to run. Measuring takes up to a minute, in a child process; while another model runs, figures are worse.

    A model that is set is never measured. Raises ConfigError where the settings cannot be carried out.
    """
    from edgeannot.vision.cards import find_card  # noqa: PLC0415 - pydantic and numpy: only where a model is loaded anyway

    settings = loaded.settings
    board = board or read_board()
    if settings.model is not None:
        return Choice(_card_that_is_set(loaded), thread_counts(board, settings.threads, settings.max_threads)[-1], ("the model is set",))
    found = _evaluate(loaded, measuring, board, stopped)
    winner = found.decision.winner
    return Choice(find_card(winner.name, model_folders(settings.data_dir)), winner.threads, found.decision.reasons, found)


def exclude(choice: Choice, why: str) -> bool:
    """Remember that the model of a choice cannot be used here, until its file or the runtime is another, so that another is chosen next.

    False where the user set the model, or where this was remembered before and changed nothing.
    """
    if choice.evaluation is None:
        return False
    known, facts = choice.evaluation.measurements, choice.evaluation.decision.winner.facts
    failed = Record(failure=why, failed_size=min(facts.sizes), lasting=True, file_time_ns=facts.file_time_ns)
    if known.record(facts.key) == failed:
        return False
    known.records[facts.key] = failed
    known.save()
    return True


def explain_selection(
    loaded: Loaded, *, remeasure: bool = False, board: Board | None = None, progress: Callable[[str], None] = lambda _: None
) -> str:
    """Return the table for these settings; what is not remembered is measured. For a model that is set, say so."""
    if loaded.settings.model is not None:
        _card_that_is_set(loaded)
        return f"the model is set to {loaded.settings.model} ({loaded.origins.get('model', 'default')}): no automatic selection"
    found = _evaluate(loaded, "again" if remeasure else "missing", board or read_board(), lambda: False, progress)
    return f"profile {loaded.profile}: {loaded.profile_reason}\n{found.table()}"


def requirements_of(loaded: Loaded, board: Board) -> Requirements:
    """Return what the settings ask of a model on this board."""
    settings = loaded.settings
    return Requirements(
        profile=loaded.profile,
        budget=budget_of(loaded.profile, settings.max_ms, settings.min_fps),
        task=settings.task,
        labels=settings.labels,
        thread_counts=thread_counts(board, settings.threads, settings.max_threads),
        memory_bytes=board.memory_bytes,
    )


def _evaluate(
    loaded: Loaded, measuring: Measuring, board: Board, stopped: Callable[[], bool], progress: Callable[[str], None] = lambda _: None
) -> Evaluation:
    settings = loaded.settings
    lines: list[str] = []

    def heard(line: str) -> None:
        lines.append(line)
        log.info("%s", line)
        progress(line)

    required = requirements_of(loaded, board)
    found = evaluate(required, settings.data_dir, board, settings.runtime, measuring, stopped=stopped, progress=heard)
    for line in filter(None, found.table().splitlines() if lines else ()):  # an unchanged table was logged when it was measured
        log.info("%s", line)
    return found


def _card_that_is_set(loaded: Loaded) -> ModelCard:
    from edgeannot.vision.cards import find_card  # noqa: PLC0415 - see above

    card = find_card(loaded.settings.model or "", model_folders(loaded.settings.data_dir))
    if card.task == "embed":
        raise ConfigError(f"model {card.name} gives an embedding, neither boxes nor classes; choose another with `edgeannot models list`")
    if card.task != loaded.settings.task and "task" in loaded.origins:
        raise ConfigError(
            f"model {card.name} is for the task {card.task!r}, the {loaded.origins['task']} says {loaded.settings.task!r}; "
            "set one of them only"
        )
    return card
