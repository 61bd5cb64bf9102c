"""Pictures of coloured classes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

__all__ = ["COLORS", "picture", "write_set"]

COLORS = {"blue": (200, 60, 40), "green": (40, 180, 60), "red": (50, 40, 210)}
"""BGR."""


def picture(color: tuple[int, int, int], seed: int, size_wh: tuple[int, int] = (96, 72)) -> np.ndarray:
    """Coarse noise around a colour: pictures of other seeds are no near-duplicates."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-70, 70, (9, 12, 1)) + np.array(color)
    return cv2.resize(np.clip(coarse, 0, 255).astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST)


def write_set(folder: Path, count: int, colors: dict[str, tuple[int, int, int]] = COLORS, seed: int = 0) -> Path:
    """A folder with `count` pictures of each colour."""
    for number, (name, color) in enumerate(colors.items()):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            cv2.imwrite(str(folder / name / f"{k}.png"), picture(color, seed + 1000 * number + k))
    return folder
