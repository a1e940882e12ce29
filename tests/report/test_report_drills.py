import pytest

from bnlab.report import pdf
from bnlab.report.numbers import drills, tables
from bnlab.report.words.finding import finding
from bnlab.report.words.symptoms import Drills, shown

LOST = {"not_saved": 0.3, "overwritten": 0.3, "not_run": 0.3}


@pytest.fixture
def batch(made):
    return made(norms=("batch",), sizes=(128,))


@pytest.fixture
def broken(batch, drilled):
    """Gaps .022 and .214 when intact; .3 when the statistics are lost."""
    return drilled(batch, {"lunch": -0.05, **LOST, "other_epsilon": 0.25, "text": None, "intact": None})


def test_each_drill_stands_beside_the_intact_restore(broken):
    table = drills.drilled(broken)
    assert table["drill"].tolist()[:7] == [
        *("intact", "text", "not_saved", "overwritten", "not_run", "other_epsilon", "lunch")
    ]
    lost = table[(table["drill"] == "not_saved") & (table["decay"] == 0.9)].iloc[0]
    assert lost["rmse_true"] == pytest.approx(0.112)
    assert lost["rmse_false"] == pytest.approx(0.412)
    assert lost["rmse_gap"] == pytest.approx(0.3)
    assert lost["rmse_gap_se"] == pytest.approx(0.002)
    assert lost["change"] == pytest.approx(0.278)
    assert table.loc[table["drill"] == "intact", "change"].abs().max() == 0


def test_without_an_intact_restore_the_ordinary_reading_stands_in(batch, broken):
    missing = broken[broken["drill"] != "intact"]
    table = drills.drilled(missing)
    assert table.loc[table["drill"] == "not_saved", "change"].tolist() == pytest.approx([0.278, 0.086])
    assert shown(missing).control == ""


def test_drills_with_one_symptom_share_a_sentence(broken):
    said = shown(broken)
    assert said.control == "Control, everything restored: RMSE is off by at most 0."
    assert said.harmless == "text changes nothing: RMSE is off by at most 0."
    assert said.symptoms[0] == (
        "not_saved, overwritten and not_run give the same numbers, whatever the decay; most of all for "
        "mnist, batch size 128, decay 0.9: RMSE 0.1120 with phase true, 0.4120 with phase false after it, "
        "+0.2780 from the intact restore."
    )
    assert said.symptoms[1].startswith("lunch changes RMSE, whatever the decay; most of all for mnist")
    assert said.symptoms[2].startswith("other_epsilon changes RMSE")
    assert finding(broken).drills == f"Restore drills: {said.symptoms[0]}"


def test_a_control_that_is_off_is_said(batch, drilled):
    rows = drilled(batch, {"intact": 0.5})
    assert (
        shown(rows).control == "Control, everything restored: RMSE is off by up to 4.8e-1: distrust the rest."
    )


def test_a_drill_without_a_finite_number_is_named(batch, drilled):
    rows = drilled(batch, {"intact": None, "not_saved": None})
    lost = rows["drill"] == "not_saved"
    rows.loc[lost, ["rmse", "rmse_gap", "rmse_gap_se"]] = float("nan")
    assert shown(rows).broken == "not_saved gives no finite number."


def test_drills_reach_no_ordinary_number(batch, broken):
    for table in (tables.cells, tables.gaps, tables.levels, tables.curves):
        assert table(broken).equals(table(batch))
    assert shown(batch) == Drills()
    assert finding(batch).drills == ""


def test_the_page_says_what_each_drill_was(broken, swept):
    document = pdf.document(swept(broken), broken)
    assert document["meanings"][0] == ["intact", "everything restored: the control"]
    assert document["meanings"][-1] == ["lunch", "lunch"]
    assert document["drilled"]["head"][4:] == [
        *("drill", "RMSE true", "RMSE false", "gap", "± se", "from intact", "accuracy")
    ]
    assert document["drilled"]["rows"][2][4:10] == [
        *("not_saved", "0.1120", "0.4120", "+0.3000", "0.0020", "+0.2780")
    ]


def test_seeds_are_averaged(made, drilled):
    rows = drilled(made(norms=("batch",), sizes=(128,), seeds=(0, 1), shift=0.02), {"intact": None})
    table = drills.drilled(rows)
    assert table["rmse_gap"].tolist() == pytest.approx([0.032, 0.224])
    assert table["rmse_gap_sd"].tolist() == pytest.approx([0.02 / 2**0.5] * 2)
