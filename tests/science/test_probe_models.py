"""Layers wherever a model holds them, under keys of their own; and a model that is as it was afterwards."""

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.science.probe import (
    Batch,
    named_layers,
    normalization_layers,
    outputs,
    own_statistics,
    probe,
    put_statistics,
)


def norm(name="bn", **options):
    return layers.BatchNormalization(name=name, **options)


def drawn(*shape):
    return np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)


def backbone(name):
    return keras.Sequential([keras.Input((3,)), norm("bn"), layers.Dense(3), norm(f"only_{name}")], name=name)


def twins():
    """Two backbones with a `bn` each, and one outside."""
    x = image = keras.Input((3,))
    for name in ("backbone_a", "backbone_b"):
        x = backbone(name)(x)
    return keras.Model(image, norm("bn")(x))


class Own(keras.Model):
    """Layers in attributes, lists, dicts and tuples; one of them twice."""

    def __init__(self):
        super().__init__(name="own")
        self.first = norm("first")
        self.listed = [norm("listed"), [norm("deep")]]
        self.mapped = {"a": norm("mapped"), "b": (norm("paired"),)}
        self.again = self.listed[0]

    def call(self, x, training=None):
        for layer in (self.first, *self.listed[:1], *self.listed[1], self.mapped["a"], self.mapped["b"][0]):
            x = layer(x, training=training)
        return self.again(x, training=training)


class Block(layers.Layer):
    """A layer with two layers of one name."""

    def __init__(self, name):
        super().__init__(name=name)
        self.one, self.two = norm(), norm()

    def build(self, shape):
        self.one.build(shape)
        self.two.build(shape)

    def call(self, x, training=None):
        return self.two(self.one(x, training=training), training=training)


def test_a_name_that_is_alone_is_the_key_and_others_bear_their_parents_names():
    model = twins()
    keys = ["backbone_a/bn", "only_backbone_a", "backbone_b/bn", "only_backbone_b", "bn"]
    assert list(named_layers(model)) == keys
    assert list(own_statistics(model)) == keys
    assert [layer.name for layer in named_layers(model).values()] == [key.split("/")[-1] for key in keys]


def test_a_number_tells_apart_what_parents_cannot():
    # The second layer's number is taken by another's own name.
    model = keras.Sequential([keras.Input((3,)), Block("block"), Block("other"), norm("bn#2")])
    assert list(named_layers(model)) == ["block/bn", "block/bn#2", "other/bn", "other/bn#2", "bn#2"]


def test_a_number_is_no_other_layers_name():
    class Two(keras.Model):
        def __init__(self):
            super().__init__()
            self.all = [norm(), norm(), norm("bn#2"), norm()]

    model = Two()
    assert list(named_layers(model)) == ["bn", "bn#3", "bn#2", "bn#4"]
    assert list(named_layers(model).values()) == model.all


def test_frozen_layers_may_be_left_out_and_keys_stay():
    model = twins()
    model.get_layer("backbone_a").trainable = False
    assert list(named_layers(model, frozen=False)) == ["backbone_b/bn", "only_backbone_b", "bn"]
    assert len(named_layers(model)) == 5


def test_layers_of_one_name_go_by_their_own_statistics():
    model, x = twins(), drawn(8, 3)
    given = {key: (np.full(3, i), np.full(3, 1.0 + i)) for i, key in enumerate(named_layers(model))}
    notes = []
    with probe(model, given, notes):
        found = model(x)
    assert [note.layer for note in notes] == list(given)
    put_statistics(model, given)
    assert np.array_equal(found, model(x, training=False))
    assert np.array_equal(outputs(model, x, Batch()), model(x, training=True))


def test_layers_are_found_in_attributes_lists_and_dicts_once_each():
    model, x = Own(), drawn(8, 3)
    model(x)
    assert list(named_layers(model)) == ["first", "listed", "deep", "mapped", "paired"]
    assert [layer.name for layer in normalization_layers(model)] == list(named_layers(model))
    notes = []
    with probe(model, Batch(), notes):
        found = model(x)
    calls = [(note.layer, note.call) for note in notes]
    assert calls == [*((key, 0) for key in named_layers(model)), ("listed", 1)]
    assert np.array_equal(found, model(x, training=True))


def test_a_layer_inside_a_wrapper_is_noted_once_per_step():
    model = keras.Sequential([keras.Input((4, 3)), layers.TimeDistributed(norm(), name="each")])
    x, notes = drawn(8, 4, 3), []
    with probe(model, Batch(), notes):
        found = model(x)
    assert [(note.layer, note.call) for note in notes] == [("bn", step) for step in range(4)]
    # Sums of 8 float32 numbers below 12: fewer than 8 roundings.
    for step, note in enumerate(notes):
        np.testing.assert_allclose(note.mean[0], x[:, step].mean(0, np.float64), rtol=0, atol=2.0**-21 * 12)
    assert np.array_equal(found, model(x, training=True))


def test_a_layer_in_a_recurrent_cell_is_held():
    class Cell(layers.Layer):
        state_size = output_size = 3

        def __init__(self):
            super().__init__()
            self.norm = norm()

        def build(self, shape):
            self.norm.build(shape)

        def call(self, x, states, training=None):
            y = self.norm(x + states[0], training=training)
            return y, [y]

    model = keras.Sequential([keras.Input((4, 3)), layers.RNN(Cell())])
    x, given = drawn(8, 4, 3), {"bn": (np.ones(3), np.full(3, 2.0))}
    found = outputs(model, x, given)
    put_statistics(model, given)
    assert np.array_equal(found, model(x, training=False))


def test_a_derived_layer_is_held_too():
    class Derived(layers.BatchNormalization):
        def call(self, inputs, training=None, mask=None, scale_by=1.0):
            return super().call(inputs, training=training and self.trainable, mask=mask)

    layer = Derived(name="derived")
    model = keras.Sequential([keras.Input((3,)), layer])
    x = drawn(8, 3)
    with probe(model, Batch()):
        found = layer(x, scale_by=2.0)
    assert np.array_equal(found, outputs(model, x, Batch()))
    assert np.array_equal(found, model(x, training=True))


def test_what_is_not_built_has_no_statistics_yet_but_can_be_held():
    model, x = Own(), drawn(8, 3)
    for read in (own_statistics, lambda model: put_statistics(model, {})):
        with pytest.raises(
            ValueError, match=r"^layer first has no statistics yet: call the model on data first$"
        ):
            read(model)
    found = outputs(model, x, Batch())
    assert np.array_equal(found, model(x, training=True))


# Afterwards.


def own_calls(model):
    return [vars(layer).get("call") for layer in model._flatten_layers()]


def test_a_call_that_a_user_put_in_place_comes_back():
    model, x = twins(), drawn(8, 3)
    layer = model.get_layer("bn")
    layer.call = lambda inputs, training=None, mask=None: inputs * 2
    before, found = own_calls(model), np.array(model(x))
    with pytest.raises(RuntimeError, match="inside"), probe(model, Batch()):
        raise RuntimeError("inside")
    assert own_calls(model) == before
    assert np.array_equal(model(x), found)


def test_probes_may_lie_inside_one_another():
    model, x = twins(), drawn(8, 3)
    own = own_statistics(model)
    with probe(model, Batch()):
        batch = np.array(model(x))
        with probe(model, own):
            fixed = np.array(model(x))
        assert np.array_equal(model(x), batch)
    assert np.array_equal(model(x), fixed)
    assert set(own_calls(model)) == {None}


def test_an_error_while_taking_hold_leaves_nothing_behind(monkeypatch):
    from bnlab.science import probe as module

    class Halting(dict):
        def __setitem__(self, name, value):
            raise RuntimeError("halted")

    model = twins()
    last = model.get_layer("bn")
    own = vars(last)
    monkeypatch.setattr(
        module, "vars", lambda owner: Halting() if owner is last else vars(owner), raising=False
    )
    with pytest.raises(RuntimeError, match="halted"), probe(model, Batch()):
        pass
    assert set(own_calls(model)) == {None}
    assert "call" not in own


def test_what_a_model_compiled_before_is_its_own_again():
    model, x = twins(), drawn(8, 3)
    model.compile(loss="mse", run_eagerly=False)
    before, function = model.predict(x, verbose=0), model.predict_function
    with probe(model, Batch()):
        inside = model.predict(x, verbose=0)
        assert np.array_equal(inside, model.predict(x, verbose=0))
    assert model.predict_function is function
    assert np.array_equal(model.predict(x, verbose=0), before)
    # Another function than outside; in a graph the same arithmetic, of numbers of order one, rounds alike
    # but for the order of sums: fewer than 64 roundings.
    np.testing.assert_allclose(inside, outputs(model, x, Batch()), rtol=0, atol=64 * 2.0**-24 * 4)
    assert np.abs(inside - before).max() > 0.1


def test_what_is_compiled_inside_first_is_not_kept():
    model, x = twins(), drawn(8, 3)
    with probe(model, Batch()):
        model.get_layer("backbone_a").predict(x, verbose=0)
        model.predict(x, verbose=0)
    assert model.predict_function is model.get_layer("backbone_a").predict_function is None
    fixed = outputs(model, x, own_statistics(model))
    # As above.
    np.testing.assert_allclose(model.predict(x, verbose=0), fixed, rtol=0, atol=64 * 2.0**-24 * 16)
