"""A sweep over precisions, from the command line to the report."""

from pypdf import PdfReader

from bnlab import track
from bnlab.store import Folder

NAMES = ("float32", "mixed_float16", "mixed_bfloat16")


def test_precisions_are_swept_and_told(tmp_path, run_line, tiny, capsys):
    asked = [f"train.precision={','.join(NAMES)}", "measure.drills=[intact]", "measure.histograms=true"]
    few = ["train.samples=64", "measure.population_samples=64", "hydra/launcher=basic"]
    assert run_line(tmp_path, "-m", "name=halves", *tiny, *asked, *few) == 0
    folders = [Folder(path) for path in (tmp_path / "runs" / "trials").iterdir()]
    assert {folder.trial().precision for folder in folders} == set(NAMES)
    store = track.connect(f"sqlite:///{tmp_path}/runs/mlflow.db", "bnlab", create=False)
    sweep, _ = track.read_sweep(store)
    assert set(sweep.variants.values()) == set(NAMES)
    clues = track.read_clues(store, sweep)
    told = clues[clues["kind"] == "rounding"]
    assert {sweep.variants[trial] for trial in told["trial"]} == set(NAMES[1:])
    for folder in folders:
        # A restore through Keras's own files computes in the same precision: what is left are roundings of
        # probabilities, which are below 1, in float32.
        last = [reading for reading in folder.readings() if not reading.phase and reading.split == "test"]
        values = {(reading.decay, reading.drill): reading.rmse for reading in last}
        assert abs(values[0.5, "intact"] - values[0.5, ""]) < 2.0**-23
    text = " ".join(
        " ".join(page.extract_text().split()) for page in PdfReader(tmp_path / "reports" / "halves.pdf").pages
    )
    assert "What half precision does to the statistics" in text
    assert "mnist, mixed_bfloat16" in text
    assert "failed" not in capsys.readouterr().out
