"""The probe on every kind of layer that a user's model may have, against Keras and numpy in float64."""

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.science.probe import outputs, own_statistics, probe, put_statistics
from bnlab.science.sources import Batch, Blend

IMAGES = (12, 4, 5, 3)
CLIPPED = {"renorm": True, "renorm_clipping": {"rmax": 1.2, "dmax": None}}
# Kind -> shape of the inputs, precision, options.
KINDS = {
    "pairs": ((12, 3), "float32", {}),
    "sequences": ((12, 5, 3), "float32", {}),
    "images": (IMAGES, "float32", {}),
    "volumes": ((12, 2, 3, 2, 3), "float32", {}),
    "channels first": ((12, 3, 4, 5), "float32", {"axis": 1}),
    "channels in between": ((12, 4, 3, 5), "float32", {"axis": -2}),
    "axis by number": (IMAGES, "float32", {"axis": 3}),
    "one channel": ((12, 4, 5, 1), "float32", {}),
    "no scale": (IMAGES, "float32", {"scale": False}),
    "no center": (IMAGES, "float32", {"center": False}),
    "synchronized": (IMAGES, "float32", {"synchronized": True}),
    "renorm": (IMAGES, "float32", {"renorm": True}),
    "renorm, clipped": (IMAGES, "float32", CLIPPED),
    "renorm, neither": (IMAGES, "float32", {"renorm": True, "scale": False, "center": False}),
    "renorm in half": (IMAGES, "float16", {"renorm": True}),
    "renorm, mixed": (IMAGES, "mixed_bfloat16", {"renorm": True, "axis": 1}),
    "mixed_float16": (IMAGES, "mixed_float16", {}),
    "mixed_bfloat16": (IMAGES, "mixed_bfloat16", {}),
    "float16": (IMAGES, "float16", {}),
    "bfloat16": (IMAGES, "bfloat16", {}),
    "float64": (IMAGES, "float64", {}),
    "mixed, channels first": ((12, 3, 4, 5), "mixed_float16", {"axis": 1, "scale": False}),
}


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


def scramble(model):
    """Give every variable a value of its own; variances stay positive."""
    rng = np.random.default_rng(1)
    for variable in model.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def drawn(shape, dtype="float32"):
    return np.random.default_rng(0).normal(3, 2, shape).astype(dtype)


def made(kind, count=2):
    """A model of normalizations of a kind with a ReLU between them, and inputs for it."""
    shape, precision, options = KINDS[kind]
    dtype = "float64" if precision == "float64" else "float32"
    x = image = keras.Input(shape[1:], dtype=dtype)
    for number in range(count):
        x = layers.ReLU(dtype=precision)(x) if number else x
        x = layers.BatchNormalization(name=f"norm{number}", dtype=precision, **options)(x)
    return scramble(keras.Model(image, x)), drawn(shape, dtype)


def numbers(tensor):
    return np.array(keras.ops.cast(tensor, "float64"))


def rounding(model):
    """Of what moments are computed in, and of what the layer hands on."""
    precision = model.layers[-1].compute_dtype
    handed_on = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
    return 2.0 ** (-53 if precision == "float64" else -24), handed_on[precision]


def seen_by(model, x, count):
    """What the first layer sees in groups, and the axes of their moments."""
    norm = model.layers[1]
    x = numbers(keras.ops.cast(x, norm.compute_dtype))
    axes = tuple(axis + 1 for axis in range(x.ndim) if axis != norm.axis % x.ndim)
    return x.reshape(count, -1, *x.shape[1:]), axes


def test_batch_statistics_are_keras_in_training(kind):
    model, x = made(kind)
    found, expected = numbers(outputs(model, x, Batch())), numbers(model(x, training=True))
    if kind != "synchronized":
        assert np.array_equal(found, expected)
        return
    # E[x^2] - E[x]^2 is off by some 64 roundings (240 values in blocks) of squares below 12^2; a root and
    # gamma below 1.5 pass on three quarters of it, times normalized values below 5; two layers do.
    np.testing.assert_allclose(found, expected, rtol=0, atol=2 * 64 * 2.0**-24 * 144 * 5)


def test_own_statistics_are_keras_at_inference_bit_for_bit(kind):
    model, x = made(kind)
    found = outputs(model, x, own_statistics(model))
    expected = model(x, training=False)
    assert found.dtype == expected.dtype
    assert np.array_equal(numbers(found), numbers(expected))


def test_notes_are_the_moments_of_what_each_group_saw(kind):
    model, x = made(kind)
    notes = []
    with probe(model, Batch(4), notes):
        model(x)
    groups, axes = seen_by(model, x, 4)
    # A blocked sum of under 1,000 terms rounds fewer than 32 times on the way to any of them.
    atol = 32 * rounding(model)[0] * np.abs(groups).max() ** 2
    assert [note[:2] for note in notes] == [("norm0", 0), ("norm1", 0)]
    np.testing.assert_allclose(notes[0].mean, groups.mean(axes), rtol=0, atol=atol)
    np.testing.assert_allclose(notes[0].variance, groups.var(axes), rtol=0, atol=atol)


def test_notes_under_fixed_statistics_are_merged_of_the_images(kind):
    model, x = made(kind)
    notes = []
    with probe(model, own_statistics(model), notes):
        model(x)
    whole, axes = seen_by(model, x, 1)
    atol = 32 * rounding(model)[0] * np.abs(whole).max() ** 2  # as above
    np.testing.assert_allclose(notes[0].mean, whole.mean(axes), rtol=0, atol=atol)
    np.testing.assert_allclose(notes[0].variance, whole.var(axes), rtol=0, atol=atol)


def close_by_groups(model, x, found, expected):
    """Off by 16 roundings of moments of at most 60 values, times gamma / root(epsilon) < 48, and its own."""
    computed, handed_on = rounding(model)
    atol = 48 * 16 * computed * np.abs(x).max() + 2 * handed_on * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


def test_groups_are_each_group_by_itself(kind):
    model, x = made(kind, 1)
    expected = [numbers(outputs(model, part, Batch())) for part in np.split(x, 4)]
    close_by_groups(model, x, numbers(outputs(model, x, Batch(4))), np.concatenate(expected))


def test_a_blend_of_nothing_is_fixed_and_one_of_the_batch_alone_is_the_batch(kind):
    model, x = made(kind, 1)
    own = own_statistics(model)
    fixed, batch = (numbers(outputs(model, x, Blend(own, {"norm0": weight}))) for weight in (0.0, 1.0))
    assert np.array_equal(fixed, numbers(outputs(model, x, own)))
    if not KINDS[kind][2].get("renorm"):  # a blend is not corrected
        assert np.array_equal(batch, numbers(outputs(model, x, Batch())))


def test_statistics_are_read_in_single_precision_at_least_and_can_be_put_back(kind):
    model, _ = made(kind, 1)
    before, own = [numbers(v) for v in model.variables], own_statistics(model)
    dtype = "float64" if kind == "float64" else "float32"
    assert [part.dtype for part in own["norm0"]] == [dtype, dtype]
    put_statistics(model, own)
    kept = [v.name != "moving_stddev" for v in model.variables]
    after = [numbers(v) for v in model.variables]
    assert all(np.array_equal(a, b) for a, b, same in zip(before, after, kept, strict=True) if same)


def test_statistics_of_another_precision_are_cast():
    model, x = made("images", 1)
    own = own_statistics(model)
    doubled = {key: tuple(part.astype(np.float64) for part in pair) for key, pair in own.items()}
    assert np.array_equal(outputs(model, x, doubled), outputs(model, x, own))


def test_channels_may_lie_on_the_first_axis():
    norm = layers.BatchNormalization(axis=0, name="norm")
    model = scramble(keras.Sequential([keras.Input(batch_shape=(3, 40)), norm]))
    x, notes = drawn((3, 40)), []
    with probe(model, own_statistics(model), notes):
        assert np.array_equal(model(x), norm(x, training=False))
    np.testing.assert_allclose(notes[0].mean[0], x.mean(1, np.float64), rtol=0, atol=32 * 2.0**-24 * 12)
    assert np.array_equal(outputs(model, x, Batch()), model(x, training=True))


def test_a_graph_may_leave_all_sizes_open():
    import tensorflow as tf

    model = scramble(keras.Sequential([keras.Input((None, None, 3)), layers.BatchNormalization()]))
    graph = tf.function(lambda x: outputs(model, x, Batch(4)))
    found = graph.get_concrete_function(tf.TensorSpec((None, None, None, 3)))(tf.constant(drawn(IMAGES)))
    # As in `close_by_groups`: 16 roundings, of numbers below 12, times 48.
    np.testing.assert_allclose(
        found, outputs(model, drawn(IMAGES), Batch(4)), rtol=0, atol=48 * 16 * 2.0**-24 * 12
    )


# Masks.


def lone(precision="float32", **options):
    """A layer, and a model that holds it."""
    norm = layers.BatchNormalization(name="norm", dtype=precision, **options)
    model = keras.Sequential([keras.Input((5, 3), dtype=precision.removeprefix("mixed_")), norm])
    return norm, scramble(model)


def lengths():
    """A mask of 12 sequences of 0 to 5 frames."""
    return np.arange(5)[None] < np.array([5, 0, 1, 2, 3, 4, 5, 5, 1, 1, 0, 2])[:, None]


def masked(x, mask):
    """Mean and variance of each channel (the last axis) over the positions that count."""
    counted = numbers(x)[mask]
    return counted.mean(0), counted.var(0)


@pytest.mark.parametrize("options", [{}, {"renorm": True}, {"scale": False}, {"synchronized": True}])
@pytest.mark.parametrize("precision", ["float32", "float64", "mixed_float16", "bfloat16"])
def test_under_a_mask_both_phases_are_keras_bit_for_bit(precision, options):
    norm, model = lone(precision, **options)
    x, mask = drawn((12, 5, 3)), lengths()
    with probe(model, Batch()):
        batch = numbers(norm(x, mask=mask))
    with probe(model, own_statistics(model)):
        fixed = numbers(norm(x, mask=mask))
    assert np.array_equal(fixed, numbers(norm(x, mask=mask, training=False)))
    assert np.array_equal(batch, numbers(norm(x, mask=mask, training=True)))


def test_a_mask_covers_all_axes_but_the_last_wherever_the_channels_are():
    norm, model = lone(axis=1)
    x, mask = drawn((12, 5, 3)), np.random.default_rng(1).random((12, 5)) < 0.6
    notes = []
    with probe(model, Batch(), notes):
        found = norm(x, mask=mask)
    assert np.array_equal(found, norm(x, mask=mask, training=True))
    expected = [x[mask[:, channel], channel].mean(dtype=np.float64) for channel in range(5)]
    np.testing.assert_allclose(notes[0].mean[0], expected, rtol=0, atol=32 * 2.0**-24 * 12)  # as above


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("statistics", ["one", "parts", "fixed"])
def test_under_a_mask_notes_are_of_what_counts(precision, statistics):
    norm, model = lone(precision)
    x, mask = drawn((12, 5, 3), precision), lengths()
    given = {"one": Batch(), "parts": Batch(parts=6), "fixed": own_statistics(model)}[statistics]
    notes = []
    with probe(model, given, notes):
        norm(x, mask=mask)
    mean, variance = masked(x, mask)
    # 29 values: fewer than 32 roundings. Keras's 29 + 1e-7 takes another 1e-7 / 29 off, where it is used.
    less = 1e-7 / 29 if statistics == "one" else 0.0
    atol = (32 * rounding(model)[0] + less) * np.abs(x).max() ** 2
    np.testing.assert_allclose(notes[0].mean, mean[None], rtol=0, atol=atol)
    np.testing.assert_allclose(notes[0].variance, variance[None], rtol=0, atol=atol)


def test_under_a_mask_groups_are_each_group_by_itself():
    norm, model = lone("float64")
    x, mask = drawn((12, 5, 3), "float64"), lengths()
    with probe(model, Batch(4)):
        found = np.array(norm(x, mask=mask))
    parts = zip(np.split(x, 4), np.split(mask, 4), strict=True)
    expected = [np.array(norm(part, mask=own, training=True)) for part, own in parts]
    close_by_groups(model, x, found, np.concatenate(expected))


@pytest.mark.parametrize("statistics", [Batch(), Batch(parts=3)])
def test_where_nothing_counts_moments_are_zero(statistics):
    norm, model = lone()
    notes = []
    with probe(model, statistics, notes):
        norm(drawn((12, 5, 3)), mask=np.zeros((12, 5), bool))
    assert not np.any(notes[0].mean)
    assert not np.any(notes[0].variance)


def test_masked_moments_by_hand():
    # Images of 1, 0 and 2 counted frames: values 4 | - | 0, 8, so mean 4 and variance 32 / 3.
    norm, model = lone("float64")
    x = np.full((3, 5, 3), 99.0)
    x[0, 0], x[2, 0], x[2, 1] = 4.0, 0.0, 8.0
    mask = np.arange(5)[None] < np.array([[1], [0], [2]])
    notes = []
    with probe(model, Batch(parts=3), notes):
        norm(x, mask=mask)
    np.testing.assert_allclose(notes[0].mean, np.full((1, 3), 4.0), rtol=2.0**-50)  # a few roundings
    np.testing.assert_allclose(notes[0].variance, np.full((1, 3), 32 / 3), rtol=2.0**-50)


def test_a_mask_of_another_rank_is_an_error_as_in_keras():
    norm, model = lone()
    with probe(model, Batch()), pytest.raises(ValueError, match=r"one axis fewer than the inputs.*\(12,\)"):
        norm(drawn((12, 5, 3)), mask=np.ones(12, bool))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_masks_of_an_embedding_reach_the_layer(policy):
    model = scramble(
        keras.Sequential(
            [
                keras.Input((7,), dtype="int32"),
                layers.Embedding(9, 4, mask_zero=True, dtype=policy),
                layers.Dense(3, dtype=policy),
                layers.BatchNormalization(name="norm", dtype=policy),
                layers.LSTM(2, dtype=policy),
            ]
        )
    )
    words = np.random.default_rng(0).integers(0, 9, (6, 7)) * (np.arange(7) < 5)
    assert np.array_equal(outputs(model, words, own_statistics(model)), model(words, training=False))
    notes, seen = [], keras.Model(model.inputs[0], model.layers[1].output)(words)
    with probe(model, Batch(), notes):
        found = model(words)
    mean, variance = masked(seen, words > 0)
    # Of 22 values below 3: fewer than 32 roundings, and Keras's 1e-7 in the divisor.
    atol = (32 * 2.0**-24 + 1e-7 / 22) * 9
    np.testing.assert_allclose(notes[0].mean[0], mean, rtol=0, atol=atol)
    np.testing.assert_allclose(notes[0].variance[0], variance, rtol=0, atol=atol)
    assert np.array_equal(found, model(words, training=True))
