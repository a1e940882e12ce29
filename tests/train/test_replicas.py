"""One trial on several devices: it must equal ghost batches apart, and plain batches when synchronized."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from bnlab.checkpoint import layers, load, moving_statistics
from bnlab.store import Folder

LAYERS = {"block1_norm": 4, "block2_norm": 8}
# Six steps of learning rate 0.1 with momentum from weights below 1: each sum has fewer than 2,000 terms below
# 1 in another order, whose roundings are of independent sign; sqrt(2,000) of them, six times, is 3.2e-5.
ROUNDING = 6 * 2000**0.5 * 2.0**-23


def weights(folder, step):
    arrays = load(folder.checkpoint(step)).arrays
    return {name: own for name, own in arrays.items() if name.startswith(("model/", "optimizer/"))}


def assert_near(folder, other, step):
    ours, theirs = weights(folder, step), weights(other, step)
    assert ours.keys() == theirs.keys()
    for name, own in ours.items():
        np.testing.assert_allclose(own, theirs[name], rtol=0, atol=ROUNDING, err_msg=name)


@pytest.fixture(scope="module")
def four(trial, trained, tmp_path_factory):
    """The trial on four devices, two images each."""
    return trained(replace(trial, replicas=4), tmp_path_factory.mktemp("four"), (1, 3, 6))


@pytest.fixture(scope="module")
def ghost(trial, trained, tmp_path_factory):
    """The trial on one device, in ghost batches of two."""
    own = replace(trial, norm="ghost", options=(*trial.options, ("virtual_batch_size", 2)))
    return trained(own, tmp_path_factory.mktemp("ghost"), (1, 3, 6))


@pytest.fixture(scope="module")
def together(trial, trained, tmp_path_factory):
    """The trial on four devices that take their statistics together."""
    own = replace(trial, replicas=4, synchronized=True)
    return trained(own, tmp_path_factory.mktemp("together"), (1, 3, 6))


def test_replicas_train_as_ghost_batches_do(four, ghost):
    assert_near(four, ghost, 6)
    np.testing.assert_allclose(
        load(four.checkpoint(6)).losses, load(ghost.checkpoint(6)).losses, atol=ROUNDING
    )


def test_synchronized_replicas_train_as_one_device_does(together, first):
    assert_near(together, first, 6)
    np.testing.assert_allclose(
        load(together.checkpoint(6)).losses, load(first.checkpoint(6)).losses, atol=ROUNDING
    )


def test_replicas_apart_are_not_one_device(four, first):
    """Tolerances would be of no worth if this did not differ by far more."""
    name = "model/block1_conv/kernel"
    apart = np.abs(weights(four, 6)[name] - weights(first, 6)[name]).max()
    assert apart > 30 * ROUNDING


def test_the_tape_holds_the_moments_of_each_replica(four, ghost):
    ours, theirs = load(four.checkpoint(3)).tape, load(ghost.checkpoint(3)).tape
    for layer in LAYERS:
        groups = theirs.updates(layer).reshape(2, 4, -1)
        for replica in range(4):
            np.testing.assert_allclose(ours.updates(layer, replica), groups[:, replica], atol=ROUNDING)


def test_synchronized_replicas_leave_one_tape(together, first):
    ours, theirs = load(together.checkpoint(6)).tape, load(first.checkpoint(6)).tape
    assert ours.columns == theirs.columns
    np.testing.assert_allclose(ours.moments, theirs.moments, atol=ROUNDING)


@pytest.mark.parametrize("decay", [0.5, 0.99])
def test_averages_are_those_of_ghost_batches_side_by_side(four, ghost, decay):
    """An oracle of its own: a loop over the ghost batches' moments, one average for each place."""
    moving, kept, taken = moving_statistics(four, 6, [decay]), np.float32(decay), np.float32(1 - decay)
    tapes = [load(ghost.checkpoint(step)).tape for step in (1, 3, 6)]
    for layer, channels in LAYERS.items():
        rows = np.concatenate([tape.updates(layer) for tape in tapes]).reshape(6, 4, -1)
        average = np.tile(np.repeat([0.0, 1.0], channels), (4, 1))
        for row in rows:
            average = float(kept) * average + float(taken) * row
        for replica, own in enumerate(moving.each(decay)):
            np.testing.assert_allclose(np.concatenate(own[layer]), average[replica], atol=ROUNDING)
        mean, variance = np.split(average, 2, axis=1)
        for how, wanted in {
            "first": (mean[0], variance[0]),
            "mean": (mean.mean(axis=0), variance.mean(axis=0)),
            "merged": (mean.mean(axis=0), variance.mean(axis=0) + mean.var(axis=0)),
        }.items():
            for ours, theirs in zip(moving.at(decay, how)[layer], wanted, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=2 * ROUNDING)
    assert moving.updates == dict.fromkeys(LAYERS, 6)
    assert layers(four) == (("block1_norm", 1), ("block2_norm", 1))


@pytest.mark.parametrize("synchronized", [False, True])
def test_what_goes_on_ends_with_the_same_bits(trial, trained, arrays, tmp_path, request, synchronized):
    whole = request.getfixturevalue("together" if synchronized else "four")
    folder = Folder(shutil.copytree(whole.path, tmp_path / whole.path.name))
    folder.checkpoint(6).unlink()
    own = replace(trial, replicas=4, synchronized=synchronized)
    again, expected = arrays(trained(own, folder.path, (1, 3, 6))), arrays(whole)
    assert again.keys() == expected.keys()
    assert all(np.array_equal(again[key], expected[key]) for key in expected)


@pytest.mark.parametrize("replicas", [1, 2])
def test_only_other_replicas_than_the_first_are_named_in_a_checkpoint(trial, trained, tmp_path, replicas):
    folder = trained(replace(trial, replicas=replicas, steps=1), tmp_path, (1,))
    columns = json.loads(str(load(folder.checkpoint(1)).arrays["columns"]))
    # As before there were several: files of older trials, and their checksums, stay what they were.
    assert [column.get("replica") for column in columns] == [None, None, 1, 1][: 2 * replicas]


def test_a_network_without_batch_statistics_is_the_same_on_any_number(trial, trained, tmp_path):
    own = replace(trial, norm="group", options=(("groups", 2),), steps=3)
    one, two = (
        trained(replace(own, replicas=replicas), tmp_path / str(replicas), (3,)) for replicas in (1, 2)
    )
    assert_near(one, two, 3)


def test_replicas_in_bfloat16_see_what_ghost_batches_do(trial, trained, tmp_path):
    """The first step has the same weights on both, and moments that only sums in float32 tell apart."""
    own = replace(trial, precision="mixed_bfloat16")
    parts = replace(own, norm="ghost", options=(*trial.options, ("virtual_batch_size", 2)))
    ours = trained(replace(own, replicas=4), tmp_path / "four", (1, 6))
    theirs = trained(parts, tmp_path / "ghost", (1, 6))
    for layer in LAYERS:
        groups = load(theirs.checkpoint(1)).tape.updates(layer).reshape(4, -1)
        for replica in range(4):
            seen = load(ours.checkpoint(1)).tape.updates(layer, replica)[0]
            # A few of hundreds of activations may fall on the other side of a step of 2^-7.
            np.testing.assert_allclose(seen, groups[replica], rtol=0, atol=2.0**-9)
    # A step of bfloat16 in each of six losses of size two and in what weights made of it.
    np.testing.assert_allclose(
        load(ours.checkpoint(6)).losses, load(theirs.checkpoint(6)).losses, rtol=0, atol=2.0**-6
    )
