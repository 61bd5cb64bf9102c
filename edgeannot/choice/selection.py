"""Select the model that runs: the one that the settings name, or by their requirements, from the cards and what is known of the times.

The way of a choice: `candidates` (facts of the cards, requirements) -> `measure_plan`, `measure`, `measure_child` ->
`measurements` (remembered) -> `decision` (the rule) -> the evaluation of all models here, as a table and as JSON -> the selection.
Imports stay light: cards, numpy and the runtime are loaded only where a model is measured or a card changed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeannot.base.errors import ConfigError
from edgeannot.base.foreign import number_of
from edgeannot.base.places import model_folders
from edgeannot.base.streams import columns
from edgeannot.choice.auto_profile import Measuring
from edgeannot.choice.candidates import Candidate, CardFacts, Requirements, best_sample, read_card_index
from edgeannot.choice.decision import Decision, budget_of, decide, in_prior_order, is_for_another_purpose
from edgeannot.choice.measure_plan import DEADLINE_S, in_measuring_order, next_point, points_to_compare
from edgeannot.choice.measurements import Conditions, Measurements, Record, Sample, runtime_named, thread_counts
from edgeannot.probe import Board, read_board

if TYPE_CHECKING:
    from edgeannot.settings import Loaded
    from edgeannot.vision.cards import ModelCard

__all__ = ["Choice", "Evaluation", "evaluate", "exclude", "explain_selection", "measuring_at_start", "requirements_of", "select_model"]

_BUSY = "the measurements are noisy (CPU contention), so they decide nothing until the models are measured again when idle"
_HEAD = ("", "MODEL", "MS", "OF BUDGET", "ACCURACY", "THREADS", "CPU MS", "MEMORY", "DTYPE", "WHY")
_NOTE = "ms: decode, preprocessing, inference and postprocessing of one picture of 0.8 megapixels; ~: by the input's size, or noisy"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A decision and the measurements that it was made from."""

    decision: Decision
    measurements: Measurements

    @property
    def conditions(self) -> Conditions:
        """What the measurements are valid for."""
        return self.measurements.conditions

    @property
    def noisy(self) -> bool:
        """Whether a candidate has a noisy measurement, so that measuring again when idle would say more."""
        known = self.measurements
        records = [known.record(key) for key in {candidate.facts.key for candidate in self.decision.candidates}]
        return any(record.without_noisy(known.conditions) != record for record in records)

    def table(self) -> str:
        """Return what runs and why, and all candidates with their figures, the quickest first, as lines without an end."""
        decision, conditions = self.decision, self.conditions
        lines = columns([(f"{name}:" if name else "", text) for name, text in self._answer()])
        shown = [c.shown for c in decision.candidates if c.shown]
        lines += (
            ["", f"measured on: {conditions.text()}", _NOTE]
            if shown
            else ["", "nothing was measured; `edgeannot probe --explain` measures"]
        )
        worst = max((sample.wait_share for sample in shown), default=0.0)
        if conditions.is_noisy(worst):
            lines.append(f"CPU contention up to {worst:.0%}; run again with --remeasure when idle")
        kinds = {(a.measure, a.dataset) for c in decision.candidates if (a := c.accuracy)}
        if one := len(kinds) == 1:
            lines.append("accuracy: {} on {}, ± its 95 % interval".format(*kinds.pop()))
        # The quickest first, and those without a time last; the winner without one comes first.
        in_order = sorted(decision.candidates, key=lambda c: (c.expected_ms is None and c is not decision.winner, c.expected_ms or 0.0))
        rows = [_row(c, decision, short=one) for c in in_order]
        return "\n".join([*lines, "", *columns([_HEAD, *rows])])

    def _answer(self) -> Iterator[tuple[str, str]]:
        """Give the decision as pairs of a word and what there is to say."""
        decision, winner, ms = self.decision, self.decision.winner, self.decision.winner.expected_ms
        yield "runs", f"{winner.name} with {number_of(winner.threads, 'thread')}"
        yield "budget", decision.budget.why + ("" if ms is None else f", of which it takes {'' if winner.sample else 'about '}{ms:.0f} ms")
        if accuracy := winner.accuracy:
            yield "accuracy", f"{accuracy.text()} {accuracy.measure} ({accuracy.dataset})"
        yield from (("" if i else "why", reason) for i, reason in enumerate(decision.reasons))
        yield "better", _text_of_better(decision)

    def as_dict(self) -> dict[str, Any]:
        """Return the same, ready for JSON; figures that are not known are null."""
        decision = self.decision
        return {
            "budget_ms": round(decision.budget.ms, 1),
            "budget": decision.budget.why,
            "measured": decision.measured,
            "conditions": self.conditions.text(),
            "reasons": list(decision.reasons),
            "better": _text_of_better(decision),
            "candidates": [_entry(c, won=c is decision.winner) for c in decision.candidates],
        }


def evaluate(
    requirements: Requirements,
    data_dir: Path,
    board: Board,
    runtime: str = "auto",
    measuring: Measuring = "no",
    *,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Decide from what is remembered and, if asked, measured now. Raises ConfigError when no card meets the requirements.

    progress: is called when measuring begins, and with one line for each model. stopped: asked now and then; True ends the measuring early.
    """
    folders = model_folders(data_dir)
    index = read_card_index(folders, data_dir / "cache" / "models.json", lambda exc: log.warning("%s; skipped", exc))
    known = Measurements.of_board(data_dir, board, runtime)
    known.forget_failures({card.key: card.file_time_ns for card in index})
    if measuring != "no":
        cards = in_prior_order(index, requirements)
        cards = in_measuring_order([card for card in cards if not is_for_another_purpose(card, cards, requirements)])
        before = dict(known.records)
        for card in cards:
            if measuring == "again":
                known.records[card.key] = Record()
            elif measuring == "noisy":
                known.records[card.key] = known.record(card.key).without_noisy(known.conditions)
        records = [(card, known.record(card.key)) for card in cards]
        unknown = any(next_point(*one, requirements, [other for other in records if other is not one]) for one in records)
        if unknown or points_to_compare(cards, requirements, known.records):
            from edgeannot.choice.measure import measure_models  # noqa: PLC0415 - what is remembered is read without it

            progress(f"measuring the candidate models once; budget: {requirements.budget.why}")
            name = runtime_named(board, runtime)
            measure_models(cards, folders, known, requirements, runtime=name, deadline_s=DEADLINE_S, stopped=stopped, progress=progress)
        if any(known.record(key) != before.get(key, Record()) for key in known.records):  # measured, or dropped
            known.save({card.key for card in index})
    return _decided(index, requirements, known)


def _decided(index: Sequence[CardFacts], requirements: Requirements, known: Measurements) -> Evaluation:
    """Decide by what is known: the one rule for the daemon's start, and for every table that says what would run.

    Where no budget was asked for, a start does not measure: it has what is remembered, and noisy measurements are no ground to leave the
    prior until the models are measured when idle. They are shown all the same.
    """
    if requirements.budget.asked:
        return Evaluation(decide(index, requirements, known.records), known)
    records = {key: record.persisted() for key, record in known.records.items()}
    found = Evaluation(decide(index, requirements, records), known)
    if not found.noisy:
        return found
    prior = decide(index, requirements, {key: replace(record, samples=()) for key, record in records.items()}, _BUSY)

    def noisy_sample(candidate: Candidate) -> Sample | None:
        """Return its measurement. The winner's row tells of what runs, so only one with its threads belongs there."""
        counts = (candidate.threads,) if candidate is prior.winner else requirements.thread_counts
        return best_sample(known.record(candidate.facts.key).samples, candidate.size, counts)

    candidates = tuple(replace(c, noisy_sample=noisy_sample(c)) for c in prior.candidates)
    return Evaluation(replace(prior, winner=candidates[0], candidates=candidates), known)


def _text_of_better(decision: Decision) -> str:
    """Say which more accurate model costs least, and how much."""
    better = decision.next_better
    if better is None:
        return "no other one is known to be more accurate"
    accuracy, ms = better.accuracy, better.expected_ms
    cost = (
        "its time is not measured"
        if ms is None
        else f"{'' if better.sample else 'about '}{ms:.0f} ms, {_share(ms, decision)} of the budget"
    )
    return f"{better.name}{f', {accuracy.text()}' if accuracy else ''}: {cost}"


def _share(ms: float, decision: Decision) -> str:
    return f"{ms / decision.budget.ms:.0%}"


def _row(candidate: Candidate, decision: Decision, *, short: bool) -> tuple[str, ...]:
    """Return the cells of a candidate. short: the accuracies are all of one measure and data set, which is said elsewhere."""
    sample, accuracy, ms, won = candidate.shown, candidate.accuracy, candidate.expected_ms, candidate is decision.winner
    times = ("", "") if ms is None else (f"{'' if candidate.sample else '~'}{ms:.1f}", _share(ms, decision))
    figures = (str(candidate.threads) if won else "", "", "", "")
    if sample is not None:
        figures = (str(sample.threads), f"{sample.cpu_ms:.1f}", f"{sample.peak_bytes / 1e6:.0f} MB", sample.dtype)
    other = f" in {accuracy.dtype}" if accuracy and sample and accuracy.dtype != sample.dtype else ""
    where = f" {accuracy.measure} on {accuracy.dataset}" if accuracy and not short else ""
    shown = f"{accuracy.text()}{where}{other}" if accuracy else ""
    return (">" if won else "", candidate.name, *times, shown, *figures, "runs" if won else candidate.explanation)


def _entry(candidate: Candidate, *, won: bool) -> dict[str, Any]:
    sample, accuracy = candidate.shown, candidate.accuracy
    return {
        "model": candidate.name,
        "family": candidate.facts.family,
        "won": won,
        "why": candidate.explanation,
        "threads": candidate.threads,
        "disturbed": candidate.noisy_sample is not None,
        "numbers": sample and sample.dtype,
        "ms": sample and round(sample.ms, 2),
        "p95_ms": sample and round(sample.p95_ms, 2),
        "cpu_ms": sample and round(sample.cpu_ms, 2),
        "peak_bytes": sample and sample.peak_bytes,
        "predicted_ms": None if candidate.predicted_ms is None else round(candidate.predicted_ms, 1),
        "accuracy": accuracy and accuracy.as_dict(),
    }


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
