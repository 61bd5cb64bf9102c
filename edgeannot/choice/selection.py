"""From settings to the model that runs: cards, board, measurements and the choice brought together.

What imports this stays light: cards, numpy and the runtime are loaded only where a model is really to be read or a card changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeannot.base.errors import ConfigError, MissingError
from edgeannot.base.places import model_folders
from edgeannot.choice.candidates import Candidate, best_sample
from edgeannot.choice.card_index import read_shelf
from edgeannot.choice.choose import Decision, Wish, budget_of, choose, in_prior_order, is_for_another_purpose
from edgeannot.choice.conditions import conditions_of, runtime_named, thread_counts
from edgeannot.choice.explain import as_dict, as_table
from edgeannot.choice.grade import Micro, is_disturbed
from edgeannot.choice.measurements import Conditions, Measurements, Record, Sample
from edgeannot.choice.plan import close_points, next_point
from edgeannot.probe import Board, read_board

if TYPE_CHECKING:
    from edgeannot.choice.card_index import CardFacts
    from edgeannot.settings import Loaded
    from edgeannot.vision.cards import ModelCard

__all__ = [
    "Choice",
    "Survey",
    "choose_for",
    "explain_for",
    "leave_out",
    "measure_and_choose",
    "micro_of",
    "survey",
    "wish_for",
]

log = logging.getLogger(__name__)

Measuring = Literal["no", "missing", "doubtful", "again"]
"""Whether to measure: not at all, what is not remembered, that and what was measured on a busy board, or everything anew."""

_MICRO_THREADS = 4
"""What the bounds of `grade` are drawn from."""
_BUSY = "the board was busy while it was measured, so its figures decide nothing until it is measured at rest"
_DEADLINE_S = 60.0
"""Measuring ends here on the slowest board; what is left out is measured the next time."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A decision and what it was made from."""

    decision: Decision
    measurements: Measurements

    @property
    def conditions(self) -> Conditions:
        """What the figures hold for."""
        return self.measurements.conditions

    @property
    def doubtful(self) -> bool:
        """Whether something of the candidates was measured while the board was busy, so that measuring at rest would say more."""
        known = self.measurements
        records = [known.record(key) for key in {candidate.facts.key for candidate in self.decision.candidates}]
        return any(record.undisturbed(known.conditions) != record for record in records)

    def table(self) -> str:
        """The candidates, their figures and why each won or lost, for people."""
        return as_table(self.decision, self.conditions)

    def as_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        return as_dict(self.decision, self.conditions)


@dataclass(frozen=True, slots=True)
class Choice:
    """The card to run at its input size, with how many threads, and why, one sentence a reason."""

    card: ModelCard
    threads: int
    reasons: tuple[str, ...]
    survey: Survey | None = None
    """None: the model is set, nothing was compared."""

    @property
    def pinned(self) -> bool:
        """Whether the user set the model: then it is neither measured nor replaced by another."""
        return self.survey is None

    def threads_for(self, name: str) -> int:
        """The best thread count of any model, as far as it was measured; else that of the model chosen."""
        candidates = () if self.survey is None else self.survey.decision.candidates
        return next((c.threads for c in candidates if c.name == name), self.threads)

    def as_dict(self) -> dict[str, Any] | None:
        """The candidates and why each won or lost, ready for JSON; None where the model is set."""
        return None if self.survey is None else self.survey.as_dict()


def survey(
    wish: Wish,
    data_dir: Path,
    board: Board,
    runtime: str = "auto",
    measuring: Measuring = "no",
    *,
    stopped: Callable[[], bool] = lambda: False,
    told: Callable[[str], None] = lambda _: None,
    deadline_s: float = _DEADLINE_S,
) -> Survey:
    """The choice for a wish, from what is remembered and, if asked, measured now. Raises ConfigError when no card fits the wish.

    told: hears that it measures, and one line for each model that is measured. stopped: asked now and then; True ends the measuring early.
    """
    folders, cache = model_folders(data_dir), data_dir / "cache"
    shelf = read_shelf(folders, cache / "models.json", lambda exc: log.warning("%s; it is passed over", exc))
    known = Measurements.load(cache / "measurements.json", conditions_of(board, runtime))
    known.forget_failures({card.key: card.file_time_ns for card in shelf})
    if measuring != "no":
        cards = in_prior_order(shelf, wish)
        cards = [card for card in cards if not is_for_another_purpose(card, cards, wish)]
        for card in cards if measuring == "again" else ():
            known.records[card.key] = Record()
        before = dict(known.records)
        for card in cards if measuring == "doubtful" else ():
            known.records[card.key] = known.record(card.key).undisturbed(known.conditions)
        unknown = any(next_point(card, known.record(card.key), wish.budget.ms, wish.thread_counts) for card in cards)
        if unknown or close_points(cards, wish, known.records):
            from edgeannot.choice.measure import measure_models  # noqa: PLC0415 - what is remembered is read without it

            told(f"measuring the models that come into question, once; budget: {wish.budget.why}")
            measure_models(
                cards,
                folders,
                known,
                wish,
                runtime=runtime_named(board, runtime),
                deadline_s=deadline_s,
                stopped=stopped,
                told=told,
            )
        if any(known.record(key) != before.get(key, Record()) for key in known.records):  # measured, or let go of
            known.save({card.key for card in shelf})
    return _decided(shelf, wish, known)


def _decided(shelf: Sequence[CardFacts], wish: Wish, known: Measurements) -> Survey:
    """What runs by what is known: the one rule for the daemon's start, and for every table that says what would run.

    Where no budget was asked for, a start does not measure: it has what is remembered, and what other programs slowed down is no ground
    to leave the prior until it is measured at rest. Such figures are shown all the same.
    """
    if wish.budget.asked:
        return Survey(choose(shelf, wish, known.records), known)
    records = {key: record.kept() for key, record in known.records.items()}
    found = Survey(choose(shelf, wish, records), known)
    if not found.doubtful:
        return found
    prior = choose(shelf, wish, {key: replace(record, samples=()) for key, record in records.items()}, _BUSY)

    def disturbed(candidate: Candidate) -> Sample | None:
        """The winner's row tells of what runs, so only a figure with its threads belongs there."""
        counts = (candidate.threads,) if candidate is prior.winner else wish.thread_counts
        return best_sample(known.record(candidate.facts.key).samples, candidate.size, counts)

    candidates = tuple(replace(c, disturbed=disturbed(c)) for c in prior.candidates)
    return Survey(replace(prior, winner=candidates[0], candidates=candidates), known)


def micro_of(
    board: Board,
    data_dir: Path,
    runtime: str = "auto",
    *,
    measuring: Measuring = "no",
    stopped: Callable[[], bool] = lambda: False,
) -> Micro | None:
    """The micro-benchmark's figures for the board as it is limited now, remembered or measured in a child process (two seconds).

    None where they are not known: not measured, or the child died, which is logged.
    """
    known = Measurements.load(data_dir / "cache" / "measurements.json", conditions_of(board, runtime))
    found = Micro.of(known.micro)
    wanted = found is None or (measuring == "doubtful" and is_disturbed(found, board))
    if measuring == "again" or (measuring != "no" and wanted):
        from edgeannot.base.child import Died, Refused  # noqa: PLC0415 - as above
        from edgeannot.choice.measure import measure_micro  # noqa: PLC0415 - as above

        try:
            measured = measure_micro(thread_counts(board, None, _MICRO_THREADS)[-1], runtime_named(board, runtime), stopped=stopped)
        except (Died, Refused) as exc:
            log.warning("the runtime %s in the micro-benchmark", exc)
            return None
        found = Micro.of(measured)
        if found is None or not (found.int8_gops or found.float_gops):
            log.warning("the runtime ran nothing of the micro-benchmark, so the board is judged by its facts")
            return None
        known.micro = measured
        known.save()
    return found


def choose_for(
    loaded: Loaded, *, remeasure: bool = False, board: Board | None = None, stopped: Callable[[], bool] = lambda: False
) -> Choice:
    """The model to start with. It measures first only where a budget was asked for or `remeasure`; else it goes by what is remembered,
    and where nothing is, by the profile.

    Raises ConfigError where the settings cannot be carried out.
    """
    asked = loaded.settings.max_ms is not None or loaded.settings.min_fps is not None
    return _choose(loaded, "again" if remeasure else "missing" if asked else "no", board, stopped)


def leave_out(choice: Choice, why: str) -> bool:
    """Remember that the model of a choice cannot be used here, until its file or the runtime is another, so that the next choice is one of
    the others. False where the user set the model, or where this was remembered before and changed nothing.
    """
    if choice.survey is None:
        return False
    known, facts = choice.survey.measurements, choice.survey.decision.winner.facts
    failed = Record(failure=why, failed_size=min(facts.sizes), lasting=True, file_time_ns=facts.file_time_ns)
    if known.record(facts.key) == failed:
        return False
    known.records[facts.key] = failed
    known.save()
    return True


def measure_and_choose(
    loaded: Loaded, *, remeasure: bool = False, board: Board | None = None, stopped: Callable[[], bool] = lambda: False
) -> Choice:
    """The model to run by measurements: what is not remembered is measured now, in a child process, in up to a minute.

    What was measured while the board was busy is measured again. May be called while another model runs; figures are then worse. A
    model that is set is never measured.
    """
    return _choose(loaded, "again" if remeasure else "doubtful", board, stopped)


def explain_for(
    loaded: Loaded, *, remeasure: bool = False, board: Board | None = None, told: Callable[[str], None] = lambda _: None
) -> str:
    """The table for these settings, measured as far as it is not remembered; for a model that is set, that it is. told: see `survey`."""
    if loaded.settings.model is not None:
        _card_that_is_set(loaded)
        return f"the model is set to {loaded.settings.model} ({loaded.origins.get('model', 'default')}): nothing is chosen"
    found = _survey(loaded, "again" if remeasure else "missing", board or read_board(), lambda: False, told)
    return f"profile {loaded.profile}: {loaded.profile_reason}\n{found.table()}"


def _choose(loaded: Loaded, measuring: Measuring, board: Board | None, stopped: Callable[[], bool]) -> Choice:
    from edgeannot.vision.cards import find_card  # noqa: PLC0415 - pydantic and numpy: only where a model is loaded anyway

    settings = loaded.settings
    board = board or read_board()
    folders = model_folders(settings.data_dir)
    if settings.model is not None:
        card = _card_that_is_set(loaded)
        return Choice(card, thread_counts(board, settings.threads, settings.max_threads)[-1], ("the model is set",))
    found = _survey(loaded, measuring, board, stopped)
    winner = found.decision.winner
    return Choice(find_card(winner.name, folders), winner.threads, found.decision.reasons, found)


def _card_that_is_set(loaded: Loaded) -> ModelCard:
    from edgeannot.vision.cards import find_card  # noqa: PLC0415 - as above

    try:
        card = find_card(loaded.settings.model or "", model_folders(loaded.settings.data_dir))
    except MissingError as exc:  # a name that is wrong in the settings does not heal by trying again
        raise ConfigError(str(exc)) from exc
    _check_task(card, loaded)
    return card


def _survey(
    loaded: Loaded, measuring: Measuring, board: Board, stopped: Callable[[], bool], told: Callable[[str], None] = lambda _: None
) -> Survey:
    settings = loaded.settings
    lines: list[str] = []

    def tell(line: str) -> None:
        lines.append(line)
        log.info("%s", line)
        told(line)

    found = survey(wish_for(loaded, board), settings.data_dir, board, settings.runtime, measuring, stopped=stopped, told=tell)
    for line in filter(None, found.table().splitlines() if lines else ()):  # what has not changed was logged when it was measured
        log.info("%s", line)
    return found


def wish_for(loaded: Loaded, board: Board) -> Wish:
    """What the settings ask of a model on this board."""
    settings = loaded.settings
    return Wish(
        profile=loaded.profile,
        budget=budget_of(loaded.profile, settings.max_ms, settings.min_fps),
        task=settings.task,
        labels=settings.labels,
        thread_counts=thread_counts(board, settings.threads, settings.max_threads),
        memory_bytes=board.memory_bytes,
    )


def _check_task(card: ModelCard, loaded: Loaded) -> None:
    if card.task == "embed":
        raise ConfigError(f"model {card.name} gives an embedding, neither boxes nor classes; choose another with `edgeannot models list`")
    if card.task != loaded.settings.task and "task" in loaded.origins:
        raise ConfigError(
            f"model {card.name} is for the task {card.task!r}, the {loaded.origins['task']} says {loaded.settings.task!r}; "
            "set one of them only"
        )
