"""Layers' parts of a gap: on metrics whose parts are known by hand, and on a model with one damaged layer."""

import itertools
import math

import numpy as np
import pytest

from bnlab.science.attribution import attribute
from bnlab.science.probe import outputs, probe
from bnlab.science.scores import Scores, regressor_scores
from bnlab.science.sources import Batch, Blend


def scores(losses):
    losses = np.atleast_1d(np.asarray(losses, float))
    return Scores(np.ones(len(losses)), np.ones(len(losses)), losses)


def measured(loss):
    """What `attribute` asks for, of a function of a row's (0, 1) values."""
    return lambda rows: [scores(loss(tuple(map(int, row)))) for row in rows]


def values(found, kind="part"):
    return [getattr(layer, kind)["loss"].value for layer in found.layers]


@pytest.mark.parametrize("own", [(4.0,), (1.0, 2.0), (0.5, -2.0, 8.0), (1.0, 0.0, -0.25, 16.0, 3.0)])
def test_parts_of_a_sum_are_its_terms(own):
    def loss(row):
        return 10 + sum(term for term, put in zip(own, row, strict=True) if not put)

    found = attribute(measured(loss), [f"norm{n}" for n in range(len(own))], 1)
    # Halves and sums of small powers of two are exact.
    assert [layer.layer for layer in found.layers] == [f"norm{n}" for n in range(len(own))]
    assert values(found) == values(found, "alone") == values(found, "left") == list(own)
    assert found.whole["loss"].value == sum(own)


def test_two_layers_that_act_on_one_another_by_hand():
    # Forth: 8 -> 5 -> 1, parts 3 and 4. Back: 8 -> 6 -> 1, parts 5 and 2. Means 4 and 3.
    table = {(0, 0): 8.0, (1, 0): 5.0, (0, 1): 6.0, (1, 1): 1.0}
    found = attribute(measured(table.get), ["first", "second"], 1)
    assert values(found) == [4.0, 3.0]
    assert values(found, "alone") == [3.0, 2.0]
    assert values(found, "left") == [5.0, 4.0]
    assert found.whole["loss"].value == 7.0


@pytest.mark.parametrize("count", [2, 3, 4, 6])
def test_parts_are_the_mean_of_both_orders_and_add_up_to_the_gap(count):
    states = list(itertools.product((0, 1), repeat=count))
    table = dict(zip(states, np.random.default_rng(0).normal(size=len(states)), strict=True))
    none, every = (0,) * count, (1,) * count
    found = attribute(measured(table.get), list("abcdef"[:count]), 1)
    for layer in range(count):
        forth = [tuple(int(other < layer + joined) for other in range(count)) for joined in (0, 1)]
        back = [tuple(int(other > layer - joined) for other in range(count)) for joined in (0, 1)]
        expected = sum(table[before] - table[after] for before, after in (forth, back)) / 2
        alone = tuple(int(other == layer) for other in range(count))
        rest = tuple(int(other != layer) for other in range(count))
        # A handful of float64 additions of numbers below 4.
        assert values(found)[layer] == pytest.approx(expected, abs=2.0**-49)
        assert values(found, "alone")[layer] == pytest.approx(table[none] - table[alone], abs=2.0**-49)
        assert values(found, "left")[layer] == pytest.approx(table[rest] - table[every], abs=2.0**-49)
    total = math.fsum(values(found))
    assert total == pytest.approx(table[none] - table[every], abs=2.0**-49)
    assert found.whole["loss"].value == table[none] - table[every]


@pytest.mark.parametrize(("count", "expected"), [(1, 2), (2, 4), (3, 8), (4, 12), (10, 36)])
def test_every_state_is_measured_once(count, expected):
    seen = []

    def intervene(rows):
        seen.extend(map(tuple, rows))
        return [scores(0.0)] * len(rows)

    attribute(intervene, [str(n) for n in range(count)], 1)
    assert len(seen) == len(set(seen)) == expected


def test_errors_are_paired_over_both_orders():
    # Two images. Layer `first` takes 2 and 4 off them in one order, 4 and 10 in the other: halves add up to
    # 3 and 7, of mean 5 and standard error sqrt(2 / 1 * (4 + 4)) / 2 = 2.
    table = {(0, 0): [20, 30], (1, 0): [18, 26], (0, 1): [10, 20], (1, 1): [6, 10]}
    found = attribute(measured(table.get), ["first", "second"], 1)
    assert found.layers[0].part["loss"] == (5.0, 2.0)
    assert found.whole["loss"] == (17.0, 3.0)  # 14 and 20


def test_images_of_one_batch_count_as_one():
    table = {(0,): [2.0, 2.0, 4.0, 4.0], (1,): [1.0, 1.0, 1.0, 1.0]}
    found = attribute(measured(table.get), ["only"], 2)
    # Differences 1, 1, 3, 3 in pairs: sqrt(2 / 1 * (2^2 + 2^2)) / 4.
    assert found.whole["loss"] == found.layers[0].part["loss"] == (2.0, 1.0)


@pytest.fixture
def damaged(make):
    """A model, inputs, targets, and the statistics of its batch with those of one layer spoiled."""

    def made(layer):
        model, x = make("images")
        notes = []
        with probe(model, Batch(), notes):
            right_outputs = np.array(model(x))
        right = {note.layer: (np.array(note.mean[0]), np.array(note.variance[0])) for note in notes}
        mean, variance = right[layer]
        targets = right_outputs + np.random.default_rng(3).normal(0, 0.1, right_outputs.shape)
        return model, x, targets, right, {**right, layer: (mean + 2, 3 * variance)}

    return made


@pytest.mark.parametrize("layer", ["norm1", "norm2"])
def test_a_damaged_layer_put_on_population_statistics_has_the_whole_gap(damaged, layer):
    model, x, targets, right, wrong = damaged(layer)

    def intervene(rows):
        for row in rows:
            own = {name: (right if put else wrong)[name] for name, put in zip(right, row, strict=True)}
            yield regressor_scores(np.array(outputs(model, x, own)), targets)

    found = attribute(lambda rows: list(intervene(rows)), list(right), 2)
    other = {"norm1": "norm2", "norm2": "norm1"}[layer]
    parts = {own.layer: own for own in found.layers}
    assert found.whole["rmse"].value > 0.1
    for metric in ("rmse", "loss"):
        whole = found.whole[metric]
        # The same statistics give the same outputs, bit for bit; only halves are added up in another order.
        assert parts[layer].part[metric] == pytest.approx(whole, rel=2.0**-48)
        assert parts[layer].alone[metric] == parts[layer].left[metric] == whole
        assert parts[other].part[metric] == (0.0, 0.0)
        assert parts[other].alone[metric] == parts[other].left[metric] == (0.0, 0.0)


@pytest.mark.parametrize("layer", ["norm1", "norm2"])
def test_a_damaged_layer_put_on_batch_statistics_closes_the_gap_alone(damaged, layer):
    model, x, targets, right, wrong = damaged(layer)

    def intervene(rows):
        for row in rows:
            blend = Blend(wrong, dict(zip(right, row.astype(np.float32), strict=True)))
            yield regressor_scores(np.array(outputs(model, x, blend)), targets)

    found = attribute(lambda rows: list(intervene(rows)), list(right), 2)
    parts = {own.layer: own for own in found.layers}
    assert parts[layer].alone["rmse"] == found.whole["rmse"]
    assert found.whole["rmse"].value > 0.1
    total = math.fsum(own.part["rmse"].value for own in found.layers)
    assert total == pytest.approx(
        found.whole["rmse"].value, abs=1e-12
    )  # float64 sums of six numbers below 10
    if layer == "norm2":
        # Nothing follows it; the layer before it has its own statistics already. (A damaged first layer is
        # made good in part by the batch statistics of the second.)
        assert parts["norm2"].part["rmse"] == pytest.approx(found.whole["rmse"], rel=2.0**-48)  # as above
        assert parts["norm1"].part["rmse"] == (0.0, 0.0)
