"""What known mistakes make of moving statistics: pure functions on arrays, one for each mistake."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bnlab.science.averages import advance
from bnlab.science.moments import Moments
from bnlab.science.tape import START_MEAN, START_VARIANCE, Tape


def never_updated(statistics: Mapping[str, Moments]) -> dict[str, Moments]:
    """Give the statistics of before the first update: mean 0, variance 1."""
    return {
        layer: Moments(np.full(len(mean), START_MEAN), np.full(len(mean), START_VARIANCE))
        for layer, (mean, _) in statistics.items()
    }


def poisoned(
    statistics: Mapping[str, Moments], seen: Mapping[str, Moments], decay: float, passes: int
) -> dict[str, Moments]:
    """Let averages take in the moments of one batch, again and again.

    Args:
        statistics: layer -> moments, (channels,) each.
        seen: layer -> moments of the batch, (1, channels) each; NaN stays for good.
        decay: of the averages.
        passes: how often.

    >>> one = {"norm": Moments(np.array([4.0]), np.array([1.0]))}
    >>> blank = {"norm": Moments(np.zeros((1, 1)), np.zeros((1, 1)))}
    >>> poisoned(one, blank, 0.5, 2)["norm"]
    Moments(mean=array([1.]), variance=array([0.25]))
    """
    return {
        layer: Moments(
            *(
                advance(old[None], np.repeat(new, passes, axis=0), [decay])[0]
                for old, new in zip(own, seen[layer], strict=True)
            )
        )
        for layer, own in statistics.items()
    }


def with_bessel(statistics: Mapping[str, Moments], counts: Mapping[str, int]) -> dict[str, Moments]:
    """Multiply variances by n / (n - 1): an average of unbiased estimates where biased ones are meant.

    Args:
        statistics: layer -> moments.
        counts: layer -> samples behind one variance: images times positions, at least 2.

    >>> with_bessel({"norm": Moments(np.zeros(1), np.ones(1))}, {"norm": 2})["norm"].variance
    array([2.])
    """
    return {
        layer: Moments(mean, variance * (counts[layer] / (counts[layer] - 1)))
        for layer, (mean, variance) in statistics.items()
    }


def in_half_precision(tape: Tape, decay: float) -> dict[str, Moments]:
    """Replay a tape with averages in float16, each operation rounded.

    A step smaller than half a unit in the last place is lost: at decay 0.999 the average of a constant stops
    on the way to it.
    """
    return {
        layer: _halves(tape.updates(layer), decay) for layer in dict.fromkeys(c.layer for c in tape.columns)
    }


def _halves(updates: np.ndarray, decay: float) -> Moments:
    kept, taken = np.float16(decay), np.float16(1 - decay)
    channels = updates.shape[1] // 2
    average = np.repeat([START_MEAN, START_VARIANCE], channels).astype(np.float16)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # beyond 65,504 float16 is infinite, and 0 times it NaN
        for row in updates.astype(np.float16):
            average = average * kept + row * taken
    return Moments(*np.split(average.astype(np.float64), 2))
