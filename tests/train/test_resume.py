"""Training goes on from checkpoints as if it had never stopped, and the tape stays one."""

import shutil

import numpy as np
import pytest

from bnlab.checkpoint import losses, moving_statistics
from bnlab.data.order import batches
from bnlab.store import Folder
from bnlab.train import loop

DECAYS = (0.5, 0.99)


@pytest.fixture
def copied(first, tmp_path):
    """The trial's checkpoints, to be changed."""
    return Folder(shutil.copytree(first.path, tmp_path / "copy"))


@pytest.fixture
def steps_run(monkeypatch):
    """The stretches of steps that are really trained."""
    asked = []

    def spied(seed, images, batch_size, a, b):
        asked.append((a, b))
        return batches(seed, images, batch_size, a, b)

    monkeypatch.setattr(loop, "batches", spied)
    return asked


def same_statistics(folder, other, step):
    for decay in DECAYS:
        pairs = [moving_statistics(f, step, DECAYS).at(decay) for f in (folder, other)]
        for layer in pairs[0]:
            # The same float64 recursion in other blocks: a few roundings of numbers of size one.
            np.testing.assert_allclose(pairs[0][layer], pairs[1][layer], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("lost", "trained_again"),
    [
        ([6], [(3, 6)]),
        ([3, 6], [(1, 3), (3, 6)]),
        ([3], [(1, 3), (3, 6)]),
        ([1], [(0, 1), (1, 3), (3, 6)]),
        ([], []),
    ],
)
def test_lost_checkpoints_are_made_again_bit_for_bit(
    trial, trained, first, arrays, copied, steps_run, lost, trained_again
):
    for step in lost:
        copied.checkpoint(step).unlink()
    again, expected = arrays(trained(trial, copied.path, (1, 3, 6))), arrays(first)
    assert steps_run == trained_again
    assert again.keys() == expected.keys()
    assert all(np.array_equal(again[key], expected[key]) for key in expected)


def test_an_interrupted_repair_leaves_no_checkpoint_after_the_hole(trial, trained, first, arrays, copied):
    def interrupt(step, loss):
        if step == 3:
            raise KeyboardInterrupt

    copied.checkpoint(3).unlink()
    with pytest.raises(KeyboardInterrupt):
        trained(trial, copied.path, (1, 3, 6), interrupt)
    assert copied.checkpoints() == [1]
    again, expected = arrays(trained(trial, copied.path, (1, 3, 6))), arrays(first)
    assert all(np.array_equal(again[key], expected[key]) for key in expected)


def test_points_added_later_leave_the_numbers_and_the_tape_as_they_were(
    trial, trained, first, copied, steps_run
):
    trained(trial, copied.path, (2, 3, 5, 6))
    assert copied.checkpoints() == [1, 2, 3, 5, 6]
    assert steps_run == [(1, 2), (2, 3), (3, 5), (5, 6)]
    assert np.array_equal(losses(copied), losses(first))
    for step in (1, 3, 6):
        same_statistics(copied, first, step)


def test_a_sparser_curve_keeps_the_checkpoints_that_are_there(trial, trained, copied, steps_run):
    trained(trial, copied.path, (6,))
    assert copied.checkpoints() == [1, 3, 6]
    assert steps_run == []


def test_a_hole_in_the_tape_is_noticed(trial, trained, first, copied):
    # The checkpoint of step 3 is lost, and a job that does not ask for step 3 finds its own ones complete.
    copied.checkpoint(3).unlink()
    trained(trial, copied.path, (1, 6))
    same_statistics(copied, first, 6)
