"""The table of normalizers: Keras's layers, and what they do to a batch only while they train."""

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.science.norms import NORMS, in_training, ramp
from bnlab.science.probe import outputs, own_statistics, probe, put_statistics
from bnlab.science.sources import Batch
from bnlab.science.tape import Column, MovingStatistics, Tape

RENORM = {"r_max": 3.0, "d_max": 5.0, "momentum": 0.9, "warm_up": 0.1, "r_ramp": 0.5, "d_ramp": 0.3}
PLAIN = {"epsilon": 2e-3, "center": True, "scale": False}


def seen(count=12, channels=4, seed=0):
    return np.random.default_rng(seed).normal(3, 2, (count, 5, 5, channels)).astype(np.float32)


def lone(norm, **options):
    """A model of one normalization over 5x5x4 images."""
    image = keras.Input((5, 5, 4))
    return keras.Model(image, NORMS[norm]("norm", **options)(image))


@pytest.mark.parametrize(
    ("norm", "options", "kind", "expected"),
    [
        ("batch", {}, layers.BatchNormalization, {"renorm": False}),
        ("ghost", {"virtual_batch_size": 4}, layers.BatchNormalization, {"renorm": False}),
        (
            "batch_renorm",
            RENORM,
            layers.BatchNormalization,
            {
                "renorm": True,
                "renorm_momentum": 0.9,
                "renorm_clipping": {"rmax": 3, "rmin": 1 / 3, "dmax": 5},
            },
        ),
        ("group", {"groups": 2}, layers.GroupNormalization, {"groups": 2}),
        ("layer", {}, layers.GroupNormalization, {"groups": 1}),
        ("instance", {}, layers.GroupNormalization, {"groups": -1}),
    ],
)
def test_every_name_is_a_layer_of_keras_with_its_options(norm, options, kind, expected):
    layer = NORMS[norm]("norm", **options, **PLAIN)
    assert type(layer) is kind
    config = layer.get_config()
    assert {name: config[name] for name in (*expected, *PLAIN)} == {**expected, **PLAIN}


def test_none_changes_nothing():
    x = seen()
    assert np.array_equal(lone("none")(x), x)


def test_instance_and_layer_average_over_what_they_say():
    x = seen().astype(np.float64)
    for norm, axes in (("instance", (1, 2)), ("layer", (1, 2, 3))):
        expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
        # Float32 sums of at most 100 terms of size 10: fewer than 64 roundings of 2^-23 each.
        np.testing.assert_allclose(lone(norm)(x), expected, rtol=0, atol=64 * 2.0**-23 * 10)


def test_a_normalization_of_32_filters_has_32_scales_and_32_shifts():
    layer = NORMS["batch"]("norm")
    layer.build((None, 24, 24, 32))
    shapes = {v.name: tuple(v.shape) for v in layer.variables}
    assert shapes == dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (32,))


@pytest.mark.parametrize(("size", "groups"), [(32, 4), (8, 1), (4, 1)])
def test_ghost_batches_are_parts_of_the_batch(size, groups):
    assert in_training("ghost", {"virtual_batch_size": 8}, size, 0.0) == Batch(groups)


@pytest.mark.parametrize("norm", ["batch", "group", "layer", "instance", "none"])
def test_others_take_the_batch_as_it_is(norm):
    assert in_training(norm, {}, 32, 0.5) == Batch()


@pytest.mark.parametrize(
    ("share", "r_max", "d_max"),
    [(0.0, 1, 0), (0.1, 1, 0), (0.2, 1.5, 2.5), (0.3, 2, 5), (0.5, 3, 5), (1.0, 3, 5)],
)
def test_the_ramp_starts_as_batch_normalization_and_ends_at_the_bounds(share, r_max, d_max):
    # Ten significant digits of float32 would do; the bounds are at most 5.
    assert [float(b) for b in ramp(share, **RENORM)] == pytest.approx([r_max, d_max], abs=2e-6)


def renormalized(x, layer, clip):
    """Algorithm 1 of Ioffe, in float64, by hand; gamma 1 and beta 0."""
    mean, deviation = x.mean((0, 1, 2)), np.sqrt(x.var((0, 1, 2)) + layer.epsilon)
    kept_mean, kept = (np.array(v, np.float64) for v in (layer.renorm_mean, layer.renorm_stddev))
    r = np.clip(deviation / kept, 1 / clip[0], clip[0])
    d = np.clip((mean - kept_mean) / kept, -clip[1], clip[1])
    return (x - mean) / deviation * r + d, mean, deviation


@pytest.fixture
def renorm():
    model = lone("batch_renorm", **RENORM)
    [layer] = [layer for layer in model.layers if layer.name == "norm"]
    layer.renorm_mean.assign([0.0, 1.0, 2.0, 3.0])
    layer.renorm_stddev.assign([1.0, 2.0, 3.0, 0.1])
    return model, layer


@pytest.mark.parametrize("clip", [(1.0, 0.0), (1.5, 0.25), (3.0, 5.0)])
def test_renormalization_is_the_papers_algorithm(renorm, clip):
    model, layer = renorm
    x = seen()
    expected, _, _ = renormalized(x.astype(np.float64), layer, clip)
    # 300 float32 terms of size 10 per sum, corrections of at most 8: fewer than 64 roundings of 2^-23 x 20.
    np.testing.assert_allclose(outputs(model, x, Batch(clip=clip)), expected, rtol=0, atol=64 * 2.0**-23 * 20)


def test_without_a_ramp_it_is_keras_in_training(renorm):
    model, _ = renorm
    x = seen()
    probed = np.array(outputs(model, x, Batch()))
    assert np.array_equal(probed, model(x, training=True))


def test_closed_bounds_are_batch_normalization(renorm):
    model, _ = renorm
    x = seen()
    np.testing.assert_allclose(
        outputs(model, x, Batch(clip=(1.0, 0.0))), outputs(lone("batch"), x, Batch()), rtol=0, atol=2e-6
    )


def test_its_averages_move_in_training_as_keras_moves_them(renorm):
    model, layer = renorm
    _, mean, deviation = renormalized(seen().astype(np.float64), layer, (1, 0))
    before = np.array(layer.renorm_mean), np.array(layer.renorm_stddev)
    outputs(model, seen(), Batch())
    assert np.array_equal(layer.renorm_mean, before[0])
    outputs(model, seen(), Batch(update=True))
    for average, old, new in zip(
        (layer.renorm_mean, layer.renorm_stddev), before, (mean, deviation), strict=True
    ):
        np.testing.assert_allclose(average, 0.9 * old + 0.1 * new, rtol=0, atol=8 * 2.0**-23 * 4)


def test_the_tape_of_renormalization_averages_the_deviation_as_keras_does():
    model = lone("batch_renorm", **RENORM)
    layer = model.get_layer("norm")
    layer.momentum = 0.9
    rows = []
    for seed in range(5):
        x = seen(seed=seed)
        model(x, training=True)
        rows.append([x.mean((0, 1, 2)), x.var((0, 1, 2))])
    tape = Tape((Column("norm", 0, 4, layer.epsilon),), np.array(rows, np.float32).reshape(5, 8))
    mean, variance = MovingStatistics(tape.columns, [0.9]).advance(tape).at(0.9)["norm"]
    # Five float32 updates of values below 16: fewer than 32 roundings of 2^-23 each.
    np.testing.assert_allclose(mean, layer.moving_mean, rtol=0, atol=32 * 2.0**-23 * 4)
    np.testing.assert_allclose(variance, layer.moving_variance, rtol=0, atol=32 * 2.0**-23 * 16)


def test_statistics_put_into_a_model_are_its_own_and_its_inference(renorm):
    for model in (renorm[0], lone("batch")):
        given = {"norm": (np.arange(4, dtype=np.float32), np.arange(4, dtype=np.float32) + 0.5)}
        put_statistics(model, given)
        assert all(map(np.array_equal, own_statistics(model)["norm"], given["norm"]))
        assert np.array_equal(model(seen(), training=False), outputs(model, seen(), given))


def test_put_statistics_start_a_further_training_of_renormalization(renorm):
    model, layer = renorm
    put_statistics(model, {"norm": (np.zeros(4), np.full(4, 4.0))})
    np.testing.assert_allclose(layer.moving_stddev, np.full(4, np.sqrt(4 + layer.epsilon)), rtol=1e-6)


def test_a_frozen_layer_keeps_its_own_statistics_in_every_phase():
    model, x = lone("batch"), seen()
    layer = model.get_layer("norm")
    layer.moving_mean.assign(np.full(4, 2.0))
    layer.trainable = False
    expected = np.array(model(x, training=True))
    notes = []
    with probe(model, Batch(), notes):
        assert np.array_equal(model(x, training=True), expected)
    assert notes == []
    assert np.array_equal(outputs(model, x, {}), expected)
    assert own_statistics(model) == {}


def test_ghost_batches_give_each_part_its_own_moments_and_note_them_in_order():
    model, x, notes = lone("ghost", virtual_batch_size=4), seen(), []
    with probe(model, in_training("ghost", {"virtual_batch_size": 4}, 12, 0.0), notes):
        found = np.array(model(x, training=True))
    parts = x.astype(np.float64).reshape(3, 4, 5, 5, 4)
    mean, variance = (f(parts, axis=(1, 2, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((parts - mean) / np.sqrt(variance + 1e-3)).reshape(x.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=64 * 2.0**-23 * 10)
    np.testing.assert_allclose(notes[0].mean, mean.reshape(3, 4), rtol=0, atol=32 * 2.0**-23 * 10)
