"""The PDF of a diagnosis, as a person reads it."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
import typst
from pypdf import PdfReader

from bnlab.report.diagnosis import TEMPLATE, document, write_diagnosis
from bnlab.report.numbers.diagnosis import falls
from bnlab.report.printing import sources
from bnlab.report.words.diagnosis import QUESTIONS
from tests.doctor import examples

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def text_of(path):
    return " ".join(" ".join(page.extract_text() for page in PdfReader(path).pages).split()).replace(
        "\xa0", " "
    )


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    return write_diagnosis(
        examples.MENDED.as_dict(), tmp_path_factory.mktemp("pdf") / "deep" / "d.pdf", MOMENT
    )


def test_the_pdf_answers_the_four_questions_with_the_numbers(printed):
    text = text_of(printed)
    assert (
        text.index(QUESTIONS[0])
        < text.index(QUESTIONS[1])
        < text.index(QUESTIONS[2])
        < text.index(QUESTIONS[3])
    )
    for said in (
        "Diagnosis of digits",
        "2026-01-02 03:04 UTC",
        "SICK: with moving statistics the test accuracy is 0.82 instead of 0.95",
        "The moving average has not arrived (91 %).",
        "test accuracy 0.9500 0.8200 −0.1300 0.0060 1,000 worse",
        "Predicted classes that differ between the two: 16 % of test and 13 % of train samples.",
        "lag +0.0502 ± 0.0020 +0.0551 ± 0.0013",
        "the whole gap +0.0623 ± 0.0021 +0.0600 ± 0.0012",
        "conv_2/norm +0.0439 ± 0.0011 0.6600 0.9400 0.7100 0.5200",
        "91 % the moving average has not arrived",
        "What would confirm it: train on for 2,000 steps",
        "Less likely: tiny batches (1 %). None of the known causes: 2 %.",
        "population test 0.9470 0.0839 +0.0019 97 % yes 1.8",
        "population train 0.9660 0.0720 +0.0010 98 % yes 1.8",
        "python -m bnlab.doctor digits.keras --data data.npz --mend mended.keras",
        "test accuracy 0.9500 0.8200 0.9470 −0.1300 −0.0030 0.0060",
        "How to read this",
        "start_share 0.61",
        "parameters 23,498",
        "shape 28, 28, 1",
        "tensorflow 2.21.0",
    ):
        assert said in text, said


def test_the_same_diagnosis_gives_the_same_bytes(printed, tmp_path):
    there = MOMENT.astimezone(timezone(timedelta(hours=9))).replace(microsecond=7)
    again = write_diagnosis(examples.MENDED.as_dict(), tmp_path / "again.pdf", there)
    assert again.read_bytes() == printed.read_bytes()
    assert b"pdfuaid" in again.read_bytes() or b"/S/PDFUA-1" in again.read_bytes()
    assert list(tmp_path.iterdir()) == [again]


@pytest.mark.parametrize("name", examples.ALL)
def test_any_diagnosis_makes_a_report(name):
    shown = document(examples.ALL[name].as_dict(), MOMENT)
    content, warnings = typst.compile_with_warnings(
        sources(TEMPLATE),
        format="pdf",
        sys_inputs={"document": json.dumps(shown)},
        ignore_system_fonts=True,
        pdf_standards=["ua-1"],
    )
    assert warnings == []
    assert content.startswith(b"%PDF")


def test_a_healthy_model_has_no_pages_of_causes(tmp_path):
    path = write_diagnosis(examples.HEALTHY.as_dict(), tmp_path / "healthy.pdf", MOMENT)
    text = text_of(path)
    assert "HEALTHY: moving statistics do as well: test accuracy 0.951 (batch: 0.95)" in text
    assert QUESTIONS[0] in text
    assert not any(question in text for question in QUESTIONS[1:])
    assert len(PdfReader(path).pages) == 2


def test_every_layer_is_in_the_appendix_by_its_full_name():
    shown = document(examples.many(60).as_dict(), MOMENT)
    names = [row[0] for row in shown["every_layer"]["rows"]]
    assert names == [layer.name for layer in examples.many(60).layers]
    assert len(shown["layers"]["rows"]) == 12
    assert shown["layers"]["rows"][0][0].startswith("…stage_0/block_0_")
    # 0.03 / n summed over n = 13 to 60 is 0.0473, and the largest of them is 0.03 / 13.
    assert shown["left_over"] == "and 48 more layers: together +0.0473 of the gap, none above 0.00231"


def test_pictures_have_words_for_those_who_do_not_see_them():
    shown = document(examples.SICK.as_dict(), MOMENT)
    [fall], [bars] = shown["waterfall"], shown["layer_bars"]
    assert fall["alt"].endswith("on test and train data.")
    assert bars["alt"].startswith("Bars for 3 layers: part of the RMSE gap, mean shift (std. dev.)")
    [some] = document(examples.many(70).as_dict(), MOMENT)["layer_bars"]
    assert some["caption"].endswith("Drawn: the 60 largest of 70.")


def test_the_fall_leads_from_moving_to_batch_statistics():
    table = falls(examples.SICK.as_dict())
    test = table[table["split"] == "test"]
    assert test["cause"].tolist() == ["lag", "noise", "bias", "shift", "batch"]
    assert test["before"].iloc[0] == 0.1443
    # The parts of the example add up to the gap, in decimal fractions of four digits.
    assert test["after"].iloc[-1] == pytest.approx(0.082, abs=1e-12)
    assert falls(examples.broken().as_dict()).empty


def test_names_are_shown_as_they_are_or_by_number(tmp_path):
    name = '#panic("x") $ _ * <b> -- @ref ~ 実\x07'
    text = text_of(write_diagnosis(examples.nasty(name).as_dict(), tmp_path / "nasty.pdf", MOMENT))
    seen = name.replace("実", "\\u{5b9f}").replace("\x07", "\\u{7}")
    assert f"Diagnosis of {seen}" in text
    assert text.count(seen) >= 6


def test_numbers_that_are_lost_leave_no_picture_and_no_empty_table():
    shown = document(examples.broken().as_dict(), MOMENT)
    assert (shown["waterfall"], shown["layer_bars"], shown["parts"]["rows"]) == ([], [], [])
    assert shown["lost"] == "The parts of the gap are not numbers."
    assert shown["gaps"]["rows"][0] == ["test", "accuracy", "0.9500", "NaN", "1,000", "worse"]
