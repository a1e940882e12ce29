"""Send trials and failures to MLflow."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Metric, Param, Run, RunTag

from bnlab.naming import label
from bnlab.records import Cell, Clue, Failure, Reading, Trial, made_so
from bnlab.tables import clues_table, readings_table
from bnlab.track.connect import Store

READINGS, CLUES, HISTOGRAMS = "readings.csv", "clues.csv", "histograms.csv"
# Clues that are points in the dashboard; the table holds all of them.
_GROUPS = {"cause": "part", "layer": "layer", "remedy": "remedy", "rounding": "rounding", "sign": "sign"}
_METRICS = ("rmse", "accuracy", "loss")
_PREFIX = {"test_probe": "", "train_probe": "train_", "test": "final_", "train": "final_train_"}
_LOSS_POINTS = 200
_PARENT = "mlflow.parentRunId"


@dataclass(frozen=True)
class Finished:
    """A finished trial as it is sent.

    Attributes:
        trial, identity: what it is.
        tags: what it ran on, and where its images came from.
        began_ms: when its training began.
        losses: reads the loss of every training step; asked only when they are sent.
        readings: everything measured.
        cells: (phase, decay, drill) to show as runs of their own; no drill is the empty word. They repeat
            what the table of readings holds; without any, the trial's own run shows its final numbers.
        way: how the readings of the cells were made; the table holds those of every way.
        clues: what explains its gaps.
        samples: images behind the population statistics of the clues to show.
        artifacts: further files, name -> content.
    """

    trial: Trial
    identity: str
    tags: Mapping[str, str]
    began_ms: int
    losses: Callable[[], np.ndarray]
    readings: Sequence[Reading]
    cells: Sequence[Cell]
    way: tuple[int, int, int]
    clues: Sequence[Clue] = ()
    samples: int = 0
    artifacts: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A short name for the dashboard."""
        return label(self.trial)

    @property
    def digest(self) -> str:
        """Hash of all that is sent: equal digests need no second sending."""
        said = repr((self.tags, self.readings, sorted(self.cells), self.way))
        said += repr((self.clues, self.samples)) if self.clues else ""
        sent = hashlib.sha256(said.encode() + np.asarray(self.losses(), np.float64).tobytes())
        for name, content in sorted(self.artifacts.items()):
            sent.update(name.encode() + hashlib.sha256(content).digest())
        return sent.hexdigest()[:16]

    def clues_of(self, cell: Cell) -> list[Clue]:
        """List what explains the gap of a cell."""
        phase, decay, drill = cell
        return [
            clue
            for clue in self.clues
            if not phase and clue.decay in (None, decay) and clue.drill == drill
            if made_so(clue, self.way) and clue.samples == self.samples
        ]


def log_trial(store: Store, finished: Finished) -> None:
    """Send a finished trial: its run, and one child run per cell. Sending again changes nothing."""
    runs = _find(store, finished.identity)
    runs.sort(key=lambda run: "bnlab.delivered" in run.data.tags)  # of two of one cell the whole one counts
    known = {run.data.tags.get("bnlab.cell", ""): run for run in runs}
    own = known.get("")
    if _has(own, finished.digest):
        return
    tags = {"bnlab.kind": "trial", "bnlab.trial": finished.identity, **finished.tags}
    run_id = take_up(store, own, finished.name, tags, finished.began_ms)
    time_ms = finished.readings[-1].time_ms
    curve = [*_loss_curve(finished, time_ms), *(() if finished.cells else _ends(finished))]
    store.client.log_batch(run_id, _lacking(store, own, curve), as_params(_settings(finished.trial)))
    for cell in finished.cells:
        _log_cell(store, finished, cell, known, {**tags, "bnlab.kind": "cell", _PARENT: run_id})
    store.client.log_text(run_id, readings_table(finished.readings), READINGS)
    if finished.clues:
        store.client.log_text(run_id, clues_table(finished.clues), CLUES)
    _log_files(store, run_id, finished.artifacts)
    if own and "bnlab.reason" in own.data.tags:  # it failed before
        store.client.delete_tag(run_id, "bnlab.reason")
    _end(store, run_id, finished.digest, time_ms)
    _remove_doubles(store, finished.identity)


def _remove_doubles(store: Store, identity: str) -> None:
    """Delete open runs of what is there whole: their request was made again, for its answer was lost."""
    runs = _find(store, identity)
    whole = {run.data.tags.get("bnlab.cell", "") for run in runs if "bnlab.delivered" in run.data.tags}
    for run in runs:
        if run.info.status == "RUNNING" and run.data.tags.get("bnlab.cell", "") in whole:
            store.client.delete_run(run.info.run_id)


def log_failure(store: Store, failure: Failure, tags: Mapping[str, str]) -> None:
    """Record a trial that failed, as a FAILED run that says why."""
    known = {run.data.tags.get("bnlab.cell", ""): run for run in _find(store, failure.trial)}
    own = {"bnlab.kind": "trial", "bnlab.trial": failure.trial, "bnlab.reason": failure.reason[:5000]}
    run_id = take_up(store, known.get(""), label(failure), {**tags, **own})
    params = {
        key: value for key, value in asdict(failure).items() if key not in ("trial", "reason", "variant")
    }
    store.client.log_batch(run_id, params=as_params(params))
    store.client.set_terminated(run_id, "FAILED")


def _log_cell(
    store: Store,
    finished: Finished,
    cell: Cell,
    known: Mapping[str, Run],
    tags: Mapping[str, str],
) -> None:
    phase, decay, drill = cell
    made = [r for r in finished.readings if made_so(r, finished.way) and r.drill == drill]
    readings = [r for r in made if r.phase == phase and r.decay in (None, decay)]
    size, images, _ = finished.way
    tag = f"phase {str(phase).lower()} decay {decay:.12g} b{size} n{images} {drill}".strip()
    params = {
        **_settings(finished.trial),
        "decay": f"{decay:.12g}",
        "phase": str(phase).lower(),
        "eval_batch_size": size,
        "drill": drill or "none",
    }
    # What tells cells apart comes first: the dashboard cuts long names.
    name = f"{drill or str(phase).lower()} d{decay:.12g} {finished.name}"
    clues = finished.clues_of(cell)
    content = repr((readings, tags)) + (repr(clues) if clues else "")
    own, digest = known.get(tag), hashlib.sha256(content.encode()).hexdigest()[:16]
    if _has(own, digest):
        return
    points = [*_cell_metrics(readings), *_clue_metrics(clues)]
    run_id = take_up(store, own, name, {**tags, "bnlab.cell": tag}, finished.began_ms)
    store.client.log_batch(run_id, _lacking(store, own, points), as_params(params))
    _end(store, run_id, digest, max(reading.time_ms for reading in readings))


def _cell_metrics(readings: Sequence[Reading]) -> Iterable[Metric]:
    for reading in readings:
        prefix, row = _PREFIX[reading.split], asdict(reading)
        values = {prefix + name: row[name] for name in _METRICS}
        if not reading.phase:
            values |= {f"{prefix}{name}_gap": row[f"{name}_gap"] for name in _METRICS}
        if reading.split == "test_probe":
            values["samples_seen"] = float(reading.samples_seen)
        for key, value in values.items():
            if not np.isnan(value):
                yield Metric(key, value, reading.time_ms, reading.step)
    probed = [reading for reading in readings if reading.split == "test_probe"]
    if probed:
        best = min(probed, key=lambda reading: reading.rmse)
        yield Metric("best_rmse", best.rmse, best.time_ms, best.step)


def _ends(finished: Finished) -> Iterable[Metric]:
    """Name the final numbers so that runs can be sorted by them: `final_rmse/true`, `final_rmse_gap/0.99`."""
    for reading in finished.readings:
        whole = reading.split in ("test", "train") and not reading.drill
        if not (whole and made_so(reading, finished.way)):
            continue
        place = "true" if reading.phase else f"{reading.decay:.12g}"
        for name in ("rmse", "accuracy", "rmse_gap", "accuracy_gap"):
            if np.isfinite(value := getattr(reading, name)):
                key = f"{_PREFIX[reading.split]}{name}/{place}"
                yield Metric(key, value, reading.time_ms, reading.step)


def _clue_metrics(clues: Sequence[Clue]) -> Iterable[Metric]:
    """Name clues so that the dashboard groups them: `part/rmse_lag`, `remedy/rmse mixed`, `sign/kl`."""
    for clue in clues:
        kind, _, target = clue.kind.partition(" ")
        if kind not in _GROUPS or not np.isfinite(clue.value):
            continue
        train = "train_" if clue.split == "train_probe" else ""
        group = f"{train}{_GROUPS[kind]}{target and f'_{target}'}"
        name = f"{clue.metric}_{clue.name}" if kind in ("cause", "layer") else f"{clue.metric} {clue.name}"
        yield Metric(f"{group}/{name.strip()}", clue.value, clue.time_ms, clue.step)


def _log_files(store: Store, run_id: str, files: Mapping[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        store.client.log_artifacts(run_id, folder)


def _loss_curve(finished: Finished, time_ms: int) -> list[Metric]:
    """Thin the training loss to means over stretches of equal length, at most 200 of them."""
    losses = np.asarray(finished.losses(), np.float64)
    parts = np.array_split(losses, min(_LOSS_POINTS, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    size = finished.trial.batch_size
    curve = [
        Metric("training_loss", float(part.mean()), time_ms, int(end))
        for part, end in zip(parts, ends, strict=True)
    ]
    return curve + [Metric("samples_seen", float(end * size), time_ms, int(end)) for end in ends]


def _has(run: Run | None, digest: str) -> bool:
    """Tell whether a run was sent whole, with this very content."""
    delivered = run is not None and run.data.tags.get("bnlab.delivered") == digest
    return delivered and run is not None and run.info.status == "FINISHED"


def _end(store: Store, run_id: str, digest: str, time_ms: int) -> None:
    """Finish a run; that it is whole is said last."""
    store.client.set_terminated(run_id, "FINISHED", time_ms)
    store.client.set_tag(run_id, "bnlab.delivered", digest)


def _lacking(store: Store, run: Run | None, points: Sequence[Metric]) -> list[Metric]:
    """Leave out the points that a run has: of a repeated measurement they would differ in time only."""
    if run is None:
        return list(points)
    keys = {point.key for point in points} & set(run.data.metrics)
    history = {key: store.client.get_metric_history(run.info.run_id, key) for key in keys}
    there = {(key, point.step, point.value) for key, past in history.items() for point in past}
    return [point for point in points if (point.key, point.step, point.value) not in there]


def _settings(trial: Trial) -> dict[str, Any]:
    return {**trial.settings, "samples": trial.steps * trial.batch_size}


def as_params(values: Mapping[str, Any]) -> list[Param]:
    """Write settings as MLflow keeps them: text of a bounded length."""
    return [Param(key, str(value)[:6000]) for key, value in values.items()]


def _find(store: Store, identity: str) -> list[Run]:
    return list(
        store.client.search_runs([store.experiment], f"tags.`bnlab.trial` = '{identity}'", max_results=5000)
    )


def take_up(
    store: Store, known: Run | None, name: str, tags: Mapping[str, str], began_ms: int | None = None
) -> str:
    """Take up a run that is there already, or begin one."""
    if known is None:
        run = store.client.create_run(store.experiment, began_ms, dict(tags), name)
        return run.info.run_id
    store.client.log_batch(known.info.run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    return known.info.run_id
