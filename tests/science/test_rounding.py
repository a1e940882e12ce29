"""What rounding adds to a variance, against numbers that are really rounded, in float64."""

import ml_dtypes
import numpy as np
import pytest

from bnlab.science.rounding import gained_variance, spacing

KINDS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
COUNT = 400_000


def rounded(values, precision):
    return values.astype(KINDS[precision]).astype(np.float64)


@pytest.mark.parametrize(
    ("precision", "values"),
    [
        ("float16", [1.0, 1.5, 2.0, -3.0, 65000.0, 2.0**-14, 2.0**-20]),
        ("bfloat16", [1.0, 1.5, 2.0, -3.0, 65504.0, 2.0**-14, 2.0**-20]),
        ("float32", [1.0, 1.5, 2.0, -3.0, 65504.0, 2.0**-14]),
    ],
)
def test_the_next_number_lies_one_step_away(precision, values):
    kind = KINDS[precision]
    here = np.array(values, kind)
    # Away from 0: below a power of two the steps are half as large.
    away = np.array([np.nextafter(v, kind(np.inf) if v >= 0 else kind(-np.inf)) for v in here])
    seen = np.abs(away.astype(np.float64) - here.astype(np.float64))
    np.testing.assert_array_equal(spacing(here.astype(np.float64), precision), seen)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (90.0, 3.0), (1400.0, 30.0), (-7.0, 0.5)])
def test_the_variance_of_rounded_values_is_larger_by_the_law(precision, mean, deviation):
    x = np.random.default_rng(7).normal(mean, deviation, (COUNT, 1))
    error = rounded(x, precision) - x
    gained = rounded(x, precision).var() - x.var()
    # Var(x + e) - Var(x) = Var(e) + 2 Cov(x, e): the first within 1 % of a uniform's, the second zero but
    # for a standard error of deviation * sd(e) / sqrt(n); five of them.
    [law] = gained_variance(x, precision)
    np.testing.assert_allclose(error.var(), law, rtol=0.01)
    assert abs(gained - law) < 0.01 * law + 2 * 5 * deviation * np.sqrt(law / COUNT)


@pytest.mark.parametrize(("precision", "bits"), [("float16", 10), ("bfloat16", 7)])
def test_a_large_mean_gains_between_a_48th_and_a_12th(precision, bits):
    means = np.geomspace(64, 127.9, 50)[None]
    share = gained_variance(means, precision) / means[0] ** 2 * 4.0**bits
    assert share.max() == pytest.approx(1 / 12)
    assert share.min() == pytest.approx(1 / 48, rel=0.01)
    assert np.all(np.diff(share) < 0)


def test_next_to_a_power_of_two_the_error_leans():
    """Below 1024 bfloat16 has steps of 4, above it of 8: what is rounded to 1024 comes from 1022 to 1028."""
    x = np.linspace(1022, 1028, 60_001)[1:-1, None]
    error = rounded(x, "bfloat16") - x
    assert np.all(rounded(x, "bfloat16") == 1024)
    assert error.mean() == pytest.approx(-1)


def test_below_a_step_the_variance_is_gone():
    """Around 1000 bfloat16 has steps of 4: a deviation of 0.1 is rounded away, and no law gives it back."""
    x = np.random.default_rng(7).normal(1000.0, 0.1, (1000, 1))
    assert rounded(x, "bfloat16").var() == 0
    assert gained_variance(x, "bfloat16")[0] == pytest.approx(16 / 12)
