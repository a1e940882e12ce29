"""MLflow holds every reading once, however often it is sent, and gives it back to the last bit."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from bnlab import track
from bnlab.records import Clue, Failure, Reading, Sweep, Trial
from bnlab.tables import clues_table, parse_clues, readings_table
from bnlab.track.check import stated

TRIAL = Trial(
    task="mnist",
    data="mnist",
    fingerprint="mnist-0",
    model="convnet",
    widths=(4,),
    norm="batch",
    options=(("epsilon", 0.001),),
    batch_size=4,
    seed=0,
    steps=10,
    optimizer="sgd",
    learning_rate=0.1,
    momentum=0.9,
    schedule="cosine",
    device="cpu",
    threads=1,
    xla=False,
)


def reading(step, phase, decay, split="test_probe", rmse=0.1):
    gap = float("nan") if phase else 1 / 3
    return Reading(
        step, 4 * step, split, phase, decay, 4, 64, rmse, 0.5, 1.0, gap, gap, gap, gap, gap, gap, 1000 + step
    )


READINGS = [
    reading(step, phase, decay, rmse=0.1 + step / 3)
    for step in (1, 10)
    for phase, decay in ((True, None), (False, 0.5), (False, 0.9))
]
READINGS += [reading(10, *cell, split="test") for cell in ((True, None), (False, 0.5), (False, 0.9))]
FINISHED = track.Finished(
    trial=TRIAL,
    identity="0123456789ab",
    tags={"data.source": "MNIST", "data.stand_in": "false"},
    began_ms=500,
    losses=lambda: np.linspace(2, 1, 10),
    readings=READINGS,
    cells=[(phase, decay, "") for phase in (True, False) for decay in (0.5, 0.9)],
    way=(4, 64, 64),
)
FAILURE = Failure("0123456789ab", "mnist", "batch", 4, 0, "the loss became nan at step 3")


def sweep(**changes):
    asked = {"trials": ("0123456789ab",), "decays": (0.5, 0.9), "phases": (True, False)}
    measured = {"0123456789ab": (4, 64, 64)}
    fixed = {
        "name": "s",
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "command": "c",
        "trained": 1,
    }
    return Sweep(**{**fixed, **asked, "measured": measured, **changes})


@pytest.fixture
def store(tmp_path):
    return track.connect(f"sqlite:///{tmp_path}/store/mlflow.db", "bnlab")


def runs(store, query=""):
    return store.client.search_runs([store.experiment], query)


def test_sending_a_trial_twice_changes_nothing(store):
    track.log_trial(store, FINISHED)
    again = replace(FINISHED, tags={**FINISHED.tags, "more": "x"})  # another digest: it is sent again
    track.log_trial(store, again)
    assert len(runs(store)) == 1 + 4
    for run in runs(store, "params.decay = '0.5' and params.phase = 'false'"):
        history = store.client.get_metric_history(run.info.run_id, "rmse")
        assert [(point.step, point.value) for point in history] == [(1, 0.1 + 1 / 3), (10, 0.1 + 10 / 3)]


def test_cells_use_the_same_metric_names_in_both_phases(store):
    track.log_trial(store, FINISHED)
    [true] = runs(store, "params.decay = '0.9' and params.phase = 'true'")
    [false] = runs(store, "params.decay = '0.9' and params.phase = 'false'")
    assert {"rmse", "accuracy", "loss", "final_rmse", "samples_seen", "best_rmse"} <= set(true.data.metrics)
    assert {name for name in false.data.metrics if "gap" not in name} == set(true.data.metrics)
    assert true.data.params == {**false.data.params, "phase": "true"}


def test_the_loss_curve_is_the_mean_of_its_stretches(store):
    track.log_trial(store, FINISHED)
    [run] = runs(store, "tags.`bnlab.kind` = 'trial'")
    history = store.client.get_metric_history(run.info.run_id, "training_loss")
    assert [point.step for point in history] == list(range(1, 11))
    assert [point.value for point in history] == pytest.approx(np.linspace(2, 1, 10))


def test_a_sweep_comes_back_with_exact_readings(store):
    track.log_trial(store, FINISHED)
    track.log_sweep(store, sweep())
    record, rows = track.read_sweep(store)
    assert record == sweep()
    assert rows["rmse"].tolist() == [r.rmse for r in READINGS]
    assert rows["rmse_gap"].dropna().unique().tolist() == [1 / 3]
    assert rows[["task", "norm", "batch_size", "steps", "stand_in"]].iloc[0].tolist() == [
        "mnist",
        "batch",
        4,
        10,
        False,
    ]


def test_a_sweep_sees_only_what_it_asked_for(store):
    track.log_trial(store, FINISHED)
    track.log_sweep(store, sweep(decays=(0.9,)))
    _, rows = track.read_sweep(store)
    assert set(rows["decay"].dropna()) == {0.9}
    track.log_sweep(store, sweep(phases=(False,), seconds=2.0))
    _, rows = track.read_sweep(store)
    assert not rows["phase"].any()


def test_a_failed_trial_that_succeeds_later_is_one_finished_run(store):
    track.log_failure(store, FAILURE, {})
    [run] = runs(store)
    assert (run.info.status, run.data.tags["bnlab.reason"]) == ("FAILED", FAILURE.reason)
    track.log_trial(store, FINISHED)
    [run] = runs(store, "tags.`bnlab.kind` = 'trial'")
    assert run.info.status == "FINISHED"
    assert "bnlab.reason" not in run.data.tags


def test_the_latest_sweep_of_a_name_is_read_and_a_missing_one_named(store):
    track.log_sweep(store, sweep(seconds=1.0))
    track.log_sweep(store, sweep(seconds=2.0, command="d"))
    track.log_sweep(store, sweep(name="other", seconds=3.0))
    assert track.read_sweep(store, "s")[0].seconds == 2.0
    assert track.read_sweep(store)[0].seconds == 3.0
    with pytest.raises(track.TrackingError, match="stored are: other, s"):
        track.read_sweep(store, "nothing")


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("http://127.0.0.1:9", "refused"),
        ("ftp://somewhere", "it must be"),
        ("nonsense", "it must be"),
        ("sqlite:///", "it must be"),
        ("sqlite:////proc/none/mlflow.db", "proc"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_in_one_line(uri, why):
    with pytest.raises(track.TrackingError, match=why) as caught:
        track.connect(uri, "bnlab")
    assert "\n" not in str(caught.value)


def test_reading_makes_no_store(tmp_path):
    with pytest.raises(track.TrackingError, match="no such database"):
        track.connect(f"sqlite:///{tmp_path}/mlflow.db", "bnlab", create=False)
    assert list(tmp_path.iterdir()) == []


def test_readings_made_in_another_way_reach_neither_cells_nor_reports(store):
    other = [replace(r, eval_batch_size=9, rmse=9.0) for r in READINGS]
    track.log_trial(store, replace(FINISHED, readings=[*other, *READINGS]))
    for run in runs(store, "tags.`bnlab.kind` = 'cell'"):
        history = store.client.get_metric_history(run.info.run_id, "rmse")
        assert [point.value for point in history] == [0.1 + 1 / 3, 0.1 + 10 / 3]
    track.log_sweep(store, sweep())
    assert set(track.read_sweep(store)[1]["eval_batch_size"]) == {4}


def test_a_trial_that_was_sent_twice_is_read_once(store):
    track.log_trial(store, FINISHED)
    [run] = runs(store, "tags.`bnlab.kind` = 'trial'")
    twin = store.client.create_run(store.experiment, tags=run.data.tags).info.run_id
    for key, value in run.data.params.items():
        store.client.log_param(twin, key, value)
    store.client.log_text(twin, readings_table(READINGS), "readings.csv")
    store.client.set_terminated(twin)
    track.log_sweep(store, sweep())
    assert len(track.read_sweep(store)[1]) == len(READINGS)


def test_drills_and_final_splits_of_other_sweeps_stay_out(store):
    extra = [
        replace(reading(10, False, 0.5, split="test"), drill="renamed"),
        reading(10, False, 0.5, split="train"),
    ]
    track.log_trial(store, replace(FINISHED, readings=[*READINGS, *extra]))
    shares = {}
    for drills, final in (((), "test"), (("renamed",), "test"), ((), "train")):
        asked = track.log_sweep(store, sweep(drills=drills, final=final))
        _, rows = track.read_sweep(store, asked)
        shares[drills, final] = sorted(set(rows["split"]) - {"test_probe"}), sorted(set(rows["drill"]))
    assert shares == {
        ((), "test"): (["test"], [""]),
        (("renamed",), "test"): (["test"], ["", "renamed"]),
        ((), "train"): (["train"], [""]),
    }


def test_what_tells_trials_apart_is_in_the_tasks_name(store):
    track.log_trial(store, FINISHED)
    track.log_sweep(store, sweep(variants={"0123456789ab": "dropout 0.5"}))
    _, rows = track.read_sweep(store)
    assert set(rows["task"]) == {"mnist, dropout 0.5"}


def test_a_drill_is_a_run_of_its_own(store):
    drilled = replace(reading(10, False, 0.5, split="test"), drill="renamed")
    cells = [*FINISHED.cells, (False, 0.5, "renamed")]
    track.log_trial(store, replace(FINISHED, readings=[*READINGS, drilled], cells=cells))
    [run] = runs(store, "params.drill = 'renamed'")
    assert run.data.metrics["final_rmse"] == drilled.rmse
    assert run.info.run_name.startswith("renamed d0.5 mnist")


def clue(kind, name, metric="rmse", decay=0.5, drill="", split="test", value=1 / 3, **changes):
    asked = {"step": 10, "standard_error": 1 / 7, "eval_batch_size": 4, "images": 64, "samples": 128}
    own = {"split": split, "decay": decay, "drill": drill, "kind": kind, "name": name, "metric": metric}
    return Clue(**{**asked, **own, "value": value, "time_ms": 1010, **changes})


CLUES = [
    clue("cause", "lag"),
    clue("cause", "lag", split="train_probe", value=0.1 + 0.2),
    clue("layer batch", "block1_norm", "loss", split="test_probe"),
    clue("alone batch", "block1_norm", split="test_probe"),
    clue("distance", "block1_norm", "kl", standard_error=float("nan")),
    clue("sign", "at_start", "", value=0.0, standard_error=float("nan")),
    clue("sign", "kl", "", value=float("inf")),
    clue("remedy", "population n128", "rmse_gap", decay=None),
    clue("remedy", "mixed", "seconds", standard_error=float("nan")),
    clue("cause", "lag", drill="slow 0.9999", value=-1 / 3),
    clue("cause", "noise", decay=0.9),
]
EXPLAINED = replace(FINISHED, clues=CLUES, samples=128)
ASKING = {
    "samples": 128,
    "explained": True,
    "attribution": "batch",
    "remedies": ("population n128", "mixed"),
    "drills": ("slow 0.9999",),
}


def values(rows):
    """Everything of clues, as text that tells the last bit and NaN apart."""
    names = Clue.__annotations__
    return [[repr(float(row[n])) if isinstance(row[n], float) else row[n] for n in names] for row in rows]


def stored(own):
    return [{name: getattr(c, name) for name in Clue.__annotations__} for c in own]


def none_for_nan(rows):
    """A table has no None beside numbers: a clue of no decay comes back with NaN."""
    return [{**row, "decay": None if row["decay"] != row["decay"] else row["decay"]} for row in rows]


def test_a_table_of_clues_comes_back_to_the_last_bit():
    assert values(stored(parse_clues(clues_table(CLUES)))) == values(stored(CLUES))


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """A store that holds one trial with its clues."""
    store = track.connect(f"sqlite:///{tmp_path_factory.mktemp('explained')}/mlflow.db", "bnlab")
    track.log_trial(store, EXPLAINED)
    return store


def test_clues_come_back_to_the_last_bit_with_their_trial_in_front(explained):
    asked = sweep(**ASKING)
    rows = track.read_clues(explained, asked)
    assert values(none_for_nan(rows.to_dict("records"))) == values(stored(CLUES))
    assert rows[["trial", "task", "norm", "batch_size", "steps"]].drop_duplicates().to_numpy().tolist() == [
        ["0123456789ab", "mnist", "batch", 4, 10]
    ]
    assert track.clues_of(asked, [EXPLAINED]).equals(rows)


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"drills": ()}, lambda c: not c.drill),
        ({"decays": (0.9,)}, lambda c: c.decay in (None, 0.9)),
        ({"remedies": ("mixed",)}, lambda c: c.kind != "remedy" or c.name == "mixed"),
        ({"samples": 256}, lambda c: False),
        ({"explained": False}, lambda c: c.kind not in ("cause", "sign")),
        ({"attribution": "population"}, lambda c: not c.kind.endswith(" batch")),
        ({"attribution": ""}, lambda c: c.kind in ("cause", "sign", "remedy")),
        ({"samples": 0}, lambda c: False),
        ({"measured": {"0123456789ab": (4, 32, 64)}}, lambda c: c.split != "test_probe"),
        ({"measured": {"0123456789ab": (8, 64, 64)}}, lambda c: False),
    ],
)
def test_a_sweep_sees_only_the_clues_that_it_asked_for(explained, asked, kept):
    rows = track.read_clues(explained, sweep(**{**ASKING, **asked}))
    expected = [c for c in CLUES if kept(c)]
    assert values(none_for_nan(rows.to_dict("records"))) == values(stored(expected))


def test_clues_are_metrics_of_their_cells_by_group(store):
    healthy, drilled = (False, 0.5, ""), (False, 0.5, "slow 0.9999")
    faulty = replace(reading(10, False, 0.5, split="test"), drill="slow 0.9999")
    cells = [(True, 0.5, ""), healthy, drilled, (False, 0.9, "")]
    track.log_trial(store, replace(EXPLAINED, cells=cells, readings=[*READINGS, faulty]))
    found = {
        (run.data.params["phase"], run.data.params["decay"], run.data.params["drill"]): {
            name: value for name, value in run.data.metrics.items() if "/" in name
        }
        for run in runs(store, "tags.`bnlab.kind` = 'cell'")
    }
    everywhere = {"remedy/rmse_gap population n128": 1 / 3}
    assert found["false", "0.5", "none"] == {
        **everywhere,
        "part/rmse_lag": 1 / 3,
        "train_part/rmse_lag": 0.1 + 0.2,
        "layer_batch/loss_block1_norm": 1 / 3,
        "sign/at_start": 0.0,
        "remedy/seconds mixed": 1 / 3,
    }
    assert found["false", "0.5", "slow 0.9999"] == {"part/rmse_lag": -1 / 3}
    assert found["false", "0.9", "none"] == {**everywhere, "part/rmse_noise": 1 / 3}
    assert found["true", "0.5", "none"] == {}


def test_clues_that_come_later_are_sent_and_those_that_are_there_are_not_sent_again(store):
    track.log_trial(store, FINISHED)
    assert track.read_clues(store, sweep(**ASKING)).empty
    for _ in range(2):
        track.log_trial(store, EXPLAINED)
    assert len(runs(store)) == 1 + 4
    assert len(track.read_clues(store, sweep(**ASKING))) == len(CLUES)
    for run in runs(store, "params.decay = '0.5' and params.phase = 'false'"):
        assert len(store.client.get_metric_history(run.info.run_id, "part/rmse_lag")) == 1
        assert len(store.client.get_metric_history(run.info.run_id, "rmse")) == 2


def test_what_was_sent_before_there_were_clues_needs_no_sending_again():
    assert replace(FINISHED, samples=4096).digest == FINISHED.digest
    assert EXPLAINED.digest != FINISHED.digest
    assert replace(EXPLAINED, samples=256).digest != EXPLAINED.digest


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": "rumour"}, "kind cannot be rumour"),
        ({"decay": 1.0}, "decay cannot be 1.0"),
        ({"samples": 0}, "samples cannot be 0"),
        ({"step": 2**53}, "step cannot be"),
    ],
)
def test_clues_that_cannot_be_are_refused(changes, why):
    assert stated(CLUES[0]) is CLUES[0]
    with pytest.raises(ValueError, match=f"^{why}"):
        stated(replace(CLUES[0], **changes))


def test_a_damaged_table_of_clues_is_named_in_one_line(store):
    track.log_trial(store, replace(EXPLAINED, clues=[replace(CLUES[0], kind="rumour")]))
    with pytest.raises(
        track.TrackingError, match=r"^clues.csv of run \w+ is damaged: kind cannot be"
    ) as caught:
        track.read_clues(store, sweep(**ASKING))
    assert "\n" not in str(caught.value)


def test_a_sweep_comes_back_with_its_faults_and_remedies(explained):
    faults = (("none", "0123456789ab", ""), ("slow", "0123456789ab", "slow 0.9999"))
    asked = sweep(**ASKING, faults=faults)
    track.log_sweep(explained, asked)
    assert track.read_sweep(explained)[0] == asked


def test_a_sweep_of_before_there_were_clues_is_still_read(store):
    """Its record lacks the fields, and its trials the table."""
    track.log_trial(store, FINISHED)
    run_id, asked = track.log_sweep(store, sweep()), sweep()
    later = ("samples", "explained", "remedies", "attribution", "faults")
    old = {name: value for name, value in asdict(asked).items() if name not in later}
    store.client.log_text(run_id, json.dumps(old), "sweep.json")
    found, rows = track.read_sweep(store)
    assert found == asked
    assert len(rows) == len(READINGS)
    assert track.read_clues(store, found).empty
    # And where clues are asked for, trials without a table have none.
    assert track.read_clues(store, replace(found, samples=128)).empty


def test_without_cells_a_trial_is_one_run_with_its_final_numbers(store):
    track.log_trial(store, replace(FINISHED, cells=[]))
    track.log_sweep(store, sweep())
    [run] = runs(store, "tags.`bnlab.kind` = 'trial'")
    assert len(runs(store)) == 1 + 1
    found = {key: value for key, value in run.data.metrics.items() if key.startswith("final_")}
    ends = {"true": {"rmse": 0.1, "accuracy": 0.5}}
    ends |= dict.fromkeys(("0.5", "0.9"), ends["true"] | {"rmse_gap": 1 / 3, "accuracy_gap": 1 / 3})
    assert found == {f"final_{name}/{place}": v for place, own in ends.items() for name, v in own.items()}
    assert runs(store, "metrics.`final_rmse_gap/0.9` > 0.3")[0].info.run_id == run.info.run_id
    _, rows = track.read_sweep(store)
    assert rows["rmse"].tolist() == [r.rmse for r in READINGS]
