import pandas as pd
import pytest

from bnlab.report import pdf
from bnlab.report.numbers import drills, faults
from bnlab.report.numbers.clues import tidied
from bnlab.report.numbers.rows import tidy
from bnlab.report.numbers.signs import WORTH, telling
from bnlab.report.words.faults import FAULTS, SIGNS, WELL
from tests.report import clued

NAN = float("nan")
HEALTHY = {"at_start": 0.0, "kl": 0.01, "spread_of_means": 1.0, "mean_shift": 0.1, "batch_dependence": 0.0}


@pytest.fixture
def batch(made):
    """Gaps of .022 at decay .9 and .214 at .999."""
    return made(norms=("batch",), sizes=(128,))


@pytest.fixture
def spoiled(batch, drilled, made):
    """Readings and faults: one at inference, one of training, and a restore drill."""
    rows = drilled(batch, {"not_restored": 0.5, "not_saved": 0.3})
    other = made(tasks=("mnist, fault sorted",), norms=("batch",), sizes=(128,))
    slow = 0.1 * (other["decay"] == 0.999)
    other = other.assign(rmse_gap=other["rmse_gap"] + slow)
    healthy, trained = batch["trial"].iloc[0], other["trial"].iloc[0]
    known = (("none", healthy, ""), ("not_restored", healthy, "not_restored"), ("sorted", trained, ""))
    return pd.concat([rows, other], ignore_index=True), known


@pytest.fixture
def clues(spoiled):
    healthy, trained = clued.trials(spoiled[0])
    lost = {"decay": 0.9, "drill": "not_restored"}
    return clued.table(
        clued.causes(healthy, {"lag": 0.02, "noise": 0.002}, decay=0.9),
        clued.causes(healthy, {"deployment": 0.478, "lag": 0.02, "noise": 0.002}, **lost),
        clued.causes(trained, {"noise": 0.3, "lag": 0.014}, decay=0.999),
        clued.signs(healthy, HEALTHY),
        clued.signs(healthy, HEALTHY | {"at_start": 1.0, "kl": 4.0}, drill="not_restored"),
        clued.signs(trained, HEALTHY | {"spread_of_means": 6.5}),
        clued.remedy(healthy, "test_statistics", 0.0, drill="not_restored"),
        clued.remedy(healthy, "population n4096", 0.01, drill="not_restored"),
        clued.remedy(healthy, "zero_debias", 0.3, **lost),
        clued.remedy(trained, "population n4096", 0.0314),
    )


def shown(spoiled, clues):
    rows, known = spoiled
    table = tidy(rows)
    return faults.exhibits(known, table, tidied(clues, table))


def test_each_fault_stands_beside_its_healthy_twin(spoiled, clues):
    lost, unshuffled = shown(spoiled, clues)
    assert (lost.fault, lost.task, lost.batch_size, lost.decay) == ("not_restored", "mnist", 128, 0.9)
    assert lost.gaps["rmse_gap"] == pytest.approx((0.5, 0.022))
    assert (unshuffled.fault, unshuffled.task, unshuffled.seeds) == ("sorted", "mnist", 1)
    assert unshuffled.decay == 0.999
    assert unshuffled.gaps["rmse_gap"] == pytest.approx((0.314, 0.214))


def test_the_parts_signs_and_cure_are_its_own(spoiled, clues):
    lost, unshuffled = shown(spoiled, clues)
    assert lost.parts[["cause", "value"]].to_numpy().tolist() == [["deployment", 0.478], ["lag", 0.02]]
    assert [(sign.name, sign.value, sign.twin) for sign in lost.signs] == [
        ("at_start", 1.0, 0.0),
        ("kl", 4.0, 0.01),
    ]
    assert (lost.cure, lost.closed, lost.left) == ("population n4096", pytest.approx(0.98), 0.01)
    assert [sign.name for sign in unshuffled.signs] == ["spread_of_means"]
    assert unshuffled.parts["cause"].tolist() == ["noise", "lag"]
    assert (unshuffled.cure, unshuffled.closed) == ("population n4096", pytest.approx(0.9))


def test_the_guide_has_a_block_for_each_fault(spoiled, clues, swept):
    rows, known = spoiled
    page = pdf.document(swept(rows, faults=known), rows, clues=clues)["faults"]
    assert page["table"]["rows"][0] == [
        *("not_restored", "mnist", "128", "0.9", "+0.5000", "+0.0220", "−0.0440", "−0.0440"),
        *("population n4096", "98 %"),
    ]
    lost = page["guide"][0]
    assert (lost["name"], lost["told"]) == ("not_restored", FAULTS["not_restored"])
    assert lost["seen"] == [
        {
            "where": "mnist, batch, batch size 128, decay 0.9",
            "lines": [
                ["gap", "RMSE +0.5000 (healthy: +0.0220), accuracy −0.0440 (healthy: −0.0440)"],
                ["parts", "deployment +0.4780 ± 0.0020 and lag +0.0200 ± 0.0020"],
                [
                    "signs",
                    "share of channels at exactly mean 0 and variance 1: 1 (healthy: 0); "
                    "distance to the population (KL): 4 (healthy: 0.01)",
                ],
                ["remedy", "population n4096 closes 98 % (leaves +0.0100)"],
            ],
        }
    ]


def test_what_is_not_a_number_is_shown_as_such(spoiled, clues, swept):
    rows, known = spoiled
    lost = rows["drill"] == "not_restored"
    rows = rows.assign(**{name: rows[name].mask(lost) for name in ("rmse", "rmse_gap", "accuracy_gap")})
    clues = clues.assign(value=clues["value"].mask((clues["drill"] != "") & (clues["name"] == "kl")))
    page = pdf.document(swept(rows, faults=known), rows, clues=clues)["faults"]
    assert page["table"]["rows"][0][4:8] == ["not a number", "+0.0220", "not a number", "−0.0440"]
    seen = dict(page["guide"][0]["seen"][0]["lines"])
    assert seen["gap"].startswith("RMSE not a number (healthy: +0.0220)")
    assert "distance to the population (KL): not a number (healthy: 0.01)" in seen["signs"]
    assert seen["remedy"] == "population n4096 leaves +0.0100"


def test_only_restores_are_restore_drills(spoiled, clues, swept):
    rows, known = spoiled
    assert set(drills.restores(rows, known)["drill"]) == {"", "not_saved"}
    page = pdf.document(swept(rows, faults=known), rows, clues=clues)
    assert [name for name, _ in page["meanings"]] == ["not_saved"]
    assert not any("not_restored" in sentence for sentence in [*page["drills"], *page["finding"]])


def test_a_fault_has_no_part_in_other_pages_of_clues(spoiled, clues, swept):
    rows, known = spoiled
    page = pdf.document(swept(rows, faults=known), rows, clues=clues)
    assert [row[0] for row in page["causes"]["rmse"]["rows"]] == ["mnist"]
    assert page["remedies"]["table"]["rows"] == []


def test_a_fault_without_clues_still_has_its_gaps(spoiled, swept):
    rows, known = spoiled
    page = pdf.document(swept(rows, faults=known), rows)["faults"]
    assert [row[0] for row in page["table"]["rows"]] == ["not_restored", "sorted"]
    seen = dict(page["guide"][0]["seen"][0]["lines"])
    assert seen["parts"] == "no part beyond two standard errors"
    assert seen["remedy"] == "no remedy was measured"
    assert page["table"]["rows"][0][-2:] == ["–", "–"]


def test_a_fault_that_was_not_read_has_no_line(spoiled, clues):
    rows, known = spoiled
    assert len(shown((rows, (*known, ("nan", "ffffffffffff", ""))), clues)) == 2
    assert shown((rows, ()), clues) == []


def test_faults_stand_as_they_are_given(spoiled, clues):
    rows, known = spoiled
    assert [own.name for own in shown((rows, known[::-1]), clues)] == ["sorted", "not_restored"]


def test_without_a_healthy_twin_nothing_is_said_of_one(spoiled, clues, swept):
    rows, known = spoiled
    alone = rows[rows["trial"] == known[2][1]]
    page = pdf.document(swept(alone, faults=known[2:]), alone, clues=clues)["faults"]
    assert page["table"]["rows"] == [
        [
            *("sorted", "mnist", "128", "0.999", "+0.3140", "–", "−0.4280", "–"),
            *("population n4096", "90 %"),
        ]
    ]
    seen = dict(page["guide"][0]["seen"][0]["lines"])
    assert seen["gap"] == (
        "RMSE +0.3140 (no healthy twin in this sweep), accuracy −0.4280 (no healthy twin in this sweep)"
    )
    assert seen["signs"] == "no healthy twin in this sweep"


def told_of(batch, drilled, swept, gap, **left):
    """The line of the table and the block of a fault at inference that has a gap, and these remedies."""
    rows = drilled(batch[batch["decay"] != 0.9], {"nan": gap})
    (healthy,) = clued.trials(batch)
    clues = clued.table(
        clued.causes(healthy, {"lag": 0.02}, decay=0.999, drill="nan"),
        *(clued.remedy(healthy, name, value, drill="nan") for name, value in left.items()),
    )
    known = (("none", healthy["trial"], ""), ("nan", healthy["trial"], "nan"))
    page = pdf.document(swept(rows, faults=known), rows, clues=clues)["faults"]
    return page["table"]["rows"][0][-2:], dict(page["guide"][0]["seen"][0]["lines"])


@pytest.mark.parametrize(
    ("gap", "left", "cell", "said"),
    [
        (0.5, {"mixed": 0.499}, ["none", "–"], "no remedy that was measured closes any of it"),
        (0.5, {"mixed": 0.9}, ["none", "–"], "no remedy that was measured closes any of it"),
        (0.5, {"mixed": -0.6}, ["none", "–"], "no remedy that was measured closes any of it"),
        (0.5, {"mixed": -0.1}, ["mixed", "100 % and more"], "mixed closes 100 % and more (leaves −0.1000)"),
        (-0.5, {"mixed": 0.1}, ["nothing to close", "–"], WELL),
        (0.005, {"mixed": 0.001}, ["nothing to close", "–"], WELL),
        (
            0.5,
            {"mixed": 0.4, "test_statistics": 0.3},
            ["mixed", "20 %"],
            "mixed closes 20 % (leaves +0.4000); looking at the test images (test_statistics) closes 40 %",
        ),
        (
            0.5,
            {"mixed": 0.4, "test_statistics": 0.31},
            ["mixed", "20 %"],
            "mixed closes 20 % (leaves +0.4000)",
        ),
        (
            0.5,
            {"mixed": 0.9, "test_statistics": 0.25},
            ["none", "–"],
            "no remedy that was measured closes any of it; "
            "looking at the test images (test_statistics) closes 50 %",
        ),
    ],
)
def test_what_closes_nothing_is_no_cure(batch, drilled, swept, gap, left, cell, said):
    line, seen = told_of(batch, drilled, swept, gap, **left)
    assert line == cell
    assert seen["remedy"] == said


def test_a_fault_without_effect_is_told_in_one_sentence(batch, drilled, swept):
    line, seen = told_of(batch, drilled, swept, 0.2144, mixed=0.01)
    assert line == ["no effect", "–"]
    assert list(seen) == ["gap", "effect"]
    assert seen["effect"] == (
        "no effect here: the RMSE gap differs from the healthy twin's by less than 0.0005"
    )
    assert "parts" in told_of(batch, drilled, swept, 0.2146, mixed=0.01)[1]


def test_a_sign_that_is_not_known_is_not_shown():
    unknown = pd.Series({"batch_dependence": NAN, "kl": 0.01})
    assert telling(unknown, unknown) == []
    assert [sign.name for sign in telling(unknown, pd.Series(HEALTHY))] == ["batch_dependence"]


def test_seeds_of_a_fault_share_a_line(made, drilled):
    rows = drilled(made(norms=("batch",), sizes=(128,), seeds=(0, 1), shift=0.02), {"nan": 0.5})
    known = [("nan", trial, "nan") for trial in rows["trial"].unique()]
    (own,) = faults.exhibits(known, tidy(rows), tidied(pd.DataFrame(), tidy(rows)))
    assert own.seeds == 2
    assert own.gaps["rmse_gap"] == pytest.approx((0.5, 0.032))


def test_signs_that_hardly_differ_say_nothing():
    healthy = pd.Series(HEALTHY)
    assert telling(healthy, healthy) == []
    assert telling(healthy + 0.001, healthy) == []
    assert telling(healthy, pd.Series(dtype=float)) == []
    ranked = telling(healthy + 5, healthy)
    assert [sign.name for sign in ranked] == ["at_start", "batch_dependence", "kl"]


def test_every_sign_and_option_has_words(drilled, batch, swept):
    rows = drilled(batch, {"slow 0.9999": 0.3, "moonlight": 0.3})
    trial = batch["trial"].iloc[0]
    known = (("slow", trial, "slow 0.9999"), ("moonlight", trial, "moonlight"))
    guide = pdf.document(swept(rows, faults=known), rows)["faults"]["guide"]
    assert [(block["name"], block["told"]) for block in guide] == [
        ("slow 0.9999", FAULTS["slow"]),
        ("moonlight", "moonlight"),
    ]
    assert set(SIGNS) == set(WORTH)
