"""The corpus: networks that build, scores against arithmetic, and faults that do what their names say."""

import json

import keras
import numpy as np
import pytest

from experiments.doctor import after, during, healthy, images, make
from experiments.doctor.architectures import ARCHITECTURES, build
from experiments.doctor.bench import Bench, Case, measured
from experiments.doctor.custom import AlwaysTraining
from experiments.doctor.faults import EXCLUSIONS, FAULTS
from experiments.doctor.healthy import HEALTHY
from experiments.doctor.phases import batch_statistics, norms, outputs, put_population, worse
from experiments.doctor.recipe import CHOICES, FIRST, draw


@pytest.fixture(autouse=True)
def _stripes(monkeypatch):
    """Images in which a class is the place of a bright column, instead of the real ones."""
    rng = np.random.default_rng(0)

    def load(data):
        height, channels = (28, 1) if data == "mnist" else (16, 3)
        labels = rng.integers(0, 10, 400)
        pixels = rng.integers(0, 60, (400, height, height, channels), np.uint8)
        pixels[np.arange(400), :, labels + 3] = 250
        return pixels[:300], labels[:300], np.tile(pixels[300:], (60, 1, 1, 1)), np.tile(labels[300:], 60)

    monkeypatch.setattr(images, "_load", load)


def tiny(architecture="cnn", **changes):
    small = {
        "width": 2,
        "depth": 2,
        "steps": 6,
        "samples": 200,
        "first": 0,
        "batch_size": 20,
        "data": "mnist",
    }
    return draw("tune", architecture, "plain", 0).but(**{"task": "ints", **small, **changes})


class Tiny(Bench):
    """A bench whose trainings take a second."""

    def recipe(self, training, dose=0):
        return tiny(self.architecture)


@pytest.fixture(scope="module")
def _kept():
    return {}


@pytest.fixture
def bench(_kept):
    """One trained bench for the whole file: each `plain` starts from its end again."""
    return _kept.setdefault("bench", Tiny("tune", "cnn", 0))


@pytest.mark.parametrize(("architecture", "layers"), [
    ("cnn", 2), ("resnet", 8), ("dropout", 2), ("nested", 3), ("dense", 2), ("renorm", 2), ("mixed", 2),
])  # fmt: skip
def test_a_network_gives_classes_and_has_its_normalizations(architecture, layers):
    model = build(tiny(architecture, data="cifar10"))
    assert model.output_shape == (None, 10)
    assert len(norms(model)) == layers


def test_a_draw_depends_on_its_words_alone_and_the_sets_share_no_image():
    assert draw("judge", "cnn", "hot", 1) == draw("judge", "cnn", "hot", 1)
    assert draw("judge", "cnn", "hot", 1) != draw("judge", "cnn", "cold", 1)
    assert max(FIRST["tune"]) + max(CHOICES["tune"]["samples"]) <= min(FIRST["judge"])
    assert max(FIRST["judge"]) + max(CHOICES["judge"]["samples"]) <= 50000


def test_phase_true_is_plain_arithmetic_and_leaves_statistics_as_they_were():
    x = np.array([[1.0], [3.0], [2.0], [8.0]], np.float32)
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(epsilon=0.0)])
    with batch_statistics(model):
        seen = outputs(model, x, 2)
    # Two values lie one standard deviation from their mean.
    assert seen.ravel().tolist() == pytest.approx([-1, 1, -1, 1])
    assert outputs(model, x, 2).ravel().tolist() == pytest.approx([1, 3, 2, 8])


def test_population_variance_is_that_within_batches_and_between_them():
    x = np.arange(40, dtype=np.float32)[:, None]
    model = keras.Sequential([keras.Input((1,)), keras.layers.BatchNormalization(momentum=0.9)])
    put_population(model, x)
    # Of 0, ..., n - 1: mean (n - 1) / 2, variance (n^2 - 1) / 12.
    assert norms(model)[0].moving_mean.numpy() == pytest.approx([19.5], rel=1e-6)
    assert norms(model)[0].moving_variance.numpy() == pytest.approx([1599 / 12], rel=1e-6)
    assert norms(model)[0].momentum == 0.9


def test_what_is_not_finite_is_as_bad_as_can_be():
    assert worse(0.9, 0.7, regression=False) == pytest.approx(0.2)
    assert worse(0.2, 0.3, regression=True) == pytest.approx(0.5)
    assert worse(0.2, np.nan, regression=True) == 10


def test_an_average_in_float16_sticks():
    # Just below 4, float16 has steps of 2^-9, and 0.001 * (5 - v) falls below half a step near 4.02.
    assert after._stalled(np.array([5.0]), 0.0, 0.999)[0] == pytest.approx(4.0, abs=0.05)
    assert after._stalled(np.array([5.0]), 5.0, 0.999)[0] == 5.0


def test_statistics_never_updated_are_at_their_start_under_an_optimizer_that_stepped(bench):
    made = after.never_updated(bench, 0)
    for layer in norms(made.model):
        assert (layer.moving_mean.numpy() == 0).all()
        assert (layer.moving_variance.numpy() == 1).all()
    assert int(made.model.optimizer.iterations) == 6


def test_a_restored_model_lacks_nothing_but_moving_statistics(bench):
    kept = [np.array(v) for v in bench.plain().model.trainable_variables]
    bench.start("not_restored")
    new = after.not_restored(bench, 0).model
    for own, value in zip(new.trainable_variables, kept, strict=True):
        np.testing.assert_array_equal(own, value)
    assert all((layer.moving_variance.numpy() == 1).all() for layer in norms(new))
    assert new.optimizer is None or int(new.optimizer.iterations) == 0


def test_partly_restored_loses_the_layers_that_it_names(bench):
    made = after.partly_restored(bench, 0)
    lost = [layer.name for layer in norms(made.model) if (layer.moving_variance.numpy() == 1).all()]
    assert lost == made.notes["layers"]
    assert len(lost) == 1


def test_a_dummy_pass_pulls_the_first_mean_towards_what_zeros_give(bench):
    before = [np.array(layer.moving_mean) for layer in norms(bench.plain().model)]
    bench.random = np.random.default_rng(1)
    made = after.dummy_pass(bench, 0)
    share = norms(made.model)[0].momentum ** made.notes["calls"]
    if made.notes["kind"] == "zeros":  # a convolution without bias gives zeros
        np.testing.assert_allclose(norms(made.model)[0].moving_mean, before[0] * share, rtol=1e-4)
    assert not np.allclose(norms(made.model)[1].moving_mean, before[1])


def test_one_bad_batch_spoils_statistics_and_no_weight(bench):
    made = after.nan_statistics(bench, 0)
    assert not np.isfinite(norms(made.model)[0].moving_mean.numpy()).all()
    assert all(np.isfinite(v.numpy()).all() for v in made.model.trainable_variables)
    assert np.isfinite(bench.plain().model.get_weights()[-1]).all()


def test_wrong_scaling_of_the_test_images_alone_or_of_all(bench):
    right = bench.plain().data
    test, both = after.test_preprocessing(bench, 0).data, after.train_preprocessing(bench, 0).data
    assert test.x_train is right.x_train
    assert not np.allclose(test.x_test, right.x_test)
    np.testing.assert_array_equal(both.x_test, test.x_test)
    assert not np.allclose(both.x_train, right.x_train)


def test_another_epsilon_is_undone_by_the_next_plain(bench):
    assert {layer.epsilon for layer in norms(after.epsilon(bench, 1).model)} == {0.1}
    assert {layer.epsilon for layer in norms(bench.plain().model)} == {bench.plain().recipe.epsilon}


@pytest.mark.parametrize("draw_of", [0, 1])
def test_half_precision_keeps_values_that_float16_can_hold(bench, draw_of):
    bench.random = np.random.default_rng(draw_of)
    layer = norms(after.half_precision(bench, 0).model)[0]
    value = layer.moving_mean.numpy()
    np.testing.assert_array_equal(value, value.astype(np.float16).astype(value.dtype))
    assert layer.momentum == 0.999


@pytest.mark.parametrize("draw_of", [0, 1])
def test_trained_with_phase_false_never_moved_the_statistics(bench, draw_of):
    bench.random = np.random.default_rng(draw_of)
    made = during.trained_with_phase_false(bench, 0)
    assert all((layer.moving_mean.numpy() == 0).all() and layer.trainable for layer in norms(made.model))
    assert int(made.model.optimizer.iterations) == 6


def test_the_average_of_weights_is_plain_or_exponential():
    values = [np.array(1.0), np.array(2.0), np.array(6.0)]
    assert during._average(values, None) == pytest.approx(3.0)
    assert during._average(values, 0.5) == pytest.approx(3.75)


def test_outputs_of_a_model_that_always_trains_depend_on_batch_mates():
    model = AlwaysTraining([2], 3, None, 0.9, 1e-3, flat=True)
    x = np.random.default_rng(0).standard_normal((4, 2, 2, 1)).astype(np.float32)
    model(x)
    assert not np.allclose(outputs(model, x, 4)[:2], outputs(model, x, 2)[:2])


def test_a_frozen_backbone_has_a_head_that_trains():
    made = healthy.frozen_backbone(Tiny("tune", "dense", 0), 0)
    assert [layer.name for layer in made.model.layers if layer.trainable and layer.weights] == ["head"]
    assert set(made.data.y_test) == {5, 6, 7, 8, 9}


def test_a_model_is_written_once_with_its_truth(bench, tmp_path, monkeypatch):
    case = Case("never_updated", "reset", after.never_updated)
    monkeypatch.setattr(make, "ENOUGH", {False: -1.0})
    folder = tmp_path / "cnn-never_updated.reset-0"
    make.make(case, bench, folder)
    truth = json.loads((folder / "truth.json").read_text())
    assert (truth["fault"], truth["seed"], truth["batch_size"], truth["steps"]) == ("never_updated", 0, 20, 6)
    loaded, found = keras.saving.load_model(folder / "model.keras"), measured(after.never_updated(bench, 0))
    assert truth["accuracy_false"] == pytest.approx(found.false, abs=1e-5)
    with np.load(folder / "data.npz") as data:
        assert sorted(data) == ["x_test", "x_train", "y_test", "y_train"]
        got = outputs(loaded, data["x_test"], 250).argmax(1)
        assert np.mean(got == data["y_test"]) == pytest.approx(found.false)
    assert not make._is_wanted(case, "cnn", folder, "*")
    assert make._is_wanted(case, "dense", tmp_path / "dense-never_updated.reset-0", "dense-*")


def test_a_fault_that_does_nothing_is_left_out(bench, tmp_path):
    case = Case("not_arrived", "nothing", lambda bench, dose: bench.plain(), 2, sign="drop")
    with pytest.raises(make.Harmless, match=r"harm \[0.0, 0.0\]"):
        make.make(case, bench, tmp_path / "cnn-nothing-0")
    assert list(tmp_path.iterdir()) == []


def test_the_plan_has_each_pair_once_per_seed_and_as_many_healthy_kinds_as_it_says():
    planned = [(a, seed, case.what) for a, seed, cases in make.plan([0, 1]) for case in cases]
    assert len(planned) == len(set(planned)) == 2 * len(ARCHITECTURES) * len([*HEALTHY, *FAULTS])
    assert len({case.fault for case in FAULTS}) >= 14
    assert {name for name, _ in EXCLUSIONS} <= {word for case in FAULTS for word in (case.fault, case.what)}
