"""What tells trials apart, in words; settings of a trial by name."""

from dataclasses import replace

from bnlab.naming import label, variants
from bnlab.records import DETAILS, Failure


def test_trials_that_differ_in_what_is_told_anyway_need_no_more_words(trial):
    others = {"a": trial, "b": replace(trial, seed=1), "c": replace(trial, batch_size=4, steps=12)}
    assert set(variants(others).values()) == {""}


def test_trials_that_share_all_that_are_told_apart_by_what_differs(trial):
    others = {"a": trial, "b": replace(trial, learning_rate=0.025), "c": replace(trial, seed=1)}
    assert variants(others) == {
        "a": "learning rate 0.1",
        "b": "learning rate 0.025",
        "c": "learning rate 0.1",
    }


def test_details_and_options_tell_apart_too(trial):
    dropped = replace(trial, details=(("dropout", 0.5),))
    ghosts = [replace(trial, norm="ghost", options=(("virtual_batch_size", n),)) for n in (2, 4)]
    assert variants({"a": trial, "b": dropped}) == {"a": "dropout 0", "b": "dropout 0.5"}
    assert variants(dict(zip("ab", ghosts, strict=True))) == {
        "a": "norm.virtual batch size 2",
        "b": "norm.virtual batch size 4",
    }
    assert (
        variants({"a": trial, "b": replace(trial, details=(("deviation", 0.1),))})["a"] == "deviation default"
    )


def test_of_faults_and_frozen_statistics_only_those_that_are_there_are_told(trial):
    others = {
        "a": trial,
        "b": replace(trial, fault="sorted"),
        "c": replace(trial, frozen_from=3, freeze_decay=0.9),
    }
    assert variants(others) == {"a": "", "b": "fault sorted", "c": "frozen from 3, freeze decay 0.9"}


def test_a_label_names_the_trial_and_what_tells_it_apart(trial):
    failure = Failure("0" * 12, "mnist", "batch", 8, 0, "broke", "learning rate 0.1")
    assert label(trial) == "mnist batch b8 s0"
    assert label(failure, failure.variant) == "mnist batch b8 s0 learning rate 0.1"


def test_a_trials_settings_hold_options_details_and_their_defaults(trial):
    settings = replace(trial, details=(("dropout", 0.5),)).settings
    assert settings["norm.epsilon"] == 1e-3
    assert {name: settings[name] for name in DETAILS} == {**DETAILS, "dropout": 0.5}
    assert not {"options", "details"} & settings.keys()


def test_replicas_are_always_told(trial):
    four = replace(trial, replicas=4)
    assert variants({"a": four}) == {"a": "4 replicas x 2"}
    assert variants({"a": four, "b": replace(four, synchronized=True), "c": trial}) == {
        "a": "4 replicas x 2",
        "b": "4 replicas x 2, synchronized",
        "c": "",
    }


def test_half_precision_is_told_of_a_lone_trial_and_float32_beside_it(trial):
    half = replace(trial, precision="mixed_float16")
    assert variants({"a": trial}) == {"a": ""}
    assert variants({"a": half}) == {"a": "mixed_float16"}
    assert variants({"a": half, "b": trial}) == {"a": "mixed_float16", "b": "float32"}
