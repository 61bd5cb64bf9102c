"""The assignment of least cost between rows and columns: shortest augmenting paths with potentials (Kuhn 1955; Jonker, Volgenant 1987)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["assign"]


def assign(cost: NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """Return pairs of row and column, each at most once, whose costs below `limit` have the least sum; a pair left out costs `limit`.

    >>> assign(np.array([[0.1, 0.2], [0.15, 0.9]]), 0.8)
    [(0, 1), (1, 0)]
    """
    rows, columns = cost.shape
    if not rows or not columns:
        return []
    # Beside each row a column that stands for no partner, so that every row can be assigned.
    wide = np.full((rows, columns + rows), limit)
    wide[:, :columns] = np.minimum(cost, limit)
    owner = np.full(columns + rows, -1)
    row_level, column_level = np.zeros(rows), np.zeros(columns + rows)
    for row in range(rows):
        _augment(row, wide, owner, row_level, column_level)
    return sorted((int(owner[c]), c) for c in range(columns) if owner[c] >= 0 and cost[owner[c], c] < limit)


def _augment(
    row: int, cost: NDArray[np.float64], owner: NDArray[np.int64], row_level: NDArray[np.float64], column_level: NDArray[np.float64]
) -> None:
    """Assign one more row by the shortest path over columns that are taken; change owner and levels."""
    count = cost.shape[1]
    distance, before, done = np.full(count, np.inf), np.full(count, -1), np.zeros(count, bool)
    at, column, so_far = row, -1, 0.0
    path: list[tuple[int, int]] = []
    while True:
        reduced = so_far + cost[at] - row_level[at] - column_level
        nearer = ~done & (reduced < distance)
        distance[nearer], before[nearer] = reduced[nearer], column
        column = int(np.argmin(np.where(done, np.inf, distance)))
        so_far = float(distance[column])
        done[column] = True
        if owner[column] < 0:
            break
        at = int(owner[column])
        path.append((at, column))
    row_level[row] += so_far
    for taken, passed in path:
        row_level[taken] += so_far - distance[passed]
        column_level[passed] -= so_far - distance[passed]
    while column >= 0:
        previous = int(before[column])
        owner[column] = row if previous < 0 else owner[previous]
        column = previous
