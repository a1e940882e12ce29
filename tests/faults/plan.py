"""Which shots a seed draws."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from tests.faults.chain import Reference
from tests.faults.shots import JOBLIB, AtPoint, AtTime, Interrupt, Shot
from tests.faults.victim import POINTS

_START_SECONDS = 6.0  # of every start, before it does anything new
_DEAF_SECONDS = 1.0  # Python itself is still loading: no program can answer Ctrl-C yet
_LONGEST = 6


class Plan:
    """Draws the shots of chain after chain.

    Args:
        seed: equal seeds draw equal shots.
        calls: target -> how often an undisturbed sweep calls it; points that it never comes to are left out.
    """

    def __init__(self, seed: int, calls: Mapping[str, int]) -> None:
        self._seed, self._calls, self._rng = seed, calls, random.Random(seed)
        self._points: deque[str] = deque()

    def shots(self, kind: str, chain: int, reference: Reference) -> Iterator[Shot]:
        """Draw the shots of a chain, each when it is asked for."""
        rng = random.Random(f"{self._seed}/{chain}")
        draw = {"time": _at_times, "point": self._at_points, "interrupt": _interrupts}[kind]
        return draw(rng, rng.randint(3, _LONGEST), reference)

    def again(self, missed: Iterable[Shot]) -> None:
        """Draw first, in a fresh sweep, the points that a sweep had passed already."""
        self._points.extendleft(shot.point for shot in missed if isinstance(shot, AtPoint))

    def _at_points(self, rng: random.Random, count: int, reference: Reference) -> Iterator[Shot]:
        for number in range(count):
            point = self._point()
            # A resumed sweep has less left to do.
            most = max(1, reference.calls[POINTS[point][0]] // (number + 1))
            yield AtPoint(point, rng.randint(1, most))

    def _point(self) -> str:
        """Every point in turn, in an order that is drawn anew for each round."""
        if not self._points:
            reached = [point for point, (target, _) in POINTS.items() if self._calls[target]]
            self._points.extend(self._rng.sample(reached, len(reached)))
        return self._points.popleft()


def _at_times(rng: random.Random, count: int, reference: Reference) -> Iterator[Shot]:
    """Kill everything, or with workers the parent alone; the last shot is then at one of the workers."""
    launcher = rng.choice([(), JOBLIB])
    moments = list(_moments(rng, count, reference.seconds, 0.0))
    for number, seconds in enumerate(moments):
        whom = rng.choice(["group", "parent"]) if launcher else "group"
        yield AtTime(seconds, "worker" if launcher and number == count - 1 else whom, launcher)


def _interrupts(rng: random.Random, count: int, reference: Reference) -> Iterator[Shot]:
    launcher = rng.choice([(), JOBLIB])
    for seconds in _moments(rng, count, reference.seconds, _DEAF_SECONDS):
        yield Interrupt(seconds, launcher)


def _moments(rng: random.Random, count: int, left: float, first: float) -> Iterator[float]:
    """Draw each moment over what the ones before it have left of the sweep."""
    for _ in range(count):
        moment = rng.uniform(first, left)
        yield moment
        left -= max(0.0, moment - _START_SECONDS)
