"""Synthetic sweeps are planned by the real code, come out the same every time, and say what they are."""

import pytest

from bnlab.compose import compose
from experiments.scale import synthetic


def test_its_jobs_are_those_of_its_command_line(tmp_path):
    jobs = synthetic.jobs(100, tmp_path)
    assert len({job.folder.identity for job in jobs}) == 100
    swept = compose(synthetic.arguments(100)).settings
    told = {(s.task.name, s.norm.name, s.batch_size, s.train.learning_rate, s.seed) for s in swept}
    assert told == {
        (j.trial.task, j.trial.norm, j.trial.batch_size, j.settings.train.learning_rate, j.trial.seed)
        for j in jobs
    }


@pytest.mark.parametrize("clues", [False, True])
def test_a_folder_is_complete_and_marked(tmp_path, clues):
    job = synthetic.jobs(100, tmp_path, clues)[0]
    synthetic.lay(job)
    assert job.complete
    assert len(job.folder.readings()) == 125  # (12 steps x 2 probes + the end) x (phase true + 4 decays)
    assert repr(synthetic.readings(job)) == repr(synthetic.readings(job))
    assert (job.source.description, job.source.stand_in) == (synthetic.TOLD, True)
    assert job.trial.fingerprint == synthetic.NAME


def test_gaps_are_the_difference_of_the_phases(tmp_path):
    job = synthetic.jobs(100, tmp_path)[0]
    true = {(r.step, r.split): r.rmse for r in synthetic.readings(job) if r.phase}
    for own in synthetic.readings(job):
        if not own.phase:
            assert own.rmse - own.rmse_gap == pytest.approx(true[own.step, own.split], abs=1e-12)


def test_trials_come_by_hundreds():
    with pytest.raises(ValueError, match="multiple of 100, got 150"):
        synthetic.rates(150)
