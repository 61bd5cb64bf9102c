"""`edgeannot teach classify`: own classes for whole pictures."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeannot.base.errors import InputError

if TYPE_CHECKING:
    from edgeannot_tools.teach.classify.remembered import Remembered

__all__ = ["Views", "classify"]


class Views(StrEnum):
    """How many views a model looks at."""

    ONE = "1"
    TWO = "2"
    FOUR = "4"


def classify(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIR|PICTURES...]",
            help="A folder with one subfolder of pictures a class, or a CSV: picture, class. With --add, --relabel or --drop: pictures.",
            show_default=False,
        ),
    ] = None,
    *,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the new model.")],
    backbone: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The network that is taught: a classifier or an `embed` model.", show_default=False)
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=32, max=1024, metavar="PX", help="Side of its input in pixels; 288 for the bundled one.", show_default=False),
    ] = None,
    views: Annotated[
        Views | None,
        typer.Option(
            metavar="N",
            help="Views of a picture that are averaged at run time, each for a run of the network: a little more accurate.  [default: 1]",
            show_default=False,
        ),
    ] = None,
    add: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Teach the model again with these pictures of a class, old or new.", show_default=False),
    ] = None,
    relabel: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Teach it again with these of its pictures in another class.", show_default=False)
    ] = None,
    forget: Annotated[str | None, typer.Option(metavar="CLASS", help="Teach it again without a class.", show_default=False)] = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Teach it again without these of its pictures; without those that are gone if none are named.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the confusion matrix, unsure pictures and suspicious labels into this folder.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="Threads for one inference; by default up to 4.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an added model of the same name.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory; the model goes to its models/.")
    ] = None,
) -> None:
    """Learn classes of whole pictures from examples, and add the model: 5 to 50 pictures a class, seconds, no GPU.

    The accuracy that is printed comes from pictures that were not learned from (cross-validation). The pictures are remembered: without DIR
    the model is taught again from them, changed by --add, --relabel, --forget or --drop.
    """
    from edgeannot.base.places import data_dir_without_settings, model_folders
    from edgeannot.choice.auto_runtime import find_runtime
    from edgeannot.library.modelstore import how_to_run
    from edgeannot.vision.cards import find_card
    from edgeannot.vision.decode import configure_opencv
    from edgeannot_tools.graph.blas import one_thread
    from edgeannot_tools.output import open_console
    from edgeannot_tools.teach.classify.backbone import BUNDLED, find_backbone
    from edgeannot_tools.teach.classify.examples import checked, collect_examples, default_threads, read_examples
    from edgeannot_tools.teach.classify.remembered import forget_unless_added, read_remembered, remember
    from edgeannot_tools.teach.classify.report import print_taught, write_report
    from edgeannot_tools.teach.classify.teaching import teach
    from edgeannot_tools.teach.install import check_name, install_model

    configure_opencv()
    console = open_console()
    state = data_dir_without_settings(data_dir)
    if state is None:
        from edgeannot.settings import find_data_dir  # a tenth of a second that most calls can save

        state = find_data_dir(data_dir)
    runtime = find_runtime(data_dir)
    changes = _changes(data or [], add=add, relabel=relabel, forget=forget, drop=drop)
    again = check_name(name, state / "models", replace=replace or changes is not None)
    if changes is None:
        where = str((data or [])[0])
        examples = read_examples((data or [])[0])
    else:
        old = read_remembered(name, state / "models")
        where = f"the set of {name}"
        examples = checked(changes(old).examples(), where)
        backbone, views = backbone or old.backbone, views or Views(str(old.card.input.views))
        size = size or (old.card.input.width if backbone == old.backbone else None)
    network = find_backbone(find_card(backbone or BUNDLED, model_folders(state)), size)
    looked = int(views or 1)
    with one_thread():  # the matrices are small
        seen = collect_examples(examples, network, state / "cache" / "teach", threads or default_threads(), runtime, looked)
        taught = teach(seen, network, name, where, looked)
    print_taught(taught, console)
    if report is not None:
        write_report(taught, report)
        console.print(f"wrote {report}: confusion.png, unsure.png, suspicious.png, suspicious.csv", soft_wrap=True)
    # First the pictures: a change that is made twice is made once, and a model whose pictures are not known could not be changed again.
    remember(examples, name, state / "models")
    try:
        card = install_model(
            taught.card, taught.model, state, comments=taught.comments, replace=True, trial=not network.bundled, runtime=runtime
        )
    finally:
        forget_unless_added(name, state / "models")
    console.print(
        f"replaced {card.name} in {card.folder}; a daemon that runs takes it by the command `model`, or when it is started again"
        if again
        else f"added {card.name} to {card.folder}{how_to_run(card, data_dir)}",
        soft_wrap=True,
    )


def _changes(
    data: list[Path], *, add: str | None, relabel: str | None, forget: str | None, drop: bool
) -> Callable[[Remembered], Remembered] | None:
    """Return what is changed of the remembered pictures; None where a set is named. Raises InputError for options that do not fit."""
    if sum(option is not None for option in (add, relabel, forget)) + drop > 1:
        raise InputError("wanted one of --add, --relabel, --forget and --drop at a time")
    if add is not None:
        return lambda old: old.added(add, data)
    if relabel is not None:
        return lambda old: old.relabelled(relabel, data)
    if forget is not None:
        if data:
            raise InputError(f"--forget takes a whole class and no pictures, found {data[0]}; --drop takes pictures")
        return lambda old: old.without(forget)
    if drop:
        return lambda old: old.dropped(data)
    if len(data) > 1:
        raise InputError(f"wanted one folder or CSV file, found {len(data)}; pictures of one class are taken with --add CLASS")
    return None if data else lambda old: old
