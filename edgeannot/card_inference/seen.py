"""Says what a model that is no detector, classifier or embedding seems to be."""

from __future__ import annotations

from edgeannot.card_inference.interpretation import Known

__all__ = ["what_it_is"]


def what_it_is(known: Known) -> str:  # noqa: PLR0911 - one answer a sign, the surest first
    """A clause for the refusal: what the outputs look like and what would be needed."""
    picture = known.facts.picture
    shapes = [known.run.shape(out.position) for out in known.facts.outputs]
    exporter = known.facts.metadata.exporter
    if exporter and exporter.task not in {"", "detect", "classify"}:
        return f"{exporter.file} says task {exporter.task!r}, of which boxes cannot be read here"
    if any((17 in s or 33 in s or 51 in s or 56 in s) and len(s) >= 3 and max(s) <= 64 for s in shapes):
        return "its output looks like keypoints of a body (MoveNet, PoseNet), not like boxes or classes"
    for s in shapes:
        if len(s) == 4 and (s[1] * 4 >= picture.height and s[2] * 4 >= picture.width):
            return "its output is a map nearly as large as the picture (segmentation, depth or a filtered picture), not boxes or classes"
        if len(s) == 3 and picture.height <= s[1] * 4 <= 8 * picture.height and picture.width <= s[2] * 4 <= 8 * picture.width:
            return "its output is a map nearly as large as the picture (segmentation or depth), not boxes or classes"
    if len(shapes) == 1 and len(shapes[0]) in {2, 3} and shapes[0][-1] in {6, 7} and shapes[0][-2] <= 1000:
        return "its output looks like rows of objects in an order that is not known: wanted four box numbers, then score, then class id"
    if any(len(s) == 4 and s[1] * s[2] > 1 for s in shapes):
        return "its outputs are maps that fit no known detector (heat maps of keypoints, centres or segments, perhaps)"
    if len(shapes) > 1 and all(len([n for n in s if n != 1]) <= 1 for s in shapes):
        return "it has several vectors for the whole picture (landmarks, attributes), which is neither boxes nor one list of classes"
    return "its outputs fit no known kind of detector, classifier or embedding"
