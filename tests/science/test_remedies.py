"""Remedies on handmade cases of plain numpy: closed forms, enumerated expectations, choices, names."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from bnlab.science import remedies
from bnlab.science.moments import Moments, averaged
from bnlab.science.remedies import DECAYS, OF_THE_AVERAGE, REMEDIES, WEIGHTS, Case, Cure, remedy


def layers(mean, variance=1.0):
    return {"norm": Moments(np.atleast_1d(np.float64(mean)), np.atleast_1d(np.float64(variance)))}


def refused(*_):
    raise AssertionError("a remedy looked at what it has no business with")


@pytest.fixture
def case():
    """A case in which every function is refused but those that are given."""
    nothing = dict.fromkeys(
        ["in_batches", "average", "population", "of_test", "replayed", "held_out"], refused
    )
    plain = Case(moving=layers(1.0), debiased=layers(2.0), batch_size=4, samples=64, **nothing)
    return lambda **own: replace(plain, **own)


@pytest.fixture(scope="module")
def images():
    """64 images of 6 positions and 2 channels, whose means differ between them."""
    rng = np.random.default_rng(0)
    return rng.normal([3.0, -1.0], [2.0, 0.5], (64, 6, 2)) + rng.normal(0, 3, (64, 1, 1))


def cut(images, samples, size):
    """Moments of every batch of one layer that sees the images as they are."""
    batches = images[:samples].reshape(samples // size, -1, images.shape[-1])
    return {"norm": Moments(batches.mean(1), batches.var(1))}


def mean_moments(batches):
    return {layer: averaged(moments) for layer, moments in batches.items()}


@pytest.mark.parametrize(("options", "count"), [({}, 64), ({"samples": 1000}, 1000)])
def test_population_asks_for_so_many_samples(case, options, count):
    asked = []
    found = remedies.population(case(population=lambda n: asked.append(n) or layers(7.0)), **options)
    assert asked == [count]
    assert found == Cure(layers(7.0), 0.0)


@pytest.mark.parametrize("samples", [None, 32])
@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32])
def test_population_in_batches_is_that_of_one_layer_whatever_the_batch_size(case, images, samples, size):
    own = case(in_batches=lambda samples, size: cut(images, samples, size))
    mean, variance = remedies.population(own, samples, size).statistics["norm"]
    seen = images[: samples or 64]
    # Each of 384 terms is rounded a few times at 2^-53 of at most the largest square.
    close = {"rtol": 0, "atol": 384 * 2.0**-53 * np.square(seen).max()}
    np.testing.assert_allclose(mean, seen.mean((0, 1)), **close)
    np.testing.assert_allclose(variance, seen.var((0, 1)), **close)


def test_zero_debias_takes_the_debiased_average(case):
    assert remedies.zero_debias(case()) == Cure(layers(2.0))


def test_zero_debias_leaves_an_average_that_holds_nothing_but_its_start(case):
    assert remedies.zero_debias(case(debiased=None)) == Cure(layers(1.0))


def test_statistics_of_the_evaluated_images_are_used_as_they_are(case):
    assert remedies.test_statistics(case(of_test=lambda: layers(9.0))) == Cure(layers(9.0))


def test_candidates_reach_from_no_memory_to_ten_thousand_updates():
    assert (DECAYS[0], DECAYS[4], DECAYS[8], DECAYS[12], DECAYS[16]) == (0.0, 0.9, 0.99, 0.999, 0.9999)
    assert (len(DECAYS), WEIGHTS[0], WEIGHTS[-1]) == (17, 0.0, 1.0)
    assert [*DECAYS] == sorted(set(DECAYS))
    assert [*WEIGHTS] == sorted(set(WEIGHTS))


def error_of(wrong, at):
    """RMSE of cures by a table: 1 everywhere, but for some of them."""
    return lambda cures: [wrong.get(at(cure), 1.0) for cure in cures]


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ({0.9: 0.5}, 0.9),
        ({0.0: 0.5, 0.999: 0.4}, 0.999),
        ({0.0: math.nan, 0.99: 0.9}, 0.99),
        ({0.0: math.nan, 0.99: -math.inf}, 0.99),
        (dict.fromkeys(DECAYS, 2.0), 0.0),  # the first of equals
        ({**dict.fromkeys(DECAYS, math.nan), 0.9999: 3.0}, 0.9999),
        ({**dict.fromkeys(DECAYS, math.nan), 0.9999: math.inf}, 0.0),
        (dict.fromkeys(DECAYS, math.nan), 0.0),
    ],
)
def test_best_decay_is_the_one_of_the_smallest_held_out_error(case, errors, chosen):
    own = case(
        replayed=layers, held_out=error_of(errors, lambda cure: float(cure.statistics["norm"].mean[0]))
    )
    assert remedies.best_decay(own) == Cure(layers(chosen))


def test_best_decay_needs_a_tape(case):
    with pytest.raises(
        ValueError, match=r"^best_decay needs the moments that training saw, and there is no tape$"
    ):
        remedies.best_decay(case(replayed=None))


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        ({0.1: 0.5}, 0.1),
        ({0.0: 0.5}, 0.0),
        ({1.0: 0.2, 0.4: 0.3}, 1.0),
        ({0.0: math.nan, 0.2: 0.9}, 0.2),
        (dict.fromkeys(WEIGHTS, math.nan), 0.0),
    ],
)
def test_mixed_takes_the_weight_of_the_smallest_held_out_error(case, errors, chosen):
    own = case(held_out=error_of(errors, lambda cure: cure.weight))
    assert remedies.mixed(own) == Cure(layers(1.0), chosen)


# Moments of four kinds of images, of two channels each.
MEANS = np.array([[0.0, 1.0], [1.0, 1.0], [5.0, 1.0], [-2.0, 4.0]])
VARIANCES = np.array([[1.0, 2.0], [0.5, 2.0], [3.0, 2.0], [0.0, 9.0]])


def moments_of_batches(batches):
    """Moments over all positions of batches of images of equal size, from the images' own."""
    mean = MEANS[batches].mean(axis=1)
    return Moments(mean, (VARIANCES[batches] + MEANS[batches] ** 2).mean(axis=1) - mean**2)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_eval_norm_gives_the_expected_moments_of_a_batch_that_holds_the_image(case, size):
    every = np.array(list(itertools.product(range(4), repeat=size)))  # all of them are equally likely
    asked = []

    def in_batches(samples, own):
        asked.append((samples, own))
        return {"norm": moments_of_batches(every)}

    cure = remedies.eval_norm(case(batch_size=size, in_batches=in_batches, average=mean_moments))
    assert asked == [(64, size)]
    (mean, variance), w = cure.statistics["norm"], cure.weight
    for image in range(4):
        # Which place the image has in its batch does not matter: let it be the first.
        holding = moments_of_batches(every[every[:, 0] == image])
        own_mean, own_variance = MEANS[image], VARIANCES[image]
        mixed_mean = (1 - w) * mean + w * own_mean
        mixed_variance = (1 - w) * variance + w * own_variance + w * (1 - w) * (mean - own_mean) ** 2
        # At most 1,024 terms of at most 30, each rounded a few times at 2^-53: 1e-11 at the very worst.
        np.testing.assert_allclose(mixed_mean, holding.mean.mean(axis=0), rtol=0, atol=1e-11)
        np.testing.assert_allclose(mixed_variance, holding.variance.mean(axis=0), rtol=0, atol=1e-11)


def test_eval_norm_averages_as_the_layers_own_average_does(case):
    own = case(in_batches=lambda *_: layers(3.0), average=lambda own: layers(5.0, own["norm"].mean[0]))
    assert remedies.eval_norm(own) == Cure(layers(5.0, 3.0), 0.25)


@pytest.mark.parametrize("name", list(REMEDIES))
def test_only_remedies_of_the_average_depend_on_the_moving_statistics(case, name):
    """Every other one may be tried once for all decays."""
    same = {
        "in_batches": lambda *_: {"norm": Moments(np.ones((2, 1)), np.ones((2, 1)))},
        "average": mean_moments,
        "population": lambda _: layers(3.0),
        "of_test": lambda: layers(4.0),
        "replayed": layers,
        "held_out": lambda cures: [1.0] * len(cures),
    }
    one, other = case(**same), case(**same, moving=layers(-1.0), debiased=layers(-2.0))
    assert (remedy(name)(one) != remedy(name)(other)) == (name in OF_THE_AVERAGE)


@pytest.mark.parametrize(
    ("name", "function", "options"),
    [
        ("population", remedies.population, {}),
        ("population n4096", remedies.population, {"samples": 4096}),
        ("population n1000 b32", remedies.population, {"samples": 1000, "batch": 32}),
        ("population b2", remedies.population, {"batch": 2}),
        ("eval_norm", remedies.eval_norm, {}),
    ],
)
def test_a_remedy_is_found_by_its_name_and_options(name, function, options):
    found = remedy(name)
    assert (found.func, found.keywords) == (function, options)


@pytest.mark.parametrize("name", ["populations", "Population", "n1000", "mix n5"])
def test_a_remedy_that_there_is_not_is_refused(name):
    words = "population, zero_debias, best_decay, test_statistics, mixed, eval_norm"
    with pytest.raises(ValueError, match=f"^a remedy must be one of {words}, got '{name}'$"):
        remedy(name)


@pytest.mark.parametrize(
    "name",
    [
        "population x5",
        "population n",
        "population nine",
        "population n5b2",
        "population n-1",
        "zero_debias n5",
        "mixed b2",
    ],
)
def test_an_option_that_there_is_not_is_refused(name):
    rule = "options must be like n1000 and b32, and are of population alone"
    with pytest.raises(ValueError, match=f"^{rule}, got '{name}'$"):
        remedy(name)
