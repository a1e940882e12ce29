"""Training goes on from checkpoints as if it had never stopped, and the tape stays one."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from bnlab.checkpoint import CheckpointError, load, losses, moving_statistics
from bnlab.data.feed import fed
from bnlab.stop import Stopped
from bnlab.store import Folder
from bnlab.train import loop

DECAYS = (0.5, 0.99)


@pytest.fixture
def copied(first, tmp_path):
    """The trial's checkpoints, to be changed."""
    return Folder(shutil.copytree(first.path, tmp_path / first.path.name))


@pytest.fixture
def steps_run(monkeypatch):
    """The steps that are really trained."""
    asked = []

    def spied(seed, images, batch_size, a, b, by_class):
        asked.extend(range(a + 1, b + 1))
        return fed(seed, images, batch_size, a, b, by_class)

    monkeypatch.setattr(loop, "fed", spied)
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
        ([6], [4, 5, 6]),
        ([3, 6], [2, 3, 4, 5, 6]),
        ([3], [2, 3, 4, 5, 6]),
        ([1], [1, 2, 3, 4, 5, 6]),
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
    assert steps_run == [2, 3, 4, 5, 6]
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


def files(folder):
    """Everything below a trial's folder: name -> bytes."""
    return {str(p.relative_to(folder.path)): p.read_bytes() for p in folder.path.rglob("*") if p.is_file()}


def at(*steps):
    """A watcher that asks to stop at each of some steps."""
    return lambda step, loss: step in steps


# Dropout draws from a state of its own, and Adam has one too.
DRAWN = {"details": (("dropout", 0.5),), "optimizer": "adam", "momentum": None}


@pytest.fixture(scope="module", params=[{}, DRAWN], ids=["sgd", "adam with dropout"])
def own(trial, request):
    return replace(trial, **request.param)


@pytest.fixture(scope="module")
def whole(own, trained, tmp_path_factory):
    """The trial that nobody stops, one step per call: only to be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_CALL_IMAGES", 8)
        return trained(own, tmp_path_factory.mktemp("whole") / "trial", (1, 3, 6))


@pytest.mark.parametrize("stops", [(1,), (2,), (4,), (2, 4, 5)])
def test_stopped_anywhere_it_goes_on_and_leaves_the_very_same_files(
    own, whole, trained, tmp_path, monkeypatch, stops
):
    monkeypatch.setattr(loop, "_CALL_IMAGES", 8)  # one step per call
    for step in stops:
        with pytest.raises(Stopped, match=f"^training stopped at step {step}$"):
            trained(own, tmp_path / "stopped" / "trial", (1, 3, 6), at(step))
        kept = Folder(tmp_path / "stopped" / "trial")
        assert kept.parts() == ([] if step == 1 else [step])
    assert files(trained(own, tmp_path / "stopped" / "trial", (1, 3, 6))) == files(whole)


def test_a_stop_at_the_last_step_is_the_end(trial, trained, tmp_path):
    assert trained(trial, tmp_path, (1, 3, 6), at(6)).checkpoints() == [1, 3, 6]


def test_long_stretches_are_saved_on_the_way(trial, trained, first, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_CALL_IMAGES", 8)
    monkeypatch.setattr(loop, "_PART_SECONDS", 0.0)
    seen = []
    path = tmp_path / first.path.name
    folder = trained(trial, path, (1, 3, 6), lambda step, loss: seen.append(Folder(path).parts()))
    assert seen == [[], [], [2], [], [4], [5]]
    assert files(folder) == files(first)


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_part_is_set_aside_and_its_steps_are_trained_again(
    trial, trained, first, tmp_path, steps_run, harm, damage, monkeypatch
):
    monkeypatch.setattr(loop, "_CALL_IMAGES", 8)
    path = tmp_path / first.path.name
    with pytest.raises(Stopped):
        trained(trial, path, (1, 3, 6), at(4))
    damage(Folder(path).part(4), harm)
    steps_run.clear()
    folder = trained(trial, path, (1, 3, 6))
    assert steps_run == [4, 5, 6]
    assert folder.damaged() == ["parts/00000004.npz.damaged"]
    assert {name: bytes_ for name, bytes_ in files(folder).items() if "damaged" not in name} == files(first)


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    trial, trained, first, copied, steps_run, damage, step, harm
):
    before = files(copied)
    damage(copied.checkpoint(step), harm)
    trained(trial, copied.path, (1, 3, 6))
    assert steps_run == list(range({1: 0, 3: 1, 6: 3}[step] + 1, 7))
    [aside] = copied.damaged()
    assert aside == f"checkpoints/{step:08d}.npz.damaged"
    assert {name: bytes_ for name, bytes_ in files(copied).items() if name != aside} == before


def test_every_flipped_bit_of_a_checkpoint_is_noticed(first, tmp_path):
    whole = first.checkpoint(1).read_bytes()
    path, rng = tmp_path / "1.npz", np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), 200, replace=False):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"its checksum|torn"):
            load(path)
