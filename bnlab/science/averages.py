"""Moving averages of recorded moments, at any decay, after the fact.

Training never reads a moving average of batch normalization, so its value under *any* decay can be
computed from the recorded moments alone:

    v_n = decay * v_(n-1) + (1 - decay) * m_n
        = decay^n * v_0 + (1 - decay) * sum_k decay^(n-k) * m_k

The second line is a matrix product of (decays x updates) with (updates x channels): one more decay is
one more row.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    decays = np.asarray(decays, np.float64)
    if not ((decays >= 0) & (decays < 1)).all():
        raise ValueError(f"every decay must lie in [0, 1), got {decays.tolist()}")
    kept, taken = keras_weights(decays)
    average = np.asarray(average, np.float64)
    for first in range(0, len(moments), _BLOCK):
        block = np.asarray(moments[first : first + _BLOCK], np.float64)
        powers = kept[:, None] ** np.arange(len(block), -1, -1)
        average = powers[:, :1] * average + taken[:, None] * (powers[:, 1:] @ block)
    return average


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
