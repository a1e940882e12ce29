"""The frozen nouns that travel along the line: plain values, no behaviour beyond their own arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TypeAlias

# Details of a network, with their defaults: a trial holds those that differ.
DETAILS: Mapping[str, bool | int | float | None] = {
    "bias": None,
    "deviation": None,
    "dropout": 0.0,
    "frames": None,
    "freeze": False,
    "weight_decay": 0.0,
}
Options: TypeAlias = tuple[tuple[str, bool | int | float | str], ...]
# Of a trial, shown as a run of its own: phase, decay, drill.
Cell: TypeAlias = tuple[bool, float, str]


@dataclass(frozen=True)
class Trial:
    """One training run: everything that changes a gradient or its rounding, and nothing else.

    Decay, phase and whatever else is measured afterwards are not here: training cannot see them.

    Attributes:
        task: the task's name.
        data, fingerprint: the data set, and the hash of its very pixels and labels.
        model, widths: the network and the filters of its stages.
        norm, options: the normalizer and its options, sorted by name.
        batch_size: images per step.
        seed: of initial weights and data order.
        steps: optimizer steps of the whole run (the cosine schedule knows its end).
        optimizer, learning_rate, momentum, schedule: the rate is the scaled one.
        device, threads, xla, precision: they change rounding, and rounding changes results.
        details: of the network, where they differ from `DETAILS`, sorted by name.
        frozen_from: the step after which moving statistics stay as they are and normalize; None: never.
        freeze_decay: of those averages; None where they are never frozen.
        fault: what training does wrong on purpose, or empty.
        replicas: devices that share each batch, one after another its equal parts.
        synchronized: they take their batch statistics together.
    """

    task: str
    data: str
    fingerprint: str
    model: str
    widths: tuple[int, ...]
    norm: str
    options: Options
    batch_size: int
    seed: int
    steps: int
    optimizer: str
    learning_rate: float
    momentum: float | None
    schedule: str
    device: str
    threads: int
    xla: bool
    details: Options = ()
    frozen_from: int | None = None
    freeze_decay: float | None = None
    fault: str = ""
    replicas: int = 1
    synchronized: bool = False
    precision: str = "float32"

    @property
    def together(self) -> int:
        """Images that share their statistics in training."""
        part = self.batch_size // (1 if self.synchronized else self.replicas)
        return min(part, int(dict(self.options).get("virtual_batch_size", part)))

    @property
    def settings(self) -> dict[str, object]:
        """All settings by name, options of the normalizer as `norm.<name>`."""
        own = {name: value for name, value in asdict(self).items() if name not in ("options", "details")}
        options = {f"norm.{name}": value for name, value in self.options}
        return {**own, "fault": self.fault or "none", **options, **DETAILS, **dict(self.details)}


@dataclass(frozen=True)
class Reading:
    """One measured row: a restored checkpoint under one kind of statistics on one set of images.

    Attributes:
        step: optimizer steps of the checkpoint.
        samples_seen: images trained on by then.
        split: `train_probe` or `test_probe` (fixed images), `test` (the whole test set) or `train` (all
            images trained on).
        phase: True for the batch's own statistics, False for moving ones.
        decay: of the moving statistics; None with phase true, which does not depend on it.
        eval_batch_size: images that shared statistics in phase true.
        images: how many were measured.
        rmse, accuracy, loss: see `bnlab.science.scores`; for regressors accuracy is NaN and loss the
            mean squared error.
        *_gap, *_gap_se: phase false minus phase true on the same images, and its paired standard
            error; NaN with phase true.
        time_ms: when it was measured, ms since 1970; kept, so that sending it again changes nothing.
        drill: how the model came to inference, where its checkpoint was not simply restored: a restore
            drill, a fault, or other statistics of several replicas than the first one's
            (`naming.of_replicas`); gaps are then taken against phase true of the intact model, on the same
            pixels.
        constant_rmse: of the best constant predictor on the same images: what knowing nothing gets.
    """

    step: int
    samples_seen: int
    split: str
    phase: bool
    decay: float | None
    eval_batch_size: int
    images: int
    rmse: float
    accuracy: float
    loss: float
    rmse_gap: float
    rmse_gap_se: float
    accuracy_gap: float
    accuracy_gap_se: float
    loss_gap: float
    loss_gap_se: float
    time_ms: int
    drill: str = ""
    constant_rmse: float = float("nan")

    @property
    def key(self) -> tuple:
        """What was measured, apart from the values: a new reading replaces the old one of its key."""
        way = self.eval_batch_size, self.images, self.drill
        return self.step, self.split, self.phase, self.decay, *way


@dataclass(frozen=True)
class Clue:
    """One number that explains a gap: why it is there, in which layer, what shows it, what a remedy leaves.

    Attributes:
        step: optimizer steps of the checkpoint.
        split: images that it was measured on, as of readings.
        decay: of the moving statistics that are explained; None where no decay plays a part.
        drill: how the model came to inference, where it did not simply, as of readings.
        kind: what `name` names, and so what the value is (one of `CLUES`):

            cause           a part of the gap (`bnlab.science.decomposition.CAUSES`); all parts add up to it
            layer TARGET    a layer's part of the gap, the mean of two orders; all layers add up to it
            alone TARGET    what goes when this layer alone is taken from moving to TARGET statistics
            left TARGET     what is left when every layer but this one is
            distance        how far a layer's moving statistics lie from the population's
            rounding        how far its population statistics lie from those of the same weights in float32
            sign            what the model, its statistics or its tape show
            remedy          a metric under a remedy; as `rmse_gap` and so on, what is left of the gap

            TARGET is `batch` or `population`.
        metric: `rmse`, `accuracy` or `loss`; a distance's or remedy's own quantity; empty for a sign.
        value, standard_error: the latter NaN where it is not known.
        eval_batch_size, images: as of readings.
        samples: images behind its population statistics.
        time_ms: as of readings.
    """

    step: int
    split: str
    decay: float | None
    drill: str
    kind: str
    name: str
    metric: str
    value: float
    standard_error: float
    eval_batch_size: int
    images: int
    samples: int
    time_ms: int

    @property
    def key(self) -> tuple:
        """What was measured, apart from the values: a new clue replaces the old one of its key."""
        way = self.eval_batch_size, self.images, self.samples
        return self.step, self.split, self.decay, self.drill, self.kind, self.name, self.metric, *way


TARGETS = ("batch", "population")
CLUES = (
    "cause",
    *(f"{kind} {target}" for kind in ("layer", "alone", "left") for target in TARGETS),
    *("distance", "rounding", "sign", "remedy"),
)


@dataclass(frozen=True)
class Failure:
    """A trial that did not finish, and the one-line reason; variant as in `variants`."""

    trial: str
    task: str
    norm: str
    batch_size: int
    seed: int
    reason: str
    variant: str = ""


@dataclass(frozen=True)
class Sweep:
    """What one sweep was asked and how it ended: the frame around its readings.

    Attributes:
        name: the experiment's name, also the report's file name.
        started: ISO 8601 date and time, UTC.
        seconds: wall-clock time from the first job's start to the last reading.
        command: the command line that makes it again.
        trials: identities of all its trials, finished or not.
        trained: how many of them were trained in this sweep (the others were found finished).
        decays, phases: the swept values that training cannot see.
        drills: ways to come to inference that were tried out: restore drills, and faults at inference.
        samples: images behind population statistics; 0 where no clue was asked for.
        explained: whether gaps were split into causes.
        remedies: that were measured, as their clues are named.
        attribution: the statistics that layers were put on to find their parts, or empty.
        faults: (fault, trial, drill): a fault of training has a trial of its own and no drill, one at
            inference a drill on the healthy trial.
        measured: trial -> the way its readings were made, as `made_so` knows it.
        final: the split that is read whole when training is over, `test` or `train`.
        variants: trial -> what tells it from others of its task, norm, batch size and seed.
        layers: trial -> (name, updates per step) of each normalization layer with moving statistics.
        failures: one record for each trial that did not finish.
        settings: key (dotted) -> value, as shown to a person.
        versions: package -> version.
        machine: what it ran on, as shown to a person.
        notes: what a reader of the numbers should know: damaged files, other versions.
    """

    name: str
    started: str
    seconds: float
    command: str
    trials: tuple[str, ...]
    trained: int
    decays: tuple[float, ...]
    phases: tuple[bool, ...]
    drills: tuple[str, ...] = ()
    samples: int = 0
    explained: bool = False
    remedies: tuple[str, ...] = ()
    attribution: str = ""
    faults: tuple[tuple[str, str, str], ...] = ()
    measured: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    final: str = "test"
    variants: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def made_so(reading: Reading | Clue, way: tuple[int, int, int]) -> bool:
    """Tell whether a reading or clue was made in a way: (evaluation batch size, test and train probe).

    A trial may be measured in several ways; readings of different ways are never mixed.
    """
    size, test, train = way
    images = {"test_probe": test, "train_probe": train}.get(reading.split, reading.images)
    return (reading.eval_batch_size, reading.images) == (size, images)
