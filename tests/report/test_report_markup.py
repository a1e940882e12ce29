"""Names that are markup somewhere come out of the PDF as they are, or visibly escaped, and break nothing."""

from dataclasses import replace

import pytest
from pypdf import PdfReader

from bnlab.report.pdf import write
from bnlab.report.printing import legible
from bnlab.science.histogram import Histogram, LayerHistogram
from tests.faults.stored_sweeps import MARKUP


def words(text):
    return "".join(text.split())


def text_of(path):
    return words("".join(page.extract_text() for page in PdfReader(path).pages))


@pytest.fixture(scope="module")
def printed(made, drilled, swept, failures, tmp_path_factory):
    """A report in which every name of a user is markup: its text."""
    rows = made(tasks=MARKUP, norms=("batch",), sizes=(2,), decays=(0.9,))
    numbers = {task: str(place) for place, task in enumerate(MARKUP)}
    names = {name: f"{name} {numbers[name]}" for name in MARKUP}
    rows = rows.assign(source=rows["task"].map(lambda task: f"source {task}"))
    rows = drilled(rows, {MARKUP[0]: None, MARKUP[4]: 0.3})
    bad = tuple(
        replace(
            failures[0], trial=f"{place:012x}", norm=f"norm {name}", reason=f"reason {name}", variant=name
        )
        for place, name in enumerate(MARKUP)
    )
    words = {
        key: {f"{key} {name}": f"{key} {value}" for name, value in names.items()}
        for key in ("settings", "versions")
    }
    layers = dict.fromkeys(rows["trial"], ((f"layer {MARKUP[1]}", 1), (MARKUP[6], 2)))
    sweep = swept(
        rows,
        name="".join(MARKUP),
        command=" ".join(MARKUP),
        failures=bad,
        machine=names,
        layers=layers,
        **words,
    )
    counted = [
        LayerHistogram(step, MARKUP[14], "activations", Histogram(0.0, 1.0, (1, 2), 0.6, 0.2))
        for step in (1, 2)
    ]
    path = tmp_path_factory.mktemp("markup") / "report.pdf"
    return text_of(write(sweep, rows, path, {rows["trial"][0]: counted}))


@pytest.mark.parametrize("name", MARKUP)
@pytest.mark.parametrize("place", ["", "source ", "norm ", "reason ", "settings ", "versions "])
def test_a_name_that_is_markup_is_printed_as_it_is(printed, place, name):
    assert words(legible(place + name)) in printed
