"""Contenders are asked and answer; the usual way trains and sees what bnlab does."""

import sys

import numpy as np
import pytest

from bnlab.store import Folder
from experiments.throughput.contender import Contender, ContenderError
from experiments.throughput.observe import observe
from experiments.throughput.options import PARTS, QUICK, parser

FAKE = """
from experiments.throughput.serve import Built, contend

def build(folder, setting):
    print("not an answer")
    return Built(lambda steps: steps / setting["pace"], {"folder": folder})

contend(build)
"""


@pytest.fixture
def contender(tmp_path):
    contender = Contender("a fake", [sys.executable, "-c", FAKE], tmp_path)
    yield contender
    contender.close()


def test_a_contender_builds_and_is_timed(contender, tmp_path):
    assert contender.build(tmp_path, {"pace": 4}) == {"folder": str(tmp_path)}
    assert contender.seconds(8) == 2.0
    contender.build(tmp_path, {"pace": 8})
    assert contender.seconds(8) == 1.0


def test_a_contender_says_what_went_wrong_and_stays(contender, tmp_path):
    with pytest.raises(ContenderError, match="a fake: KeyError: 'pace'"):
        contender.build(tmp_path, {}) and contender.seconds(1)
    contender.build(tmp_path, {"pace": 1})
    assert contender.seconds(3) == 3.0


def test_a_contender_that_ends_is_an_error_with_its_last_words(tmp_path):
    contender = Contender("gone", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path)
    with pytest.raises(ContenderError, match="gone: it has ended; no such thing"):
        contender.seconds(1)
    contender.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_command_is_watched_with_what_it_starts():
    child = "x = bytearray(60 << 20); import time; time.sleep(1.2)"
    code = f"import subprocess, sys; print('said'); subprocess.run([sys.executable, '-c', {child!r}])"
    seen = observe([sys.executable, "-c", code])
    assert (seen.status, seen.output) == (0, "said\n")
    assert seen.seconds > 1.2
    assert 60 < seen.child_mib < 200
    assert 0 < seen.parent_mib < 60
    assert observe([sys.executable, "-c", "raise SystemExit(3)"]).status == 3


@pytest.mark.parametrize("part", PARTS)
def test_a_smoke_test_changes_options_that_there_are(part):
    options = vars(parser().parse_args([part]))
    for name, value in QUICK[part].items():
        assert isinstance(value, type(options[name])) or options[name] is None, name


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A job of 32 steps in batches of 16, on stand-in digits."""
    from experiments.throughput.material import default_job

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("BNLAB_DATA", raising=False)
        small = ["train.samples=512", "measure.points=3", "measure.images=40", "decay=0.9"]
        return default_job("task=mnist", "batch_size=16", "device=cpu", "data.download=false", *small)


@pytest.fixture(scope="module")
def readings(job, tmp_path_factory):
    from bnlab.data import load
    from bnlab.measure import measure
    from bnlab.train import train

    folder, images = Folder(tmp_path_factory.mktemp("trial")), load(job.source)
    train(job.trial, images, folder, job.wanted.steps, lambda step, loss: None)
    return list(measure(job.trial, images, folder, job.wanted, (None, 0.9)))


def test_the_usual_way_sees_the_same_images(job):
    from bnlab.data import load
    from bnlab.data.order import batches
    from bnlab.measure.splits import probes
    from experiments.throughput.usual_way import given

    has, images = given(job), load(job.source)
    for mine, ours in zip(has.probes, probes(job.trial, images, job.wanted), strict=True):
        np.testing.assert_array_equal(mine.x, ours.x.astype(np.float32) / np.float32(255))
        np.testing.assert_array_equal(mine.y, ours.y)
    order = batches(job.trial.seed, len(images.train_x), 16, 0, 32)
    np.testing.assert_array_equal(has.training.y.reshape(32, 16), images.train_y[order])
    assert len(has.test.x) == len(images.test_x)


def test_the_usual_model_is_ours_with_a_moving_average_of_its_own(job):
    from bnlab import models
    from bnlab.science.probe import normalization_layers
    from experiments.throughput.usual_way import usual_model

    ours, usual = models.build(job.trial), usual_model(job.trial, 0.75)
    assert [v.shape for v in usual.variables] == [v.shape for v in ours.variables]
    assert {layer.momentum for layer in normalization_layers(usual)} == {0.75}


@pytest.mark.parametrize("phase", [True, False])
def test_the_usual_way_ends_with_the_same_error(job, readings, phase):
    from experiments.throughput.usual_way import cell

    [ours] = [r.rmse for r in readings if r.split == "test" and r.phase == phase]
    found = cell(job, phase, 0.9, {"steps_per_execution": 4, "jit": False})
    assert found["rmse"] == pytest.approx(ours, rel=1e-3)
    assert all(found[f"{part}_s"] > 0 for part in ("build", "fit", "evaluate", "written"))
