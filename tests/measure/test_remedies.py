"""What remedies leave of a gap equals what plain layers give with those statistics."""

import numpy as np
import pytest

from bnlab.data.order import batches, split
from bnlab.measure.patient import Patient
from bnlab.measure.remedies import remedies
from bnlab.measure.splits import whole
from bnlab.measure.trained import Trained
from bnlab.science.gap import gap
from bnlab.science.probe import put_statistics
from bnlab.science.remedies import DECAYS, WEIGHTS
from bnlab.science.scores import classifier_scores

NAMES = (
    "population",
    "population n256",
    "population n256 b16",
    "zero_debias",
    "best_decay",
    "test_statistics",
    "mixed",
    "eval_norm",
)
BOUND_TO_DECAY = ("zero_debias", "mixed")
# Metrics of outputs that other operations give: 64 roundings of 2^-23, on logits below 8.
ROUNDING = 64 * 8 * 2.0**-23


@pytest.fixture(scope="module")
def trained(scholar):
    own = [0.9, 0.99, *DECAYS]
    return Trained(scholar.trial, scholar.images, scholar.folder, scholar.wanted, own)


@pytest.fixture(scope="module")
def final(trained):
    return whole(trained.trial, trained.images, trained.wanted)


@pytest.fixture(scope="module")
def clues(trained, final):
    return list(remedies(Patient(trained, "", (0.9, 0.99)), final, NAMES))


@pytest.fixture(scope="module")
def found(clues):
    return {(clue.name, clue.decay, clue.metric): clue.value for clue in clues}


@pytest.fixture(scope="module")
def plain(learned, school, at_step):
    return at_step(learned, school, 240)


@pytest.fixture(scope="module")
def held_out(digits):
    _, kept = split(len(digits.train_x))
    assert len(kept) == 143
    return digits.train_x[kept], digits.train_y[kept]


@pytest.fixture(scope="module")
def fed(learned, digits):
    return digits.train_x[batches(learned.seed, len(digits.train_x), 32, 240, 280).ravel()]


def under(model, statistics, x, y):
    """Keras at inference with given statistics."""
    put_statistics(model, statistics)
    return classifier_scores(np.array(model(x.astype(np.float32) / 255, training=False)), y)


@pytest.fixture(scope="module")
def mixture(by_hand, plain):
    """Scores when each image's own moments are mixed in with a weight, by hand."""

    def mixture(statistics, weight, x, y):
        def choose(name, h):
            mean, variance = statistics[name]
            first = (1 - weight) * mean + weight * h.mean((1, 2))
            square = (1 - weight) * (variance + mean**2) + weight * (h**2).mean((1, 2))
            return first[:, None, None], (square - first**2)[:, None, None]

        return classifier_scores(by_hand(plain, x, choose), y)

    return mixture


def agree(found, name, decay, scores):
    for metric in ("rmse", "loss", "accuracy"):
        expected = getattr(scores, metric)
        assert found[name, decay, metric] == pytest.approx(expected, rel=0, abs=ROUNDING), metric


@pytest.mark.parametrize(("name", "count"), [("population", 1280), ("population n256", 256)])
def test_population_statistics_are_keras_with_them(found, plain, population_by_hand, fed, final, name, count):
    agree(found, name, None, under(plain, population_by_hand(plain, fed[:count]), final.x, final.y))


def test_one_pass_statistics_are_merged_from_what_batches_give(found, plain, by_hand, fed, final):
    mixed, noted = fed[:256][np.random.default_rng(20_202).permutation(256)], {}

    def choose(name, h):
        together = h.reshape(16, 16, *h.shape[1:])
        mean, variance = together.mean((1, 2, 3)), together.var((1, 2, 3))
        noted[name] = mean.mean(0), variance.mean(0) + mean.var(0)
        return [part.repeat(16, 0)[:, None, None] for part in (mean, variance)]

    by_hand(plain, mixed, choose)
    agree(found, "population n256 b16", None, under(plain, noted, final.x, final.y))


def test_test_statistics_are_those_of_the_evaluated_images(found, plain, population_by_hand, final):
    statistics = population_by_hand(plain, final.x)
    agree(found, "test_statistics", None, under(plain, statistics, final.x, final.y))


@pytest.mark.parametrize("decay", [0.9, 0.99])
def test_zero_debias_takes_out_the_start(found, plain, trained, final, decay):
    rows = trained.tape().moments.astype(np.float64)
    weights = decay ** np.arange(len(rows) - 1, -1, -1.0)
    parts = np.split((weights / weights.sum()) @ rows, [8, 16, 32])
    statistics = {"block1_norm": (parts[0], parts[1]), "block2_norm": (parts[2], parts[3])}
    agree(found, "zero_debias", decay, under(plain, statistics, final.x, final.y))


def test_the_best_decay_is_best_on_images_that_no_step_has_seen(found, plain, trained, held_out, final):
    errors = [under(plain, trained.moving(decay), *held_out).rmse for decay in DECAYS]
    best = DECAYS[int(np.argmin(errors))]
    assert sorted(errors)[1] - min(errors) > ROUNDING  # no tie that rounding could decide
    agree(found, "best_decay", None, under(plain, trained.moving(best), final.x, final.y))


@pytest.mark.parametrize(("decay", "helps"), [(0.9, False), (0.99, True)])
def test_each_images_own_moments_are_mixed_in_with_the_best_weight(
    found, mixture, trained, held_out, final, decay, helps
):
    errors = [mixture(trained.moving(decay), weight, *held_out).rmse for weight in WEIGHTS]
    assert sorted(errors)[1] - min(errors) > ROUNDING
    best = WEIGHTS[int(np.argmin(errors))]
    assert (best > 0) is helps  # an average that has arrived is best left alone
    agree(found, "mixed", decay, mixture(trained.moving(decay), best, final.x, final.y))


def test_eval_norm_mixes_into_the_mean_moments_by_one_in_a_batch(found, mixture, trained, fed, final):
    noted = trained.evaluator.moments(fed, 32, 240)
    means = {name: [part.astype(float).mean(0) for part in own] for name, own in noted.items()}
    agree(found, "eval_norm", None, mixture(means, 1 / 32, final.x, final.y))


def test_what_is_left_of_the_gap_is_taken_against_phase_true(found, trained, final):
    true = classifier_scores(trained.evaluator.in_batches(final.x, 240), final.y)
    for name in NAMES:
        for decay in (0.9, 0.99) if name in BOUND_TO_DECAY else (None,):
            left = found[name, decay, "rmse"] - true.rmse
            assert found[name, decay, "rmse_gap"] == pytest.approx(left, rel=0, abs=1e-15)


def test_every_remedy_says_what_it_costs_and_at_which_decay(clues):
    costs = [(clue.name, clue.decay) for clue in clues if clue.metric == "seconds" and clue.value > 0]
    assert sorted(costs, key=str) == sorted(
        ((name, decay) for name in NAMES for decay in ((0.9, 0.99) if name in BOUND_TO_DECAY else (None,))),
        key=str,
    )
    assert {(clue.kind, clue.split, clue.images, clue.samples) for clue in clues} == {
        ("remedy", "test", 360, 1280)
    }


def test_an_average_that_is_late_is_cured(found, plain, trained, final):
    """At 0.99 a tenth of the start is left after 240 steps."""
    ill = under(plain, trained.moving(0.99), final.x, final.y)
    healthy = under(plain, trained.evaluator.population(trained.fed(1280)), final.x, final.y)
    change, error = gap(ill, healthy, 32)["rmse"]
    assert change > 5 * error
    for name in ("population", "best_decay"):
        assert ill.rmse - found[name, None, "rmse"] > 5 * error
