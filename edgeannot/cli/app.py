"""The `edgeannot` command: flags become settings, errors become exit codes; nothing else happens here.

Commands import what they need when they run, so that `edgeannot --help` loads neither OpenCV nor the runtime.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from edgeannot import __version__
from edgeannot.base.errors import ConfigError, install
from edgeannot.base.registry import EntryPoint, entry_points

if TYPE_CHECKING:
    from edgeannot.choice.auto_profile import Measuring
    from edgeannot.settings import Loaded

__all__ = ["app"]

_TOOLS = "edgeannot.commands"
"""The entry points by which a package adds commands: a function whose docstring is the help, and which imports the typer app."""


_OWN = {
    "config": "Show, check and write the configuration.",
    "doctor": "Check this installation, and say what to do about what is wrong.",
    "service": "Install, remove and show the systemd service.",
    "models": "List, show, verify, pull, add and remove models.",
    "bench": "Time models on this board, stage by stage.",
    "send": "Send pictures over MQTT to workers that annotate them.",
}
"""Commands with a module of their name beside this one, and their help."""


class _Elsewhere(TyperCommand):
    """A command known by name and help; its app is imported when it is called."""

    def __init__(self, name: str, load_app: Callable[[], typer.Typer], help_text: str, package: str = "edgeannot") -> None:
        super().__init__(name, help=help_text, short_help=help_text)
        self.load_app = load_app
        self._package = package

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the real command, imported now; what runs is that one."""
        try:
            command = typer.main.get_command(self.load_app())
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.split(".")[0] == "edgeannot":
                raise
            advice = install("tools") if self._package == "edgeannot" else f"install it, or {self._package} again"
            raise ConfigError(f"`edgeannot {self.name}` needs the Python package {exc.name!r}: {advice}") from exc
        return command.make_context(info_name, args, parent=parent, **extra)


class _Group(TyperGroup):
    """The commands of this module, those of modules beside it, and those of other packages, such as the tools."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return names in the order of the help page."""
        return list(dict.fromkeys([*super().list_commands(ctx), *_OWN, *(each.name for each in entry_points(_TOOLS))]))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of that name, or None."""
        if cmd_name in _OWN:
            return _Elsewhere(cmd_name, EntryPoint(cmd_name, f"edgeannot.cli.commands.{cmd_name}:{cmd_name}_app", "").load, _OWN[cmd_name])
        if (command := super().get_command(ctx, cmd_name)) is not None:
            return command
        return next((_added(each) for each in entry_points(_TOOLS) if each.name == cmd_name), None)


def _added(entry: EntryPoint) -> _Elsewhere:
    """Return the command of an entry point. An import error is raised when the command is called, not on the help page."""
    try:
        load_app = entry.load()
    except ImportError as exc:
        return _Elsewhere(entry.name, entry.load, f"Cannot be loaded: {exc}.", entry.package)
    return _Elsewhere(entry.name, load_app, (load_app.__doc__ or "").partition("\n")[0], entry.package)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Configuration file (TOML).")]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Folder for state: ledger, outbox, quarantine, models.")
]
ProfileOption = Annotated[str | None, typer.Option("--profile", metavar="low|mid|high|auto", help="Board class; auto detects it.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"edgeannot {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """Annotate pictures on a small board and publish labels and boxes over MQTT."""
    del version


@app.command()
def run(
    files: Annotated[
        list[Path] | None,
        # One that may not be read is told among the others, not a wrong command.
        typer.Argument(
            metavar="[FILE]...", show_default=False, readable=False, help="Annotate these pictures, print what is in them, and stop."
        ),
    ] = None,
    profile: ProfileOption = None,
    watch: Annotated[Path | None, typer.Option(metavar="DIR", help="Annotate the pictures in DIR and those that arrive there.")] = None,
    camera: Annotated[
        str | None, typer.Option(metavar="DEVICE|URL|FILE", help="Annotate a camera, a stream, still pictures over HTTP, or a video file.")
    ] = None,
    every_n: Annotated[int | None, typer.Option(metavar="N", min=1, help="Take only each N-th frame of a video file.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write annotated pictures, label files and JSON lines there.")] = None,
    mqtt: Annotated[str | None, typer.Option(metavar="URL", help="Broker, e.g. mqtt://localhost or mqtts://user@host:8883.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME[@SIZE]", help="Run this model; turns automatic selection off.")] = None,
    task: Annotated[str | None, typer.Option(metavar="detect|classify", help="Boxes, or one class a picture.")] = None,
    labels: Annotated[str | None, typer.Option(metavar="A,B,...", help="Report only these labels.")] = None,
    min_score: Annotated[float | None, typer.Option(metavar="0..1", help="Smallest score that is reported.")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Threads for one inference.")] = None,
    max_ms: Annotated[float | None, typer.Option(metavar="MS", help="Measure, and select a model that takes at most MS a picture.")] = None,
    min_fps: Annotated[float | None, typer.Option(metavar="N", help="Measure, and select a model that does N pictures a second.")] = None,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Measure the models again before selection.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Print the model selected and why, and stop.")] = False,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Name of this device in topics and messages.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    once: Annotated[bool, typer.Option("--once", help="Stop when all present pictures are annotated.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Annotate done pictures again.")] = False,
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None,
    log_json: Annotated[bool, typer.Option("--log-json", help="Write the log as JSON, one object a line.")] = False,
) -> None:
    """Watch a folder or a camera, annotate each picture, publish what is in it; or annotate picture files."""
    if files:
        _refuse_with_files({"--watch": watch, "--camera": camera, "--mqtt": mqtt})
    sources: dict[str, Any] = {}
    if watch is not None:
        sources["inbox"] = {"kind": "directory", "path": str(watch)}
    if camera is not None:
        sources["camera"] = {"kind": "camera", "url": camera}
    if every_n is not None:
        if camera is None:
            raise ConfigError("--every-n is for a video file: name it with --camera FILE")
        sources["camera"]["every_n"] = every_n
    sinks: dict[str, Any] = {}
    if out is not None:
        sinks = {kind: {"enabled": True} for kind in ("images", "labels", "jsonl")}
    if mqtt is not None:
        sinks["mqtt"] = {"url": mqtt}
    if files:  # of the configuration's sinks none: those results are the service's
        sinks = {kind: {"enabled": out is not None} for kind in ("images", "labels", "jsonl")}
        sinks |= {kind: {"enabled": False} for kind in ("mqtt", "webhook")}
    overrides = {
        "profile": profile, "model": model, "task": task, "min_score": min_score, "threads": threads, "device": device,
        "max_ms": max_ms, "min_fps": min_fps,
        "log_level": log_level, "data_dir": data_dir and str(data_dir), "out_dir": out and str(out),
        "labels": _labels(labels),
        "sources": sources, "sinks": sinks,
    }  # fmt: skip
    loaded = _load(overrides, config, "again" if remeasure else "missing" if explain else "no")
    if not remeasure and not explain and (loaded.settings.max_ms or loaded.settings.min_fps):
        loaded = _load(overrides, config, "missing")  # the start measures anyway: grade the board as `probe` would
    if explain:
        from edgeannot.choice.selection import explain_selection
        from edgeannot.cli.commands.probe import at_the_terminal

        typer.echo(explain_selection(loaded, remeasure=remeasure, progress=at_the_terminal))
        raise typer.Exit

    if files:
        raise typer.Exit(_annotate(loaded, files, remeasure=remeasure))

    from edgeannot.daemon.monitoring.logs import set_up_logging
    from edgeannot.probe.limits import short_of_memory

    journal = "JOURNAL_STREAM" in os.environ
    set_up_logging(loaded.settings.log_level, journal=journal, as_json=log_json)
    if short := short_of_memory():
        logging.getLogger(__name__).warning("%s", short)
    from edgeannot.daemon.run import run_daemon  # the whole of OpenCV and the runtime comes with it, if there is room

    def load_again() -> Loaded:
        new = _load(overrides, config)
        set_up_logging(new.settings.log_level, journal=journal, as_json=log_json)
        return new

    raise typer.Exit(run_daemon(loaded, once=once, again=again, remeasure=remeasure, load=load_again))


def _refuse_with_files(given: dict[str, object]) -> None:
    """Raise a usage error where files are named beside another source, or a broker, which has the service's results."""
    for option, value in given.items():
        if value is not None:
            advice = "to send pictures to a service, use `edgeannot send`" if option == "--mqtt" else "give one or the other"
            raise typer.BadParameter(f"FILE and {option} do not go together: {advice}")


def _annotate(loaded: Loaded, files: list[Path], *, remeasure: bool) -> int:
    """Annotate picture files, whatever sources are configured, without the ledger and the lock of a service; return the exit code."""
    import tempfile

    from edgeannot.daemon.build import with_files
    from edgeannot.daemon.monitoring.logs import set_up_logging
    from edgeannot.daemon.monitoring.report import Reporter
    from edgeannot.daemon.run import RESULTS_MISSING, run_daemon

    named = with_files(loaded, files)
    level = loaded.settings.log_level if "log_level" in loaded.origins else "warning"
    set_up_logging(level, journal=False)
    with tempfile.TemporaryDirectory(prefix="edgeannot-") as state:
        told = Reporter(sys.stdout, once=True)
        code = run_daemon(named, once=True, remeasure=remeasure, state_dir=Path(state), reporter=told)
    images = dict(named.settings.sinks.by_kind())["images"]
    if told.annotated and code != RESULTS_MISSING and images.enabled:
        typer.echo(f"annotated pictures are in {images.written_paths(named.settings.out_folder)[0]}")
    return code


@app.command()
def probe(
    json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also print the model selected, and why not the others.")] = False,
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Measure again, also remembered figures.")] = False,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Measure nothing.")] = False,
    config: ConfigOption = None,
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder where measurements are remembered.")] = None,
) -> None:
    """Show what this board is and what it can do."""
    from edgeannot.cli.commands.probe import probe as probe_board  # it reads its arguments itself: see `start`

    flags = {"--json": json, "--explain": explain, "--remeasure": remeasure, "--no-measure": no_measure}
    given = {"--config": config, "--data-dir": data_dir}
    probe_board([*(flag for flag, on in flags.items() if on), *(f"{name}={path}" for name, path in given.items() if path is not None)])


@app.command("version")
def show_version() -> None:
    """Print the versions of edgeannot, the runtimes and what they stand on."""
    from edgeannot.cli.commands.version import versions

    rows = list(versions())
    width = max(len(name) for name, _ in rows)
    for name, found in rows:
        typer.echo(f"{name:<{width}}  {found}")


@app.command()
def listen(
    url: Annotated[str, typer.Argument(metavar="URL", help="Broker, e.g. mqtt://localhost.")] = "mqtt://localhost",
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Only this device; otherwise all.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="Print the payloads as they come, one a line.")] = False,
    count: Annotated[int | None, typer.Option(metavar="N", help="Stop after N pictures.")] = None,
    username: Annotated[str | None, typer.Option(metavar="NAME", help="User name at the broker.")] = None,
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File that holds the password.")] = None,
    ca_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate authority of the broker (PEM).")] = None,
) -> None:
    """Print what a subscriber to the broker sees, one line a picture."""
    from edgeannot.cli.commands.listen import broker_options
    from edgeannot.cli.commands.listen import listen as listen_to

    options = broker_options(url=url, username=username, password_file=password_file, ca_file=ca_file)
    with contextlib.suppress(KeyboardInterrupt):
        for line in listen_to(options, device=device, json_lines=json_lines, count=count):
            typer.echo(line)


def _load(overrides: dict[str, Any], config: Path | None, measuring: Measuring = "no") -> Loaded:
    from edgeannot.choice.auto_profile import load_for_run
    from edgeannot.probe import read_board
    from edgeannot.settings import default_config_file

    given = {key: value for key, value in overrides.items() if value not in (None, {}, ())}
    return load_for_run(given, config or default_config_file(), read_board(), measuring)


def _labels(text: str | None) -> tuple[str, ...] | None:
    """Return the names in `A,B,...`. Raises ConfigError where one is empty: an empty list would mean all."""
    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(","))
    if not all(names):
        raise ConfigError(f"--labels: wanted names with commas between them, such as person,dog; found {text!r}")
    return names
