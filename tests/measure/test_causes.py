"""The parts of a gap add up to it, and each cause, injected alone, moves its own part and no other."""

import copy
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pytest

from bnlab.data import Images
from bnlab.data.feed import fed
from bnlab.measure import measure
from bnlab.measure.causes import causes
from bnlab.measure.evaluate import Evaluator
from bnlab.measure.patient import Patient
from bnlab.measure.splits import probes, whole
from bnlab.science.decomposition import CAUSES
from bnlab.science.gap import METRICS
from bnlab.science.tape import MovingStatistics, Tape
from bnlab.settings.faults import Epsilon, PhaseTrue, Plain

HEALTHY = CAUSES[1:]
# Six differences of numbers below 8, in float64.
ROUNDING = 16 * 8 * 2.0**-52


@pytest.fixture(scope="module")
def split_by_name(learned, digits, curious):
    return {
        split.name: split for split in (*probes(learned, digits, curious), whole(learned, digits, curious))
    }


def found(patient, split):
    """(decay, cause, metric) -> clue."""
    return {(clue.decay, clue.name, clue.metric): clue for clue in causes(patient, split)}


@pytest.mark.parametrize(
    ("fault", "drill"),
    [
        (Plain(name="none"), ""),
        (Plain(name="not_updated"), "not_updated"),
        (Epsilon(name="epsilon", epsilon=0.1), "epsilon 0.1"),
        (PhaseTrue(name="phase_true", batch=4), "phase_true 4"),
        (Plain(name="preprocessing"), "preprocessing"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_parts_add_up_to_the_gap_that_is_read(
    learned, digits, school, curious, scholar, split_by_name, fault, drill
):
    wanted, trained = replace(curious, fault=fault), copy.copy(scholar)
    trained.wanted = wanted
    readings = list(measure(learned, digits, school, wanted, wanted.decays))
    patient = Patient(trained, drill, (0.9, 0.99))
    # A fault at inference is read on the final split only.
    for name in ("test", *(() if drill else ("train_probe", "test_probe"))):
        parts = found(patient, split_by_name[name])
        for decay in (0.9, 0.99):
            [reading] = [r for r in readings if (r.split, r.decay, r.drill) == (name, decay, drill)]
            names = CAUSES if fault.name in ("epsilon", "phase_true") else HEALTHY
            assert {cause for at, cause, _ in parts if at == decay} == set(names)
            for metric in METRICS:
                whole_gap = sum(parts[decay, cause, metric].value for cause in names)
                assert whole_gap == pytest.approx(getattr(reading, f"{metric}_gap"), rel=0, abs=ROUNDING)
            assert abs(reading.rmse_gap) > 1000 * ROUNDING


def test_nothing_is_shifted_on_what_is_trained_on(scholar, split_by_name):
    parts = found(Patient(scholar, "", (0.9, 0.99)), split_by_name["train_probe"])
    shifts = [clue for (_, cause, _), clue in parts.items() if cause == "shift"]
    assert [(clue.value, clue.standard_error) for clue in shifts] == [(0.0, 0.0)] * 6


def test_a_second_source_is_a_shift_on_what_is_trained_on_too(scholar, split_by_name):
    trained = copy.copy(scholar)
    trained.trial = replace(scholar.trial, fault="two_sources")
    parts = found(Patient(trained, "", (0.9,)), split_by_name["train_probe"])
    assert parts[0.9, "shift", "rmse"].value > 2 * BOUND * parts[0.9, "shift", "rmse"].standard_error


def test_what_never_saw_a_batch_is_all_lag(scholar, split_by_name):
    trained = copy.copy(scholar)
    trained.wanted = replace(scholar.wanted, fault=Plain(name="not_updated"))
    parts = found(Patient(trained, "not_updated", (0.9,)), split_by_name["test"])
    assert (parts[0.9, "noise", "rmse"].value, parts[0.9, "noise", "rmse"].standard_error) == (0.0, 0.0)
    assert parts[0.9, "lag", "rmse"].value > 2 * BOUND * parts[0.9, "lag", "rmse"].standard_error


@dataclass
class Injected:
    """A trained trial with one cause put in, and how it comes to inference."""

    trained: object
    drill: str = ""
    # Parts that the cause cannot reach, and so must leave as they are to the last bits.
    untouched: tuple = ()
    # Parts that it shares in, for they are measured on the very images that it changed: a difference of
    # statistics shows more, or less, in images out of the ordinary. It is the product of two causes.
    shared: tuple = ()


def changed(scholar, **changes):
    other = copy.copy(scholar)
    for name, value in changes.items():
        setattr(other, name, value)
    return other


def having_seen(scholar, updates, decay=0.9):
    """Averages of a tape of our own, replayed as any other."""
    columns = scholar.tape().columns
    return MovingStatistics(columns, [decay]).advance(Tape(columns, updates.astype(np.float32)))


def row(layers):
    """A row of tape: means, then variances, layer by layer."""
    return np.concatenate([part for own in layers.values() for part in own])[None]


def batch_means(scholar, by_class, first, last):
    """Mean moments of the batches of some steps that follow the sample, at the final weights."""
    images = scholar.images
    numbers = fed(scholar.trial.seed, images, 32, first, last, by_class)
    noted = scholar.evaluator.moments(images.train_x[numbers.ravel()], 32, scholar.step)
    means = {layer: [part.astype(np.float64).mean(0) for part in own] for layer, own in noted.items()}
    return row(means)


# Steps after the last one of the sample.
SAMPLE_ENDS = 240 + 5120 // 32


@pytest.fixture(scope="module")
def sampled(scholar):
    """The trial with four times as large a sample behind its populations, and so small standard errors."""
    return changed(scholar, wanted=replace(scholar.wanted, samples=5120))


def lag(scholar):
    """The same average after 5 updates only: 0.9^5 = 59 % of it is its start."""
    same = row(scholar.debiased(0.9))
    return Injected(
        changed(scholar, averages=having_seen(scholar, same.repeat(5, 0))),
        untouched=("bias", "shift", "batch"),
    )


def few_images(scholar):
    """An average of a single batch of four images."""
    noted = scholar.evaluator.moments(scholar.images.train_x[:4], 4, scholar.step)
    one = np.concatenate([part[0] for own in noted.values() for part in own])[None]
    return Injected(
        changed(scholar, averages=having_seen(scholar, one.repeat(240, 0))),
        untouched=("lag", "bias", "shift", "batch"),
    )


def other_weights(scholar):
    """The average as it was at step 60: that of weights which have moved since."""
    then = MovingStatistics(scholar.tape().columns, [0.9])
    then.advance(Tape(scholar.tape().columns, scholar.tape().moments[:60]))
    old = row(then.debiased(0.9))
    return Injected(
        changed(scholar, averages=having_seen(scholar, old.repeat(240, 0))),
        untouched=("lag", "bias", "shift", "batch"),
    )


def alike_inside(scholar):
    """Batches of one or two classes: the variance within each is too small. So the average saw them, too."""
    seen = batch_means(scholar, True, SAMPLE_ENDS, SAMPLE_ENDS + 40)
    return Injected(
        changed(
            scholar,
            trial=replace(scholar.trial, fault="sorted"),
            averages=having_seen(scholar, seen.repeat(240, 0)),
        ),
        untouched=("lag",),
    )


def darker(scholar):
    """Test images of a third of their contrast, as a darker room would give."""
    images = scholar.images
    test_x = np.round(images.test_x / 3).astype(np.uint8)
    return Injected(
        changed(scholar, images=Images(images.train_x, images.train_y, test_x, images.test_y)),
        untouched=("lag",),
        shared=("bias",),
    )


def small_batches(scholar):
    """Phase true in batches of two."""
    wanted = replace(scholar.wanted, eval_batch_size=2)
    return Injected(
        changed(scholar, wanted=wanted, evaluator=Evaluator(scholar.trial, scholar.model, 2)),
        untouched=("lag", "noise", "bias", "shift"),
    )


def other_epsilon(scholar):
    """An epsilon of one at inference."""
    wanted = replace(scholar.wanted, fault=Epsilon(name="epsilon", epsilon=1.0))
    return Injected(changed(scholar, wanted=wanted, _others={}), "epsilon 1", HEALTHY)


INJECTED = {
    "lag": ("lag", lag),
    "few images": ("noise", few_images),
    "other weights": ("noise", other_weights),
    "alike inside": ("bias", alike_inside),
    "darker": ("shift", darker),
    "small batches": ("batch", small_batches),
    "other epsilon": ("deployment", other_epsilon),
}
# Two-sided, at 5 % over all comparisons of the table (Bonferroni): 3.2 standard errors.
BOUND = NormalDist().inv_cdf(1 - 0.05 / 2 / (len(INJECTED) * (len(CAUSES) - 1)))


def parts_of(injected):
    trained = injected.trained
    patient = Patient(trained, injected.drill, (0.9,))
    return found(patient, whole(trained.trial, trained.images, trained.wanted))


@pytest.fixture(scope="module")
def before(sampled):
    return parts_of(Injected(sampled))


@pytest.mark.parametrize("name", INJECTED)
def test_a_cause_injected_alone_moves_its_own_part_and_no_other(sampled, before, name):
    own, inject = INJECTED[name]
    injected = inject(sampled)
    after = parts_of(injected)
    [change, error], others = moved(before, after, own), {cause for _, cause, _ in after} - {own}
    assert abs(change) > 2 * BOUND * error
    for cause in others:
        other, error = moved(before, after, cause)
        if cause in injected.untouched:
            assert other == pytest.approx(0, abs=ROUNDING), cause
        elif cause in injected.shared:
            assert abs(other) < 0.01 * abs(change), cause
        else:
            assert abs(other) <= BOUND * error, cause


def moved(before, after, cause):
    """(change of a part, its standard error as if both were independent; paired on images, it is smaller)."""
    pairs = [parts[0.9, cause, "rmse"] for parts in (before, after) if (0.9, cause, "rmse") in parts]
    values, errors = [clue.value for clue in pairs], [clue.standard_error for clue in pairs]
    return values[-1] - (values[0] if len(values) == 2 else 0.0), float(np.hypot.reduce(errors))


def test_a_healthy_average_that_arrived_has_neither_lag_nor_deployment(before):
    assert {cause for _, cause, _ in before} == set(HEALTHY)
    assert before[0.9, "lag", "rmse"].value == 0
    for cause in ("noise", "bias", "shift"):
        clue = before[0.9, cause, "rmse"]
        assert abs(clue.value) <= BOUND * clue.standard_error
