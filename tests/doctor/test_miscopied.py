"""Right statistics in the wrong form or place: each is recognized, and called nothing else."""

import numpy as np
import pytest

from bnlab.doctor.miscopied import FORMS
from bnlab.doctor.suspect import FACT, MOST
from bnlab.science.moments import Moments
from tests.doctor.networks import data_of, dense, subject_of
from tests.doctor.test_suspects import Found

EPSILON = 1e-3
WAYS = 5
COPIED = {
    "standard deviations": lambda own: np.sqrt(own.variance + EPSILON),
    "reciprocals of variances": lambda own: 1 / (own.variance + EPSILON),
    "reciprocals of standard deviations": lambda own: (own.variance + EPSILON) ** -0.5,
    "mean squares, the mean not taken off,": lambda own: own.variance + own.mean**2,
}


@pytest.fixture(scope="module")
def found():
    model = dense()
    data, population = data_of(model)
    subject = subject_of(model, data)
    return lambda change: Found(subject, change(population), data)


def test_every_form_is_tried():
    assert list(COPIED) == list(FORMS)


@pytest.mark.parametrize("name", COPIED)
def test_something_else_in_the_place_of_the_variance(found, name):
    own = found(lambda layers: {key: Moments(had.mean, COPIED[name](had)) for key, had in layers.items()})
    assert (own.first.name, own.first.strength) == ("miscopied", MOST / WAYS)
    # Sampling of 512 leaves up to a hundredth of the smallest of these distances, .08.
    told = [f"{name} in the place of variances explain {share} of the distance" for share in ("99%", "100%")]
    assert own.first.evidence[0] in told


def test_two_layers_of_one_width_with_one_anothers_statistics(found):
    own = found(lambda layers: {"one": layers["two"], "two": layers["one"]})
    assert own.is_sick
    assert (own.first.name, own.first.strength) == ("miscopied", MOST / WAYS)
    assert "other layers of their width in one, two, 100% of the distance goes" in own.first.evidence[0]


def test_mean_and_variance_exchanged(found):
    own = found(lambda layers: {key: Moments(had.variance, had.mean) for key, had in layers.items()})
    assert own.is_sick
    assert own.signs.negative == ("one", "two")
    assert (own.first.name, own.first.strength) == ("miscopied", 5 * FACT)
    assert own.first.evidence == ("moving variances of one, two are below 0",)


def test_statistics_at_their_place_are_not_suspected(found):
    own = found(dict)
    assert own.by_name.get("miscopied") is None or own.by_name["miscopied"].strength < 0.01
