"""Rounds: everyone takes a turn in each, nobody is always first, and ratios are taken within a round.

A machine's speed drifts over minutes. Two contenders that run one after the other feel the same machine, so
their ratio is steadier than either's speed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """A median with the lowest and the highest value.

    >>> str(Spread(2.0, 1.5, 2.25))
    '2.00 (1.50 to 2.25)'
    """

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        """Write it as tables do."""
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """Describe repeated measurements; without any, it is not known.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.0, high=3.0)
    """
    if not values:
        return Spread(math.nan, math.nan, math.nan)
    return Spread(statistics.median(values), min(values), max(values))


def turns(names: Sequence[str], number: int) -> list[str]:
    """Order a round: the first of the round before goes last.

    >>> turns(["a", "b", "c"], 1)
    ['b', 'c', 'a']
    """
    first = number % len(names)
    return [*names[first:], *names[:first]]


def ratio(ours: Mapping[int, float], peer: Mapping[int, float]) -> Spread:
    """Compare two contenders: ours / peer's within each round, over the rounds that both took part in.

    Args:
        ours, peer: round -> value.

    >>> ratio({0: 4.0, 1: 9.0, 2: 6.0}, {0: 2.0, 1: 3.0, 2: 3.0})
    Spread(median=2.0, low=2.0, high=3.0)
    """
    return spread([ours[number] / peer[number] for number in ours.keys() & peer.keys()])


def enough(seconds: float, steps: int, wanted: float, most: int, multiple: int = 1) -> int:
    """Choose how many steps make a round.

    Args:
        seconds, steps: of a trial.
        wanted: seconds of a round.
        most: steps that the contender can make at once.
        multiple: steps that the contender makes in one go: where a round holds several, it holds whole ones.

    >>> enough(0.5, 100, wanted=0.8, most=1000)
    160
    >>> enough(0.5, 100, wanted=0.8, most=1000, multiple=32)
    160
    >>> enough(0.5, 100, wanted=0.8, most=1000, multiple=128)
    128
    >>> enough(2.0, 4, wanted=0.8, most=1000, multiple=32)
    1
    """
    chosen = min(most, max(1, int(wanted * steps / seconds)))
    return chosen - chosen % multiple if chosen > multiple else chosen
