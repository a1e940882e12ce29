"""A model examined from Python: verdict, cause, remedies, and the model given back as it came."""

import json

import keras
import numpy as np
import pytest
from keras import layers

from bnlab.data import DataError
from bnlab.doctor import examine
from bnlab.doctor.data import Data
from bnlab.doctor.examination import examined, measured
from bnlab.doctor.mending import MENDINGS
from bnlab.doctor.schema import schema
from bnlab.doctor.scoring import ScoringError
from bnlab.science.moments import Moments
from bnlab.science.probe import put_statistics
from tests.doctor.networks import blobs, data_of, dense, mixture_of_start, oracle, scramble
from tests.doctor.test_schema import faults


@pytest.fixture(scope="module")
def known():
    model = dense()
    return model, *data_of(model)


@pytest.fixture(scope="module")
def sick(known):
    """An average with six tenths of its start in it, examined; and its variables from before and after."""
    model, data, population = known
    put_statistics(model, mixture_of_start(population, 0.6))
    before = [np.array(own) for own in model.variables]
    found = examined(model, data, batch_size=32, samples=512, facts={"iterations": 51})
    return found, before, [np.array(own) for own in model.variables]


def test_a_sick_model(sick):
    found, *_ = sick
    own = found.diagnosis
    assert (own.verdict, own.status) == ("sick", 1)
    assert own.causes[0].name == "not_arrived"
    assert sum(cause.confidence for cause in own.causes) + own.unexplained == pytest.approx(1, abs=0.01)
    assert own.summary[0].startswith("Test accuracy is ")
    assert own.summary[1].startswith(f"The likeliest cause: {own.causes[0].title}")
    assert own.advice.startswith("More steps, a faster decay")


def test_its_model_and_data_are_told(sick):
    own = sick[0].diagnosis
    assert own.model | {"name": ""} == {
        "name": "",
        # 6 * 8 + 8, 8 * 8 + 8 and 8 * 3 + 3, and four times eight in each normalization.
        "parameters": 56 + 72 + 27 + 64,
        "normalization layers": 2,
        "frozen": 0,
        "stochastic": False,
        "iterations": 51,
    }
    assert own.data == {
        "train": 1024,
        "test": 512,
        "labels": True,
        "kinds": ["classes"],
        "batch_size": 32,
        "estimated_from": 512,
        "scored_on": 512,
    }


def test_its_gaps_are_those_of_plain_numpy(sick, known):
    model, data, population = known
    own = {(gap.split, gap.metric): gap for gap in sick[0].diagnosis.gaps}
    assert list(own) == [(s, m) for s in ("train", "test") for m in ("rmse", "accuracy", "loss")]
    rows = np.random.default_rng(20_203).permutation(512)  # all of the test part, in another order
    x, y = data.x_test[rows], data.y_test[rows]
    moving = oracle(model, x, mixture_of_start(population, 0.6))[0].argmax(-1) == y
    batch = np.concatenate([oracle(model, part)[0] for part in np.split(x, 16)]).argmax(-1) == y
    found = own["test", "accuracy"]
    # Float32 may turn one answer in 512.
    assert found.moving == pytest.approx(moving.mean(), abs=1.1 / 512)
    assert found.batch == pytest.approx(batch.mean(), abs=1.1 / 512)
    assert found.gap == found.moving - found.batch
    sums = (moving * 1.0 - batch).reshape(16, 32).sum(1)
    error = np.sqrt(16 / 15 * ((sums - sums.mean()) ** 2).sum()) / 512
    assert found.standard_error == pytest.approx(error, abs=2e-3)


def test_its_parts_add_up_to_its_gaps(sick):
    own = sick[0].diagnosis
    for split in ("train", "test"):
        whole = next(gap.gap for gap in own.gaps if (gap.split, gap.metric) == (split, "rmse"))
        assert sum(p.value for p in own.parts if p.split == split) == pytest.approx(whole, abs=1e-12)


def test_its_layers(sick, known):
    population = known[2]
    own = sick[0].diagnosis.layers
    assert [(layer.name, layer.channels, layer.calls, layer.frozen) for layer in own] == [
        ("one", 8, 1, False),
        ("two", 8, 1, False),
    ]
    for layer in own:
        true = population[layer.name]
        shift = np.sqrt(np.mean((0.6 * true.mean) ** 2 / (true.variance + 1e-3)))
        # Against 512 of the 1,024 samples: means are known to a twentieth of a deviation.
        assert layer.mean_shift == pytest.approx(shift, abs=0.1)
        assert layer.part is not None


def test_its_remedies_are_best_first_and_mend(sick):
    found, *_ = sick
    own = found.diagnosis.remedies
    assert {remedy.name for remedy in own} == set(found.mendings) <= set(MENDINGS)
    assert found.best in found.mendings
    assert own[0].split == "train"
    gaps = [remedy.gap for remedy in own if remedy.split == "train"]
    assert gaps == sorted(gaps)
    best = next(remedy for remedy in own if remedy.name == found.best)
    assert best.closed > 0.8
    assert (found.batch_size, found.samples) == (32, 512)


def test_its_model_comes_back_as_it_came(sick):
    _, before, after = sick
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_its_json_keeps_to_the_schema(sick):
    text = json.dumps(sick[0].diagnosis.as_dict(), allow_nan=False)
    assert faults(json.loads(text), schema(), schema()) == []


def test_what_mends_it_closes_the_gap_that_is_measured(sick, known):
    model, data, _ = known
    put_statistics(model, sick[0].mendings[sick[0].best])
    after = {(gap.split, gap.metric): gap for gap in measured(model, data, 32, 512)}
    remedy = next(own for own in sick[0].diagnosis.remedies if own.name == sick[0].best)
    assert after["train", "rmse"].gap == pytest.approx(remedy.gap, abs=1e-6)
    assert after["train", "rmse"].moving == pytest.approx(remedy.metrics["rmse"], abs=1e-6)


def test_a_healthy_model(known):
    model, data, population = known
    put_statistics(model, population)
    found = examined(model, data, samples=512)
    own = found.diagnosis
    assert (own.verdict, own.status, own.causes, own.remedies, own.parts) == ("healthy", 0, (), (), ())
    assert (found.best, found.mendings, own.advice) == (None, {}, "")
    assert own.summary[0].startswith("Test accuracy is ")
    assert [layer.part for layer in own.layers] == [None, None]
    assert faults(json.loads(json.dumps(own.as_dict(), allow_nan=False)), schema(), schema()) == []


@pytest.mark.parametrize("count", [8, 40])
def test_few_samples(known, count):
    model, data, population = known
    put_statistics(model, population)
    own = examine(model, data.x_train[:count], data.y_train[:count])
    assert own.verdict == ("healthy" if count == 40 else "unclear")
    assert own.data["scored_on"] == count
    assert own.data["batch_size"] == min(count, 32)


def test_few_samples_without_labels(known):
    model, data, population = known
    put_statistics(model, population)
    own = examine(model, data.x_train[:8])
    assert (own.verdict, own.status) == ("unclear", 2)
    assert own.summary == ("Nothing wrong was seen, but 8 samples to score on are too few to tell.",)


def test_without_labels_and_with_labels_of_one_part(known):
    model, data, population = known
    put_statistics(model, mixture_of_start(population, 0.9))
    bare = examine(model, data.x_train, None, data.x_test)
    assert bare.verdict == "sick"
    assert bare.causes[0].name == "not_arrived"
    assert "of the test predictions differ between moving and batch statistics" in bare.summary[0]
    assert [gap.metric for gap in bare.gaps] == ["rmse", "agreement"] * 2
    part = examine(model, data.x_train, data.y_train, data.x_test)
    assert [gap.metric for gap in part.gaps] == ["rmse", "accuracy", "loss", "rmse", "agreement"]


@pytest.mark.parametrize("frozen", [False, True])
def test_nothing_to_examine(frozen):
    norm = layers.BatchNormalization(trainable=False) if frozen else layers.LayerNormalization()
    model = keras.Sequential([keras.Input((6,)), norm, layers.Dense(3)], name="plain")
    found = examined(model, Data(blobs(16, 1)))
    own = found.diagnosis
    assert (own.verdict, own.status, own.model) == ("nothing to examine", 0, {"name": "plain"})
    why = (
        "All 1 batch normalization layers of the model plain are frozen"
        if frozen
        else "The model plain has no batch normalization layers"
    )
    assert own.summary == (f"{why}: both phases are the same.",)
    assert faults(json.loads(json.dumps(own.as_dict(), allow_nan=False)), schema(), schema()) == []


def test_a_frozen_layer_beside_another_is_listed(known):
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.BatchNormalization(name="fixed", trainable=False),
            layers.BatchNormalization(name="own"),
            layers.Dense(3),
        ]
    )
    own = examine(model, blobs(128, 1), np.arange(128) % 3)
    assert [(layer.name, layer.frozen, layer.kl is None) for layer in own.layers] == [
        ("fixed", True, True),
        ("own", False, False),
    ]
    assert own.model["frozen"] == 1


@pytest.mark.parametrize("form", ["dict", "list"])
def test_several_inputs_and_outputs(form):
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    y = layers.BatchNormalization(name="norm")(layers.Add()([a, b]))
    inputs = {"a": a, "b": b} if form == "dict" else [a, b]
    model = keras.Model(inputs, [layers.Dense(3, name="kind")(y), layers.Dense(1, name="size")(y)])
    scramble(model)
    x = {"a": blobs(256, 1), "b": blobs(256, 2)}
    labels = np.arange(256) % 3, np.full((256, 1), 0.5)
    given = x if form == "dict" else list(x.values())
    whole = x["a"].astype(np.float64) + x["b"]
    put_statistics(model, {"norm": Moments(whole.mean(0), whole.var(0))})
    own = examine(model, given, list(labels) if form == "list" else labels)
    assert own.verdict == "healthy"
    assert own.data["kinds"] == ["classes", "values"]
    assert [gap.metric for gap in own.gaps] == ["rmse", "loss"]


def test_a_compiled_model_tells_its_steps_and_keeps_its_optimizer(known):
    model, data = dense(), known[1]
    model.compile(
        keras.optimizers.Adam(0.001),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    x, y = (own[:128] for own in (data.x_train, data.y_train))
    model.fit(x, y, batch_size=32, epochs=2, verbose=0)
    before = [np.array(own) for own in (*model.variables, *model.optimizer.variables)]
    own = examine(model, data.x_train, data.y_train, samples=256)
    after = [np.array(own) for own in (*model.variables, *model.optimizer.variables)]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert (own.model["iterations"], own.model["optimizer"]) == (8, "Adam")
    assert model.compiled
    # .99^8 = .92 of the start is left.
    assert own.causes[0].name == "not_arrived"
    model.fit(x, y, batch_size=32, verbose=0)
    assert int(model.optimizer.iterations) == 12


def test_statistics_that_are_not_finite(known):
    model, data, population = known
    put_statistics(model, {k: v._replace(mean=v.mean * np.nan) for k, v in population.items()})
    own = examine(model, data.x_train, data.y_train, samples=128)
    assert (own.verdict, own.causes[0].name) == ("sick", "not_finite")
    assert own.summary[0].startswith("Train accuracy is ")
    assert own.remedies[0].name in ("population", "mean_moments")
    assert {layer.kl for layer in own.layers} == {None}
    assert faults(json.loads(json.dumps(own.as_dict(), allow_nan=False)), schema(), schema()) == []


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_a_regressor_with_infinite_statistics(known, bad):
    model, data, population = known
    logits = oracle(model, data.x_train, population)[0]
    spoilt = {k: v._replace(mean=np.where(np.arange(8) == 1, bad, v.mean)) for k, v in population.items()}
    put_statistics(model, spoilt)
    own = examine(model, data.x_train, logits, samples=128)
    assert (own.verdict, own.causes[0].name) == ("sick", "not_finite")


def test_data_that_do_not_fit_are_refused(known):
    model, data, population = known
    put_statistics(model, population)
    with pytest.raises(DataError, match=r"x_train must have shape \(n, 6\) for this model, got \(1024, 5\)"):
        examine(model, data.x_train[:, :5])
    with pytest.raises(ScoringError, match=r"labels must fit outputs of shape \(n, 3\)"):
        examine(model, data.x_train, data.y_train + 1, samples=64)
    with pytest.raises(DataError, match="x_train must have at least 8 samples, got 7"):
        examine(model, data.x_train[:7])


class Own(keras.Model):
    """A model that does not say what it takes."""

    def __init__(self, fault=None):
        super().__init__(name="mine")
        self.fault = fault
        self.first, self.norm = layers.Dense(4), layers.BatchNormalization()

    def call(self, x, training=None):
        if self.fault:
            raise self.fault
        return self.norm(self.first(x), training=training)


def test_a_model_that_cannot_be_called_on_the_inputs_is_told_in_one_line(known):
    model, x = Own(), blobs(16, 1)
    model(x)
    with pytest.raises(DataError) as caught:
        examine(model, x[:, :5])
    line = str(caught.value)
    assert line.startswith("mine cannot be called on x_train: Input 0 ")
    assert line.isprintable()
    with pytest.raises(DataError, match=r"^mine cannot be called on x_train: no such luck$"):
        examine(Own(RuntimeError("no such luck\nat all")), x)
    with pytest.raises(DataError, match=r"^mine cannot be called on x_train: RuntimeError$"):
        examine(Own(RuntimeError()), x)


def test_labels_that_tell_nothing_accuse_no_epsilon(known):
    model, data, population = known
    put_statistics(model, population)
    shuffled = np.random.default_rng(5).permutation(data.y_train)
    own = examine(model, data.x_train, shuffled)
    assert own.verdict == "healthy"
    assert any(
        note.startswith("in no phase does the model answer its own samples better") for note in own.notes
    )


@pytest.mark.parametrize(("synchronized", "offset"), [(True, 1000.0), (True, 0.0), (False, 1000.0)])
def test_synchronized_variances_that_are_rounding_are_told_of(synchronized, offset):
    norm = keras.layers.BatchNormalization(name="norm", synchronized=synchronized)
    model = keras.Sequential([keras.Input((6,)), norm, keras.layers.Dense(3)])
    x = blobs(256, 1) + np.float32(offset)
    norm.moving_mean.assign(x.mean(0))
    norm.moving_variance.assign(x.var(0))
    told = [note for note in examine(model, x).notes if "is synchronized" in note]
    if not (synchronized and offset):
        assert told == []
        return
    # 5 of 2^-24 of squares of a thousand, over variances of one or two.
    off = 5 * 2.0**-24 * ((x.mean(0) ** 2 + x.var(0)) / (x.var(0) + 1e-3)).max()
    said = float(told[0].split("may be off by ")[1].split("%")[0]) / 100
    # Variances of the half that statistics are estimated from, 128 samples: known to root(2 / 128).
    assert said == pytest.approx(off, rel=3 / 8)


@pytest.mark.parametrize(("steps", "told"), [(51, True), (0, False)])
def test_statistics_that_were_never_updated_and_do_no_harm_are_told_of(steps, told):
    norm = keras.layers.BatchNormalization(name="norm")
    model = keras.Sequential([keras.Input((6,)), norm, keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(512, 6)).astype(np.float32)
    own = examined(model, Data(x), batch_size=32, facts={"iterations": steps}).diagnosis
    said = "1 of 1 layers hold mean 0 and variance 1, exactly, after 51 steps: their statistics were never up"
    assert own.verdict == "healthy"
    assert any(note.startswith(said) for note in own.notes) == told


def test_weights_that_are_not_numbers_make_the_headline_and_no_remedy(known):
    model, data, _ = known
    gamma = model.get_layer("one").gamma
    kept = np.array(gamma)
    gamma.assign(np.full(len(kept), np.nan))
    own = examined(model, data, batch_size=32, samples=256).diagnosis
    gamma.assign(kept)
    assert own.summary == (f"1 of {len(model.weights)} weights are NaN or infinite: {gamma.path}.",)
    assert (own.remedies, [note for note in own.notes if "in no phase" in note]) == ((), [])
