"""Every range is checked, and says in one line what was wrong."""

import pytest

from bnlab.compose import compose
from bnlab.science.remedies import REMEDIES, remedy
from bnlab.settings import SettingsError
from bnlab.settings.faults import CHOSEN, TRAINED, drill, trained_fault


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
        (["device.replicas=0"], "device.replicas must be greater than or equal to 1, got 0"),
        (["device.replicas=3"], "device.replicas must divide batch_size: 3 do not divide 32"),
        (["device.replicas=4", "norm=ghost"], "device.replicas must be 1 with norm=ghost"),
        (["device.replicas=4", "norm=batch_renorm"], "device.replicas must be 1 with norm=batch_renorm"),
        (["device.replicas=2", "task=mnist_autoencoder"], "device.replicas must be 1 with model autoencoder"),
        (["device.replicas=2", "task=mnist_sequence"], "device.replicas must be 1 with model sequence"),
        (["device.replicas=2", "task.dropout=0.5"], "device.replicas must be 1 with task.dropout=0.5"),
        (["device.replicas=2", "train.xla=true"], "device.replicas must be 1 with train.xla=true"),
        (
            ["device.replicas=2", "train.precision=mixed_float16"],
            "device.replicas must be 1 with train.precision=mixed_float16",
        ),
        (
            ["train.precision=float16"],
            "train.precision must be 'float32', 'mixed_float16' or 'mixed_bfloat16', got 'float16'",
        ),
        (
            ["train.precision=mixed_bfloat16", "train.xla=true"],
            "train.xla must not be true with train.precision=mixed_bfloat16",
        ),
        (["device.replicas=2", "fault=slow"], "device.replicas must be 1 with fault=slow"),
        (["device.replicas=2", "norm=batch_frozen"], "must be 1 with train.freeze_statistics_at"),
        (["device.statistics=last"], "device.statistics must be 'first', 'mean' or 'merged', got 'last'"),
        (["norm=group", "+norm.synchronized=true"], "norm.synchronized is not a setting of norm=group"),
        (["task.widths=[]"], "task.widths"),
        (
            ["fault=slow", "norm=group"],
            "fault=slow needs moving statistics that are trained, got norm=group and task.freeze=false",
        ),
        (
            ["fault=sorted", "norm=none"],
            "fault=sorted needs moving statistics that are trained, got norm=none",
        ),
        (["fault=hot", "norm=layer"], "fault=hot needs moving statistics that are trained, got norm=layer"),
        (["fault=nan_pass", "task.freeze=true"], "got norm=batch and task.freeze=true"),
        (
            ["fault=bessel", "phase=true"],
            "fault=bessel is made at inference and needs phase false, got phase=[True]",
        ),
        (
            ["fault=hot", "train.schedule=cosine"],
            "fault=hot sets batch_size=1 or train.schedule=constant; leave both to it, got batch_size=32 and "
            "train.schedule=cosine",
        ),
        (
            ["fault=batch_of_one", "batch_size=32"],
            "fault=batch_of_one sets batch_size=1 or train.schedule=constant; leave both to it, got "
            "batch_size=32 and train.schedule=cosine",
        ),
        (["fault=sorted", "task=mnist_sequence"], "fault=sorted needs a classifier, got model sequence"),
        (
            ["fault=two_sources", "task=cifar_autoencoder"],
            "fault=two_sources needs a classifier, got model autoencoder",
        ),
        (
            ["fault=preprocessing", "task=mnist_autoencoder"],
            "fault=preprocessing needs targets that are no pixels, got model autoencoder",
        ),
        *(
            (
                [f"fault={name}", "train.freeze_statistics_at=0.5"],
                f"fault={name} trains with other statistics; set train.freeze_statistics_at=null",
            )
            for name in ("phase_false", "sorted", "two_sources")
        ),
        (["fault=slow", "fault.decay=1"], "fault.decay must lie in [0, 1), got 1"),
        (["fault=epsilon", "fault.epsilon=0"], "fault.epsilon must be greater than 0, got 0"),
        (
            ["fault=weights_averaged", "fault.checkpoints=1"],
            "fault.checkpoints must be greater than or equal to 2, got 1",
        ),
        (["fault=dummy_pass", "fault.passes=0"], "fault.passes must be greater than or equal to 1, got 0"),
        (["fault=phase_true", "fault.batch=0"], "fault.batch must be greater than or equal to 1, got 0"),
        (["fault=bessel", "+fault.passes=2"], "fault.passes is not a setting of fault=bessel; remove it"),
        (["fault.name=lost"], "fault Input tag 'lost' found using 'name' does not match any of the"),
        (["train.freeze_statistics_at=0"], "train.freeze_statistics_at must be greater than 0, got 0"),
        (["train.freeze_statistics_at=1"], "train.freeze_statistics_at must be less than 1, got 1"),
        (
            ["train.freeze_statistics_at=0.5", "norm=group"],
            "train.freeze_statistics_at needs moving statistics that are trained, got norm=group and "
            "task.freeze=false",
        ),
        (["norm=batch_frozen", "task.freeze=true"], "got norm=batch and task.freeze=true"),
        (["train.freeze_decay=1"], "train.freeze_decay must lie in [0, 1), got 1"),
        (["measure.attribution=layer"], "measure.attribution must be 'batch' or 'population', got 'layer'"),
        (["measure.population_samples=15"], "measure.population_samples must be greater than or equal to 16"),
        (["measure.remedy=[cure]"], "measure.remedy must be 'population', 'zero_debias', 'best_decay'"),
        (["measure.remedy_samples=15"], "measure.remedy_samples must be greater than or equal to 16, got 15"),
        (["measure.remedy_batch=[2,1]"], "measure.remedy_batch must be greater than or equal to 2, got 1"),
        (
            ["measure.remedy_batch=[null,256]", "measure.remedy_samples=[128,4096]"],
            "measure.remedy_batch must not exceed the samples of any remedy, got 256 of 128",
        ),
        *(
            ([f"fault={name}", "norm=batch_renorm"], f"fault={name} is made of averaged variances")
            for name in ("dummy_pass", "nan_pass", "bessel", "half_precision")
        ),
        (["measure.remedy_batch=[]"], "measure.remedy_batch must have at least one value"),
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
        (
            ["hydra/launcher=joblib", "hydra.launcher.nosuch=3"],
            "hydra.launcher.nosuch is not a key of the chosen file; configs/hydra/launcher/ has those of",
        ),
        (["train.epoch=3"], "train.epoch is not a setting; did you mean 'train.epochs'?"),
        (["norm=goup"], "norm=goup is not an option; did you mean 'group'?"),
        (["+experiment=phase_swep"], "experiment=phase_swep is not an option; did you mean 'phase_sweep'?"),
        (["data=imagenet"], "data=imagenet is not an option; valid are: auto, real"),
        (["batch_size=2,8"], "add --multirun"),
        (["norm.groups=4"], "norm.groups is a setting of norm=group, not of the chosen one; remove it"),
        (["norm=none", "norm.epsilon=1e-5"], "norm.epsilon is a setting of norm=batch and norm=ghost"),
        (["fault=slowly"], "fault=slowly is not an option; did you mean 'slow'?"),
        (["train.freeze_at=0.5"], "train.freeze_at is not a setting; did you mean 'train.freeze_"),
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


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([], ()),
        (["measure.remedy=[mixed,zero_debias,mixed]"], ("mixed", "zero_debias")),
        (["measure.remedy=population"], ("population n4096",)),
        (["measure.remedy=population", "measure.population_samples=512"], ("population n512",)),
        (
            ["measure.remedy=[eval_norm,population,best_decay]", "measure.remedy_samples=[256,null]"],
            ("eval_norm", "population n256", "population n4096", "best_decay"),
        ),
        (
            [
                "measure.remedy=population",
                "measure.remedy_samples=[100,1000]",
                "measure.remedy_batch=[null,2,32]",
            ],
            (
                "population n100",
                "population n100 b2",
                "population n100 b32",
                "population n1000",
                "population n1000 b2",
                "population n1000 b32",
            ),
        ),
        # What is given as a number and what stands for it are one.
        (["measure.remedy=population", "measure.remedy_samples=[null,4096]"], ("population n4096",)),
        # Options of a remedy that is not asked for are no remedies.
        (["measure.remedy=test_statistics", "measure.remedy_batch=[2,4]"], ("test_statistics",)),
    ],
)
def test_remedies_are_named_with_their_options(overrides, names):
    [settings] = compose(overrides).settings
    assert settings.measure.remedies == names


def test_every_remedy_that_may_be_asked_for_is_there():
    [settings] = compose([f"measure.remedy=[{','.join(REMEDIES)}]", "measure.remedy_batch=[null,2]"]).settings
    found = [remedy(name) for name in settings.measure.remedies]
    assert {own.func for own in found} == set(REMEDIES.values())
    assert [own.keywords for own in found[:2]] == [{"samples": 4096}, {"samples": 4096, "batch": 2}]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], ""),
        (["fault=not_updated"], "not_updated"),
        (["fault=slow"], "slow 0.9999"),
        (["fault=slow", "fault.decay=0.99999999"], "slow 0.99999999"),
        (["fault=epsilon"], "epsilon 1e-05"),
        (["fault=weights_averaged", "fault.checkpoints=5"], "weights_averaged 5"),
        (["fault=dummy_pass", "fault.passes=1234567"], "dummy_pass 1234567"),
        (["fault=phase_true"], "phase_true 2"),
        *(([f"fault={name}"], "") for name in (*TRAINED, *CHOSEN)),
    ],
)
def test_faults_at_inference_are_drills_named_with_their_option(overrides, name):
    [settings] = compose(overrides).settings
    assert drill(settings.fault) == name


@pytest.mark.parametrize("name", ["none", *TRAINED, *CHOSEN, "not_restored"])
def test_only_what_no_other_setting_says_is_a_fault_of_the_trial(name):
    [settings] = compose([f"fault={name}"]).settings
    assert trained_fault(settings.fault) == (name if name in TRAINED else "")


@pytest.mark.parametrize(
    ("overrides", "together", "synchronized", "kept"),
    [
        ([], 32, False, ()),
        (["device.replicas=4"], 8, False, ("mean", "merged")),
        (["device.replicas=4", "norm.synchronized=true"], 32, True, ()),
        (["device.replicas=1", "norm.synchronized=true"], 32, False, ()),
        (["device.replicas=4", "norm=group"], 8, False, ()),
        (["device.replicas=4", "phase=true"], 8, False, ()),
        (["device.replicas=4", "device.statistics=first"], 8, False, ()),
    ],
)
def test_replicas_share_a_batch_and_perhaps_its_statistics(overrides, together, synchronized, kept):
    [own] = compose(["device.statistics=[first,mean,merged]", *overrides]).settings
    assert (own.together, own.synchronized, own.kept) == (together, synchronized, kept)


def test_what_a_checkpoint_may_keep_is_what_science_can_make():
    from typing import get_args

    from bnlab.science.replicas import KEPT
    from bnlab.settings.groups import Kept

    assert set(get_args(Kept)) == set(KEPT)
