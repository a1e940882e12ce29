"""Of many settings those with the largest gaps are shown; of few, all."""

import pandas as pd

from bnlab.report import sheets
from bnlab.report.numbers import crowd
from bnlab.report.numbers.rows import tidy


def many(made, count):
    """So many tasks of four trials each; the task's number is the size of its gap."""
    rows = pd.concat(
        [made(tasks=(f"mnist, learning rate {at}",), shift=0).assign(at=at) for at in range(count)],
        ignore_index=True,
    )
    moving = ~rows["phase"] & (rows["norm"] == "batch")
    return rows.assign(rmse_gap=rows["rmse_gap"].mask(moving, rows["at"] / 1000)).drop(columns="at")


def test_of_few_settings_all_rows_are_kept(made):
    rows = many(made, crowd.MOST // 4)
    assert crowd.kept(rows) is rows
    tasks = crowd.shown(tidy(rows))
    assert (len(tasks), crowd.note(tidy(rows), tasks)) == (crowd.MOST // 4, "")


def test_of_many_settings_the_largest_gaps_are_shown_and_the_ends_of_all(made):
    rows = many(made, crowd.MOST // 4 + 5)
    kept = crowd.kept(rows)
    tasks = crowd.shown(tidy(kept))
    assert sorted(tasks) == sorted(f"mnist, learning rate {at}" for at in range(5, crowd.MOST // 4 + 5))
    last = rows["step"] == rows.groupby("trial")["step"].transform("max")
    shown = rows["task"].isin(tasks)
    assert len(kept) == (last | shown).sum() < len(rows)
    assert crowd.note(tidy(kept), tasks).startswith(f"{crowd.MOST // 4} of {crowd.MOST // 4 + 5} settings")
    assert set(crowd.of(tidy(kept), tasks)["task"]) == set(tasks)


def test_a_long_table_ends_and_says_how_much_is_left_out():
    numbers = pd.Series([str(at) for at in range(sheets.LINES + 1234)])
    table = sheets.sheet({"n": numbers}, [], numbers)
    assert (len(table["rows"]), table["rows"][-1], table["more"]) == (1000, ["999"], "1,234")
    assert sheets.sheet({"n": numbers[:1000]}, [], numbers[:1000])["more"] == ""
