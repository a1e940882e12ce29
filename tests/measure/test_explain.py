"""Explaining gives what is missing, once, and leaves files, model and readings as they were."""

import hashlib
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from bnlab.measure import explain, measure
from bnlab.measure.causes import causes
from bnlab.measure.layers import layers
from bnlab.measure.patient import Patient
from bnlab.measure.remedies import remedies
from bnlab.measure.signs import distances, signs
from bnlab.measure.splits import probes, whole
from bnlab.measure.trained import Trained
from bnlab.plan import topic, unexplained
from bnlab.science.remedies import DECAYS, REMEDIES
from bnlab.science.scores import Scores
from bnlab.settings.faults import Plain, WeightsAveraged, drill

AVERAGED = WeightsAveraged(name="weights_averaged", checkpoints=2)


@pytest.fixture(scope="module")
def asked(wanted):
    """Everything, of a trial of six steps on noise, with a fault that has weights of its own."""
    return replace(
        wanted,
        decays=(None, 0.5, 0.9),
        explain=True,
        attribution="population",
        remedies=tuple(REMEDIES),
        samples=64,
        fault=AVERAGED,
    )


@pytest.fixture(scope="module")
def clues(trial, images, folder, asked):
    return list(explain(trial, images, folder, asked, set(asked.clues())))


def test_clues_of_one_topic_come_together(clues, asked):
    """So that each may be kept as soon as it is whole; and each holds all that one looks for in it."""
    topics = [key for key, _ in groupby(clues, topic)]
    assert len(topics) == len(set(topics))
    names = {(kind, name, split, drill) for kind, name, split, _, drill in asked.clues()}
    looked_for = {topic(c) for c in clues if (c.kind, c.name, c.split, c.drill) in names}
    assert {key for key in topics if key[2] != "distance"} == looked_for


def state(folder):
    return {
        str(path.relative_to(folder.path)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in folder.path.rglob("*")
        if path.is_file()
    }


def read(trial, images, folder, wanted):
    return [repr(replace(r, time_ms=0)) for r in measure(trial, images, folder, wanted, (None, 0.5, 0.9))]


def test_explaining_changes_nothing(trial, images, folder, asked):
    wanted = replace(asked, steps=(6,))
    files, readings = state(folder), read(trial, images, folder, wanted)
    assert len(files) == 3
    trained = Trained(trial, images, folder, wanted, [0.5, 0.9, *DECAYS])
    variables, tape = [np.array(v) for v in trained.model.variables], trained.tape().moments
    probe, final = probes(trial, images, wanted)[1], whole(trial, images, wanted)
    for how in ("", drill(AVERAGED)):
        patient = Patient(trained, how, (0.5, 0.9))
        kinds = [causes(patient, final), signs(patient, final), distances(patient, final)]
        kinds += [layers(patient, probe, target) for target in ("batch", "population")]
        kinds += [remedies(patient, final, tuple(REMEDIES))]
        assert all(len(list(found)) > 0 for found in kinds)
    assert all(map(np.array_equal, variables, map(np.array, trained.model.variables)))
    assert np.array_equal(trained.tape().moments, tape)
    assert state(folder) == files
    assert read(trial, images, folder, wanted) == readings


def test_nothing_is_left_to_explain(clues, asked):
    assert len(set(asked.clues())) > 30
    assert unexplained([], asked) == set(asked.clues())
    assert unexplained(clues, asked) == frozenset()


def test_every_clue_has_a_key_of_its_own(clues):
    assert len({clue.key for clue in clues}) == len(clues)


def test_healthy_clues_are_those_of_a_job_without_the_fault(trial, images, folder, asked, clues):
    healthy = replace(asked, fault=Plain(name="none"), remedies=("population",))
    found = [
        c for c in explain(trial, images, folder, healthy, set(healthy.clues())) if c.metric != "seconds"
    ]
    values = {clue.key: (clue.value, clue.standard_error) for clue in clues}
    assert {clue.drill for clue in found} == {""}
    for clue in found:
        np.testing.assert_array_equal(values[clue.key], (clue.value, clue.standard_error))


@pytest.mark.parametrize(
    ("missing", "kinds"),
    [
        ({("cause", "lag", "test", 0.5, "")}, {"cause", "sign", "distance"}),
        ({("layer population", "all", "test_probe", 0.5, "")}, {"layer", "alone", "left", "distance"}),
        ({("remedy", "population", "test", 0.5, "")}, {"remedy"}),
        (set(), set()),
    ],
)
def test_only_what_is_missing_is_made(trial, images, folder, asked, missing, kinds):
    found = list(explain(trial, images, folder, asked, missing))
    assert {clue.kind.split()[0] for clue in found} == kinds
    assert {clue.drill for clue in found} <= {""}
    assert {clue.name for clue in found if clue.kind == "remedy"} <= {"population"}


def test_clues_say_how_they_were_made(clues):
    assert {(clue.step, clue.eval_batch_size, clue.samples) for clue in clues} == {(6, 8, 64)}
    images = {"test": 60, "test_probe": 15, "train_probe": 12}
    assert all(clue.images == images[clue.split] for clue in clues)
    assert {clue.drill for clue in clues} == {"", "weights_averaged 2"}
    assert {clue.split for clue in clues if clue.kind == "cause"} == {"test", "train_probe"}
    assert {clue.split for clue in clues if clue.kind.startswith("layer")} == {"test_probe"}


def test_what_was_read_before_is_not_evaluated_again_and_changes_no_clue(trial, images, folder, asked, clues):
    known = {}
    list(measure(trial, images, folder, asked, asked.decays, known))
    assert {name for name, _ in known} == {"test", "test_probe", "train_probe"}
    assert len(known) == 3 * 3
    wanted = {row for row in asked.clues() if row[0] != "remedy"}
    found = list(explain(trial, images, folder, asked, wanted, known))
    values = {clue.key: (clue.value, clue.standard_error) for clue in clues}
    for clue in found:
        np.testing.assert_array_equal(values[clue.key], (clue.value, clue.standard_error))
    # It is used: other scores in its place are believed.
    fake = {key: Scores(own.squared + 1, own.correct, own.losses) for key, own in known.items()}
    lag = [c for c in explain(trial, images, folder, asked, wanted, fake) if (c.name, c.drill) == ("lag", "")]
    assert all(c.value > 0.1 for c in lag if c.metric == "rmse")
