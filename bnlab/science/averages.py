"""Moving averages of recorded moments, at any decay, after the fact.

Training never reads a moving average of batch normalization, so its value under *any* decay can be
computed from the recorded moments alone:

    v_n = decay * v_(n-1) + (1 - decay) * m_n
        = decay^n * v_0 + (1 - decay) * sum_k decay^(n-k) * m_k

The second line is a matrix product of (decays x updates) with (updates x channels): one more decay is
one more row. The first term is the start value's share; zero-debias takes it out again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

# Updates per matrix product: bounds the float64 copy of a tape to a few MB, whatever its length.
_BLOCK = 4096


def keras_weights(decay: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (share kept, share taken) of one update as Keras multiplies them.

    Keras rounds `decay` and `1 - decay` to float32 separately, so the two do not add up to one. Over
    20,000 updates at 0.9999 ignoring this is off by 4e-4.

    Args:
        decay: share of the old value kept per update, in [0, 1).

    Returns:
        Two float64 arrays of decay's shape.

    >>> kept, taken = keras_weights(0.9)
    >>> round(float(kept + taken - 1) * 2**25, 2)
    -0.75
    """
    decay = np.asarray(decay, np.float64)
    kept = decay.astype(np.float32).astype(np.float64)
    taken = (1.0 - decay).astype(np.float32).astype(np.float64)
    return kept, taken


def advance(average: np.ndarray, moments: np.ndarray, decays: Sequence[float] | np.ndarray) -> np.ndarray:
    """Carry moving averages, one per decay, over further updates.

    Args:
        average: (decays, channels), the averages before the first of these updates.
        moments: (updates, channels), what each update saw, oldest first; no updates are allowed.
        decays: (decays,), each in [0, 1).

    Returns:
        (decays, channels) float64, the averages after the last update.

    Raises:
        ValueError: a decay outside [0, 1).

    >>> advance(np.zeros((1, 1)), np.array([[1.0], [1.0]]), [0.5])
    array([[0.75]])
    """
    kept, taken = keras_weights(_in_range(decays))
    average = np.asarray(average, np.float64)
    for first in range(0, len(moments), _BLOCK):
        block = np.asarray(moments[first : first + _BLOCK], np.float64)
        powers = kept[:, None] ** np.arange(len(block), -1, -1)
        with np.errstate(invalid="ignore"):  # what was infinite once is not finite ever after
            average = powers[:, :1] * average + taken[:, None] * (powers[:, 1:] @ block)
    return average


def start_share(decay: float | np.ndarray, updates: int | np.ndarray) -> np.ndarray:
    """Return the share of the start value that is still inside an average: decay^updates.

    The rest, 1 - decay^updates, is made of what was seen. Decay is rounded to float32 as in `keras_weights`.

    Args:
        decay: in [0, 1); it broadcasts against updates.
        updates: at least 0.

    Returns:
        float64 in [0, 1].

    >>> round(float(start_share(0.99, 100)), 3)
    0.366
    """
    kept, _ = keras_weights(_in_range(decay))
    return kept ** np.asarray(updates)


def zero_debiased(
    average: np.ndarray, start: float | np.ndarray, decay: float | np.ndarray, updates: int | np.ndarray
) -> np.ndarray:
    """Take the start value out of a moving average: a weighted mean of what was seen, and of nothing else.

        (v_n - decay^n * start) / (1 - decay^n)

    where the two weights of an update add up to one. Rounded to float32 they do not; the weights of what was
    seen then add up to taken * (1 + kept + ... + kept^(n-1)) = taken * (1 - kept^n) / (1 - kept). Dividing by
    that is exact; dividing by 1 - kept^n is off by 1.7e-4 of the value at 0.9999, for any n.

    Kingma & Ba, arXiv 1412.6980, section 3. There the start is 0 and dividing is enough; a variance starts
    at 1, and what is left of it must be subtracted first.

    Args:
        average: v_n, of any shape that start, decay and updates broadcast to.
        start: v_0.
        decay: in [0, 1).
        updates: n, at least 1.

    Returns:
        float64 of average's shape.

    Raises:
        ValueError: no updates, which leave nothing but the start value (0 / 0); a decay outside [0, 1).

    >>> zero_debiased(np.array([2.0]), 1.0, 0.5, 1)  # 0.5 * 1 + 0.5 * 3
    array([3.])
    """
    if np.less(updates, 1).any():
        raise ValueError(f"zero-debias is undefined before the first update, got {np.min(updates)} updates")
    left = start_share(decay, updates)
    kept, taken = keras_weights(decay)
    return (average - left * start) / (taken * (1 - left) / (1 - kept))


def averages_in_use(
    moments: np.ndarray,
    decay: float,
    start: float | np.ndarray,
    debias: bool = False,
    update_first: bool = True,
) -> np.ndarray:
    """List the average that each step would normalize by, if steps normalized by moving averages.

    Two orders are in use. Update first: step k's average already holds step k's own moments, as in a step
    that runs its update before it reads. Use first: step k reads what the steps before it left, as the
    corrections of batch renormalization do (Ioffe, arXiv 1702.03275, algorithm 1).

    Args:
        moments: (updates, channels), one update per step, oldest first.
        decay: in [0, 1).
        start: the average before the first step; a number or (channels,).
        debias: read the zero-debiased average.
        update_first: which order.

    Returns:
        (updates, channels) float64. Used first and zero-debiased, step 1 has seen nothing: its row is NaN,
        so that rows stay in line with steps and a use of it shows.

    Raises:
        ValueError: a decay outside [0, 1).

    >>> averages_in_use(np.array([[4.0], [8.0]]), 0.5, 0.0).ravel()
    array([2., 5.])
    >>> averages_in_use(np.array([[4.0], [8.0]]), 0.5, 0.0, debias=True, update_first=False).ravel()
    array([nan,  4.])
    """
    kept, taken = keras_weights(_in_range(decay))
    first = np.broadcast_to(np.asarray(start, np.float64), moments.shape[1:])
    rows = np.array(list(accumulate(moments, lambda old, row: kept * old + taken * row, initial=first)))
    if debias:
        rows[1:] = zero_debiased(rows[1:], start, decay, np.arange(1, len(rows))[:, None])
        rows[0] = np.nan
    return rows[1:] if update_first else rows[:-1]


def _in_range(decays: float | Sequence[float] | np.ndarray) -> np.ndarray:
    decays = np.asarray(decays, np.float64)
    if not ((decays >= 0) & (decays < 1)).all():
        raise ValueError(f"every decay must lie in [0, 1), got {decays.tolist()}")
    return decays


def replay_tolerance(decay: float, largest: float) -> float:
    """Bound how far Keras's float32 average may lie from the exact one, in the worst case.

    With L the largest magnitude and h = 2^-24, half a float32 step: an update rounds decay * v (by at most
    h decay L), (1 - decay) * m (h (1 - decay) L) and their sum (h L), together at most u L with u = 2^-23.
    Older errors decay like everything else in the average, so they add up to at most u / (1 - decay) * L.
    Errors of independent sign stay far below it.

    Args:
        decay: in [0, 1).
        largest: largest magnitude among moments and start value.

    >>> replay_tolerance(0.5, 1.0) == 2 * 2**-23
    True
    """
    return 2.0**-23 / (1.0 - decay) * largest
