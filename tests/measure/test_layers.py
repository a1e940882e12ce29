"""Each layer's part of a gap: all add up to it, and single layers are what Keras gives by itself."""

from dataclasses import replace

import numpy as np
import pytest

from bnlab.measure import measure
from bnlab.measure.layers import layers
from bnlab.measure.patient import Patient
from bnlab.measure.splits import probes
from bnlab.science.gap import METRICS
from bnlab.science.probe import normalization_layers, own_statistics, put_statistics
from bnlab.science.scores import classifier_scores

NAMES = ["block1_norm", "block2_norm"]
# Metrics of outputs that other operations give: 64 roundings of 2^-23, on logits below 8.
ROUNDING = 64 * 8 * 2.0**-23


@pytest.fixture(scope="module")
def patient(scholar):
    return Patient(scholar, "", (0.9, 0.99))


@pytest.fixture(scope="module")
def probe(learned, digits, curious):
    return probes(learned, digits, curious)[1]


@pytest.fixture(scope="module")
def found(patient, probe):
    """(target, decay, kind, layer, metric) -> value."""
    return {
        (target, clue.decay, clue.kind.split()[0], clue.name, clue.metric): clue.value
        for target in ("batch", "population")
        for clue in layers(patient, probe, target)
    }


@pytest.fixture(scope="module")
def scores(learned, scholar, school, at_step, probe):
    """Scores of the probe by Keras alone: moving statistics at 0.99 but for some layers."""

    def scores(batch=(), **changed):
        model = at_step(learned, school, 240)
        put_statistics(model, {**scholar.moving(0.99), **changed})
        for layer in normalization_layers(model):
            layer.trainable = layer.name in batch  # frozen ones take their moving statistics in training too
        x = probe.x[np.arange(96) % 90].astype(np.float32) / 255
        parts = x.reshape(3, 32, 28, 28, 1) if batch else [x]
        logits = np.concatenate([np.array(model(part, training=bool(batch))) for part in parts])
        return classifier_scores(logits[:90], probe.y)

    return scores


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("decay", [0.9, 0.99])
@pytest.mark.parametrize("target", ["batch", "population"])
def test_parts_add_up_to_the_whole(found, target, decay, metric):
    parts = sum(found[target, decay, "layer", name, metric] for name in NAMES)
    assert parts == pytest.approx(found[target, decay, "layer", "all", metric], rel=0, abs=1e-13)


@pytest.mark.parametrize("decay", [0.9, 0.99])
def test_the_whole_is_the_gap_that_is_read(learned, digits, school, curious, found, decay):
    [reading] = [
        r
        for r in measure(learned, digits, school, curious, (None, decay))
        if (r.split, r.decay) == ("test_probe", decay)
    ]
    for metric in METRICS:
        read = getattr(reading, f"{metric}_gap")
        assert found["batch", decay, "layer", "all", metric] == pytest.approx(read, rel=0, abs=ROUNDING)


@pytest.mark.parametrize("metric", METRICS)
def test_what_each_layer_does_in_batches_is_what_keras_gives_with_the_others_frozen(found, scores, metric):
    none, first, second, both = (
        getattr(scores(batch), metric) for batch in ((), NAMES[:1], NAMES[1:], NAMES)
    )
    expected = {
        ("layer", "all"): none - both,
        ("alone", NAMES[0]): none - first,
        ("alone", NAMES[1]): none - second,
        ("left", NAMES[0]): second - both,
        ("left", NAMES[1]): first - both,
        # From the input on, and back: the first layer comes first and last.
        ("layer", NAMES[0]): (none - first + second - both) / 2,
        ("layer", NAMES[1]): (first - both + none - second) / 2,
    }
    for (kind, name), value in expected.items():
        assert found["batch", 0.99, kind, name, metric] == pytest.approx(value, rel=0, abs=4 * ROUNDING)
    assert abs(none - both) > 100 * ROUNDING


@pytest.mark.parametrize("metric", METRICS)
def test_what_each_layer_does_under_the_population_is_what_keras_gives(
    found, scores, scholar, population_by_hand, metric
):
    population = population_by_hand(scholar.model, scholar.fed(1280))
    none, first, second, both = (
        getattr(scores(**{name: population[name] for name in own}), metric)
        for own in ((), NAMES[:1], NAMES[1:], NAMES)
    )
    expected = {
        ("layer", "all"): none - both,
        ("alone", NAMES[0]): none - first,
        ("alone", NAMES[1]): none - second,
        ("left", NAMES[0]): second - both,
        ("layer", NAMES[0]): (none - first + second - both) / 2,
    }
    for (kind, name), value in expected.items():
        assert found["population", 0.99, kind, name, metric] == pytest.approx(value, rel=0, abs=4 * ROUNDING)


def test_a_layer_that_is_wrong_alone_has_all_of_the_gap(scholar, probe):
    """One layer at its start, the other one on the population: nothing is left where it is put right."""
    population = scholar.evaluator.population(scholar.fed(1280))
    start = {name: (np.zeros_like(own.mean), np.ones_like(own.mean)) for name, own in population.items()}
    patient = Patient(scholar, "", (0.9,))
    [healthy] = patient.deployments.values()
    broken = replace(healthy, moving={**population, "block2_norm": start["block2_norm"]})
    patient.deployments = {0.9: broken}
    clues = {(c.kind, c.name): c.value for c in layers(patient, probe, "population") if c.metric == "rmse"}
    assert clues["layer population", "block1_norm"] == 0
    every = clues["layer population", "all"]
    assert clues["layer population", "block2_norm"] == pytest.approx(every, rel=0, abs=1e-15)
    assert every > 1000 * ROUNDING


def test_the_model_is_left_as_it_is(patient, probe, learned, school, at_step):
    list(layers(patient, probe, "batch")), list(layers(patient, probe, "population"))
    stored = at_step(learned, school, 240)
    for one, other in zip(patient.trained.model.variables, stored.variables, strict=True):
        assert np.array_equal(one, other)
    for mean, variance in own_statistics(patient.trained.model).values():
        assert (set(mean), set(variance)) == ({0.0}, {1.0})
