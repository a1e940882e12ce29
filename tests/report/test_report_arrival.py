import math
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from bnlab.report import pages, pdf
from bnlab.report.numbers import arrival
from bnlab.report.pictures.collapse import collapse
from bnlab.report.words.arrived import Arrival, arrived
from bnlab.report.words.finding import finding

PLAIN: dict = {}


def layered(rows, layers):
    return dict.fromkeys(rows["trial"].unique(), layers)


@pytest.fixture
def batch(made):
    """156 steps with batches of 128, decays 0.9 and 0.999."""
    return made(norms=("batch",), sizes=(128,))


def with_final(rows, ratios):
    """The rows, with RMSE 0.1 in phase true and a ratio for each decay in phase false, everywhere."""
    gap = rows["decay"].map(lambda decay: 0.1 * (ratios[decay] - 1), na_action="ignore")
    gap = gap.astype(float)
    return rows.assign(rmse=0.1 + gap.fillna(0), rmse_gap=gap, rmse_gap_se=0.001)


def test_a_share_is_the_decay_to_the_power_of_the_updates(batch):
    table = arrival.shares(batch, PLAIN)
    assert table["share"].tolist() == pytest.approx([0.9**156, 0.999**156])
    assert table[["steps", "updates", "layers"]].to_numpy().tolist() == [[156, 1, ()]] * 2
    twice = arrival.shares(batch, layered(batch, (("a", 2), ("b", 2))))
    assert twice["share"].tolist() == pytest.approx([0.9**312, 0.999**312])
    assert twice["layers"].tolist() == [("a", "b")] * 2


def test_layers_that_differ_have_a_line_each(batch):
    table = arrival.shares(batch, layered(batch, (("a", 1), ("b", 8), ("c", 1))))
    assert table[["decay", "updates", "layers"]].to_numpy().tolist() == [
        [0.9, 1, ("a", "c")],
        [0.9, 8, ("b",)],
        [0.999, 1, ("a", "c")],
        [0.999, 8, ("b",)],
    ]
    assert "each kind has a line" in arrival.named(table)
    shown = pages.shares(table)
    assert shown["head"] == ["task", "norm", "batch size", "steps", "layers", "per step", "0.9", "0.999"]
    assert shown["rows"] == [
        ["mnist", "batch", "128", "156", "a, c", "1", "<1e-6", "0.855"],
        ["mnist", "batch", "128", "156", "b", "8", "<1e-6", "0.287"],
    ]


def test_layers_that_are_all_alike_share_a_line_and_are_named(made):
    rows = made(norms=("batch",), sizes=(2, 128), seeds=(0, 1))
    table = arrival.shares(rows, layered(rows, (("norm_1", 1), ("norm_2", 1))))
    assert len(table) == 4
    assert arrival.named(table) == (
        "All layers of a trial are updated equally often, so one line stands for all of them "
        "(mnist: norm_1, norm_2)."
    )
    assert pages.shares(table)["head"] == ["task", "norm", "batch size", "steps", "per step", "0.9", "0.999"]


def test_layers_that_are_never_updated_hold_all_of_their_start(batch):
    assert arrival.shares(batch, layered(batch, ()))["share"].tolist() == [1.0, 1.0]


def test_controls_and_phase_true_alone_have_no_shares(made):
    for rows in (made(norms=("group",)), made(phases=(True,)), pd.DataFrame()):
        assert arrival.shares(rows, PLAIN).empty
        assert arrived(rows, PLAIN) == Arrival()
        assert collapse(arrival.ratios(rows, PLAIN)) == []


def test_ratios_stand_beside_the_slowest_layers_share(batch):
    table = arrival.ratios(batch, layered(batch, (("a", 1), ("b", 8))))
    row = table[(table["step"] == 100) & (table["decay"] == 0.999)].iloc[0]
    assert row["ratio"] == pytest.approx(0.326 / 0.112)
    assert row["share"] == pytest.approx(0.999**100)


def test_the_common_explanation_is_refuted_by_a_faster_average(batch):
    found = arrived(with_final(batch, {0.9: 0.98, 0.999: 3.0}), PLAIN)
    assert found.worst == (
        "RMSE with phase false is 3.00 times that with phase true, on the whole test set, for mnist, "
        "batch size 128, decay 0.999: after 156 steps the average still holds 0.855 of its start."
    )
    assert found.lower == (
        "On the same weights the ratio is 0.98 (share <1e-6) at decay 0.9: a lower decay shrinks it."
    )
    assert found.follows == (
        "With decay 0.9 the same weights give RMSE 0.1000 with phase true, 0.0980 with phase false: "
        "batch statistics are not more accurate as such; the average at 0.999 had not arrived."
    )
    assert finding(with_final(batch, {0.9: 0.98, 0.999: 3.0})).follows == found.follows


def test_the_lag_is_not_blamed_where_the_numbers_do_not_show_it(batch, made):
    still = arrived(with_final(batch, {0.9: 1.3, 0.999: 3.0}), PLAIN)
    assert still.follows == (
        "A faster average does not close the gap: the ratio is still 1.30 at decay 0.9, so lag alone does "
        "not explain it."
    )
    alone = arrived(made(norms=("batch",), sizes=(128,), decays=(0.999,)), PLAIN)
    assert alone.follows == (
        "No decay below 0.999 was measured on these weights: whether lag explains it is not known."
    )
    short = made(norms=("batch",), sizes=(128,), decays=(0.5,))  # 0.5^156 is nothing
    faded = arrived(with_final(short, {0.5: 3.0}), PLAIN)
    assert faded.follows == (
        "Nothing of the start is left; whether the average lags behind the weights is not known, for no "
        "lower decay was measured."
    )
    early = with_final(batch, {0.9: 1.3, 0.999: 3.0})
    early = early.assign(steps=5, step=early["step"].clip(upper=5))
    assert arrived(early, PLAIN).follows == (
        "Even at decay 0.9 the average still holds 0.590 of its start: try a lower one."
    )
    long = made(norms=("batch",), sizes=(2,))  # 10,000 steps: 0.999 holds 4.5e-5
    gone = arrived(with_final(long, {0.9: 1.0, 0.999: 3.0}), PLAIN)
    assert gone.follows.endswith(
        "yet the average at 0.999 held only 4.5e-5 of its start: that rest, or weights that moved on, parted "
        "them."
    )


def test_a_small_gap_needs_no_explanation(batch):
    found = arrived(with_final(batch, {0.9: 1.0, 0.999: 1.04}), PLAIN)
    assert found.follows == "The phases are within 5 % of each other: what lag is left costs little."


def test_no_gap_is_no_lag(batch):
    none = arrived(with_final(batch, {0.9: 1.0, 0.999: 0.9}), PLAIN)
    assert none == Arrival(
        worst="No gap that counts shows phase false worse by more than two standard errors, although an "
        "average still holds 0.855 of its start."
    )
    fast = batch[batch["decay"] != 0.999]
    assert arrived(with_final(fast, {0.9: 1.0}), PLAIN).worst == (
        "No gap that counts shows phase false worse by more than two standard errors, and no average holds "
        "more than 1e-6 of its start."
    )


def test_more_steps_of_the_same_trial_are_looked_at(batch):
    rows = with_final(batch, {0.9: 1.0, 0.999: 3.0})
    high = (rows["step"] == 100) & (rows["decay"] == 0.999)
    falling = rows.assign(rmse=rows["rmse"].mask(high, 0.5))
    assert arrived(falling, PLAIN).longer == (
        "Along its training, on test images, the ratio is 5.00 (share 0.905) at step 100 and "
        "3.00 (share 0.855) at step 156: more steps shrink it."
    )
    rising = rows.assign(rmse=rows["rmse"].mask((rows["step"] < 156) & (rows["decay"] == 0.999), 0.2))
    assert arrived(rising, PLAIN).longer == (
        "Along its training, on test images, the ratio is highest at the last step, 3.00 (share 0.855): "
        "more steps have not shrunk it yet."
    )


def test_trials_that_differ_in_their_steps_alone_are_compared(made):
    rows = with_final(made(norms=("batch",), sizes=(32,)), {0.9: 1.0, 0.999: 3.0})
    rows = rows[rows["step"].isin([1, 625])]
    long = rows.assign(
        task="mnist, steps 10000, dropout 0.5",
        trial="long",
        step=rows["step"].replace(625, 10_000),
        steps=10_000,
        rmse=rows["rmse"].mask(rows["decay"] == 0.999, 0.12),
        rmse_gap=rows["rmse_gap"].mask(rows["decay"] == 0.999, 0.02),
    )
    both = pd.concat([rows.assign(task="mnist, steps 625, dropout 0.5"), long], ignore_index=True)
    assert arrived(both, PLAIN).longer == (
        "Trained for longer with the same settings, the ratio is 3.00 (share 0.535) after 625 steps and "
        "1.20 (share 4.5e-5) after 10,000 steps: more steps shrink it."
    )


def test_updates_of_parts_of_a_batch_count_in_the_finding(batch):
    found = finding(batch, layered(batch, (("a", 8),)))
    assert found.lag == (
        "That moving average had not arrived: after 156 steps it still held 0.29 of its start (0.999^1248)."
    )


def test_all_trials_of_a_task_share_a_panel(made):
    rows = made(tasks=("mnist, dropout 0.1", "mnist, dropout 0.2", "cifar"), norms=("batch",))
    (picture,) = collapse(arrival.ratios(rows, PLAIN))
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    drawn = [
        node.text.strip()
        for node in ET.fromstring(picture.svg, parser=parser).iter()
        if node.tag is ET.Comment
    ]
    titles = [text for text in drawn if text.endswith("batch normalization")]
    assert titles == ["cifar, batch normalization", "mnist, batch normalization"]
    assert {"decay 0.9", "decay 0.999", "batch size 2", "batch size 128", "&lt;1e-6"} <= set(drawn)
    assert "training images" in picture.caption


def test_many_tasks_are_cut_into_pages(made):
    rows = made(tasks=tuple("abcdefghij"), norms=("batch",), sizes=(2,))
    assert len(collapse(arrival.ratios(rows, PLAIN))) == 2


def test_values_that_are_not_numbers_have_no_point(batch):
    lost = batch.assign(rmse=batch["rmse"].mask(batch["decay"] == 0.999, math.inf))
    assert len(collapse(arrival.ratios(lost, PLAIN))) == 1
    assert collapse(arrival.ratios(batch.assign(rmse=math.nan), PLAIN)) == []


@pytest.fixture
def stopped(made):
    """Trials of which only the first and the last were updated at every step."""
    names = ("fault phase_false", "frozen from 450, freeze decay 0.99", "dropout 0.5")
    tasks = ("mnist", *(f"mnist, {name}" for name in names))
    return made(tasks=tasks, norms=("batch",), sizes=(128,))


def test_averages_that_were_not_updated_at_every_step_have_no_share(stopped):
    for table in (function(stopped, PLAIN) for function in (arrival.shares, arrival.ratios, arrival.finals)):
        assert set(table["task"]) == {"mnist", "mnist, dropout 0.5"}
    known = arrival.counted(stopped, PLAIN).groupby("task")["share"].count()
    assert known.to_dict() == {
        "mnist": 2,
        "mnist, dropout 0.5": 2,
        "mnist, fault phase_false": 0,
        "mnist, frozen from 450, freeze decay 0.99": 0,
    }


def test_where_no_average_was_updated_at_every_step_there_is_no_page(stopped, swept):
    rows = stopped[stopped["task"].str.contains("phase_false|frozen")]
    page = pdf.document(swept(rows), rows)
    assert page["shares"]["rows"] == page["arrival"] == page["collapse"] == []
    assert not any("arrived" in sentence for sentence in page["finding"])
    assert page["finding"][0].startswith("The gap is largest for mnist, fault phase_false")
