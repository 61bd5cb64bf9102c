"""Ids for objects over pictures, by association in two stages as ByteTrack has it (Zhang et al. 2022, arXiv:2110.06864).

Boxes of high score are matched with the predicted boxes of the tracks first; what is left of the tracks is then matched with boxes
of low score, which are half hidden objects more often than errors. A track that is not seen waits for its object, which may have stopped
or gone on meanwhile: a third stage finds it by place and shape, as far as its motion leaves that open.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeannot.vision.data import Detections, FloatArray, IntArray
from edgeannot.vision.geometry import iou_matrix

__all__ = ["Motion", "Track", "Tracker", "assign"]

_FIRST: Final = 0.8
_SECOND: Final = 0.5
_NEW: Final = 0.7
"""Largest costs of a match in the three stages, those of the paper's code."""
_SURPRISE: Final = 9.4877
"""Largest squared distance of a box from where a hidden object is expected: 95 % of the right ones are nearer (Wojke et al. 2017)."""
_SURER: Final = 0.1
"""How much better than what is reported the two pictures of a new object have to be on average; of weaker ones it takes a third."""
_SAME: Final = 0.7
"""Overlap from which on two boxes of one picture are one object under two names: suppression looks at each label for itself."""
_LEAST_MISSES: Final = 3
_LONGEST_STEP_S: Final = 1.0
"""Of the time between two pictures that counts: in a longer one nobody looked, as nothing had changed or the source was away."""


@dataclass(eq=False)
class Track:
    """One object."""

    id: int
    motion: Motion
    box: FloatArray
    labels: dict[str, float] = field(default_factory=dict)
    """Sums of the scores by label."""
    score: float = 0.0
    begun_s: float = 0.0
    """When it was first seen."""
    enough: float = 0.0
    """The sum of scores from which on it is taken for an object."""
    evidence: float = 0.0
    """Sum of scores over what is reported, begun anew at 0 after it was below it: negative where it was hardly seen of late."""
    hits: int = 1
    misses: int = 0
    unseen_s: float = 0.0
    strange: int = 0
    """Pictures in a row in which it was seen under names alone that nobody asked for."""
    resumed: bool = False
    """Whether it is remembered from an earlier run and was not seen in this one."""

    @property
    def label(self) -> str:
        """Return the label that it had most, by scores."""
        return max(self.labels, key=lambda label: self.labels[label])

    @property
    def confirmed(self) -> bool:
        """Return whether it was seen twice, and often enough for how well it was seen."""
        return self.resumed or (self.hits > 1 and sum(self.labels.values()) >= self.enough)

    def is_seen(self, label: str, score: float, high_score: float) -> None:
        """Take in that it was seen in this picture, under this label."""
        self.score, self.evidence = score, max(self.evidence, 0.0) + score - high_score
        self.labels[label] = self.labels.get(label, 0.0) + score
        self.hits, self.misses, self.strange, self.unseen_s, self.resumed = self.hits + 1, 0, 0, 0.0, False


class Tracker:
    """The tracks of one source. For one thread."""

    def __init__(self, patience_s: float, next_id: int = 1) -> None:
        self._patience_s = patience_s
        self.next_id = next_id
        self.tracks: list[Track] = []
        self._last_s: float | None = None
        self._interval_s = 0.2
        """Usual time between two pictures."""

    def resume(self, track_id: int, label: str, box: FloatArray) -> None:
        """Add a track of an earlier run, which waits for its object."""
        self.tracks.append(Track(track_id, Motion.at(box), box, {label: 1.0}, hits=2, misses=1, resumed=True))

    def update(
        self,
        found: Detections,
        labels: Sequence[str],
        high_score: float,
        at_s: float,
        size_wh: tuple[int, int],
        wanted: Collection[str] = (),
    ) -> tuple[IntArray, list[Track]]:
        """Return the track of each detection (N,), -1 for none, and the tracks that ended.

        at_s: when the picture was taken. wanted: labels of objects; empty: all. Other boxes have no track, but show how one goes on.

        An object has its id from the second picture on, a faint one later: most of what is seen once is a false alarm, or a box that fits
        its object badly. Labels do not matter: a detector that is unsure of an object names it differently from picture to picture.
        """
        step_s = self._step(at_s)
        for track in self.tracks:
            track.motion = (track.motion.growing_no_more() if track.misses else track.motion).after(step_s / self._interval_s)
        asked = np.array([not wanted or label in wanted for label in labels], bool)
        seen = _Seen(found, labels, high_score, asked, np.full(len(found), -1, np.int64))
        high, low = _rows(asked & (found.scores >= high_score)), _rows(asked & (found.scores < high_score))
        confirmed, fresh = [t for t in self.tracks if t.confirmed], [t for t in self.tracks if not t.confirmed]
        left, high = seen.match(confirmed, high, _FIRST, by_score=True)
        unseen, _ = seen.match([track for track in left if not track.misses], low, _SECOND)
        seen.match(unseen, _rows(~asked), _SECOND)
        left = [track for track in left if track.id not in seen.ids]
        _, high = seen.match(fresh, high, _NEW, by_score=True)
        high = seen.find_again([track for track in left if not track.resumed and track.motion.is_inside(size_wh)], high)
        for row in high:
            if not seen.is_named_twice(row):
                self._begin(seen, row)
        ended = self._aged(seen, step_s)
        seen.ids[~asked | ~np.isin(seen.ids, [track.id for track in self.tracks if track.confirmed])] = -1
        return seen.ids, ended

    def _step(self, at_s: float) -> float:
        """Return the seconds since the last picture, as far as they count."""
        passed_s = self._interval_s if self._last_s is None else at_s - self._last_s
        self._last_s = at_s
        if not 0.0 < passed_s <= _LONGEST_STEP_S:
            return self._interval_s if passed_s <= 0 else _LONGEST_STEP_S
        self._interval_s += 0.1 * (passed_s - self._interval_s)
        return passed_s

    def _begin(self, seen: _Seen, row: int) -> None:
        score, box, enough = float(seen.found.scores[row]), seen.found.boxes[row], 2 * (seen.high_score + _SURER)
        self.tracks.append(Track(self.next_id, Motion.at(box), box, {seen.labels[row]: score}, score, self._last_s or 0.0, enough))
        seen.ids[row] = self.next_id
        self.next_id += 1

    def _aged(self, seen: _Seen, step_s: float) -> list[Track]:
        """Count the misses of tracks that were not seen; remove and return those whose patience is over."""
        named, there = set(seen.ids[seen.asked].tolist()), set(seen.ids.tolist())
        for track in self.tracks:
            if track.id not in named:
                track.unseen_s += step_s
                track.strange, track.misses = (track.strange + 1, 0) if track.id in there else (track.strange, track.misses + 1)
        ended = [track for track in self.tracks if self._is_over(track)]
        self.tracks = [track for track in self.tracks if track not in ended]
        return [track for track in ended if track.confirmed]

    def _is_over(self, track: Track) -> bool:
        is_gone = track.unseen_s > self._patience_s and track.misses + track.strange >= _LEAST_MISSES
        return is_gone if track.confirmed else track.misses > 0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was found in one picture, and the tracks that it was given to."""

    found: Detections
    labels: Sequence[str]
    high_score: float
    asked: NDArray[np.bool_]
    """Of each box, whether its label is wanted."""
    ids: IntArray
    """Of each box, its track; -1: none."""

    def match(self, tracks: list[Track], rows: list[int], limit: float, *, by_score: bool = False) -> tuple[list[Track], list[int]]:
        """Give rows to tracks by overlap; return the tracks and the rows that are left."""
        if not tracks or not rows:
            return tracks, rows
        overlap: NDArray[np.float64] = iou_matrix(np.stack([t.motion.box for t in tracks]), self.found.boxes[rows]).astype(np.float64)
        cost = 1.0 - (overlap * self._sureness(rows) if by_score else overlap)
        cost[overlap <= 0] = np.inf
        return self._give(tracks, rows, assign(cost, limit))

    def find_again(self, hidden: list[Track], rows: list[int]) -> list[int]:
        """Give tracks what may be them by place and shape, though it overlaps little with where they are expected; return the rows left."""
        if not hidden or not rows:
            return rows
        surprise = np.stack([track.motion.surprise(self.found.boxes[rows]) for track in hidden])
        return self._give(hidden, rows, assign(surprise, _SURPRISE))[1]

    def is_named_twice(self, row: int) -> bool:
        """Return whether a box is of an object that has its track by another box of this picture."""
        tracked = self.found.boxes[self.ids >= 0]
        return bool(len(tracked)) and float(iou_matrix(self.found.boxes[row][None], tracked).max()) >= _SAME

    def _sureness(self, rows: list[int]) -> FloatArray:
        """Return how sure boxes are, from 0.5 where they are just reported to 1: the scores of one detector end where another's begin."""
        over = (self.found.scores[rows] - self.high_score) / max(1.0 - self.high_score, 1e-6)
        return np.asarray(0.5 + 0.5 * over, np.float32)

    def _give(self, tracks: list[Track], rows: list[int], pairs: list[tuple[int, int]]) -> tuple[list[Track], list[int]]:
        for index, place in pairs:
            track, row = tracks[index], rows[place]
            self.ids[row], track.box = track.id, self.found.boxes[row]
            track.motion = track.motion.seen(track.box)
            if self.asked[row]:
                track.is_seen(self.labels[row], float(self.found.scores[row]), self.high_score)
        taken_tracks, taken_rows = {index for index, _ in pairs}, {place for _, place in pairs}
        return (
            [track for index, track in enumerate(tracks) if index not in taken_tracks],
            [row for place, row in enumerate(rows) if place not in taken_rows],
        )


def _rows(which: NDArray[np.bool_]) -> list[int]:
    return [int(row) for row in np.flatnonzero(which)]


# -- which row goes with which column --------------------------------------------------------------------------------------------


def assign(cost: NDArray[np.float64], limit: float) -> list[tuple[int, int]]:
    """Return pairs of row and column, each at most once, whose costs below `limit` have the least sum; a pair left out costs `limit`.

    By shortest augmenting paths with potentials (Kuhn 1955; Jonker, Volgenant 1987).

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


# -- where a box is and how it moves ---------------------------------------------------------------------------------------------


_POSITION: Final = 1 / 20
_VELOCITY: Final = 1 / 160
_ASPECT: Final = 1e-2
_ASPECT_VELOCITY: Final = 1e-5
_MEASURED_ASPECT: Final = 1e-1

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Motion:
    """Where a box is and how it moves: mean (8,) and covariance (8, 8) of a Kalman filter with constant velocity.

    The state is centre x and y, aspect ratio, height, and their velocities. Noise grows with the height of the box, with the weights of
    SORT's successors (Wojke, Bewley, Paulus 2017, arXiv:1703.07402), which ByteTrack uses as they are. Time counts in pictures.
    """

    mean: _Array
    covariance: _Array

    @classmethod
    def at(cls, box_xyxy: FloatArray) -> Motion:
        """Return the motion of a box that was seen once."""
        measured = _measured(box_xyxy)
        height = measured[3]
        position, velocity = 2 * _POSITION * height, 10 * _VELOCITY * height
        deviation = np.array([position, position, _ASPECT, position, velocity, velocity, _ASPECT_VELOCITY, velocity])
        return cls(np.concatenate([measured, np.zeros(4)]), np.diag(deviation**2))

    def after(self, pictures: float) -> Motion:
        """Return the motion so many pictures later."""
        move = np.eye(8)
        move[:4, 4:] = pictures * np.eye(4)
        height = self.mean[3]
        position, velocity = _POSITION * height, _VELOCITY * height
        deviation = np.array([position, position, _ASPECT, position, velocity, velocity, _ASPECT_VELOCITY, velocity])
        return Motion(move @ self.mean, move @ self.covariance @ move.T + max(pictures, 0.0) * np.diag(deviation**2))

    def seen(self, box_xyxy: FloatArray) -> Motion:
        """Return the motion after the box was measured there."""
        gain = np.linalg.solve(self._measured_covariance(), self.covariance[:4]).T
        mean = self.mean + gain @ (_measured(box_xyxy) - self.mean[:4])
        return Motion(mean, self.covariance - gain @ self.covariance[:4])

    def surprise(self, boxes_xyxy: FloatArray) -> _Array:
        """Return how far each box, (N, 4), is from what is expected, (N,): the squared Mahalanobis distance, of 4 degrees of freedom."""
        measured = np.array([_measured(box) for box in boxes_xyxy]).reshape(-1, 4)
        off = measured - self.mean[:4]
        distance: _Array = np.einsum("ni,in->n", off, np.linalg.solve(self._measured_covariance(), off.T))
        return distance

    def _measured_covariance(self) -> _Array:
        """Return the covariance (4, 4) of a box that is measured now."""
        position = _POSITION * self.mean[3]
        noise: _Array = np.diag(np.array([position, position, _MEASURED_ASPECT, position]) ** 2)
        return self.covariance[:4, :4] + noise

    def is_inside(self, size_wh: tuple[int, int]) -> bool:
        """Return whether the middle of the box is expected in the picture."""
        return all(0 <= middle <= size for middle, size in zip(self.mean[:2], size_wh, strict=True))

    def growing_no_more(self) -> Motion:
        """Return the motion without a change of height, which would run away while nothing is seen."""
        mean = self.mean.copy()
        mean[7] = 0.0
        return Motion(mean, self.covariance)

    @property
    def box(self) -> FloatArray:
        """Return the box, (4,) xyxy."""
        x, y, aspect, height = self.mean[:4]
        half_w, half_h = max(aspect * height, 0.0) / 2, max(height, 0.0) / 2
        return np.array([x - half_w, y - half_h, x + half_w, y + half_h], np.float32)


def _measured(box_xyxy: FloatArray) -> _Array:
    x1, y1, x2, y2 = (float(value) for value in box_xyxy)
    height = max(y2 - y1, 1e-3)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / height, height])
