"""What half precision does to population statistics, as the report says it."""

import pytest

from bnlab.report import pdf
from bnlab.report.numbers.clues import tidied
from bnlab.report.numbers.rounding import METRICS, rounding
from bnlab.report.numbers.rows import tidy
from tests.report import clued

FAR = {"block2_norm": (1e-3, -4e-3, 2e-6, 9e-6), "block10_norm": (5e-4, 0.0, 1e-7, 3e-7)}


def far(row, scale):
    return [
        clued.clue(row, "rounding", layer, scale * value, metric=metric, decay=clued.NAN)
        for layer, values in FAR.items()
        for metric, value in zip((*METRICS, "worst_channel"), (*values, 3.0), strict=True)
    ]


@pytest.fixture
def two(made):
    return made(norms=("batch",), sizes=(128,), seeds=(0, 1))


def test_it_is_the_mean_over_the_seeds_of_each_layer_in_the_models_order(two):
    clues = clued.table(*(far(row, scale) for row, scale in zip(clued.trials(two), (1, 3), strict=True)))
    table = rounding(tidied(clues, tidy(two)))
    assert table["layer"].tolist() == list(FAR)
    for layer, values in FAR.items():
        [row] = table[table["layer"] == layer][list(METRICS)].to_numpy().tolist()
        assert row == pytest.approx([2 * value for value in values])


def test_the_report_shows_small_numbers_by_their_power(two, swept):
    clues = clued.table(*(far(row, 1) for row in clued.trials(two)))
    shown = pdf.document(swept(two), two, clues=clues)["rounding"]
    assert shown["head"] == ["task", "batch size", "layer", "mean shift", "log variance", "KL", "worst KL"]
    assert shown["rows"] == [
        ["mnist", "128", "block2_norm", "1e-3", "−4e-3", "2e-6", "9e-6"],
        ["mnist", "128", "block10_norm", "5e-4", "0", "1e-7", "3e-7"],
    ]


def test_without_half_precision_there_is_no_such_page(two, swept):
    assert pdf.document(swept(two), two)["rounding"]["rows"] == []
    table = rounding(tidied(clued.table(clued.causes(clued.trials(two)[0], {"lag": 0.1})), tidy(two)))
    assert table.empty
