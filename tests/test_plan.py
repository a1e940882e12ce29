"""Settings -> trial: an identity that lasts, the steps of a curve, and what is left to measure."""

import copy
from dataclasses import dataclass, fields, replace

import pytest

from bnlab.data import Source
from bnlab.plan import Wanted, curve_steps, identity, is_trained, plan, unmeasured, wanted
from bnlab.records import Reading, Trial
from bnlab.settings import SettingsError, parse
from bnlab.store import Folder

TRIAL = Trial(
    task="mnist",
    data="mnist",
    fingerprint="mnist-0123456789abcdef",
    model="convnet",
    widths=(16, 32, 64),
    norm="batch",
    options=(("center", True), ("epsilon", 0.001), ("scale", True)),
    batch_size=32,
    seed=0,
    steps=600,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    schedule="cosine",
    device="cpu",
    threads=1,
    xla=False,
)
SETTINGS = {
    "task": {
        "name": "mnist",
        "data": "mnist",
        "model": "convnet",
        "widths": [16, 32, 64],
        "samples": 19200,
        "learning_rate": 0.4,
        "xla_up_to": 2,
    },
    "norm": {"name": "batch"},
    "data": {},
    "device": {"name": "cpu"},
    "train": {"optimizer": "sgd", "reference_batch": 128, "momentum": 0.9},
    "measure": {},
    "track": {},
    "report": {},
    "name": "run",
    "batch_size": 32,
    "decay": [0.9, 0.99],
    "phase": [True, False],
    "seed": 0,
    "store": "runs",
}
SOURCE = Source("mnist", "stand-in", None, "standin-mnist-0", "a stand-in", True, 1437, 360)
POOL = 1294  # 1,437 less a tenth that is held out


@pytest.fixture
def settings():
    """Checked settings, changed at dotted keys."""

    def made(**changes):
        raw = copy.deepcopy(SETTINGS)
        for key, value in changes.items():
            *groups, last = key.split("__")
            place = raw
            for group in groups:
                place = place[group]
            place[last] = value
        return parse(raw)

    return made


@pytest.fixture
def planned(settings):
    return lambda **changes: plan(settings(**changes), SOURCE, "cpu")


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, tuple):
        return value[:-1] or (("bias", True),)
    return f"{value}x" if isinstance(value, str) else value * 2 + 1


def test_an_identity_lasts():
    # Written down: should it change by intent, raise FORMAT and write the new one here.
    assert identity(TRIAL) == "6bf461a541a7"


def test_equal_trials_have_one_identity():
    assert identity(replace(TRIAL)) == identity(TRIAL)


@pytest.mark.parametrize("name", [field.name for field in fields(Trial)])
def test_every_field_is_part_of_the_identity(name):
    assert identity(replace(TRIAL, **{name: changed(getattr(TRIAL, name))})) != identity(TRIAL)


def test_a_later_field_with_a_default_keeps_older_identities():
    @dataclass(frozen=True)
    class Later(Trial):
        ghost: int = 0

    values = {field.name: getattr(TRIAL, field.name) for field in fields(Trial)}
    assert identity(Later(**values)) == identity(TRIAL)
    assert identity(Later(**values, ghost=4)) != identity(TRIAL)


@pytest.mark.parametrize("points", [1, 2, 12, 40])
@pytest.mark.parametrize("steps", [1, 5, 11, 12, 100, 9600])
def test_curve_steps_rise_from_the_first_step_to_the_last(steps, points):
    chosen = curve_steps(steps, points)
    assert chosen[-1] == steps
    assert points == 1 or chosen[0] == 1
    assert list(chosen) == sorted(set(chosen))
    assert len(chosen) >= min(points, steps)


@pytest.mark.parametrize(
    ("steps", "points", "expected"),
    [
        (100, 1, (100,)),
        (100, 3, (1, 10, 100)),
        (1024, 11, tuple(2**k for k in range(11))),
        (5, 12, (1, 2, 3, 4, 5)),
        (1, 12, (1,)),
    ],
)
def test_curve_steps_are_even_in_their_logarithm(steps, points, expected):
    assert curve_steps(steps, points) == expected


@pytest.mark.parametrize(
    ("train", "steps"),
    [
        ({}, 600),  # the task's 19,200 samples
        ({"samples": 320}, 10),
        ({"samples": 351}, 10),
        ({"samples": 1}, 1),
        ({"epochs": 1.0}, POOL // 32),
        ({"epochs": 2.5}, 3235 // 32),
    ],
)
def test_steps_follow_from_samples_epochs_or_the_task(planned, train, steps):
    assert planned(train={**SETTINGS["train"], **train}).steps == steps


@pytest.mark.parametrize(
    ("batch_size", "reference", "own", "rate"),
    [
        (128, 128, None, 0.4),
        (32, 128, None, 0.1),
        (256, 128, None, 0.8),
        (32, None, None, 0.4),
        (64, 128, 2.0, 1.0),
    ],
)
def test_the_rate_grows_with_the_batch_size(planned, batch_size, reference, own, rate):
    trial = planned(batch_size=batch_size, train__reference_batch=reference, train__learning_rate=own)
    assert trial.learning_rate == pytest.approx(rate, rel=1e-15)


@pytest.mark.parametrize(
    ("batch_size", "given", "device", "xla"),
    [
        (2, None, "cpu", True),
        (3, None, "cpu", False),
        (3, True, "cpu", True),
        (2, False, "cpu", False),
        (2, True, "gpu", False),
    ],
)
def test_xla_follows_the_tasks_table_unless_it_is_given(settings, batch_size, given, device, xla):
    assert plan(settings(batch_size=batch_size, train__xla=given), SOURCE, device).xla is xla


def test_a_trial_is_named_by_all_that_training_sees(planned):
    expected = replace(TRIAL, fingerprint="standin-mnist-0")
    assert planned() == expected


@pytest.mark.parametrize(
    "change",
    [
        {"decay": 0.5},
        {"phase": True},
        {"measure": {"points": 3, "images": 9, "batch_size": 4}},
        {"name": "other"},
        {"store": "elsewhere"},
        {"train__fresh": True},
    ],
)
def test_what_training_cannot_see_changes_no_trial(planned, change):
    assert planned(**change) == planned()


@pytest.mark.parametrize(
    ("key", "size", "message"),
    [
        ("batch_size", POOL + 1, "batch_size must not exceed the data, got 1295 of 1294 training images"),
        (
            "measure__batch_size",
            361,
            "measure.batch_size must not exceed the data, got 361 of 360 test images",
        ),
    ],
)
def test_a_batch_larger_than_the_data_is_refused(planned, key, size, message):
    small = {"measure__batch_size": 8}
    planned(**{**small, key: size - 1})
    with pytest.raises(SettingsError, match=f"^{message}$"):
        planned(**{**small, key: size})


def test_ghost_batches_are_measured_by_parts_as_they_train(settings):
    chosen = settings(norm={"name": "ghost", "virtual_batch_size": 16})
    assert wanted(chosen, SOURCE, plan(chosen, SOURCE, "cpu")).eval_batch_size == 16


def test_a_trial_batch_larger_than_the_test_set_needs_a_batch_size_to_measure_with(planned):
    with pytest.raises(SettingsError, match=r"^measure\.batch_size .* got 361 of 360 test images$"):
        planned(batch_size=361)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Wanted(curve_steps(600, 12), (None, 0.9, 0.99), 32, 90, 323)),  # 90: a quarter of 360
        ({"phase": True}, Wanted(curve_steps(600, 12), (None,), 32, 90, 323)),
        ({"phase": False}, Wanted(curve_steps(600, 12), (None, 0.9, 0.99), 32, 90, 323)),
        (
            {"measure": {"points": 1, "batch_size": 4, "images": 7}},
            Wanted((600,), (None, 0.9, 0.99), 4, 7, 7),
        ),
    ],
)
def test_what_a_job_wants_to_know(settings, changes, expected):
    chosen = settings(**changes)
    assert wanted(chosen, SOURCE, plan(chosen, SOURCE, "cpu")) == expected


@pytest.mark.parametrize(
    ("have", "trained"),
    [([], False), ([1, 3], False), ([1, 3, 9], False), (range(1, 9), False), (range(1, 10), True)],
)
def test_a_trial_is_trained_when_no_checkpoint_that_it_keeps_is_missing(tmp_path, have, trained):
    """Of nine steps a default curve has them all, whatever is asked."""
    folder = Folder(tmp_path)
    for step in have:
        folder.checkpoint(step).parent.mkdir(exist_ok=True)
        folder.checkpoint(step).touch()
    assert is_trained(folder, (1, 3, 9)) is trained


def reading(step, decay, split="test_probe", eval_batch_size=32, images=90):
    numbers = dict.fromkeys([f.name for f in fields(Reading) if f.type == "float"], 0.0)
    known = {"step": step, "samples_seen": 32 * step, "split": split, "phase": decay is None, "decay": decay}
    return Reading(**known, eval_batch_size=eval_batch_size, images=images, **numbers, time_ms=0)


PROBES = {"test_probe": 90, "train_probe": 323}
TRUE, NINE, SLOW = (
    [
        *(reading(step, decay, split, images=n) for step in (1, 5) for split, n in PROBES.items()),
        reading(5, decay, split="test", images=360),
    ]
    for decay in (None, 0.9, 0.99)
)


@pytest.mark.parametrize(
    ("readings", "left"),
    [
        ([], (None, 0.9, 0.99)),
        (TRUE, (None, 0.9, 0.99)),  # phase true is measured again, for the gaps
        (TRUE + NINE, (None, 0.99)),
        (TRUE + NINE + SLOW[:2], (None, 0.99)),  # a step is missing
        (TRUE + NINE + SLOW[:3], (None, 0.99)),  # the last train probe is missing
        (TRUE + NINE + SLOW[:4], (None, 0.99)),  # the whole test set is missing
        (NINE + SLOW, (None,)),
        (TRUE + NINE + SLOW, ()),
        ([*TRUE, *NINE, *SLOW, reading(3, 0.99)], ()),
        (
            [*TRUE, *NINE, *(replace(r, images=64) if r.split == "train_probe" else r for r in SLOW)],
            (None, 0.99),
        ),
        ([reading(r.step, r.decay, split="test") for r in TRUE + NINE], (None, 0.9, 0.99)),
        ([reading(r.step, r.decay, eval_batch_size=8) for r in TRUE + NINE], (None, 0.9, 0.99)),
        ([reading(r.step, r.decay, images=64) for r in TRUE + NINE], (None, 0.9, 0.99)),
    ],
)
def test_what_is_left_to_measure(readings, left):
    assert unmeasured(readings, Wanted((1, 5), (None, 0.9, 0.99), 32, 90, 323)) == left


@pytest.mark.parametrize(("asked", "left"), [("test", ()), ("train", (None, 0.9))])
def test_another_final_split_is_to_be_measured(asked, left):
    assert unmeasured(TRUE + NINE, Wanted((1, 5), (None, 0.9), 32, 90, 323, final=asked)) == left


def test_drills_are_to_be_measured_at_the_end_under_each_decay():
    wanted = Wanted((1, 5), (None, 0.9, 0.99), 32, 90, 323, drills=("renamed",))
    drilled = [replace(reading(5, decay, split="test"), drill="renamed") for decay in (0.9, 0.99)]
    assert unmeasured(TRUE + NINE + SLOW + drilled[:1], wanted) == (None, 0.99)
    assert unmeasured(TRUE + NINE + SLOW + drilled, wanted) == ()


def test_phase_true_alone_needs_no_decay():
    alone = Wanted((1, 5), (None,), 32, 90, 323)
    assert unmeasured(TRUE, alone) == ()
    assert unmeasured(NINE, alone) == (None,)
