"""Every range is checked, and says in one line what was wrong."""

import pytest

from bnlab.compose import compose
from bnlab.settings import SettingsError


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_size=0"], "batch_size must be greater than or equal to 1, got 0"),
        (["batch_size=two"], "batch_size must be a valid integer, got 'two'"),
        (["batch_size=true"], "batch_size must be a valid integer, got True"),
        (["decay=1"], "decay must lie in [0, 1), got 1"),
        (["decay=-0.1"], "decay must lie in [0, 1), got -0.1"),
        (["decay=[0.5,1.5]"], "decay must lie in [0, 1), got 1.5"),
        (["decay=nan"], "decay must be a finite number"),
        (["decay=[]"], "decay"),
        (["phase=maybe"], "phase must be a valid boolean, got 'maybe'"),
        (["seed=-1"], "seed must be greater than or equal to 0, got -1"),
        (["norm=group", "norm.groups=5"], "5 groups do not divide 16 channels"),
        (["norm=group", "norm.groups=0"], "norm.groups must be greater than or equal to 1, got 0"),
        (["+norm.groups=4"], "norm.groups is not a setting of norm=batch"),
        (["norm.epsilon=0"], "norm.epsilon must be greater than 0, got 0"),
        (["train.samples=10", "train.epochs=1"], "at most one of samples and epochs may be given"),
        (["train=adam", "train.momentum=0.9"], "adam has no momentum"),
        (["train.learning_rate=-1"], "train.learning_rate must be greater than 0, got -1"),
        (["train.threads=0"], "train.threads must be greater than or equal to 1, got 0"),
        (["measure.points=0"], "measure.points must be greater than or equal to 1, got 0"),
        (["name=../up"], "name"),
        (["norm=group", "norm.groups=32"], "32 groups are more than 16 channels"),
        (["norm=none", "+norm.epsilon=1e-5"], "norm.epsilon is not a setting of norm=none"),
        (["norm=layer", "+norm.groups=4"], "norm.groups is not a setting of norm=layer"),
        (["norm=ghost", "norm.virtual_batch_size=12"], "12 does not divide 32"),
        (
            ["norm=batch_renorm", "norm.r_ramp=0.01"],
            "norm.r_ramp must end after norm.warm_up=0.03, got 0.01",
        ),
        (
            ["task=mnist_sequence", "task.frames=null"],
            "task.frames must be given for model sequence, got None",
        ),
        (["task.frames=4"], "task.frames must be null for model convnet, got 4"),
        (["task=mnist_autoencoder", "task.dropout=0.5"], "task.dropout must be 0 for model autoencoder"),
        (["task.dropout=1"], "task.dropout must be less than 1, got 1"),
        (["norm=layer", "measure.drills=[intact]"], "measure.drills must be empty without moving statistics"),
        (["measure.drills=[intact]", "phase=true"], "measure.drills needs phase false"),
        (["measure.drills=[intact]", "task.freeze=true"], "measure.drills needs phase false"),
        (["report.histograms=true"], "report.histograms needs measure.histograms=true, got false"),
        (["task=mnist_autoencoder", "task.widths=[8,8,8]"], "task.widths must halve the image's side of 28"),
        (["norm=group", "norm.gamma_initializer=onez"], "norm.gamma_initializer must be 'zeros', 'ones'"),
        (["measure.drills=[lost]"], "measure.drills must be"),
        (["task.widths=[]"], "task.widths"),
    ],
)
def test_a_value_out_of_range_is_refused_in_one_line(overrides, message):
    with pytest.raises(SettingsError) as caught:
        compose(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["batch_sze=3"], "batch_sze is not a setting; did you mean 'batch_size'?"),
        (["train.epoch=3"], "train.epoch is not a setting; did you mean 'train.epochs'?"),
        (["norm=goup"], "norm=goup is not an option; did you mean 'group'?"),
        (["+experiment=phase_swep"], "experiment=phase_swep is not an option; did you mean 'phase_sweep'?"),
        (["data=imagenet"], "data=imagenet is not an option; valid are: auto, real"),
        (["batch_size=2,8"], "add --multirun"),
        (["norm.groups=4"], "norm.groups is a setting of norm=group, not of the chosen one; remove it"),
        (["norm=none", "norm.epsilon=1e-5"], "norm.epsilon is a setting of norm=batch and norm=ghost"),
        (["norm.epsilom=1e-5"], "norm.epsilom is not a setting of any normalizer; did you mean 'epsilon'?"),
    ],
)
def test_an_unknown_word_brings_the_nearest_valid_one(overrides, message):
    with pytest.raises(SettingsError) as caught:
        compose(overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_smaller_batch_than_a_virtual_one_is_one_part():
    [small] = compose(["norm=ghost", "batch_size=8"]).settings
    [large] = compose(["norm=ghost", "batch_size=64"]).settings
    assert (small.together, large.together) == (8, 16)


def test_a_task_may_bring_its_optimizer_and_the_command_line_decides():
    [own] = compose(["task=mnist_sequence"]).settings
    [told] = compose(["task=mnist_sequence", "train=sgd"]).settings
    assert (own.train.optimizer, told.train.optimizer) == ("adam", "sgd")


def test_widths_may_repeat():
    [settings] = compose(["task.widths=[8,8,16]"]).settings
    assert settings.task.widths == (8, 8, 16)


def test_details_name_what_differs_from_the_networks_defaults():
    [plain] = compose([]).settings
    [own] = compose(["task.dropout=0.5", "task.bias=false", "task.weight_decay=0"]).settings
    assert plain.task.details == ()
    assert own.task.details == (("bias", False), ("dropout", 0.5))


def test_decay_and_phase_take_one_value_or_a_list_and_drop_repeats():
    [one] = compose(["decay=0.5", "phase=false"]).settings
    [many] = compose(["decay=[0.9,0.5,0.9]", "phase=[true,false]"]).settings
    assert (one.decay, one.phase) == ((0.5,), (False,))
    assert (many.decay, many.phase) == ((0.9, 0.5), (True, False))
