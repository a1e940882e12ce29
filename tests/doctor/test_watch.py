"""The watch leaves training as it is, measures what direct calls give, keeps its budget, and warns once."""

import csv
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from bnlab.doctor.budget import Budget
from bnlab.doctor.gauge import Gauge
from bnlab.doctor.sample import Sample, draw
from bnlab.doctor.watch import BatchNormWarning, Watch

RNG = np.random.default_rng(7)
X = RNG.normal(2.0, 3.0, (96, 6)).astype(np.float32)
Y = RNG.integers(0, 3, 96)
LABELLED = ["bn_accuracy_false", "bn_accuracy_true", "bn_gap", "bn_rmse_false", "bn_rmse_true"]
ALWAYS = 1e9  # a budget that nothing exceeds
LOSS = "sparse_categorical_crossentropy"


def network(momentum=0.9, dropout=0.3, softmax=True):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8),
            layers.BatchNormalization(momentum=momentum, name="norm"),
            layers.ReLU(),
            layers.Dropout(dropout),
            layers.Dense(3, activation="softmax" if softmax else None),
        ]
    )


def compiled(model=None, loss=LOSS, **options):
    model = model or network()
    model.compile(keras.optimizers.SGD(0.05), loss, **options)
    return model


def driven(watch, model, epochs=1, steps=12, between=lambda: None):
    """Tell a watch of a training that does not take place: a fit that costs no time."""
    if not model.compiled:
        compiled(model)
    watch.set_params({"epochs": epochs, "steps": steps})
    watch.set_model(model)
    model.stop_training = False
    watch.on_train_begin()
    logs = []
    for epoch in range(epochs):
        watch.on_epoch_begin(epoch)
        for step in range(steps):
            watch.on_train_batch_end(step, logs={})
        between()
        logs.append({})
        watch.on_epoch_end(epoch, logs[-1])
    watch.on_train_end()
    return logs


def told(seen):
    return sum(issubclass(one.category, BatchNormWarning) for one in seen)


def rmse_by_hand(probabilities, labels):
    return math.sqrt(np.mean((np.asarray(probabilities, np.float64) - np.eye(3)[labels]) ** 2))


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """One real training without and one with a watch."""
    path = tmp_path_factory.mktemp("watch") / "log.csv"
    plain, seen = compiled(), compiled(network())
    plain.fit(X, Y, batch_size=16, epochs=3, verbose=0, validation_data=(X, Y))
    watch = Watch(X, Y, samples=64, every=4, budget=ALWAYS, verbose=0)
    history = seen.fit(
        *(X, Y),
        batch_size=16,
        epochs=3,
        verbose=0,
        validation_data=(X, Y),
        callbacks=[watch, keras.callbacks.CSVLogger(path)],
    )
    return plain, seen, watch, history, path


def test_a_watched_training_ends_in_the_same_bits(watched):
    plain, seen, *_ = watched
    for one, other in zip(plain.variables, seen.variables, strict=True):
        np.testing.assert_array_equal(np.array(one), np.array(other), err_msg=one.path)
    assert plain.history.history["loss"] == seen.history.history["loss"]
    assert plain.history.history["val_loss"] == seen.history.history["val_loss"]


def test_nothing_is_left_on_the_layers(watched):
    assert not any("call" in vars(layer) for layer in watched[1]._flatten_layers())


def test_history_and_callbacks_behind_have_every_value_of_every_epoch(watched):
    _, _, watch, history, path = watched
    assert {key: len(own) for key, own in history.history.items() if key.startswith("bn_")} == dict.fromkeys(
        LABELLED, 3
    )
    assert [own.step for own in watch.measured] == [4, 8, 12, 16, 18]
    latest = [watch.measured[k].values["bn_gap"] for k in (0, 2, 4)]
    assert history.history["bn_gap"] == latest
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["bn_gap"]) for row in rows] == latest


def test_values_are_those_of_direct_calls(watched):
    _, model, watch, *_ = watched
    sample, last = watch._sample, watch.measured[-1].values
    assert (sample.size, sample.groups) == (16, 4)
    false = model(sample.x, training=False)
    # Without dropout, training=True is phase true; a copy takes the updates.
    copy = network(dropout=0.0)
    copy.set_weights(
        [own for own, v in zip(model.get_weights(), model.weights, strict=True) if "seed" not in v.path]
    )
    true = np.concatenate([copy(part, training=True) for part in np.split(sample.x, 4)])
    # Float32 outputs of another graph: a few units of 6e-8 in each.
    assert last["bn_rmse_false"] == pytest.approx(rmse_by_hand(false, sample.y), abs=1e-6)
    assert last["bn_rmse_true"] == pytest.approx(rmse_by_hand(true, sample.y), abs=1e-6)
    assert last["bn_gap"] == last["bn_rmse_false"] - last["bn_rmse_true"]
    assert last["bn_accuracy_false"] == np.mean(np.argmax(false, -1) == sample.y)
    assert last["bn_accuracy_true"] == np.mean(np.argmax(true, -1) == sample.y)


def test_it_is_traced_once_for_several_fits_of_one_model(monkeypatch):
    traced = []
    own = Gauge._outputs
    monkeypatch.setattr(Gauge, "_outputs", lambda self, x: (traced.append(1), own(self, x))[1])
    watch, model = Watch(X, Y, budget=ALWAYS, verbose=0), settled()
    driven(watch, model, epochs=2)
    driven(watch, model, epochs=2)
    assert len(traced) == 1
    assert len(watch.measured) == 2
    model.get_layer("norm").trainable = False
    assert driven(watch, model) == [{}]
    model.get_layer("norm").trainable = True
    driven(watch, model)
    assert len(traced) == 1  # the model is again what it was traced for


def test_another_model_is_another_gauge():
    watch = Watch(X, Y, budget=ALWAYS, verbose=0)
    one, other = settled(), settled(softmax=False)
    driven(watch, one)
    driven(watch, other)
    assert watch._gauge.model is other


# Budget


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_budget_is_kept_second_by_second():
    clock = Clock()
    budget = Budget(0.05, clock)
    budget.begin()
    assert not budget.allows()  # nothing is known
    clock.now = 4.0
    budget.stepped()  # a first measurement is taken for a quarter of the first step: 1 s
    clock.now = 19.9
    assert not budget.allows()
    clock.now = 20.0
    assert budget.allows()  # 1 <= .05 * 20
    with budget.spending():
        clock.now += 2.0
    assert (budget.spent, budget.training, budget.expected) == (2.0, 20.0, 2.0)
    clock.now += 59.9
    assert not budget.allows()
    clock.now += 0.2
    assert budget.allows()  # 2 + 2 <= .05 * 80.1
    budget.begin()
    assert (budget.spent, budget.training) == (0.0, 0.0)


def test_a_measurement_beyond_the_budget_is_left_out_but_the_last(monkeypatch):
    clock, watch = Clock(), Watch(X, Y, verbose=0)
    watch.budget = Budget(0.05, clock)
    own = Gauge.phases
    monkeypatch.setattr(Gauge, "phases", lambda self: (setattr(clock, "now", clock.now + 1), own(self))[1])

    def epoch():
        clock.now += 9.0

    # The first step takes no time here; one second of 9 is too much until 20 s have passed for each.
    logs = driven(watch, settled(), epochs=7, between=epoch)
    assert [own.step for own in watch.measured] == [12, 60, 84]
    assert [math.isnan(own["bn_gap"]) for own in logs] == [False, True, True, True, False, True, False]
    assert all(sorted(own) == LABELLED for own in logs)
    assert watch.budget.spent == 3.0


def test_stopped_early_the_end_is_measured_all_the_same():
    watch, model = Watch(X, Y, verbose=0), network()
    watch.budget = Budget(0.05, Clock())
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", True)
    )
    compiled(model).fit(X, Y, epochs=5, verbose=0, callbacks=[watch, stop])
    assert [own.step for own in watch.measured] == [3]


def test_averaged_weights_are_measured_once_they_are_in_place():
    model = network(dropout=0.0)
    model.compile(keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.9), LOSS)
    watch = Watch(X, Y, budget=ALWAYS, verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchNormWarning)
        model.fit(X, Y, epochs=1, verbose=0, callbacks=[watch])
    last, final = (own.values["bn_rmse_false"] for own in watch.measured)
    assert final == pytest.approx(
        rmse_by_hand(model(watch._sample.x, training=False), watch._sample.y), abs=1e-6
    )
    assert final != last


# Warnings


def with_statistics(mean, variance, **options):
    model = network(**options)
    norm = model.get_layer("norm")
    norm.moving_mean.assign(np.full(8, mean))
    norm.moving_variance.assign(np.full(8, variance))
    return model


def settled(**options):
    """A model whose moving statistics are those of the data."""
    model = network(**options)
    seen = np.asarray(model.layers[0](X), np.float64)
    model.get_layer("norm").moving_mean.assign(seen.mean(0))
    model.get_layer("norm").moving_variance.assign(seen.var(0))
    return model


def learned():
    """Labels that a model gets right with batch statistics, and with those of the data."""
    return np.argmax(settled()(X, training=False), -1)


def test_a_healthy_model_is_not_warned_of():
    driven(Watch(X, learned(), budget=ALWAYS, verbose=0), settled(), epochs=3, steps=200)


def test_statistics_that_are_not_finite(capsys):
    model = with_statistics(float("nan"), 1.0)
    with pytest.warns(BatchNormWarning, match="moving statistics of norm are NaN or infinite") as seen:
        logs = driven(Watch(X, Y, budget=ALWAYS), model, epochs=3, steps=200)
    assert told(seen) == 1
    assert capsys.readouterr().out.count("bnlab watch: moving statistics of norm are NaN") == 1
    assert math.isnan(logs[-1]["bn_rmse_false"])
    assert logs[-1]["bn_rmse_true"] < 1


class Dropping(keras.Model):
    """A training step of somebody's own that runs the model as in inference: no update ever."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=False))
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


def test_statistics_that_never_were_updated():
    plain = network()
    model = compiled(Dropping(plain.inputs, plain.outputs))
    watch = Watch(X, Y, budget=ALWAYS, verbose=0)
    with pytest.warns(
        BatchNormWarning, match="norm are still mean 0 and variance 1 after 12 updates"
    ) as seen:
        model.fit(X, Y, batch_size=16, epochs=3, verbose=0, callbacks=[watch])
    assert told(seen) == 1


def test_few_updates_are_no_reason_to_warn():
    driven(Watch(X, Y, budget=ALWAYS, verbose=0), network(momentum=0.5), steps=9)


def test_an_average_that_has_not_arrived():
    model = with_statistics(9.0, 0.1, momentum=0.99)
    for epochs in (1, 3):
        watch = Watch(X, learned(), batch_size=32, budget=ALWAYS, verbose=0)
        with pytest.warns(BatchNormWarning, match=r"norm has not arrived: 0.99\^12 = 0.89") as seen:
            driven(watch, model, epochs=epochs, steps=12 // epochs)
        assert told(seen) == 1


def test_a_gap_that_lasts_is_told_at_the_end_with_what_to_do():
    model = with_statistics(9.0, 0.1)
    watch = Watch(X, learned(), budget=ALWAYS, verbose=0)
    driven(watch, model, epochs=1, steps=200)  # one measurement may be an accident
    assert watch.measured[0].matters
    with pytest.warns(BatchNormWarning, match="python -m bnlab.doctor MODEL.keras --data") as seen:
        driven(watch, model, epochs=2, steps=200)
    assert told(seen) == 1


def test_momentum_turned_round():
    with pytest.warns(BatchNormWarning, match="momentum of norm is 0.01") as seen:
        driven(Watch(X, Y, budget=ALWAYS, verbose=0), settled(momentum=0.01), epochs=2)
    assert told(seen) == 1


def test_whatever_goes_wrong_training_goes_on(monkeypatch):
    def broken(self):
        raise RuntimeError("no memory\nat all")

    monkeypatch.setattr(Gauge, "phases", broken)
    watch = Watch(X, Y, budget=ALWAYS, verbose=0)
    with pytest.warns(BatchNormWarning, match="is not from here on: RuntimeError: no memory at all$") as seen:
        logs = driven(watch, network(), epochs=3)
    assert told(seen) == 1
    assert all(math.isnan(own["bn_gap"]) for own in logs)
    assert not watch.measured


def test_without_normalization_it_says_so_once_and_does_nothing(capsys):
    watch = Watch(X, Y)
    plain = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    frozen = network()
    frozen.get_layer("norm").trainable = False
    assert driven(watch, plain, epochs=2) == [{}, {}]
    assert driven(watch, frozen) == [{}]
    assert capsys.readouterr().out.count("no batch normalization that is not frozen") == 1


# Models and data of many kinds


def test_several_inputs_and_outputs_with_named_labels():
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    joint = layers.BatchNormalization(momentum=0.5)(layers.Concatenate()([one, two]))
    kind = layers.Dense(3, name="kind")(joint)
    size = layers.Dense(1, name="size")(joint)
    model = keras.Model({"one": one, "two": two}, [size, kind])
    sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    compiled(model, {"kind": sparse, "size": "mse"})
    x, y = {"one": X, "two": -X}, {"kind": Y, "size": X[:, :1] / 10}
    watch = Watch(x, y, budget=ALWAYS, verbose=0)
    model.fit(x, y, verbose=0, callbacks=[watch])
    assert sorted(watch.measured[0].values) == ["bn_gap", "bn_rmse_false", "bn_rmse_true"]
    sample = watch._sample
    value, logits = (np.asarray(part, np.float64) for part in model(sample.x, training=False))
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    squared = [(chances - np.eye(3)[sample.y["kind"]]) ** 2, (value - sample.y["size"]) ** 2]
    by_hand = math.sqrt(np.mean([part.mean() for part in squared]))
    assert watch.measured[0].values["bn_rmse_false"] == pytest.approx(by_hand, abs=1e-6)


def test_half_precision_and_several_steps_in_one_compiled_call():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = network(momentum=0.5)
    finally:
        keras.config.set_dtype_policy("float32")
    compiled(model, steps_per_execution=4, jit_compile=True)
    watch = Watch(X, Y, every=4, budget=ALWAYS, verbose=0)
    model.fit(X, Y, batch_size=16, verbose=0, callbacks=[watch])
    assert [own.step for own in watch.measured] == [4, 6]
    false = model(watch._sample.x, training=False)
    # Outputs are multiples of 2^-11 at most, rounded alike or one apart in another graph.
    by_hand = rmse_by_hand(false, watch._sample.y)
    assert watch.measured[-1].values["bn_rmse_false"] == pytest.approx(by_hand, abs=2**-11)


class Counting(keras.Model):
    """A model that counts its calls in every phase, eagerly or not."""

    def __init__(self):
        super().__init__()
        self.dense, self.norm = layers.Dense(3), layers.BatchNormalization(momentum=0.5)
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x, training=False):
        self.count.assign_add(1.0)
        return self.norm(self.dense(x), training=training)


@pytest.mark.parametrize("eager", [False, True])
def test_variables_that_a_call_writes_are_given_back(eager):
    model = compiled(Counting(), "mse", run_eagerly=eager)
    targets = X[:, :3]
    watch = Watch(X, targets, budget=ALWAYS, verbose=0)
    model.fit(X[:32], targets[:32], epochs=2, verbose=0, callbacks=[watch])
    held = np.array(model.count)
    watch._gauge.phases()
    assert float(np.array(model.count)) == held
    plain = compiled(Counting(), "mse", run_eagerly=eager)
    plain.fit(X[:32], targets[:32], epochs=2, verbose=0)
    assert held == float(np.array(plain.count))


def test_without_labels_phases_are_compared_with_each_other():
    watch = Watch(X, batch_size=32, budget=ALWAYS, verbose=0)
    logs = driven(watch, settled(), epochs=2, steps=200)
    false, true = (np.asarray(part[0], np.float64) for part in watch._gauge.phases()[:2][::-1])
    assert sorted(logs[-1]) == ["bn_disagreement", "bn_gap"]
    assert logs[-1]["bn_gap"] == pytest.approx(math.sqrt(np.mean((false - true) ** 2)), rel=1e-12)
    assert logs[-1]["bn_disagreement"] == np.mean(false.argmax(-1) != true.argmax(-1))
    assert not watch.measured[-1].matters
    sick = Watch(X, batch_size=32, budget=ALWAYS, verbose=0)
    with pytest.warns(BatchNormWarning, match="outputs are worse"):
        driven(sick, with_statistics(9.0, 0.1), epochs=2, steps=200)


def test_other_neighbours_are_the_same_samples_in_other_batches():
    sample = Sample(X[:96], None, 32)
    phases = Gauge(settled(), sample, other=True).phases()
    rows = np.arange(96).reshape(3, 32).T.reshape(-1)
    mixed = Gauge(settled(), Sample(X[rows], None, 32)).phases()
    np.testing.assert_array_equal(phases.other[0][rows], mixed.true[0])


def test_labels_that_fit_no_output_are_left_aside():
    with pytest.warns(BatchNormWarning, match="labels are left aside"):
        logs = driven(Watch(X, X[:, :2], budget=ALWAYS, verbose=0), settled())
    assert sorted(logs[0]) == ["bn_disagreement", "bn_gap"]


def test_a_dataset_gives_its_first_batches():
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    sample = draw(data, None, 45, None, None)
    assert sample.size == 20
    np.testing.assert_array_equal(sample.x, X[:40])
    np.testing.assert_array_equal(sample.y, Y[:40])


def test_a_sample_is_whole_batches_of_the_right_size_and_the_same_each_time():
    one, other = (draw(X, Y, 50, None, 6) for _ in range(2))
    assert (one.size, one.groups) == (16, 3)
    np.testing.assert_array_equal(one.x, other.x)
    rows = [np.flatnonzero((row == X).all(1))[0] for row in one.x]
    assert len(set(rows)) == 48
    np.testing.assert_array_equal(one.y, Y[rows])
    assert draw(X, Y, 10, 500, None).size == 96
    assert draw(X.astype(np.float64), None, 10, 4, None).x.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"samples": 0}, "samples must be >= 1, got 0"),
        ({"batch_size": 0}, "batch_size must be >= 1 or None, got 0"),
        ({"every": "step"}, "every must be \"epoch\" or a number of steps >= 1, got 'step'"),
        ({"budget": 0}, "budget must be > 0, as a share of the training time, got 0"),
        ({"y": Y[:5]}, r"of one length > 0, got shapes \(96, 6\), \(5,\)"),
        ({"x": (part for part in X), "y": None}, "or a tf.data.Dataset, got generator"),
    ],
)
def test_arguments_are_checked_at_once(arguments, match):
    with pytest.raises(ValueError, match=match):
        Watch(**{"x": X, "y": Y, **arguments})


# Tracking


def test_every_fit_is_a_run_with_its_metrics_by_step(tmp_path):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    watch, model = Watch(X, Y, budget=ALWAYS, verbose=0, track=uri), settled()
    first = driven(watch, model, epochs=2, steps=200)
    driven(watch, model, epochs=1, steps=100)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("bnlab watch").experiment_id
    later, run = client.search_runs([experiment], order_by=["attributes.start_time DESC"])
    assert {own.info.status for own in (run, later)} == {"FINISHED"}
    assert run.data.params == {
        "normalization_layers": "1",
        "momentum": "0.9",
        "samples": "96",
        "batch_size": "32",
    } | {"batch_size": str(watch._sample.size)}
    history = client.get_metric_history(run.info.run_id, "bn/rmse_false")
    assert [(own.step, own.value) for own in history] == [
        (step, logs["bn_rmse_false"]) for step, logs in zip((200, 400), first, strict=True)
    ]
    assert [own.step for own in client.get_metric_history(later.info.run_id, "bn/gap")] == [100]


def test_an_unusable_address_is_refused_before_training():
    from bnlab.track import TrackingError

    with pytest.raises(TrackingError, match="cannot be used: it does not answer"):
        Watch(X, Y, track="http://127.0.0.1:9")


class Gone:
    """A server that was there when training began."""

    def begin(self):
        pass

    def log(self, *_):
        raise ConnectionError("the server is gone")


def test_a_server_that_fails_later_stops_nothing():
    watch = Watch(X, Y, budget=ALWAYS, verbose=0)
    watch._fits = Gone()
    with pytest.warns(BatchNormWarning, match="nothing more is sent: ConnectionError: the server") as seen:
        driven(watch, settled(), epochs=3, steps=200)
    assert told(seen) == 1
    assert len(watch.measured) == 3
