import xml.etree.ElementTree as ET

import pytest

from bnlab.report import pages
from bnlab.report.numbers.sizes import batch_and_group, sizes
from bnlab.report.pictures.scaling import scaling

SIZES = (2, 8, 32, 128)


def comments(picture):
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(picture.svg, parser=parser)
    return [node.text.strip() for node in root.iter() if node.tag is ET.Comment]


def test_the_error_is_that_of_the_best_decay(made):
    table = sizes(made(sizes=SIZES))
    batch = table[table["norm"] == "batch"].set_index("batch_size")
    # accuracy 1 - .134 + 2 * .019 with batches of 2, 1 - .112 - 2 * .022 with 128
    assert batch.loc[2, ["decay", "error"]].tolist() == pytest.approx([0.9, 9.6])
    assert batch.loc[128, ["decay", "error"]].tolist() == pytest.approx([0.9, 15.6])
    assert table["percent"].all()
    assert table["sd"].isna().all()


def test_a_regressors_error_is_its_rmse_with_the_spread_of_its_seeds(made, regressed):
    table = sizes(regressed(made(sizes=SIZES, seeds=(0, 1, 2), shift=0.01)))
    row = table[(table["norm"] == "batch") & (table["batch_size"] == 128)].iloc[0]
    assert row[["error", "sd", "seeds"]].tolist() == pytest.approx([0.144, 0.01, 3])
    assert not row["percent"]


@pytest.mark.parametrize(
    "few", [{"sizes": (2, 128)}, {"sizes": SIZES, "norms": ("batch",)}, {"sizes": SIZES, "phases": (True,)}]
)
def test_few_sizes_or_norms_make_no_picture(made, few):
    assert sizes(made(**few)).empty
    assert scaling(sizes(made(**few))) == []
    assert pages.side_by_side(sizes(made(**few)))["rows"] == []


def test_each_task_has_a_panel_and_each_norm_a_line(made):
    rows = made(tasks=("mnist", "cifar"), norms=("batch", "ghost", "group"), sizes=SIZES)
    (picture,) = scaling(sizes(rows))
    drawn = comments(picture)
    assert {"mnist", "cifar", "batch", "ghost", "group", "error in %", *map(str, SIZES)} <= set(drawn)
    assert "the whole test set" in picture.caption
    assert len(scaling(sizes(made(tasks=tuple("abcdefg"), sizes=SIZES)))) == 2


def test_batch_and_group_stand_side_by_side(made):
    table = sizes(made(sizes=SIZES, seeds=(0, 1), shift=0.01))
    assert len(batch_and_group(table)) == 4
    shown = pages.side_by_side(table)
    assert shown["head"] == ["task", "batch size", "decay", "error", "batch", "group"]
    # batch 2: accuracies .904 and .884, mean error 10.6, deviation 1.41
    assert shown["rows"][0] == ["mnist", "2", "0.9", "%", "10.60 ± 1.41", "10.00 ± 0.00"]
