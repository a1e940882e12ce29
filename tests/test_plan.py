"""Settings -> trial: an identity that lasts, the steps of a curve, and what is left to measure."""

import copy
from dataclasses import dataclass, fields, replace

import pytest

from bnlab.data import Source
from bnlab.plan import (
    Wanted,
    clue_of,
    curve_steps,
    identity,
    is_trained,
    kept_steps,
    plan,
    unexplained,
    unmeasured,
    wanted,
)
from bnlab.records import Clue, Reading, Trial
from bnlab.settings import SettingsError, parse
from bnlab.settings.faults import Plain, Slow
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
    """Another value of the same type, or a number for none."""
    if value is None:
        return 0.5
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
        # 90: a quarter of 360
        ({}, Wanted(curve_steps(600, 12), (None, 0.9, 0.99), 32, 90, 323, explain=True)),
        ({"phase": True}, Wanted(curve_steps(600, 12), (None,), 32, 90, 323, explain=True)),
        ({"phase": False}, Wanted(curve_steps(600, 12), (None, 0.9, 0.99), 32, 90, 323, explain=True)),
        (
            {"measure": {"points": 1, "batch_size": 4, "images": 7, "explain": False}},
            Wanted((600,), (None, 0.9, 0.99), 4, 7, 7),
        ),
        (
            {
                "fault": {"name": "slow", "decay": 0.9999},
                "measure": {"drills": ["renamed"], "final": "train"},
            },
            Wanted(
                curve_steps(600, 12),
                (None, 0.9, 0.99),
                32,
                90,
                323,
                final="train",
                drills=("renamed", "slow 0.9999"),
                fault=Slow(name="slow", decay=0.9999),
                explain=True,
            ),
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


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Written down as above: trials of before there were frozen statistics and faults keep their names.
        ({"frozen_from": None, "freeze_decay": None, "fault": ""}, "6bf461a541a7"),
        ({"details": ()}, "6bf461a541a7"),
        ({"frozen_from": 450, "freeze_decay": 0.99}, "60fb7d5304df"),
        ({"fault": "sorted"}, "fb56da576a4b"),
    ],
)
def test_settings_that_came_later_keep_the_names_of_older_trials(changes, expected):
    assert identity(replace(TRIAL, **changes)) == expected


@pytest.mark.parametrize(
    ("share", "steps", "expected"),
    [
        (0.75, 600, 450),
        (0.5, 4, 2),
        (0.5, 3, 2),  # 1.5 is rounded to the even number
        (0.34, 3, 1),
        (0.001, 10, 1),  # after the first step
        (0.999, 10, 9),  # before the last
        (0.5, 2, 1),
        (0.001, 2, 1),
        (0.999, 2, 1),
    ],
)
def test_statistics_are_frozen_at_a_whole_step_within_the_run(planned, share, steps, expected):
    trial = planned(train__samples=32 * steps, train__freeze_statistics_at=share, train__freeze_decay=0.9)
    assert (trial.steps, trial.frozen_from, trial.freeze_decay) == (steps, expected, 0.9)


def test_statistics_cannot_be_frozen_within_one_step(planned):
    with pytest.raises(SettingsError, match=r"^train\.freeze_statistics_at needs at least 2 steps, got 1$"):
        planned(train__samples=32, train__freeze_statistics_at=0.5)


def test_where_nothing_is_frozen_the_decay_of_frozen_averages_is_no_matter(planned):
    assert planned(train__freeze_decay=0.5) == planned()
    assert (planned().frozen_from, planned().freeze_decay) == (None, None)


def test_a_fault_of_training_is_part_of_the_trial_and_one_at_inference_is_not(planned):
    assert planned(fault={"name": "sorted"}) == replace(planned(), fault="sorted")
    assert (
        planned(fault={"name": "slow", "decay": 0.9999}) == planned(fault={"name": "nan_pass"}) == planned()
    )


@pytest.mark.parametrize(
    ("steps", "frozen_from", "kept"),
    [
        ((4,), None, (1, 2, 3, 4)),
        ((1, 1024), None, (1, 2, 4, 7, 12, 23, 44, 82, 155, 290, 545, 1024)),
        ((1, 1024), 700, (1, 2, 4, 7, 12, 23, 44, 82, 155, 290, 545, 700, 1024)),
        ((1, 1024), 290, (1, 2, 4, 7, 12, 23, 44, 82, 155, 290, 545, 1024)),
        ((500, 1024), 700, (1, 2, 4, 7, 12, 23, 44, 82, 155, 290, 500, 545, 700, 1024)),
    ],
)
def test_the_checkpoint_whose_averages_are_frozen_is_kept(steps, frozen_from, kept):
    # A default curve to 1,024 has twelve steps, even in their logarithm: 1024^(k / 11).
    assert kept_steps(steps, frozen_from) == kept


def test_a_trial_whose_frozen_checkpoint_is_missing_is_not_trained(tmp_path):
    folder = Folder(tmp_path)
    for step in kept_steps((1, 1024)):
        folder.checkpoint(step).parent.mkdir(exist_ok=True)
        folder.checkpoint(step).touch()
    assert is_trained(folder, (1, 1024))
    assert not is_trained(folder, (1, 1024), 700)
    folder.checkpoint(700).touch()
    assert is_trained(folder, (1, 1024), 700)


ASKED = Wanted((1, 5), (None, 0.9, 0.99), 32, 90, 323, explain=True, samples=64)


def clue(kind, name, decay, split="test", **changes):
    images = {"test_probe": 90, "train_probe": 323}.get(split, 360)
    way = {"eval_batch_size": 32, "images": images, "samples": 64}
    values = {"metric": "rmse", "value": 0.5, "standard_error": 0.1, "time_ms": 0, "drill": "", "step": 5}
    return Clue(**{**values, **way, "split": split, "decay": decay, "kind": kind, "name": name, **changes})


def explained(decay, **changes):
    """One clue of each kind that explaining a gap leaves."""
    causes = [clue("cause", "lag", decay, split, **changes) for split in ("train_probe", "test")]
    return [*causes, clue("sign", "at_start", decay, metric="", **changes)]


def kinds(decay, drill=""):
    return {
        ("cause", "lag", "train_probe", decay, drill),
        ("cause", "lag", "test", decay, drill),
        ("sign", "at_start", "test", decay, drill),
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, kinds(0.9) | kinds(0.99)),
        ({"decays": (None,)}, set()),
        ({"explain": False}, set()),
        (
            {"explain": False, "decays": (None, 0.9), "remedies": ("mixed",)},
            {("remedy", "mixed", "test", 0.9, "")},
        ),
        (
            {"explain": False, "decays": (None, 0.9), "attribution": "population"},
            {("layer population", "all", "test_probe", 0.9, "")},
        ),
        (
            {"explain": False, "decays": (None, 0.9), "attribution": "batch", "final": "train"},
            {("layer batch", "all", "train_probe", 0.9, "")},
        ),
        (
            {"decays": (None, 0.9), "fault": Slow(name="slow", decay=0.9999)},
            kinds(0.9) | kinds(0.9, "slow 0.9999"),
        ),
        ({"decays": (None, 0.9), "fault": Plain(name="sorted")}, kinds(0.9)),
    ],
)
def test_the_clues_that_a_job_wants(changes, expected):
    listed = list(replace(ASKED, **changes).clues())
    assert set(listed) == expected
    assert len(listed) == len(expected)


BOTH = explained(0.9) + explained(0.99)


@pytest.mark.parametrize(
    ("clues", "left"),
    [
        ([], kinds(0.9) | kinds(0.99)),
        (BOTH, set()),
        (explained(0.9), kinds(0.99)),
        (BOTH[1:], {("cause", "lag", "train_probe", 0.9, "")}),
        (explained(0.9) + explained(0.99, samples=32), kinds(0.99)),
        (explained(0.9) + explained(0.99, eval_batch_size=8), kinds(0.99)),
        (explained(0.9) + explained(0.99, drill="nan_pass"), kinds(0.99)),
        ([*BOTH[1:], replace(BOTH[0], images=64)], {("cause", "lag", "train_probe", 0.9, "")}),
        # Other causes and signs do not stand for the one that is looked for.
        ([replace(own, name="other") for own in BOTH], kinds(0.9) | kinds(0.99)),
        # Nor does a clue that no decay plays a part in, but for the same thing.
        ([*explained(0.9), replace(BOTH[0], decay=None, name="bias")], kinds(0.99)),
    ],
)
def test_what_is_left_to_explain(clues, left):
    assert unexplained(clues, ASKED) == left


def test_a_remedy_without_a_decay_serves_all_of_them():
    asked = replace(ASKED, explain=False, remedies=("population n64", "mixed"))
    free, bound = clue("remedy", "population n64", None), clue("remedy", "mixed", 0.9)
    missing = {("remedy", "mixed", "test", 0.99, "")}
    assert unexplained([free, bound], asked) == missing
    assert unexplained([free, bound, replace(bound, decay=0.99)], asked) == set()
    assert unexplained([bound, replace(bound, decay=0.99)], asked) == {
        ("remedy", "population n64", "test", decay, "") for decay in (0.9, 0.99)
    }
    # Of other samples, another way to come to inference, another split: it serves none.
    for other in ({"samples": 32}, {"drill": "nan_pass"}, {"split": "train"}):
        assert len(unexplained([replace(free, **other), bound], asked)) == 3


def test_a_fault_is_explained_beside_the_healthy_model():
    asked = replace(ASKED, decays=(None, 0.9), fault=Plain(name="nan_pass"))
    assert unexplained(explained(0.9), asked) == kinds(0.9, "nan_pass")
    assert unexplained(explained(0.9) + explained(0.9, drill="nan_pass"), asked) == set()


def test_a_clue_is_named_whatever_its_metric():
    own = clue("remedy", "mixed", 0.9, drill="nan_pass")
    assert clue_of(own) == clue_of(replace(own, metric="loss_gap", value=7.0))
    assert clue_of(own) == ("remedy", "mixed", "test", 0.9, "nan_pass")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (True, None, ())),
        ({"measure": {"explain": False}}, (False, None, ())),
        (
            {
                "measure": {
                    "attribution": "batch",
                    "remedy": ["mixed", "population"],
                    "population_samples": 16,
                }
            },
            (True, "batch", ("mixed", "population n16")),
        ),
        (
            {"measure": {"attribution": "batch", "remedy": ["mixed"]}, "norm": {"name": "none"}},
            (False, None, ()),
        ),
        (
            {"measure": {"attribution": "population", "remedy": ["mixed"]}, "task__freeze": True},
            (False, None, ()),
        ),
    ],
)
def test_only_moving_statistics_that_are_trained_are_explained(settings, changes, expected):
    chosen = settings(**changes)
    own = wanted(chosen, SOURCE, plan(chosen, SOURCE, "cpu"))
    assert (own.explain, own.attribution, own.remedies) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"measure__population_samples": 10_001},
            "measure.population_samples must not exceed the data, got 10001 of 10000 training images",
        ),
        (
            {"measure__remedy_samples": [None, 20_000]},
            "measure.remedy_samples must not exceed the data, got 20000 of 10000 training images",
        ),
        (
            {"fault": {"name": "phase_true", "batch": 361}},
            "fault.batch must not exceed the data, got 361 of 360 test images",
        ),
        (
            {"fault": {"name": "weights_averaged", "checkpoints": 13}},
            "fault.checkpoints must not exceed the data, got 13 of 12 checkpoints",
        ),
    ],
)
def test_no_more_is_asked_for_than_there_is(planned, changes, message):
    with pytest.raises(SettingsError) as caught:
        planned(**changes)
    assert str(caught.value) == message


def test_as_many_as_there_are_may_be_asked_for(planned):
    planned(measure__population_samples=10_000, fault={"name": "phase_true", "batch": 360})
    planned(fault={"name": "weights_averaged", "checkpoints": 12})


def test_replicas_are_a_trial_of_their_own_and_compile_without_xla(planned):
    trial = planned(device__replicas=4, batch_size=8, train__xla=None, task__xla_up_to=8)
    assert (trial.replicas, trial.synchronized, trial.xla, trial.together) == (4, False, False, 2)
    assert planned(batch_size=8, task__xla_up_to=8).xla is True


def test_what_one_replica_cannot_synchronize_is_no_other_trial(planned):
    assert identity(planned(norm__synchronized=True)) == identity(planned())
    assert "synchronized" not in dict(planned(norm__synchronized=True).options)
    both = [planned(device__replicas=4, norm__synchronized=together) for together in (True, False)]
    assert [trial.synchronized for trial in both] == [True, False]
    assert [trial.together for trial in both] == [32, 8]
    assert len({identity(trial) for trial in (*both, planned())}) == 3


def test_which_statistics_are_kept_is_measured_and_trains_nothing(settings, planned):
    how = {"device__replicas": 4, "device__statistics": ["first", "merged"]}
    trial = planned(**how)
    assert identity(trial) == identity(planned(device__replicas=4))
    asked = wanted(settings(**how), SOURCE, trial)
    assert (asked.drills, asked.eval_batch_size) == (("replicas merged",), 8)


def test_a_precision_is_a_trial_of_its_own_and_float32_is_as_it_was(planned):
    names = ("float32", "mixed_float16", "mixed_bfloat16")
    trials = [planned(train__precision=name) for name in names]
    assert [trial.precision for trial in trials] == list(names)
    assert identity(trials[0]) == identity(planned())
    assert len({identity(trial) for trial in trials}) == 3


def test_what_is_half_is_compiled_without_xla_which_need_not_round_it(planned):
    tiny = {"batch_size": 2, "train__xla": None, "task__xla_up_to": 2}
    assert planned(**tiny).xla
    assert not planned(**tiny, train__precision="mixed_bfloat16").xla
