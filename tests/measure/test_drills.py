"""Every drill loses what it says that it loses, and nothing else."""

from functools import cache

import keras
import numpy as np
import pytest

from bnlab import models
from bnlab.measure import measure
from bnlab.measure.drills import DRILLS, OTHER_EPSILON, restored
from bnlab.science.probe import normalization_layers

LOST = ("not_saved", "overwritten", "not_run")


@pytest.fixture(scope="module")
def model(trial):
    built, rng = models.build(trial), np.random.default_rng(1)
    for variable in built.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return built


@pytest.fixture(scope="module")
def statistics():
    rng = np.random.default_rng(2)
    sizes = {"block1_norm": 4, "block2_norm": 8}
    return {name: (rng.normal(size=n), rng.uniform(0.5, 2, n)) for name, n in sizes.items()}


def values(model):
    return [np.array(v) for v in model.variables]


@pytest.fixture(scope="module")
def made(trial, model, statistics):
    """Make a drill, once: the restored model, and the saved one's variables before and after."""

    @cache
    def made(drill):
        before = values(model)
        return restored(drill, trial, model, statistics), before, values(model)

    return made


@pytest.fixture
def drilled(made):
    return lambda drill: made(drill)[0]


def trainable(model):
    return [np.array(v) for v in model.trainable_variables]


def moving(model):
    return [np.array(v) for n in normalization_layers(model) for v in (n.moving_mean, n.moving_variance)]


@pytest.mark.parametrize("drill", ["intact", "text", "other_epsilon"])
def test_statistics_and_weights_come_back_bit_for_bit(drilled, model, statistics, drill):
    found = drilled(drill)
    expected = [np.float32(part) for pair in statistics.values() for part in pair]
    assert all(map(np.array_equal, moving(found), expected))
    assert all(map(np.array_equal, trainable(found), trainable(model)))


@pytest.mark.parametrize("drill", LOST)
def test_statistics_are_start_values_and_weights_come_back(drilled, model, drill):
    found = drilled(drill)
    assert [set(values) for values in moving(found)] == [{0.0}, {1.0}, {0.0}, {1.0}]
    assert all(map(np.array_equal, trainable(found), trainable(model)))


def test_other_names_lose_scale_and_shift_too_and_nothing_says_so(drilled, model):
    found = drilled("renamed")
    for layer in normalization_layers(found):
        assert layer.name.endswith("_renamed")
        assert [set(np.array(v)) for v in layer.variables] == [{1.0}, {0.0}, {0.0}, {1.0}]
    for name in ("block1_conv", "block2_conv", "logits"):
        assert np.array_equal(found.get_layer(name).kernel, model.get_layer(name).kernel)


def test_another_epsilon_is_all_that_differs(drilled):
    assert {layer.epsilon for layer in normalization_layers(drilled("other_epsilon"))} == {OTHER_EPSILON}
    assert {layer.epsilon for layer in normalization_layers(drilled("intact"))} == {1e-3}


@pytest.mark.parametrize("drill", DRILLS)
def test_a_drill_leaves_the_model_as_it_is(made, drill):
    _, before, after = made(drill)
    assert all(map(np.array_equal, before, after))


def test_readings_of_drills_are_those_of_the_restored_models(trial, images, folder, wanted):
    from dataclasses import replace

    from bnlab.checkpoint import load, moving_statistics, restore
    from bnlab.science.scores import classifier_scores

    chosen = replace(wanted, drills=tuple(DRILLS))
    readings = list(measure(trial, images, folder, chosen, (None, 0.9)))
    found = {r.drill: r for r in readings if r.drill}
    [true] = [r for r in readings if r.split == "test" and r.phase]
    [false] = [r for r in readings if r.split == "test" and not r.phase and not r.drill]
    assert list(found) == list(DRILLS)
    assert {(r.step, r.split, r.decay, r.images) for r in found.values()} == {(6, "test", 0.9, 60)}
    # Keras at inference against the probe: fewer than 64 roundings, as in test_curve.
    assert found["intact"].rmse == pytest.approx(false.rmse, rel=0, abs=64 * 2.0**-23)
    assert found["text"].rmse == found["intact"].rmse
    assert len({found[drill].rmse for drill in LOST}) == 1
    model = models.build(trial)
    restore(load(folder.checkpoint(6)), model)
    broken = restored("renamed", trial, model, moving_statistics(folder, 6, [0.9]).at(0.9))
    outputs = broken(images.test_x.astype(np.float32) / 255, training=False)
    expected = classifier_scores(np.array(outputs), images.test_y)
    assert found["renamed"].rmse == pytest.approx(expected.rmse, rel=0, abs=64 * 2.0**-23)
    assert found["renamed"].rmse_gap == found["renamed"].rmse - true.rmse
    keras.backend.clear_session()
