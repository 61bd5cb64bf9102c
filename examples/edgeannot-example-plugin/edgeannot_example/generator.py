"""A source: pictures of one colour, a given number of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Literal

import numpy as np
from pydantic import Field

from edgeannot.plugin import Frame, Item, PluginSource, SourceContext, SourceKind, SourceOptions, Stop, Tick

__all__ = ["GENERATOR"]


class GeneratorOptions(SourceOptions):
    """Test pictures of one colour."""

    kind: Literal["generator"] = "generator"
    pictures: int = Field(default=10, ge=0)
    """How many pictures there are."""
    grey: int = Field(default=114, ge=0, le=255)
    """Their colour."""


class Generator(PluginSource):
    """Gives the pictures one after the other; then, unless it is to end, signs of life."""

    def __init__(self, name: str, options: GeneratorOptions, context: SourceContext) -> None:
        self._name = name
        self._options = options
        self._once = context.once

    def items(self, stop: Stop) -> Iterator[Item]:
        """The pictures."""
        for number in range(self._options.pictures):
            if stop.is_set():
                return
            image = np.full((240, 320, 3), self._options.grey, np.uint8)
            yield Frame(image, self._name, number, datetime.now(UTC), f"{self._name}/{number}", name=f"{number:04}.jpg")
        while not self._once and not stop.wait(1.0):
            yield Tick()


GENERATOR = SourceKind(GeneratorOptions, Generator)
