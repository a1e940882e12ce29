"""What rounding to half precision adds to a variance.

Numbers between 2^e and 2^(e+1) that keep p bits after the first lie q = 2^(e-p) apart. Rounding to the
nearest is off by anything between -q/2 and q/2. Where values are spread over many such steps the error is
uniform and, but for those next to a power of two, where the step changes, uncorrelated with them: it adds
q^2 / 12. So a channel of mean m, large against its deviation, gains

    4^-p m^2 / 48  to  4^-p m^2 / 12

as m goes from just below a power of two to the power itself: 2^-18 m^2 / 3 to 2^-16 m^2 / 3 in bfloat16
(p = 7), a 64th of that in float16 (p = 10). Where the deviation is below a step there is no such law: all
values may be rounded to one, and the variance is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Bits after the first, and the exponent below which numbers lie no closer.
_FORMATS: Mapping[str, tuple[int, int]] = {"float16": (10, -14), "bfloat16": (7, -126), "float32": (23, -126)}


def spacing(values: np.ndarray, precision: str) -> np.ndarray:
    """Measure how far apart neighbouring numbers of a precision lie where values are.

    Args:
        values: finite, of any shape, within the precision's range.
        precision: `float16`, `bfloat16` or `float32`.

    >>> spacing(np.array([1.0, 3.0, 1000.0]), "bfloat16").tolist()
    [0.0078125, 0.015625, 4.0]
    """
    bits, least = _FORMATS[precision]
    _, exponent = np.frexp(np.asarray(values, np.float64))
    return np.ldexp(1.0, np.maximum(exponent - 1, least) - bits)


def gained_variance(values: np.ndarray, precision: str) -> np.ndarray:
    """Say what rounding adds to the variance of each channel: mean of q^2 / 12.

    Args:
        values: (..., channels), spread over many steps of the precision.
        precision: as of `spacing`.

    Returns:
        (channels,) float64.

    >>> float(gained_variance(np.full((4, 1), 64.0), "bfloat16")[0]) == 64**2 * 2**-16 / 3
    True
    """
    squares = spacing(values, precision) ** 2 / 12
    return squares.reshape(-1, squares.shape[-1]).mean(axis=0)
