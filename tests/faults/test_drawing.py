"""What a seed draws, and how chains are counted."""

from dataclasses import replace
from itertools import islice

import pytest

from tests.faults import tally
from tests.faults.chain import Outcome, Reference
from tests.faults.compare import Difference
from tests.faults.plan import Plan
from tests.faults.shots import AtPoint, Interrupt
from tests.faults.victim import POINTS, TARGETS

CALLS = {**dict.fromkeys(TARGETS, 12), "rename": 0}
REFERENCE = Reference((), {}, 20.0, CALLS)


def drawn(plan, kind="point", chains=40):
    return [shot for chain in range(chains) for shot in plan.shots(kind, chain, REFERENCE)]


@pytest.mark.parametrize("kind", ["time", "point", "interrupt"])
def test_equal_seeds_draw_equal_shots(kind):
    first, again, other = (drawn(Plan(seed, CALLS), kind) for seed in (3, 3, 4))
    assert first == again != other
    assert {shot.kind for shot in first} == {kind}


def test_every_point_that_a_sweep_comes_to_is_drawn_before_one_is_drawn_twice():
    reached = [point for point, (target, _) in POINTS.items() if target != "rename"]
    names = [shot.point for shot in drawn(Plan(0, CALLS))]
    assert sorted(names[: len(reached)]) == sorted(reached)


def test_a_point_that_was_missed_is_drawn_first_in_the_next_sweep():
    plan = Plan(0, CALLS)
    list(plan.shots("point", 0, REFERENCE))
    plan.again([AtPoint("fsync:after", 7), Interrupt(1.0)])
    [first] = islice(plan.shots("point", 1, REFERENCE), 1)
    assert first.point == "fsync:after"
    assert 1 <= first.number <= 12


def test_no_moment_lies_beyond_the_sweep():
    assert all(0 <= shot.seconds <= 20 for shot in drawn(Plan(0, CALLS), "time"))
    assert all(1 <= shot.seconds <= 20 for shot in drawn(Plan(0, CALLS), "interrupt"))


def test_chains_are_counted_by_kind(tmp_path):
    hit = Outcome(hit=[Interrupt(2.0), Interrupt(1.0)], starts=3, answers=[0.5, 2.0])
    rows = [
        tally.row(0, "interrupt", "adam", hit),
        tally.row(1, "time", "sgd", replace(hit, difference=Difference(lost=("a", "b")))),
        tally.row(2, "time", "sgd", replace(hit, unfinished=True)),
    ]
    assert [row.sound for row in rows] == [True, False, False]
    lines = [line.split() for line in tally.table(rows).splitlines()]
    assert lines[1][:4] == ["interrupt", "2", "2", "0"]
    assert lines[2][:4] == ["time", "4", "4", "2"]
    assert lines[3][:4] == ["all", "6", "6", "2"]
    tally.write(tmp_path / "kills.csv", rows)
    assert len((tmp_path / "kills.csv").read_text().splitlines()) == 4
