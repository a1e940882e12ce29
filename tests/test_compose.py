"""Jobs are composed as Hydra will compose them, and checked before the first one starts."""

from dataclasses import replace
from functools import cache
from itertools import product
from typing import get_args

import pytest

from bnlab.compose import compose, config_folder, is_question
from bnlab.job import prepare
from bnlab.plan import identity
from bnlab.settings import SettingsError
from bnlab.settings.faults import (
    CHOSEN,
    TRAINED,
    DummyPass,
    Epsilon,
    PhaseTrue,
    Plain,
    Slow,
    WeightsAveraged,
    drill,
)

EXPERIMENTS, FAULTS = (
    sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))
    for group in ("experiment", "fault")
)


@cache
def settings_of(*overrides):
    """The settings of every job on stand-in data; composing the longest experiments takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BNLAB_DATA", raising=False)  # the configs read it
        return compose([*overrides]).settings


def jobs_of(experiment):
    return settings_of(f"+experiment={experiment}")


def test_the_default_is_one_job():
    [settings] = compose([]).settings
    assert (settings.task.name, settings.norm.name, settings.batch_size) == ("mnist", "batch", 32)


def test_multirun_expands_every_axis():
    jobs = compose(["-m", "batch_size=2,8", "seed=0,1,2"]).settings
    assert [(job.batch_size, job.seed) for job in jobs] == list(product((2, 8), (0, 1, 2)))


def test_one_bad_job_refuses_the_whole_sweep():
    with pytest.raises(SettingsError, match="got 0"):
        compose(["-m", "batch_size=8,0"])


def test_phase_sweep_is_sixteen_trials_of_eight_cells():
    jobs = jobs_of("phase_sweep")
    axes = {(job.task.name, job.norm.name, job.batch_size) for job in jobs}
    assert axes == set(product(("mnist", "cifar"), ("batch", "group"), (2, 8, 32, 128)))
    assert len(jobs) == 16
    assert sum(len(job.decay) * len(job.phase) for job in jobs) == 128


def test_decay_curve_measures_trials_that_phase_sweep_trains(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BNLAB_DATA", raising=False)
    swept, curve = (
        [prepare(settings) for settings in jobs_of(name)] for name in ("phase_sweep", "decay_curve")
    )
    batch = [job for job in swept if job.trial.norm == "batch"]
    assert {identity(job.trial) for job in curve} == {identity(job.trial) for job in batch}
    assert {job.wanted.way for job in curve} == {job.wanted.way for job in batch}
    [decays] = {job.settings.decay for job in curve}
    assert (len(decays), decays[0], decays[-1], decays) == (41, 0.0, 0.9999, tuple(sorted(set(decays))))
    assert set(decays) > set(swept[0].settings.decay)
    assert len({f"{decay:.12g}" for decay in decays}) == 41  # as a cell's run is called


def test_a_command_line_value_replaces_an_axis_of_an_experiment():
    assert {job.batch_size for job in compose(["+experiment=phase_sweep", "batch_size=64"]).settings} == {64}


def test_multirun_beats_a_mode_in_the_config():
    assert len(compose(["-m", "hydra.mode=RUN", "seed=0,1"]).settings) == 2


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_plans(experiment, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BNLAB_DATA", raising=False)
    jobs = [prepare(settings) for settings in jobs_of(experiment)]
    assert all(len(identity(job.trial)) == 12 for job in jobs)
    assert all(job.wanted.steps[-1] == job.trial.steps for job in jobs)


def test_what_training_cannot_see_does_not_change_the_trial(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BNLAB_DATA", raising=False)
    unseen = [
        "decay=0.123",
        "phase=true",
        "measure.images=7",
        "measure.points=3",
        "name=x",
        "store=elsewhere",
    ]
    [plain], [changed] = compose([]).settings, compose(unseen).settings
    assert prepare(plain).trial == prepare(changed).trial


@pytest.mark.parametrize("flag", ["--help", "--hydra-help", "--info"])
def test_questions_run_no_job(flag):
    assert is_question([flag])
    assert not is_question(["-m", "batch_size=2"])


def test_every_fault_has_a_file_and_every_file_a_fault():
    kinds = (Plain, PhaseTrue, Slow, Epsilon, WeightsAveraged, DummyPass)
    names = [name for kind in kinds for name in get_args(kind.model_fields["name"].annotation)]
    assert sorted(names) == FAULTS


@pytest.fixture
def job(monkeypatch, tmp_path):
    """Compose and prepare one job away from the user's files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BNLAB_DATA", raising=False)

    def prepared(*overrides):
        [settings] = settings_of(*overrides)
        return prepare(settings)

    return prepared


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_composes_into_a_trial_or_a_drill(job, fault):
    healthy, found = job(), job(f"fault={fault}")
    assert found.settings.fault.name == fault
    own = drill(found.settings.fault)
    assert own.split(" ")[0] == (fault if own else "")
    assert found.wanted.drills == ((own,) if own else ())
    assert found.wanted.deployments == (("", own) if own else ("",))
    # A fault of training has a trial of its own; one at inference is made on the healthy one.
    assert (found.trial != healthy.trial) == (fault in (*TRAINED, *CHOSEN))
    assert found.trial.fault == (fault if fault in TRAINED else "")


def test_faults_that_are_settings_set_them_and_nothing_else(job):
    hot, one, healthy = job("fault=hot").trial, job("fault=batch_of_one").trial, job().trial
    assert hot == replace(healthy, schedule="constant")
    assert hot == job("train.schedule=constant").trial
    assert one == job("batch_size=1").trial
    assert one.batch_size == 1


def test_every_fault_at_inference_can_be_deployed():
    from bnlab.measure.deployments import FAULTS as deployed

    assert sorted([*deployed, *TRAINED, *CHOSEN, "none"]) == FAULTS


def test_batch_frozen_is_batch_normalization_frozen_for_the_last_quarter(job):
    frozen, plain = job("norm=batch_frozen").trial, job().trial
    assert (frozen.norm, frozen.options) == (plain.norm, plain.options)
    assert (plain.frozen_from, plain.freeze_decay) == (None, None)
    assert (frozen.frozen_from, frozen.freeze_decay) == (round(0.75 * plain.steps), 0.99)
    assert replace(frozen, frozen_from=None, freeze_decay=None) == plain


def test_the_command_line_says_when_and_at_which_decay_statistics_are_frozen(job):
    own = job("norm=batch_frozen", "train.freeze_statistics_at=0.5", "train.freeze_decay=0.9").trial
    assert (own.frozen_from, own.freeze_decay) == (own.steps // 2, 0.9)


def test_what_explains_gaps_changes_no_trial(job):
    asked = ["measure.attribution=batch", "measure.remedy=[mixed]", "measure.population_samples=64"]
    assert job(*asked, "measure.explain=false").trial == job().trial
