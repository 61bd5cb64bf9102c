"""Check of the models: hashes, and one picture through each, in a process that may die."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator

from edgeannot.base.child import command_of
from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import json_text, parse_json
from edgeannot.base.places import default_data_dir, model_folders
from edgeannot.choice.auto_runtime import settle_runtime
from edgeannot.doctor.findings import Examined, Finding, fine, problem, warning
from edgeannot.probe import read_board
from edgeannot.vision.cards import ModelCard, read_cards
from edgeannot.vision.engine import checked_runtime

__all__ = ["models"]

WITHIN_S = 14.0
_AGAIN = "fetch or add it again (`edgeannot models pull`, `models add --replace`), or remove it (`edgeannot models remove`)"


def models(examined: Examined) -> Iterator[Finding]:
    """Check each installed model's file by its card, and annotate a sample picture with it. The model that is set comes first."""
    settings = examined.settings
    until = time.monotonic() + WITHIN_S - 1.0
    folders = model_folders(settings.data_dir if settings else default_data_dir())
    wrong: list[EdgeannotError] = []
    cards = list(read_cards(folders, wrong.append))
    for exc in wrong:
        yield problem("model-card", "models", str(exc), _AGAIN)
    good: list[ModelCard] = []
    for card in cards:
        try:
            card.verify_file()
        except EdgeannotError as exc:
            yield problem("model-file", f"model {card.name}", str(exc), _AGAIN)
        else:
            good.append(card)
    wanted = (settings.model or "").partition("@")[0] if settings else ""
    named = {"model": wanted} | {f"classify.{label}.model": each.model for label, each in (settings.classify.items() if settings else ())}
    named |= {f"states.{name}.model": each.model or "" for name, each in (settings.states.items() if settings else ())}
    for key, name in named.items():
        if name and name.partition("@")[0] not in {card.name for card in cards}:
            yield problem(
                "model-unknown", "models", f"no model called {name}", f"`edgeannot models list` shows what there is; correct `{key}`"
            )
    good.sort(key=lambda card: card.name != wanted)
    data_dir = settings.data_dir if settings else default_data_dir()
    try:
        used = settle_runtime(
            settings.runtime if settings else "auto", data_dir, read_board(), stopped=lambda: time.monotonic() > until, remember=False
        )
    except EdgeannotError as exc:
        yield problem("runtime-dies", "runtime", str(exc), "`edgeannot version` shows the versions; update a runtime, or install the other")
        return
    for name in used.aside:
        cure = f'name the one that is used, `runtime = "{used.runtime}"`, or install another version of {name}'
        yield warning("runtime-aside", f"runtime {name}", used.text(), cure)
    try:
        runtime = checked_runtime(used.runtime)
    except EdgeannotError as exc:
        yield problem("models-untried", "models", f"none was run: {exc}", "mend the runtime first")
        return
    yield from _run(good, runtime, until)


def _run(cards: list[ModelCard], runtime: str, deadline: float) -> Iterator[Finding]:
    waiting = {card.name: card for card in cards}
    request = json_text({"runtime": runtime, "cards": [[str(card.folder / f"{card.name}.toml"), card.name] for card in cards]})
    ran = []
    with subprocess.Popen(
        [*command_of("edgeannot.doctor.model_child")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        try:
            assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - they are pipes
            child.stdin.write(request.encode())
            child.stdin.close()
            for line in _lines(child.stdout.fileno(), deadline):
                answer = parse_json(line, "the trial of a model", error=None)
                if not isinstance(answer, dict) or waiting.pop(str(answer.get("name")), None) is None:
                    continue
                if answer.get("error"):
                    yield problem("model-run", f"model {answer['name']}", str(answer["error"]), _AGAIN)
                else:
                    ran.append(f"{answer['name']} {answer.get('ms')} ms")
            ended = child.poll() if time.monotonic() >= deadline else child.wait(1)
        finally:
            child.kill()
    if waiting and ended is None:
        yield warning(
            "model-slow", "models", f"no time was left for {', '.join(waiting)}", "`edgeannot models verify` tries them without haste"
        )
    elif waiting:
        name = next(iter(waiting))
        cure = "set `runtime` to the other runtime, or update it: `edgeannot version` shows which it is"
        yield problem("runtime-dies", f"model {name}", f"the runtime died with it (exit code {ended})", cure)
    if ran:
        yield fine("models", "models", f"annotated a sample with {', '.join(ran)}")


def _lines(number: int, deadline: float) -> Iterator[bytes]:
    """Yield the lines that come through a pipe until its end or the deadline."""
    rest = b""
    while (left := deadline - time.monotonic()) > 0 and select.select([number], [], [], left)[0]:
        data = os.read(number, 65536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
