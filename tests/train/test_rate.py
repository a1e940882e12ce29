"""The learning rate over time, by its formula."""

from dataclasses import replace

import pytest

from bnlab.train.optimizer import optimizer


def rate(trial, step):
    descent = optimizer(trial)
    descent.iterations.assign(step)
    return float(descent.learning_rate)


@pytest.mark.parametrize(("step", "share"), [(0, 1.0), (50, 0.001 + 0.999 / 2), (100, 0.001)])
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_cosine_cools_the_rate_to_a_thousandth(trial, name, step, share):
    cooled = replace(trial, optimizer=name, steps=100)
    assert rate(cooled, step) == pytest.approx(0.1 * share, rel=1e-5)  # float32, and a cosine near pi


@pytest.mark.parametrize("step", [0, 3, 6])
def test_a_constant_rate_is_constant(trial, step):
    assert rate(replace(trial, schedule="constant"), step) == pytest.approx(0.1, rel=2**-23)


@pytest.mark.parametrize(("given", "momentum"), [(0.9, 0.9), (0.0, 0.0), (None, 0.0)])
def test_momentum_is_the_trials(trial, given, momentum):
    assert optimizer(replace(trial, momentum=given)).momentum == momentum
