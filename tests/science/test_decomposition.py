"""A gap's parts on a linear network, where every link of the chain has a closed form."""

import math

import numpy as np
import pytest

from bnlab.science.decomposition import CAUSES, decompose
from bnlab.science.gap import gap
from bnlab.science.moments import Moments, averaged, merged
from bnlab.science.scores import Scores, regressor_scores
from bnlab.science.tape import Column, MovingStatistics, Tape

GAMMA, BETA, EPSILON = 1.5, -0.25, 1e-3
P, Q = 0.8, 0.1  # targets are P x + Q
BATCH, DECAY = 8, 0.75


def output(x, mean, variance):
    """The network: one normalization and nothing else."""
    return GAMMA * (x - mean) / np.sqrt(variance + EPSILON) + BETA


def squared_by_hand(mean, variance, true_mean, true_variance):
    """Mean squared error over data of known moments: that of a straight line a x + c against P x + Q."""
    a = GAMMA / math.sqrt(variance + EPSILON)
    c = BETA - a * mean
    return (a - P) ** 2 * true_variance + ((a - P) * true_mean + c - Q) ** 2


@pytest.fixture(scope="module")
def case():
    """Five training batches, and test images of another mean and variance; moments known exactly."""
    rng = np.random.default_rng(0)
    train, test = rng.normal(2.0, 3.0, (5, BATCH)), rng.normal(2.5, 2.0, (6, BATCH))
    batches = Moments(train.mean(1, keepdims=True), train.var(1, keepdims=True))
    # Moments as a tape holds them, in float32, and as they come back from it.
    rows = np.concatenate(batches, axis=1).astype(np.float32)
    moving = MovingStatistics((Column("norm", 0, 1),), [DECAY]).advance(Tape((Column("norm", 0, 1),), rows))
    links = {
        "lag": moving.at(DECAY)["norm"],
        "noise": moving.debiased(DECAY)["norm"],
        "bias": averaged(batches),
        "shift": merged(batches),
        "batch": (test.mean(keepdims=True).ravel(), test.var(keepdims=True).ravel()),
    }
    return test, {cause: (float(mean[0]), float(variance[0])) for cause, (mean, variance) in links.items()}


def scored(outputs, test):
    return regressor_scores(outputs.reshape(-1, 1), P * test.reshape(-1, 1) + Q)


def chain_of(test, links):
    return {cause: scored(output(test, *own), test) for cause, own in links.items()}


def in_batches(test):
    return scored(output(test, test.mean(1, keepdims=True), test.var(1, keepdims=True)), test)


def roots_by_hand(test, links):
    """RMSE of every link and of the end of the chain, each from moments alone."""
    whole = float(test.mean()), float(test.var())
    own = [(float(batch.mean()), float(batch.var())) for batch in test]
    ends = [squared_by_hand(*moments, *moments) for moments in own]
    roots = {cause: math.sqrt(squared_by_hand(*link, *whole)) for cause, link in links.items()}
    return {**roots, "end": math.sqrt(sum(ends) / len(ends))}


# Float64 numbers of size 10 at most, a few hundred roundings at 2^-53 each: far below 1e-12.
CLOSE = 1e-12


def test_every_part_is_its_closed_form(case):
    test, links = case
    roots = roots_by_hand(test, links)
    parts = decompose(chain_of(test, links), in_batches(test), BATCH)
    ends = list(roots)[1:]
    assert list(parts) == list(CAUSES[1:])
    for cause, following in zip(parts, ends, strict=True):
        assert parts[cause]["rmse"].value == pytest.approx(roots[cause] - roots[following], abs=CLOSE)
        squares = roots[cause] ** 2 - roots[following] ** 2
        assert parts[cause]["loss"].value == pytest.approx(squares, abs=CLOSE)
    # Every cause is at work here: a part that is always zero would not pass for one.
    assert min(abs(part["rmse"].value) for part in parts.values()) > 1e-3


def test_the_parts_add_up_to_the_gap(case):
    test, links = case
    chain, end = chain_of(test, links), in_batches(test)
    parts, whole = decompose(chain, end, BATCH), gap(chain["lag"], end, BATCH)
    for metric in ("rmse", "loss"):
        total = math.fsum(part[metric].value for part in parts.values())
        assert total == pytest.approx(whole[metric].value, abs=CLOSE)


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_that_is_there_alone_has_the_whole_gap(cause):
    right, wrong = (Scores(*np.full((3, 4), value)) for value in (0.25, 1.0))
    before = CAUSES[: CAUSES.index(cause) + 1]
    chain = {name: wrong if name in before else right for name in CAUSES}
    parts = decompose(chain, right, 2)
    assert parts.pop(cause)["rmse"] == (0.5, 0.0)
    assert {part["rmse"] for part in parts.values()} == {(0.0, 0.0)}


def test_each_part_has_the_paired_error_of_its_two_links():
    # Losses 4, 4 -> 1, 3: differences 3 and 1, of mean 2 and standard error sqrt(2 / 1 * (1 + 1)) / 2 = 1;
    # then 1, 3 -> 0, 2: differences of 1 both, which pairing makes sure.
    lag, noise, end = (
        Scores(np.ones(2), np.ones(2), np.array(losses)) for losses in ([4, 4], [1, 3], [0, 2])
    )
    parts = decompose({"lag": lag, "noise": noise}, end, 1)
    assert parts["lag"]["loss"] == (2.0, 1.0)
    assert parts["noise"]["loss"] == (1.0, 0.0)


def test_images_of_one_batch_count_as_one():
    # Differences 1, 1, 3, 3 in pairs, mean 2: sqrt(2 / 1 * (2^2 + 2^2)) / 4 = 1.
    before, after = (Scores(*np.tile(losses, (3, 1))) for losses in ([2.0, 2, 4, 4], [1.0, 1, 1, 1]))
    assert decompose({"batch": before}, after, 2)["batch"]["loss"] == (2.0, 1.0)


def test_a_chain_of_one_link_is_the_gap(case):
    test, links = case
    only = scored(output(test, *links["batch"]), test)
    [part], expected = (
        decompose({"batch": only}, in_batches(test), BATCH).values(),
        gap(only, in_batches(test), BATCH),
    )
    assert (part["rmse"], part["loss"]) == (expected["rmse"], expected["loss"])
