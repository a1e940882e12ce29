"""Settings -> trial: which training run a job needs, whether it is done, and what is left to measure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import product

import numpy as np

from bnlab.data import Source
from bnlab.data.order import held_out_count, probe_size
from bnlab.naming import of_replicas
from bnlab.records import Clue, Reading, Trial, made_so
from bnlab.settings import Settings, SettingsError
from bnlab.settings.faults import HEALTHY, Fault, drill, trained_fault
from bnlab.store import Folder

# Version of a trial's meaning: raise it when equal settings no longer give equal numbers.
FORMAT = 2
# A trial keeps checkpoints for a default curve, whatever it is asked first; other steps need a new training.
KEPT = 12
# Statistics may be estimated from so many samples, also where there are fewer images.
_SAMPLES = 10_000


@dataclass(frozen=True)
class Wanted:
    """What a job wants to know of its trial.

    Attributes:
        steps: of the curve, in order; the last one ends the trial.
        decays: None stands for phase true, which needs none.
        eval_batch_size: images that share statistics in phase true.
        images, train_images: images in a probe of the test set, and of what was trained on.
        final: the split that is read whole at the last step.
        drills: ways to come to inference that are tried out on the last checkpoint; other statistics of
            several replicas than the first one's are among them.
        fault: made on purpose; one at inference is among the drills.
        explain: split the final gaps into their causes.
        attribution: the statistics that layers are put on to find their parts of the gap, or none.
        remedies: that are tried out, with their options, as their clues are named.
        samples: images behind population statistics.
    """

    steps: tuple[int, ...]
    decays: tuple[float | None, ...]
    eval_batch_size: int
    images: int
    train_images: int
    final: str = "test"
    drills: tuple[str, ...] = ()
    fault: Fault = HEALTHY
    explain: bool = False
    attribution: str | None = None
    remedies: tuple[str, ...] = ()
    samples: int = 4096

    def covers(self, reading: Reading | Clue) -> bool:
        """Tell whether a reading or clue was made in the wanted way."""
        return made_so(reading, self.way)

    @property
    def probe(self) -> str:
        """The fixed images that stand for the final split where that would take too long."""
        return f"{self.final}_probe"

    @property
    def deployments(self) -> tuple[str, ...]:
        """How the model comes to inference where gaps are explained: healthy, and with the fault."""
        return tuple(dict.fromkeys(("", drill(self.fault))))

    def clues(self) -> Iterator[tuple]:
        """List one clue of each kind that is wanted, as `clue_of` names it; remedies are listed by name."""
        cases = list(product((decay for decay in self.decays if decay is not None), self.deployments))
        for decay, how in cases:
            if self.explain:
                yield from (("cause", "lag", split, decay, how) for split in ("train_probe", self.final))
                yield ("sign", "at_start", self.final, decay, how)
            if self.attribution:
                yield (f"layer {self.attribution}", "all", self.probe, decay, how)
            yield from (("remedy", name, self.final, decay, how) for name in self.remedies)

    @property
    def way(self) -> tuple[int, int, int]:
        """The way to measure, as readings remember it."""
        return self.eval_batch_size, self.images, self.train_images


def wanted(settings: Settings, source: Source, trial: Trial) -> Wanted:
    """Say what a job wants to know of its trial."""
    size = settings.measure.batch_size or settings.together
    # A probe holds at least one whole batch, where the data allow it.
    images = max(settings.measure.images, size)
    seen = min(trial.steps * trial.batch_size, source.train - held_out_count(source.train))
    return Wanted(
        steps=curve_steps(trial.steps, settings.measure.points),
        decays=(None, *(settings.decay if False in settings.phase else ())),
        eval_batch_size=size,
        images=probe_size(source.test, images),
        train_images=probe_size(seen, images),
        final=settings.measure.final,
        drills=(
            *settings.measure.drills,
            *map(of_replicas, settings.kept),
            *filter(None, [drill(settings.fault)]),
        ),
        fault=settings.fault,
        explain=settings.measure.explain and settings.moving,
        attribution=settings.measure.attribution if settings.moving else None,
        remedies=settings.measure.remedies if settings.moving else (),
        samples=settings.measure.population_samples,
    )


def plan(settings: Settings, source: Source, device: str) -> Trial:
    """Name the training run that a job needs.

    Args:
        settings: the job's.
        source: where its images come from.
        device: `cpu` or `gpu`, as resolved on this machine.

    Raises:
        SettingsError: a batch size larger than the data.
    """
    pool = source.train - held_out_count(source.train)
    what = "sequences" if source.frames else "images"
    size = settings.measure.batch_size or settings.together
    _fits("batch_size", settings.batch_size, pool, f"training {what}")
    _fits("measure.batch_size", size, source.test, f"test {what}")
    _fits_the_samples(settings, pool, what)
    _fits_the_fault(settings.fault, source.test, _steps(settings, pool))
    task, train, steps = settings.task, settings.train, _steps(settings, pool)
    return Trial(
        task=task.name,
        data=source.name,
        fingerprint=source.fingerprint,
        model=task.model,
        widths=task.widths,
        norm=settings.norm.name,
        # An option that is not given is not passed: a new one changes no older trial.
        options=tuple(
            sorted(settings.norm.model_dump(exclude={"name", "synchronized"}, exclude_none=True).items())
        ),
        batch_size=settings.batch_size,
        seed=settings.seed,
        steps=steps,
        optimizer=train.optimizer,
        learning_rate=_scaled_rate(settings),
        momentum=None if train.optimizer == "adam" else train.momentum or 0.0,
        schedule=train.schedule,
        device=device,
        threads=train.threads,
        xla=_xla(settings, device),
        details=task.details,
        frozen_from=_frozen_from(settings, steps),
        freeze_decay=None if train.freeze_statistics_at is None else train.freeze_decay,
        fault=trained_fault(settings.fault),
        replicas=settings.device.replicas,
        synchronized=settings.synchronized,
        precision=train.precision,
    )


def identity(trial: Trial) -> str:
    """Hash a trial's content to 12 hexadecimal digits.

    A field that holds its default is left out, so a setting added later with a default keeps every
    older identity valid.
    """
    defaults = {field.name: field.default for field in fields(trial) if field.default is not MISSING}
    content = {k: v for k, v in asdict(trial).items() if k not in defaults or v != defaults[k]}
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def curve_steps(steps: int, points: int) -> tuple[int, ...]:
    """Space the steps of a curve evenly in their logarithm, from 1 to the last.

    Rounding merges early steps; more are drawn until `points` distinct ones (or all steps) are left.

    >>> curve_steps(100, 5)
    (1, 3, 10, 32, 100)
    """
    if points == 1:
        return (steps,)
    for drawn in range(points, points + 10 * steps):
        chosen = np.unique(np.geomspace(1, steps, drawn).round().astype(int))
        if len(chosen) >= min(points, steps):
            return tuple(chosen.tolist())
    return tuple(range(1, steps + 1))


def kept_steps(steps: Iterable[int], frozen_from: int | None = None) -> tuple[int, ...]:
    """Say at which steps a trial leaves a checkpoint: those that are wanted, and those of a default curve.

    Args:
        steps: wanted ones, in order; the last one ends the trial.
        frozen_from: where statistics are frozen, of the averages up to that checkpoint.

    >>> kept_steps((4,))
    (1, 2, 3, 4)
    """
    wanted = {*steps, *([frozen_from] if frozen_from else [])}
    return tuple(sorted(wanted | set(curve_steps(max(wanted), KEPT))))


def is_trained(folder: Folder, steps: Iterable[int], frozen_from: int | None = None) -> bool:
    """Tell whether a trial has every checkpoint that its curve needs, and that it was to keep for others."""
    return set(kept_steps(steps, frozen_from)) <= set(folder.checkpoints())


def unmeasured(readings: Iterable[Reading], wanted: Wanted) -> tuple[float | None, ...]:
    """List the decays still to be measured for a job; None stands for phase true.

    A gap needs both phases on the same images, so whatever is missing brings phase true along.
    """
    seen = {
        (reading.decay, reading.step, reading.split, reading.drill)
        for reading in readings
        if wanted.covers(reading)
    }
    missing = tuple(decay for decay in wanted.decays if not set(_asked(wanted, decay)) <= seen)
    return missing if None in missing or not missing else (None, *missing)


def unexplained(clues: Iterable[Clue], wanted: Wanted) -> frozenset[tuple]:
    """List what is still to be explained for a job, as `Wanted.clues` does."""
    seen = {clue_of(clue) for clue in clues if wanted.covers(clue) and clue.samples == wanted.samples}
    free = {(kind, name, split, how) for kind, name, split, decay, how in seen if decay is None}
    return frozenset(
        (kind, name, split, decay, how)
        for kind, name, split, decay, how in set(wanted.clues()) - seen
        if (kind, name, split, how) not in free  # a remedy that depends on no decay
    )


def clue_of(clue: Clue) -> tuple:
    """Name what a clue is of, whatever its metric."""
    return clue.kind, clue.name, clue.split, clue.decay, clue.drill


def topic(clue: Clue) -> tuple:
    """Name what a clue belongs to: of one topic some say nothing without the others."""
    kind, *_ = clue.kind.split()
    subject = clue.name if kind == "remedy" else ""
    return clue.drill, clue.split, "layer" if kind in ("alone", "left") else kind, subject


def _asked(wanted: Wanted, decay: float | None) -> Iterator[tuple]:
    """List what has to be read under one decay: (decay, step, split, drill)."""
    yield from ((decay, *point, "") for point in product(wanted.steps, ("test_probe", "train_probe")))
    last = (decay, wanted.steps[-1], wanted.final)
    yield (*last, "")
    yield from ((*last, drill) for drill in wanted.drills if decay is not None)


def _frozen_from(settings: Settings, steps: int) -> int | None:
    """Round to a step, after the first and before the last."""
    at = settings.train.freeze_statistics_at
    if at is None:
        return None
    if steps < 2:
        raise SettingsError(f"train.freeze_statistics_at needs at least 2 steps, got {steps}")
    return min(max(1, round(at * steps)), steps - 1)


def _fits(key: str, size: int, available: int, what: str) -> None:
    if size > available:
        raise SettingsError(f"{key} must not exceed the data, got {size} of {available} {what}")


def _fits_the_samples(settings: Settings, pool: int, what: str) -> None:
    """Bound what statistics are estimated from; images of a small data set may come round again."""
    asked, most = settings.measure, max(pool, _SAMPLES)
    for key, samples in (
        ("population_samples", asked.population_samples),
        *(("remedy_samples", given) for given in asked.remedy_samples),
    ):
        _fits(f"measure.{key}", samples or 0, most, f"training {what}")


def _fits_the_fault(fault: Fault, test: int, steps: int) -> None:
    if fault.name == "phase_true":
        _fits("fault.batch", fault.batch, test, "test images")
    if fault.name == "weights_averaged":
        _fits("fault.checkpoints", fault.checkpoints, len(curve_steps(steps, KEPT)), "checkpoints")


def _steps(settings: Settings, pool: int) -> int:
    samples = settings.train.samples or settings.task.samples
    if settings.train.epochs is not None:
        samples = round(settings.train.epochs * pool)
    return max(1, samples // settings.batch_size)


def _scaled_rate(settings: Settings) -> float:
    """Scale the rate linearly with the batch size (Goyal et al., arXiv 1706.02677, section 2.1)."""
    rate = settings.train.learning_rate or settings.task.learning_rate
    reference = settings.train.reference_batch
    return rate * (settings.batch_size / reference if reference else 1.0)


def _xla(settings: Settings, device: str) -> bool:
    # Deterministic GPU kernels and XLA exclude one another in TensorFlow; and XLA compiles for one device:
    # one program for each of four replicas, without what they exchange, took three times as long a step.
    if device == "gpu" or settings.device.replicas > 1 or settings.train.precision != "float32":
        return False
    asked = settings.train.xla
    return settings.batch_size <= settings.task.xla_up_to if asked is None else asked
