"""Pictures without any object, made on the spot: what a model is taught not to see where nobody gives it pictures of the place.

Flat shapes of many sizes, one over the other, each with a texture and light of its own: a "dead leaves" picture has the edges, corners
and textures of photographs (Lee, Mumford, Huang 2001, https://doi.org/10.1023/A:1011109015675), and networks learn to see from such
pictures alone (Baradad et al. 2021, https://arxiv.org/abs/2106.05963). They take no room on the disk and have no owner, and nothing that
a user teaches can be in them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import FloatArray, UInt8Array

__all__ = ["MADE", "SIZE_WH", "made_background"]

MADE = 48
"""Pictures by default."""
SIZE_WH = (320, 240)
_SHAPES = (4, 40)
_RADIUS = (6.0, 110.0)
_BANK, _BANK_PX = 6, 256
"""Noises of a picture, from which textures are cut."""


def made_background(number: int) -> UInt8Array:
    """Return a picture (240, 320, 3) BGR; the same number gives the same picture."""
    rng = np.random.default_rng((7, number))
    width, height = SIZE_WH
    noises = [_noise(rng, power) for power in np.linspace(0.6, 1.9, _BANK)]
    image = _texture(rng, noises, (height, width))
    if rng.random() < 0.6:  # a floor, or a street, before a wall or the sky
        edge = int(rng.uniform(0.3, 0.8) * height)
        image[edge:] = _texture(rng, noises, (height - edge, width))
    count = int(_log_uniform(rng, _SHAPES))
    for radius in sorted((_log_uniform(rng, _RADIUS) for _ in range(count)), reverse=True):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        reach = int(1.3 * radius) + 2
        left, top = max(0, int(x) - reach), max(0, int(y) - reach)
        right, bottom = min(width, int(x) + reach), min(height, int(y) + reach)
        mask = _shape(rng, (x - left, y - top), radius, (bottom - top, right - left))[..., None]
        part = image[top:bottom, left:right]
        image[top:bottom, left:right] = part + (_texture(rng, noises, mask.shape[:2]) - part) * mask
    if rng.random() < 0.7:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6)), np.float32)
    grain = rng.normal(0, rng.uniform(0, 6), image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _log_uniform(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(bounds))))


def _noise(rng: np.random.Generator, power: float) -> FloatArray:
    """Return a square of noise, mean 0 and deviation 1, whose spectrum falls with this power of the frequency; photographs have about 1."""
    side = _BANK_PX
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    made = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(side, side))) / np.maximum(frequency, 1 / side) ** power, s=(side, side))
    return np.asarray((made - made.mean()) / made.std(), np.float32)


def _texture(rng: np.random.Generator, noises: list[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    """Return (h, w, 3): a colour with noise, perhaps stripes or checks, and light from one side."""
    height, width = shape[:2]
    colour = rng.uniform(20, 235, 3)
    colour += (colour.mean() - colour) * 0.8 * rng.random()  # most things are rather grey
    noise = noises[int(rng.integers(len(noises)))]
    rows, columns = (np.arange(n) + int(rng.integers(_BANK_PX)) for n in (height, width))
    pattern = noise[np.ix_(rows % _BANK_PX, columns % _BANK_PX)] * _log_uniform(rng, (3, 45))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    if rng.random() < 0.3:
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 40)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period)
        if rng.random() < 0.4:
            wave *= np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / (period * rng.uniform(0.5, 2)))
        pattern = pattern + (np.sign(wave) if rng.random() < 0.5 else wave) * rng.uniform(5, 50)
    light = (x / width - 0.5) * rng.normal(0, 40) + (y / height - 0.5) * rng.normal(0, 40)
    found = colour + pattern[..., None] * rng.uniform(0.6, 1.2, 3) + light[..., None]
    return np.asarray(np.clip(found, 0, 255), np.float32)


def _shape(rng: np.random.Generator, centre: tuple[float, float], radius: float, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return (h, w) how far each pixel is covered, 0 to 1, by an ellipse, a rectangle, a polygon or something rounder."""
    mask = np.zeros(shape, np.uint8)
    kind, angle = rng.random(), rng.uniform(0, 180)
    where = (round(centre[0]), round(centre[1]))
    if kind < 0.35:
        cv2.ellipse(mask, where, (round(radius), max(1, round(radius * rng.uniform(0.2, 1)))), angle, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        if kind < 0.65:
            sides = (2 * radius, 2 * radius * rng.uniform(0.1, 1))
            points = cv2.boxPoints((where, sides, 0.0 if rng.random() < 0.5 else angle))
        else:
            corners = int(rng.integers(3, 12))
            turns, reach = np.sort(rng.uniform(0, 2 * np.pi, corners)), radius * rng.uniform(0.3, 1.2, corners)
            if rng.random() < 0.5:
                fine = np.linspace(0, 2 * np.pi, 60)
                turns, reach = fine, np.interp(fine, turns, reach, period=2 * np.pi)
            points = np.stack([where[0] + reach * np.cos(turns), where[1] + reach * np.sin(turns)], axis=1)
        cv2.fillPoly(mask, [np.asarray(points, np.int32)], 255, cv2.LINE_AA)
    return mask.astype(np.float32) / np.float32(255)
