"""Whether scores are probabilities already: by the operator that made them, else by the range of a sample run."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["activation_of"]

SLACK = 0.01
"""Quantized probabilities may end a step beyond 0 and 1."""


def activation_of(numbers: NDArray[np.float32], made_by: str) -> tuple[Literal["none", "sigmoid"], str]:
    """What is still to be done to scores, and why. made_by: the operator's name, "" where it is not known."""
    low, high = float(numbers.min(initial=0)), float(numbers.max(initial=0))
    inside = low >= -SLACK and high <= 1 + SLACK
    if made_by in {"LOGISTIC", "SOFTMAX", "HARD_SIGMOID"} and inside:
        return "none", f"scores are made by {made_by}: probabilities already"
    if not inside:
        return "sigmoid", f"scores reach from {low:.3g} to {high:.3g} in a sample run: logits, so a sigmoid follows"
    if made_by in {"CONV_2D", "FULLY_CONNECTED", "ADD", "DEPTHWISE_CONV_2D"} and high - low < 1e-3:
        return "sigmoid", f"scores are made by {made_by}: logits, so a sigmoid follows"
    return "none", f"scores stay within {low:.3g} to {high:.3g} in a sample run: probabilities already"
