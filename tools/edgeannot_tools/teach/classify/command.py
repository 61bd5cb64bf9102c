"""`edgeannot teach classify`: own classes for whole pictures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Views", "classify"]


class Views(StrEnum):
    """How many views a model looks at."""

    ONE = "1"
    TWO = "2"
    FOUR = "4"


def classify(
    data: Annotated[Path, typer.Argument(metavar="DIR", help="A folder with one subfolder of pictures a class, or a CSV: picture, class.")],
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
        Views, typer.Option(help="Views of a picture that are averaged at run time, each for a run of the network: a little more accurate.")
    ] = Views.ONE,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw the confusion matrix, unsure pictures and suspicious labels into this folder.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads for one inference; by default up to 4.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace an added model of the same name.")] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Data directory; the model goes to its models/.")
    ] = None,
) -> None:
    """Learn classes of whole pictures from examples, and add the model: 5 to 50 pictures a class, seconds, no GPU.

    The accuracy that is printed comes from pictures that were not learned from (cross-validation).
    """
    from edgeannot.base.places import model_folders
    from edgeannot.library.modelstore import how_to_run
    from edgeannot.settings import find_data_dir, find_runtime
    from edgeannot.vision.cards import find_card
    from edgeannot.vision.decode import configure_opencv
    from edgeannot_tools.graph.blas import one_thread
    from edgeannot_tools.teach.classify.backbone import BUNDLED, find_backbone
    from edgeannot_tools.teach.classify.examples import collect_examples, default_threads, read_examples
    from edgeannot_tools.teach.classify.report import print_taught, write_report
    from edgeannot_tools.teach.classify.teaching import teach
    from edgeannot_tools.teach.install import check_name, install_model
    from edgeannot_tools.terminal import open_console

    configure_opencv()
    console = open_console()
    state, runtime = find_data_dir(data_dir), find_runtime()
    check_name(name, state / "models", replace=replace)
    examples = read_examples(data)
    network = find_backbone(find_card(backbone or BUNDLED, model_folders(state)), size)
    seen = collect_examples(examples, network, state / "cache" / "teach", threads or default_threads(), runtime)
    with one_thread():  # the matrices are small
        taught = teach(seen, network, name, str(data), int(views))
    print_taught(taught, console)
    if report is not None:
        write_report(taught, report)
        console.print(f"wrote {report}: confusion.png, unsure.png, suspicious.png, suspicious.csv", soft_wrap=True)
    card = install_model(
        taught.card, taught.model, state, comments=taught.comments, replace=replace, trial=not network.bundled, runtime=runtime
    )
    console.print(f"added {card.name} to {card.folder}{how_to_run(card, data_dir)}", soft_wrap=True)
