"""Jobs are composed as Hydra will compose them, and checked before the first one starts."""

from functools import cache
from itertools import product

import pytest

from bnlab.compose import compose, config_folder, is_question
from bnlab.job import prepare
from bnlab.plan import identity
from bnlab.settings import SettingsError

EXPERIMENTS = sorted(path.stem for path in (config_folder() / "experiment").glob("*.yaml"))


@cache
def jobs_of(experiment):
    """The jobs of an experiment on stand-in data; composing the longest ones takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("BNLAB_DATA", raising=False)  # the configs read it
        return compose([f"+experiment={experiment}"]).settings


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
