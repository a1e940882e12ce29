"""What statistics are estimated from: the very images that training would be fed next, in its batches."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from bnlab import models
from bnlab.data.order import batches
from bnlab.measure.evaluate import Evaluator
from bnlab.measure.populations import PARTS, Populations
from bnlab.science.moments import Moments


@pytest.fixture(scope="module")
def populations(scholar):
    return Populations(scholar, scholar.evaluator)


@pytest.fixture
def changed(scholar):
    """Populations of the same weights, with another trial or another wish."""

    def changed(**changes):
        other = copy.copy(scholar)
        for name, values in changes.items():
            setattr(other, name, replace(getattr(scholar, name), **values))
        return Populations(other, scholar.evaluator)

    return changed


def equal(one, other):
    return all(np.array_equal(a, b) for layer in other for a, b in zip(one[layer], other[layer], strict=True))


def test_the_sample_is_what_training_would_be_fed_next(learned, digits, populations):
    numbers = batches(learned.seed, len(digits.train_x), 32, 240, 280)
    assert np.array_equal(populations.fed, digits.train_x[numbers.ravel()])


@pytest.mark.parametrize(("samples", "kept"), [(1, 4), (128, 4), (129, 4), (256, 8), (300, 8)])
def test_every_part_of_the_sample_has_as_many_whole_batches(changed, samples, kept):
    found = changed(wanted={"samples": samples})
    assert found.fed.shape == (32 * kept, 28, 28, 1)
    parts = found.means_of_parts
    assert len(parts) == PARTS == 4
    for layer, (mean, variance) in found.means.items():
        for part, whole in ((0, mean), (1, variance)):
            # Means of float32 numbers in float64, in another order.
            np.testing.assert_allclose(
                np.mean([own[layer][part] for own in parts], axis=0), whole, rtol=1e-14
            )


def test_mean_moments_are_the_mean_over_batches(populations, scholar):
    noted = scholar.evaluator.moments(populations.fed, 32, 240)
    assert len(noted["block1_norm"].mean) == 40
    for layer, (mean, variance) in noted.items():
        assert np.array_equal(populations.means[layer].mean, mean.astype(np.float64).mean(0))
        assert np.array_equal(populations.means[layer].variance, variance.astype(np.float64).mean(0))


def test_of_batch_renormalization_deviations_are_averaged(trial, scholar):
    options = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.9, "warm_up": 0.2, "r_ramp": 0.6, "d_ramp": 0.4}
    other = copy.copy(scholar)
    other.trial = replace(trial, norm="batch_renorm", options=tuple(sorted(options.items())))
    other.model = models.build(other.trial)
    found = Populations(other, Evaluator(other.trial, other.model, 8)).average(
        {name: Moments(np.zeros((2, 1)), np.array([[1.0], [4.0]])) for name in ("block1_norm", "block2_norm")}
    )
    expected = ((np.sqrt(1 + 1e-3) + np.sqrt(4 + 1e-3)) / 2) ** 2 - 1e-3
    assert found["block2_norm"].variance == pytest.approx([expected], rel=1e-14)


def test_the_population_is_that_of_the_sample_and_of_its_quarters(populations, scholar):
    assert equal(populations.training, scholar.evaluator.population(populations.fed))
    for number, own in enumerate(populations.training_of_parts):
        quarter = populations.fed[320 * number : 320 * (number + 1)]
        assert equal(own, scholar.evaluator.population(quarter))


@pytest.mark.parametrize("count", [3, 4, 50])
def test_evaluated_images_that_cannot_be_quartered_have_no_parts(populations, scholar, digits, count):
    pixels = digits.test_x[:count]
    whole, parts = populations.of(str(count), pixels), populations.of_parts(str(count), pixels)
    assert len(parts) == (4 if count > 3 else 0)
    numbers = np.random.default_rng(20_202).permutation(count)
    assert equal(whole, scholar.evaluator.population(pixels[numbers]))
    quarters = numbers[: count // 4 * 4].reshape(4, -1) if parts else ()
    for own, quarter in zip(parts, quarters, strict=True):
        assert equal(own, scholar.evaluator.population(pixels[quarter]))


def test_of_too_many_images_a_sample_stands_for_all(changed, scholar, digits):
    found = changed(wanted={"samples": 128}).estimated(digits.test_x)
    chosen = np.random.default_rng(20_202).permutation(len(digits.test_x))[:128]
    assert equal(found, scholar.evaluator.population(digits.test_x[chosen]))


def test_batches_of_trainings_own_size_keep_their_images_and_others_are_mixed(
    populations, scholar, digits, learned
):
    assert equal(populations.in_batches(1280, 32), populations.batches)
    few = digits.train_x[batches(learned.seed, len(digits.train_x), 32, 240, 248).ravel()]
    assert equal(populations.in_batches(256, 32), scholar.evaluator.moments(few, 32, 240))
    mixed = few[np.random.default_rng(20_202).permutation(256)]
    assert equal(populations.in_batches(256, 100), scholar.evaluator.moments(mixed[:200], 100, 240))


def test_a_second_source_is_part_of_what_is_fed(changed, digits, learned):
    numbers = batches(learned.seed, len(digits.train_x), 32, 240, 244)
    fed = changed(trial={"fault": "two_sources"}, wanted={"samples": 128}).fed.reshape(-1, 32, 28, 28, 1)
    assert len(fed) == 8
    assert np.array_equal(fed[::2], digits.train_x[numbers])
    assert np.array_equal(fed[1::2], 255 - digits.train_x[numbers])


@pytest.mark.parametrize("samples", [16, 1280])
def test_sorted_batches_are_fed_in_whole_windows_the_same_number_in_each_part(
    changed, digits, learned, samples
):
    found = changed(trial={"fault": "sorted"}, wanted={"samples": samples})
    windows = batches(learned.seed, len(digits.train_x), 32, 240, 280).reshape(4, 320)
    order = np.argsort(digits.train_y[windows], axis=1, kind="stable")
    assert np.array_equal(found.fed, digits.train_x[np.take_along_axis(windows, order, 1).ravel()])
    # Each part has images of every class: had it not, its mean moments would not be comparable.
    assert all(set(digits.train_y[window]) == set(range(10)) for window in windows)
