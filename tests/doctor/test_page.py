"""What a person reads on the terminal, of diagnoses whose numbers are known."""

import io
import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from bnlab.doctor.diagnosis import Cause, Gap, Remedy
from bnlab.doctor.page import show
from bnlab.report.words.diagnosis import QUESTIONS
from tests.doctor import examples


def shown(diagnosis, **settings):
    file = io.StringIO()
    show(diagnosis, Console(file=file, **{"width": 80} | settings))
    return file.getvalue()


def section(text, question):
    """The lines of one section, single-spaced."""
    _, _, after = text.partition(f"{question}\n")
    return [" ".join(line.split()) for line in after.partition("\n\n")[0].splitlines()]


def flat(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def sick():
    return shown(examples.SICK)


def test_the_first_line_is_the_verdict_with_its_numbers(sick):
    assert sick.splitlines()[0] == "SICK: with moving statistics the test accuracy is 0.82 instead of 0.95"


def test_the_four_questions_are_answered_in_order(sick):
    places = [sick.index(f"\n{question}\n") for question in QUESTIONS]
    assert places == sorted(places)
    assert sick.index("note: conv_3/norm is frozen") > places[-1]


def test_the_gap_is_a_table_of_split_and_metric(sick):
    lines = section(sick, QUESTIONS[0])
    assert lines[0] == "split metric batch moving gap ± s.e. samples > 2 s.e."
    assert lines[1] == "test accuracy 0.9500 0.8200 -0.1300 0.0060 1,000 worse"
    assert lines[2] == "test RMSE 0.0820 0.1443 +0.0623 0.0021 1,000 worse"
    assert lines[5] == "train RMSE 0.0710 0.1310 +0.0600 0.0012 2,000 worse"
    assert "Predicted classes that differ between the two: 16 % of test and 13 % of train samples." in flat(
        sick
    )


def test_parts_come_largest_first_with_bars_of_their_length(sick):
    lines = section(sick, QUESTIONS[1])
    assert [line.split()[0] for line in lines[1:6]] == ["lag", "shift", "noise", "batch", "bias"]
    assert lines[1].startswith("lag +0.0502 ± 0.0020 +0.0551 ± 0.0013 │█")
    assert lines[6] == "the whole gap +0.0623 ± 0.0021 +0.0600 ± 0.0012"
    # 21 letters for the span from -0.0030 to 0.0502: 0.0502 * 21 / 0.0532 = 19.8, 0.0088 * 21 / 0.0532 = 3.5
    # and -0.0030 * 21 / 0.0532 = -1.2, to the left of the line.
    assert [line.count("█") for line in lines[1:6]] == [20, 3, 2, 1, 0]
    assert lines[4].endswith("█│")
    assert "lag: the moving average still holds its start, mean 0 and variance 1" in lines


def test_layers_come_largest_first_and_frozen_ones_say_so(sick):
    where = sick[sick.index("3 normalization layers, 1 of them frozen") :].splitlines()
    lines = [" ".join(line.split()) for line in where]
    assert lines[1:5] == [
        "layer part ± s.e. mean shift KL",
        "conv_2/norm +0.0439 ± 0.0011 0.9400 0.5200",
        "conv_1/norm +0.0121 ± 0.0007 0.6100 0.2300",
        "conv_3/norm 0.0000 ± 0.0000 – – frozen",
    ]


def test_of_many_layers_eight_are_shown_and_the_rest_summed_up():
    text = shown(examples.many(60))
    # 0.03 / n summed over n = 9 to 60 is 0.0589; the ninth is 0.03 / 9.
    assert "and 52 more layers: together +0.0589 of the gap, none above 0.00333" in text
    assert text.count("block_") == 8
    assert all(f"…stage_0/block_{n}" in text for n in range(8))
    assert "60 normalization layers, the largest parts first" in text


def test_one_layer_too_many_is_shown_not_summed_up():
    text = shown(examples.many(9))
    assert text.count("block_") == 9
    assert "more layer" not in text


def test_causes_are_ranked_with_evidence_and_what_would_confirm_them(sick):
    lines = section(sick, QUESTIONS[2])
    assert lines[0] == "91 % the moving average has not arrived"
    assert lines[1] == "- all layers hold the same share of their start, 0.61 (0.60 to 0.62)"
    assert (
        "confirm: train on for 2,000 steps at learning rate 0: the gap then falls by the factor 0.14"
        in flat(sick)
    )
    assert "cure: use one preprocessing for both" in lines
    assert lines[-2:] == ["Less likely: tiny batches (1 %).", "None of the known causes: 2 %."]
    assert lines.index("6 % the test data are preprocessed otherwise than the training data") > 1


def test_a_confidence_is_never_quite_certain():
    causes = (
        Cause("nan", "not numbers", 0.998, (), "", "", True),
        Cause("x", "else", 0.002, (), "", "", True),
    )
    text = shown(replace(examples.SICK, causes=causes, unexplained=0.0))
    assert "> 99 % not numbers" in text
    assert "Less likely: else (< 1 %)." in text


def test_a_sick_model_without_a_known_cause_says_so():
    text = shown(replace(examples.SICK, causes=(), unexplained=1.0))
    assert section(text, QUESTIONS[2]) == [
        "No cause of the catalogue fits what was measured.",
        "None of the known causes: 100 %.",
    ]


def test_remedies_come_best_first_once_each_with_advice_and_command(sick):
    lines = section(sick, QUESTIONS[3])
    assert lines[:4] == [
        "remedy accuracy RMSE gap left closes fits a file seconds",
        "population 0.9470 0.0839 +0.0019 97 % yes 1.8",
        "zero_debias 0.9390 0.0871 +0.0051 92 % yes 0.02",
        "mixed 0.9000 0.1120 +0.0300 52 % no 2.5",
    ]
    assert lines[-1] == "python -m bnlab.doctor digits.keras --data data.npz --mend mended.keras"
    assert "then raise the number of steps or lower the momentum." in flat(sick)


def test_a_long_command_is_broken_where_a_shell_goes_on():
    command = f"python -m bnlab.doctor {'m' * 60}.keras --data {'d' * 50}.npz --mend 'a b.keras'"
    text = shown(replace(examples.SICK, command=command))
    start = text.index("python -m")
    printed = text[start : text.index("\n\n", start)]
    assert printed.count(" \\\n") == 2
    assert shlex.split(printed.replace("\\\n", "")) == shlex.split(command)


def test_a_healthy_model_has_a_short_page():
    text = shown(examples.HEALTHY)
    assert text.splitlines()[0] == "HEALTHY: moving statistics do as well: test accuracy 0.951 (batch: 0.95)"
    assert "test RMSE 0.0820 0.0815 -0.0005 0.0021 1,000 no" in section(text, QUESTIONS[0])
    assert not any(question in text for question in QUESTIONS[1:])
    looked = (
        "Looked at: model digits, 3 normalization layers, 1 of them frozen, 1,000 test samples, 2,000 train"
    )
    assert looked in flat(text)
    assert len(text.splitlines()) < 15


def test_a_gap_that_does_not_count_makes_no_headline_of_harm():
    small = Gap("test", "rmse", 0.0823, 0.082, 0.0003, 0.0001, 10_000)
    assert "moving statistics do hardly worse: test RMSE" in shown(replace(examples.HEALTHY, gaps=(small,)))
    better = Gap("test", "rmse", 0.08, 0.082, -0.002, 0.0001, 10_000)
    assert "moving statistics do better: test RMSE 0.08" in shown(replace(examples.HEALTHY, gaps=(better,)))


def test_what_cannot_be_told_is_told_in_a_few_lines():
    assert (
        shown(examples.NOTHING) == "NOTHING TO EXAMINE: the model has no layer that keeps moving statistics\n"
    )
    text = shown(examples.UNCLEAR)
    assert flat(text).startswith(
        "UNCLEAR: the test accuracy is 0.03 ± 0.04 lower with moving statistics: 24 samples"
    )
    assert "Give at least 400 samples." in text
    assert "note: no training data were given" in text
    assert QUESTIONS[2] not in text


def test_what_was_mended_is_shown_before_and_after():
    lines = section(shown(examples.MENDED), "Mended")
    assert lines[0] == "mended.keras holds population statistics; measured on that file:"
    assert lines[2] == "test accuracy 0.9500 0.8200 0.9470 -0.1300 -0.0030 0.0060"
    assert lines[3] == "test RMSE 0.0820 0.1443 0.0839 +0.0623 +0.0019 0.0021"


def test_without_labels_the_page_says_what_stands_for_the_truth():
    text = shown(examples.UNLABELLED)
    assert text.startswith("SICK: with moving statistics the train agreement is 0.71 instead of 0.97\n")
    assert "Without labels, the model's own outputs under population statistics stand for the truth" in flat(
        text
    )


def test_a_regressor_has_outputs_that_differ_not_classes():
    gaps = tuple(gap for gap in examples.GAPS if gap.metric == "rmse")
    text = shown(replace(examples.SICK, gaps=gaps))
    assert text.startswith("SICK: with moving statistics the test RMSE is 0.144 instead of 0.082\n")
    assert "Root mean square difference of the outputs, of their own size: 16 % of test" in flat(text)


def test_numbers_that_are_lost_are_told_as_lost():
    text = shown(examples.broken())
    assert text.startswith("SICK: with moving statistics the test accuracy is not a number instead of 0.95\n")
    assert "test accuracy 0.9500 NaN 1,000 worse" in section(text, QUESTIONS[0])
    assert section(text, QUESTIONS[1]) == ["The parts of the gap are not numbers."]
    assert "conv_1/norm inf" in flat(text)


def test_large_and_small_numbers_keep_their_digits():
    gaps = (
        Gap("test", "rmse", 1234.5, 1200.0, 34.5, 2.5, 100),
        Gap("test", "loss", 2e-5, 1e-5, 1e-5, 1e-7, 100),
    )
    lines = section(shown(replace(examples.SICK, gaps=gaps)), QUESTIONS[0])
    assert lines[1] == "test RMSE 1200 1234 +34 2 100 worse"
    assert lines[2] == "test loss 0.0000100 0.0000200 +0.0000100 0.0000001 100 worse"


@pytest.mark.parametrize("name", examples.ALL)
def test_no_line_is_wider_than_the_terminal_and_nothing_is_coloured_when_piped(name):
    text = shown(examples.ALL[name])
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_the_width_is_80_where_it_is_not_known_and_at_most_100(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    long = replace(examples.UNCLEAR, notes=("word " * 100,))
    assert 75 < max(map(len, shown(long, width=None).splitlines())) <= 80
    assert 90 < max(map(len, shown(long, width=200).splitlines())) <= 100


def test_a_terminal_is_coloured_unless_it_must_not_be(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31mSICK" in shown(examples.SICK, force_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in shown(examples.SICK, force_terminal=True)


def test_names_that_somebody_chose_badly_are_text():
    text = shown(examples.nasty("[red]x[/] \x1b[31m \ud800"))
    assert "note: [red]x[/] \\x1b[31m \\ud800" in text


def test_a_terminal_without_unicode_gets_what_it_can_show(monkeypatch):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "ascii", write_through=True)
    show(examples.SICK, Console(file=file, width=80))
    text = raw.getvalue().decode("ascii")
    assert "lag            +0.0502 ~ 0.0020  +0.0551 ~ 0.0013   |####" in text


def test_no_remedy_is_promised_to_close_what_is_not_known():
    remedy = Remedy("population", "test", {"rmse": 0.08}, float("nan"), None, True, 1.0)
    lines = section(shown(replace(examples.SICK, remedies=(remedy,), command="")), QUESTIONS[3])
    assert lines[:2] == ["remedy RMSE seconds", "population 0.0800 1"]
    assert "--mend" not in " ".join(lines)


def test_the_page_imports_nothing_that_draws_or_tracks():
    code = (
        "import sys, bnlab.doctor.page;"
        "sys.exit(bool({'mlflow', 'hydra', 'typst', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
