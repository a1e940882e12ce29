import io
import json
import pickle
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import typst
from pypdf import PdfReader

from bnlab.report import pdf
from bnlab.report.numbers import tables
from bnlab.report.pdf import write
from bnlab.report.printing import sources
from tests.report import clued

NASTY = '#panic("x") $ _ * <b> -- @ref \\u{41} ~ // 実'
SHOWN = NASTY.replace("実", "\\u{5b9f}")
VARIANTS = {
    "one trial, one decay": {"norms": ("batch",), "sizes": (2,), "decays": (0.9,)},
    "phase true only": {"phases": (True,)},
    "phase false only": {"phases": (False,)},
    "control only": {"norms": ("group",)},
    "three seeds": {"sizes": (2,), "seeds": (0, 1, 2), "shift": 0.01},
    "five tasks": {"tasks": ("a", "b", "c", "d", "e"), "sizes": (2,), "norms": ("batch",)},
    "forty decays": {"sizes": (2,), "norms": ("batch",), "decays": tuple(n / 40 for n in range(40))},
    "forty decays, phase false only": {
        "sizes": (2,),
        "decays": tuple(n / 40 for n in range(40)),
        "phases": (False,),
    },
    "forty decays, phase true only": {"decays": tuple(n / 40 for n in range(40)), "phases": (True,)},
    "nine decays, two seeds": {"decays": tuple(n / 10 for n in range(9)), "seeds": (0, 1), "shift": 0.01},
    "sixteen long names": {
        "tasks": tuple(f"mnist, dropout 0.5, deviation 0.{n:03}" for n in range(16)),
        "norms": ("batch",),
        "sizes": (32,),
    },
    "all images trained on": {"final": "train"},
    "many sizes": {"sizes": (2, 8, 32, 128)},
    "other norms": {"norms": ("batch", "ghost", "layer"), "sizes": (2,)},
}


def pages(path, mode="-layout"):
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    ran = subprocess.run(["pdftotext", mode, str(path), "-"], capture_output=True, text=True, check=True)
    return ran.stdout


@pytest.fixture(scope="module")
def anew():
    """What makes a document, whether or not it was made before."""
    return pdf.document


@pytest.fixture(autouse=True, scope="module")
def _made_once(anew):
    """A document is a function of what it shows: many tests look at the same ones, and drawing takes long."""
    made = {}

    def document(*arguments, **tables):
        key = pickle.dumps((arguments, tables))
        if key not in made:
            made[key] = anew(*arguments, **tables)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pdf, "document", document)
        yield


@pytest.fixture(scope="module")
def printed(readings, swept, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "phase_sweep.pdf"
    assert write(swept(readings), readings, path) == path
    return path


def test_the_table_of_cells_prints_the_rows(readings, swept):
    shown = pdf.document(swept(readings), readings)["cells"]
    assert " ".join(shown["head"]) == (
        "task norm batch size decay phase RMSE accuracy loss RMSE gap ± se > 2 se"
    )
    assert len(shown["rows"]) == 16
    lines = [" ".join(row).strip() for row in shown["rows"]]
    at = lines.index("mnist batch 128 0.999 true 0.1120 0.8880 0.5600")
    assert lines[at + 1] == "mnist batch 128 0.999 false 0.3260 0.4600 1.6300 +0.2140 0.0030 •"
    assert "mnist batch 2 0.999 false 0.1280 0.8780 0.6400 −0.0060 0.0040" in lines  # within 2 se: no mark


def test_the_pdf_says_what_the_rows_say(printed, readings):
    text = pages(printed)
    flat = " ".join(text.split())
    assert "a gap of +0.2140 ± 0.0030" in flat
    assert "a gap of −0.0190 ± 0.0010" in flat
    table = tables.cells(readings)
    for row in table[~table["phase"]].itertuples():
        gap = tables.typeset(tables.number(row.rmse_gap, signed=True))
        line = rf"{row.norm} +{row.batch_size} +{row.decay} +false +{row.rmse:.4f} .*{re.escape(gap)}"
        assert re.search(line, text), line


def test_the_same_rows_give_the_same_bytes(printed, readings, swept, tmp_path, monkeypatch, anew):
    monkeypatch.setattr(pdf, "document", anew)
    again = write(swept(readings), readings.copy(), tmp_path / "again.pdf")
    assert again.read_bytes() == printed.read_bytes()
    assert b"/S/PDFUA-1" in again.read_bytes() or b"pdfuaid" in again.read_bytes()


def test_writing_leaves_no_other_file_and_replaces_the_old_report(printed, readings, swept, tmp_path):
    path = tmp_path / "report.pdf"
    path.write_text("old")
    write(swept(readings), readings, path)
    assert path.read_bytes().startswith(b"%PDF")
    assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_fails_keeps_the_old_one(readings, swept, tmp_path, monkeypatch):
    path = tmp_path / "report.pdf"
    path.write_text("old")
    monkeypatch.setattr(pdf, "TEMPLATE", tmp_path / "missing.typ")
    with pytest.raises(FileNotFoundError):
        write(swept(readings), readings, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("empty", [pd.DataFrame(), None], ids=["no columns", "no rows"])
def test_failures_alone_give_their_reasons(readings, swept, failures, tmp_path, empty):
    empty = readings.iloc[:0] if empty is None else empty
    text = " ".join(pages(write(swept(failures=failures), empty, tmp_path / "failed.pdf")).split())
    assert "0 of 2 trials finished" in text
    assert "there is nothing to compare" in text
    first, last = text.split("How to read this")
    for failure in failures:
        assert failure.reason in first
        assert failure.reason in last


def test_a_failed_trial_is_counted_and_its_reason_kept(readings, swept, failures):
    shown = pdf.document(swept(readings, failures=failures), readings)
    assert shown["extent"] == "4 of 6 trials finished, 4 trained now; 16 cells"
    assert [line["reason"] for line in shown["failures"]] == [failure.reason for failure in failures]
    states = {line[0]: line[-1] for line in shown["trials"]["rows"]}
    assert states.pop("aaaabbbbcccc") == states.pop("ddddeeeeffff") == "failed"
    assert set(states.values()) == {"finished"}


def test_names_are_shown_as_they_are_and_never_run(made, swept, failures, tmp_path):
    rows = made(tasks=(NASTY,), sizes=(2,)).assign(source=NASTY)
    bad = replace(failures[0], task=NASTY, norm=NASTY, reason=NASTY + "\x07")
    words = {key: {NASTY: NASTY} for key in ("settings", "versions", "machine")}
    sweep = swept(rows, name=NASTY, command=NASTY, failures=(bad,), **words)
    shown = pdf.document(sweep, rows)
    assert (shown["title"], shown["command"], shown["cells"]["rows"][0][0]) == (SHOWN, SHOWN, SHOWN)
    assert shown["failures"][0]["reason"] == SHOWN + "\\u{7}"
    text = " ".join(pages(write(sweep, rows, tmp_path / "nasty.pdf")).split())
    assert text.count(SHOWN) >= 6


def test_a_long_word_stays_on_the_page(made, swept, tmp_path):
    rows = made(sizes=(2,))
    long = "decay=[" + ",".join(f"0.{n}" for n in range(100, 180)) + "]"
    path = write(swept(rows, command=long, settings={"decay": long}), rows, tmp_path / "long.pdf")
    assert "".join(pages(path, "-raw").split()).count(long) == 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_any_sweep_makes_a_report(made, swept, variant):
    rows = made(**VARIANTS[variant])
    content, warnings = typst.compile_with_warnings(
        sources(pdf.TEMPLATE),
        format="pdf",
        sys_inputs={"document": json.dumps(pdf.document(swept(rows), rows))},
        ignore_system_fonts=True,
        pdf_standards=["ua-1"],
    )
    assert warnings == []
    assert content.startswith(b"%PDF")


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_clues_and_faults_make_pages(made, drilled, swept, seeds):
    long = "cifar, dropout 0.5, deviation 0.001, steps 1600"
    rows = drilled(
        made(tasks=("mnist", long), sizes=(2, 128), seeds=seeds), {"nan": float("nan"), "hot": 0.3}
    )
    own = [row for row in clued.trials(rows) if row["norm"] == "batch"]
    clues = clued.table(
        *(
            clued.causes(row, {"lag": 0.2, "noise": -0.1}, drill=drill)
            for row in own
            for drill in ("", "nan")
        ),
        *(clued.layers(row, {f"layer_{n}_{'x' * 20}": 0.01 for n in range(19)}, 0.001) for row in own),
        *(clued.remedy(row, name, 0.01) for row in own for name in ("mixed", "test_statistics")),
        *(
            clued.signs(row, {"kl": value}, drill=drill)
            for row in own
            for drill, value in (("", 0), ("nan", 9))
        ),
    )
    faults = tuple((name, row["trial"], name) for name in ("nan", "hot") for row in own)
    shown = pdf.document(swept(rows, faults=faults), rows, clues=clues)
    content, warnings = typst.compile_with_warnings(
        sources(pdf.TEMPLATE),
        format="pdf",
        sys_inputs={"document": json.dumps(shown)},
        ignore_system_fonts=True,
        pdf_standards=["ua-1"],
    )
    assert warnings == []
    text = " ".join("".join(page.extract_text() for page in PdfReader(io.BytesIO(content)).pages).split())
    heads = [
        "Has the average arrived?",
        "Where the gap comes from",
        "Which layers",
        "What closes it",
        "Field guide",
    ]
    places = [text.index(head) for head in [*heads, "Where the gap lives"]]
    assert places == sorted(places)
    assert "Restore drills" not in text
    assert "not a number" in text


def test_several_seeds_get_a_table_of_their_means(made, swept):
    rows = made(sizes=(128,), seeds=(0, 1, 2), shift=0.03)
    shown = pdf.document(swept(rows), rows)
    assert shown["means"]["rows"][1] == [
        *("mnist", "batch", "128", "0.999", "3", "0.1120", "0.3560", "+0.2440", "0.0300", "0.0173", "•")
    ]
    assert "seed" in shown["cells"]["head"]


def test_stand_in_data_are_a_notice_of_their_own(readings, swept, tmp_path):
    rows = readings.assign(stand_in=True)
    shown = pdf.document(swept(rows), rows)
    assert shown["stand_in"].startswith("Only stand-in data")
    assert shown["stand_in"] not in shown["finding"]
    assert "STAND-IN DATA" in pages(write(swept(rows), rows, tmp_path / "stand_in.pdf"))


def test_a_probe_without_a_final_reading_still_shows_its_curves(readings, swept):
    rows = readings[readings["split"] != "test"]
    shown = pdf.document(swept(rows), rows)
    assert shown["overview"] == shown["heatmaps"] == []
    [curves] = shown["curves"]  # training images were read at one step only, and a point is no curve
    assert "a fixed probe of test images" in curves["caption"]


def test_values_that_are_not_numbers_do_not_stop_the_report(readings, swept, tmp_path):
    lost = readings["batch_size"] == 128
    names = ["rmse", "accuracy", "loss", "rmse_gap", "rmse_gap_se"]
    rows = readings.assign(**{name: readings[name].mask(lost) for name in names})
    rows.loc[readings["batch_size"] == 2, "loss"] = float("inf")
    assert write(swept(rows), rows, tmp_path / "lost.pdf").exists()


def test_the_report_imports_no_training_and_its_tables_no_pictures():
    code = (
        "import sys; import bnlab.report.numbers.tables, bnlab.report.words.finding;"
        "assert not {'matplotlib', 'typst'} & set(sys.modules);"
        "from bnlab.report.pdf import write;"
        "heavy = {'tensorflow', 'keras', 'mlflow', 'hydra', 'bnlab.train', 'bnlab.measure', 'bnlab.plan'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == ""


def test_what_was_read_last_is_named_everywhere(made, swept, tmp_path):
    rows = made(final="train")
    text = " ".join(pages(write(swept(rows, final="train"), rows, tmp_path / "train.pdf")).split())
    assert "Final readings of all images trained on." in text
    assert "the whole test set" not in text


def test_a_regressor_has_no_column_of_accuracy(readings, made, regressed, swept):
    rows = regressed(readings)
    shown = pdf.document(swept(rows), rows)
    assert "accuracy" not in shown["cells"]["head"]
    assert shown["kinds"] == "These are regressors: RMSE and loss are over outputs, and there is no accuracy."
    other = made(tasks=("other",))
    mixed = pdf.document(swept(rows), pd.concat([rows, other]))
    assert "accuracy" in mixed["cells"]["head"]
    assert mixed["kinds"].startswith("A dash: a regressor has no accuracy")
    assert pdf.document(swept(readings), readings)["kinds"] == ""


def test_gaps_that_do_not_count_have_no_dot(made, regressed, swept):
    rows = regressed(made(norms=("batch",)), constant=0.17)
    marks = [row[-1] for row in pdf.document(swept(rows), rows)["cells"]["rows"]]
    assert marks == ["", "", "", "", "", "•", "", "•"]  # 128 after 2; false after true


def test_the_constant_of_each_task_is_shown(made, swept):
    rows = made(tasks=("mnist, dropout 0.1", "mnist, dropout 0.2"))
    assert pdf.document(swept(rows), rows)["tasks"]["rows"] == [
        ["mnist", "classifier", "10,000", "0.3000", "0.1000", "33 %"]
    ]
    unknown = rows.assign(constant_rmse=float("nan"))
    assert pdf.document(swept(rows), unknown)["tasks"]["rows"] == []


def test_one_source_of_many_trials_is_told_once(made, swept):
    rows = made(tasks=("mnist, dropout 0.1", "mnist, dropout 0.2")).assign(source="MNIST")
    assert pdf.document(swept(rows), rows)["sources"] == [["mnist", "MNIST"]]


def test_a_failure_is_named_with_what_tells_it_apart(readings, swept, failures):
    failed = replace(failures[0], variant="dropout 0.5")
    shown = pdf.document(swept(readings, failures=(failed,)), readings)
    assert shown["failures"][0]["what"] == "cifar, dropout 0.5, batch, batch size 128, seed 0"
    assert "cifar, dropout 0.5" in [row[1] for row in shown["trials"]["rows"]]


def test_the_question_has_its_page(printed, made, swept, tmp_path):
    text = " ".join(pages(printed).split())
    assert "Has the average arrived?" in text
    assert "RMSE with phase false is 2.91 times that with phase true, on the whole test set" in text
    assert "Restore drills" not in text
    assert "Error against batch size" not in text
    control = made(norms=("group",))
    alone = pages(write(swept(control), control, tmp_path / "control.pdf"))
    assert "Has the average arrived?" not in alone


def test_drills_have_a_page(readings, drilled, swept, tmp_path):
    rows = drilled(readings, {"intact": None, "not_saved": 0.3})
    text = " ".join(pages(write(swept(rows), rows, tmp_path / "drills.pdf")).split())
    assert "Restore drills A checkpoint is restored" in text
    assert "statistics not in the checkpoint" in text
    assert "not_saved changes RMSE, whatever the decay; most of all for mnist" in text


def test_batch_sizes_have_a_page(made, swept, tmp_path):
    rows = made(sizes=(2, 8, 32))
    text = " ".join(pages(write(swept(rows), rows, tmp_path / "sizes.pdf")).split())
    assert "Error against batch size" in text
    assert "Batch and group normalization" in text
