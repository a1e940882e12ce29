"""Many images in few graph calls give what each batch by itself gives, and change nothing."""

from dataclasses import replace

import numpy as np
import pytest

from bnlab import models
from bnlab.data.sequences import sequences
from bnlab.measure import evaluate
from bnlab.measure.evaluate import Evaluator
from bnlab.science.moments import Moments
from bnlab.science.probe import normalization_layers, probe
from bnlab.science.sources import Batch


@pytest.fixture
def model(trial):
    """Scrambled, so that no two channels are alike."""
    built, rng = models.build(trial), np.random.default_rng(1)
    for variable in built.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return built


def own(model):
    """Its moving statistics in float64, as a replay gives them."""
    layers = normalization_layers(model)
    return {n.name: (np.array(n.moving_mean, float), np.array(n.moving_variance, float)) for n in layers}


def tolerance(outputs):
    """Sums of fewer than 100 terms in two layers: fewer than 64 roundings of 2^-23 each."""
    return 64 * 2.0**-23 * np.abs(outputs).max()


@pytest.mark.parametrize("call", [8, 24, 512])
def test_phase_false_is_keras_at_inference(trial, model, images, monkeypatch, call):
    monkeypatch.setattr(evaluate, "_CALL", call)  # many graph calls, and one
    expected = model(images.test_x.astype(np.float32) / 255, training=False)
    [found] = Evaluator(trial, model, 8).with_fixed(images.test_x, [own(model)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize("together", [1, 2, 5])
def test_many_sets_of_statistics_give_what_each_gives_alone(trial, model, images, monkeypatch, together):
    monkeypatch.setattr(evaluate, "_BYTES", together * 4 * 10 * len(images.test_x))
    sets = [{n: (m + shift, v) for n, (m, v) in own(model).items()} for shift in (0, 0.1, 0.5)]
    alone = [next(Evaluator(trial, model, 8).with_fixed(images.test_x, [one])) for one in sets]
    assert np.array_equal(list(Evaluator(trial, model, 8).with_fixed(images.test_x, sets)), alone)
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_model_without_moving_statistics_gives_its_one_output(trial, images, norm):
    plain = replace(trial, norm=norm, options=(("groups", 2),) if norm == "group" else ())
    model = models.build(plain)
    expected = model(images.test_x.astype(np.float32) / 255, training=False)
    [found] = Evaluator(plain, model, 8).with_fixed(images.test_x, [{}])
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize("call", [8, 20, 512])
@pytest.mark.parametrize("count", [8, 15, 60])
def test_phase_true_is_keras_in_training_batch_by_batch(trial, model, images, monkeypatch, call, count):
    # The last partial batch is filled up with the first images.
    monkeypatch.setattr(evaluate, "_CALL", call)
    x = images.test_x[np.arange(-(-count // 8) * 8) % count].astype(np.float32) / 255
    expected = np.concatenate([model(part, training=True) for part in x.reshape(-1, 8, 28, 28, 1)])[:count]
    found = Evaluator(trial, model, 8).in_batches(images.test_x[:count], step=6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


RENORM = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.9, "warm_up": 0.2, "r_ramp": 0.6, "d_ramp": 0.4}


@pytest.mark.parametrize("step", [0, 2, 6])
def test_phase_true_of_batch_renormalization_has_the_bounds_of_the_step(trial, images, step):
    own = replace(trial, norm="batch_renorm", options=tuple(sorted(RENORM.items())))
    model, rng = models.build(own), np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    share = step / own.steps
    grown = [min(1, max(0, (share - 0.2) / (end - 0.2))) for end in (0.6, 0.4)]
    r_max, d_max = 1 + 2 * grown[0], 5 * grown[1]
    found = Evaluator(own, model, 8).in_batches(images.test_x[:8], step)
    for layer in normalization_layers(model):
        layer.renorm_clipping = {"rmax": r_max, "rmin": 1 / r_max, "dmax": d_max}
    expected = np.array(model(images.test_x[:8].astype(np.float32) / 255, training=True))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


def test_the_noise_of_a_latent_is_the_same_in_both_phases(trial, images):
    """Given the moments of its one batch, phase false is phase true: only if nothing else differs."""
    own = replace(trial, model="sequence", widths=(2, 2, 2, 2), details=(("frames", 2),))
    model, x, notes = models.build(own), sequences(images, 2).train_x[:64], []
    evaluator = Evaluator(own, model, 64)
    x = np.tile(x, (8, 1, 1, 1, 1, 1)).reshape(512, *x.shape[1:])  # eight equal batches in one call
    true = evaluator.in_batches(x, 6)
    with probe(model, Batch(), notes):
        model([x[:64].astype(np.float32) / 255, np.zeros((64, 2, 16), np.float32)])
    moments = {note.layer: (np.array(note.mean[0]), np.array(note.variance[0])) for note in notes}
    [false] = evaluator.with_fixed(x, [moments])
    np.testing.assert_allclose(false, true, rtol=0, atol=8 * tolerance(true))
    for layer in normalization_layers(model):
        layer.moving_mean.assign(moments[layer.name][0])
        layer.moving_variance.assign(moments[layer.name][1])
    np.testing.assert_allclose(evaluator.of_another(x, model), false, rtol=0, atol=8 * tolerance(true))
    assert np.abs(true[:64] - true[64:128]).max() > 100 * tolerance(true)  # the noise is not nothing


def test_fewer_images_than_a_batch_are_repeated(trial, model, images):
    found = Evaluator(trial, model, 8).in_batches(images.test_x[:4], step=6)
    expected = model(np.tile(images.test_x[:4], (2, 1, 1, 1)).astype(np.float32) / 255, training=True)[:4]
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


def test_evaluating_leaves_every_variable_as_it_was(trial, model, images):
    before = [np.array(variable) for variable in model.variables]
    evaluator = Evaluator(trial, model, 8)
    evaluator.in_batches(images.test_x, 6), list(evaluator.with_fixed(images.test_x, [own(model)]))
    assert all(map(np.array_equal, before, map(np.array, model.variables)))


def test_values_restored_between_calls_are_seen(trial, model, images):
    evaluator = Evaluator(trial, model, 8)
    first = evaluator.in_batches(images.test_x, 6)
    model.get_layer("logits").bias.assign_add(np.full(10, 3.0, np.float32))
    moved = evaluator.in_batches(images.test_x, 6) - first
    np.testing.assert_allclose(moved, 3.0, rtol=0, atol=2.0**-22 * np.abs(first).max() + 2.0**-21)


def test_statistics_are_compiled_once_for_all_their_values(trial, model, images):
    evaluator = Evaluator(trial, model, 8)
    for shift in range(3):
        moved = {name: (m + shift, v) for name, (m, v) in own(model).items()}
        list(evaluator.with_fixed(images.test_x, [moved, moved]))
    assert evaluator._fixed.experimental_get_tracing_count() == 1


def close(found, expected, seen):
    """Moments of values off by e, 64 roundings of 2^-23 of the largest; a variance by 2 sigma e + e^2.

    (By Cauchy and Schwarz: the covariance of values and errors is at most sigma times the largest error.)
    """
    for layer, (mean, variance) in expected.items():
        off = error(seen[layer], variance)
        np.testing.assert_allclose(found[layer].mean, mean, rtol=0, atol=64 * 2.0**-23 * seen[layer])
        assert (np.abs(found[layer].variance - variance) <= off).all()


def error(largest, variance):
    each = 64 * 2.0**-23 * largest
    return 2 * np.sqrt(variance) * each + each**2


@pytest.fixture
def largest(by_hand):
    """The largest magnitude that comes into each normalization, every layer on the whole call's moments."""

    def largest(model, pixels):
        found = {}

        def choose(name, x):
            found[name] = np.abs(x).max()
            return x.mean((0, 1, 2)), x.var((0, 1, 2))

        by_hand(model, pixels, choose)
        return found

    return largest


@pytest.mark.parametrize("count", [1, 7, 48, 64, 101, 1280])
def test_population_statistics_go_layer_by_layer(
    learned, digits, scholar, population_by_hand, largest, count
):
    pixels = digits.train_x[:count]
    found = scholar.evaluator.population(pixels)
    close(found, population_by_hand(scholar.model, pixels), largest(scholar.model, pixels))


@pytest.mark.parametrize("count", [7, 600, 1280])
def test_so_many_images_that_they_fill_the_memory_are_passed_layer_by_layer(
    monkeypatch, digits, scholar, population_by_hand, largest, count
):
    """512 in a part: one part, two of other sizes, three."""
    pixels = digits.train_x[:count]
    monkeypatch.setattr(evaluate, "_AT_ONCE", 0)
    found = scholar.evaluator.population(pixels)
    close(found, population_by_hand(scholar.model, pixels), largest(scholar.model, pixels))


def test_a_one_pass_estimate_is_told_from_the_population(digits, scholar, population_by_hand, largest):
    """The tolerance above is no licence: merged moments of small batches lie far beyond it."""
    pixels = digits.train_x[:1280]
    noted = scholar.evaluator.moments(pixels, 2, 240)["block2_norm"]
    mean = noted.mean.astype(np.float64)
    merged = noted.variance.astype(np.float64).mean(0) + mean.var(0)
    _, expected = population_by_hand(scholar.model, pixels)["block2_norm"]
    allowed = error(largest(scholar.model, pixels)["block2_norm"], expected)
    assert (np.abs(merged - expected) / allowed).max() > 100


def test_the_order_of_a_population_does_not_matter(digits, scholar, largest):
    pixels = digits.train_x[:96]
    one, other = (scholar.evaluator.population(x) for x in (pixels, pixels[::-1]))
    close(one, other, largest(scholar.model, pixels))


@pytest.mark.parametrize(("count", "size"), [(8, 8), (48, 8), (1040, 16), (40, 20)])
def test_moments_are_those_of_keras_in_training_batch_by_batch(
    learned, digits, scholar, school, at_step, largest, count, size
):
    """With a momentum of 0, Keras's moving statistics are those of the last batch."""
    pixels, model = digits.train_x[:count], at_step(learned, school, 240, momentum=0.0)
    found = scholar.evaluator.moments(pixels, size, 240)
    seen = {layer: 2 * value for layer, value in largest(scholar.model, pixels).items()}
    for number, batch in enumerate(pixels.reshape(-1, size, 28, 28, 1)):
        model(batch.astype(np.float32) / 255, training=True)
        layers = normalization_layers(model)
        expected = {n.name: (np.array(n.moving_mean), np.array(n.moving_variance)) for n in layers}
        close({layer: Moments(*(p[number] for p in own)) for layer, own in found.items()}, expected, seen)
    assert {len(part) for own in found.values() for part in own} == {count // size}


def test_moments_of_batch_renormalization_have_the_bounds_of_the_step(trial, images):
    """What layer 2 sees depends on the clipping of layer 1: at step 4, r is within (1/3, 3), d within 5."""
    own = replace(trial, norm="batch_renorm", options=tuple(sorted(RENORM.items())))
    model, rng = models.build(own), np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    x = images.test_x[:8]
    found = {step: Evaluator(own, model, 8).moments(x, 8, step)["block2_norm"] for step in (0, 4)}
    plain = Evaluator(own, model, 8).population(x)["block2_norm"]
    for step, bounds in ((0, (1.0, 0.0)), (4, (3.0, 5.0))):
        notes = []
        with probe(model, Batch(clip=bounds), notes):
            model(x.astype(np.float32) / 255)
        for part, expected in zip(found[step], notes[1][2:], strict=True):
            np.testing.assert_allclose(part, expected, rtol=64 * 2.0**-23)
    # A population is plain: no running average has a say in it.
    np.testing.assert_allclose(plain.mean, found[0].mean[0], rtol=256 * 2.0**-23)
    assert not np.allclose(plain.mean, found[4].mean[0], rtol=0.01)


def test_mixed_in_with_weight_nothing_or_all_are_phase_false_and_true(trial, model, images):
    evaluator, fixed = Evaluator(trial, model, 8), own(model)
    weights = [[0, 0], [1, 1], [0, 1]]
    false, true, half = evaluator.blended(images.test_x, fixed, np.array(weights))
    [expected] = evaluator.with_fixed(images.test_x, [fixed])
    # The same operations: (1 - w) and w are 0 and 1 exactly. Only their grouping may differ: last bits.
    last = 4 * 2.0**-23 * np.abs(expected).max()
    np.testing.assert_allclose(false, expected, rtol=0, atol=last)
    np.testing.assert_allclose(true, evaluator.in_batches(images.test_x, 6), rtol=0, atol=last)
    assert np.abs(half - false).max() > 1000 * last < np.abs(half - true).max()


def test_a_layer_alone_in_phase_true_is_keras_with_the_others_frozen(trial, model, images):
    [found] = Evaluator(trial, model, 8).blended(images.test_x[:8], own(model), np.array([[0, 1]]))
    model.get_layer("block1_norm").trainable = False
    expected = model(images.test_x[:8].astype(np.float32) / 255, training=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("call", [8, 512])
def test_mixtures_have_the_mixed_first_and_second_moments(
    trial, model, images, by_hand, monkeypatch, each, call
):
    monkeypatch.setattr(evaluate, "_CALL", call)
    fixed, weights = own(model), {"block1_norm": 0.25, "block2_norm": 0.5}

    def choose(name, x):
        together = x if each else x.reshape(-1, 8, *x.shape[1:])
        axes = tuple(range(1, together.ndim - 1))
        w, (mean, variance) = weights[name], fixed[name]
        first = (1 - w) * mean + w * together.mean(axes)
        square = (1 - w) * (variance + mean**2) + w * (together**2).mean(axes)
        parts = (first, square - first**2)
        return [part.repeat(len(x) // len(part), 0)[:, None, None] for part in parts]

    expected = by_hand(model, images.test_x[:56], choose)
    given = np.array([list(weights.values())])
    [found] = Evaluator(trial, model, 8).blended(images.test_x[:56], fixed, given, each=each)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance(expected))


@pytest.mark.parametrize("together", [1, 2, 5])
def test_many_mixtures_give_what_each_gives_alone(trial, model, images, monkeypatch, together):
    monkeypatch.setattr(evaluate, "_BYTES", together * 4 * 10 * len(images.test_x))
    weights = np.array([[0, 0.5], [0.25, 1], [1, 0]])
    evaluator = Evaluator(trial, model, 8)
    alone = [next(evaluator.blended(images.test_x, own(model), row[None])) for row in weights]
    assert np.array_equal(list(evaluator.blended(images.test_x, own(model), weights)), alone)


def test_many_sizes_of_samples_are_no_reason_to_warn(trial, model, images, caplog):
    evaluator = Evaluator(trial, model, 8)
    for count in range(8, 72, 8):
        evaluator.population(images.test_x[:count])
        evaluator.moments(images.train_x[:count], 8, 6)
    assert caplog.text == ""
