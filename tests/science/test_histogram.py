"""Counts that can be made by hand."""

import math

import numpy as np
import pytest

from bnlab.science.histogram import BINS, block, histogram


def test_values_on_an_inner_edge_are_counted_above_it_and_the_largest_in_the_last_bin():
    made = histogram(np.array([0.0, 1.0, 1.5, 2.0, 3.0, 4.0]), bins=4)
    assert (made.low, made.high) == (0.0, 4.0)
    assert made.counts == (1, 2, 1, 2)
    assert made.edges.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_it_counts_as_numpy_does():
    values = np.random.default_rng(0).normal(size=(10, 100)).astype(np.float32)
    made = histogram(values)
    counts, _ = np.histogram(values.astype(np.float64), BINS)
    assert made.counts == tuple(counts)
    assert (made.n, made.not_finite) == (1000, 0)
    exact = values.astype(np.float64)
    assert (made.mean, made.deviation) == (exact.mean(), exact.std())
    assert (made.low, made.high) == (exact.min(), exact.max())


def test_a_constant_array_is_one_full_bin():
    made = histogram(np.full((3, 2), 0.1, np.float32), bins=5)
    assert made.counts == (6, 0, 0, 0, 0)
    assert made.low == made.high == made.mean == float(np.float32(0.1))
    assert made.deviation == 0.0
    assert made.quantiles([0.0, 0.5, 1.0]).tolist() == [made.low] * 3


def test_values_a_rounding_apart_are_told_apart():
    one = np.float64(1.0)
    made = histogram(np.array([one, np.nextafter(one, 2)]))
    assert made.counts == (1, *[0] * (BINS - 2), 1)


def test_values_that_are_not_finite_are_counted_apart():
    made = histogram(np.array([1.0, np.nan, 3.0, np.inf, -np.inf]), bins=2)
    assert (made.counts, made.n, made.not_finite) == ((1, 1), 2, 3)
    assert (made.low, made.high, made.mean) == (1.0, 3.0, 2.0)


@pytest.mark.parametrize(("values", "beside"), [([], 0), ([math.nan, math.inf], 2)])
def test_nothing_finite_has_no_extremes(values, beside):
    made = histogram(np.array(values), bins=3)
    assert (made.counts, made.n, made.not_finite) == ((0, 0, 0), 0, beside)
    assert all(map(math.isnan, (made.low, made.high, made.mean, made.deviation)))
    assert np.isnan(made.quantiles([0.0, 0.5, 1.0])).all()


def test_quantiles_are_those_of_the_values_to_a_bin():
    values = np.random.default_rng(0).exponential(size=10_000)
    made, shares = histogram(values), [0.0, 0.01, 0.25, 0.5, 0.75, 0.99, 1.0]
    width = (made.high - made.low) / BINS
    assert made.quantiles(shares) == pytest.approx(np.quantile(values, shares), rel=0, abs=width)


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        ("stage1_block1_a_conv", "stage1_block1_a"),
        ("up1_relu", "up1"),
        ("gru", "gru"),
        ("a_norm_x", "a_norm_x"),
    ],
)
def test_a_block_is_named_by_what_its_layers_share(layer, name):
    assert block(layer) == name
