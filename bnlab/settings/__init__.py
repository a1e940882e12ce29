"""Typed settings: every key, its range, and the one-line error when a value is out of it.

A composed Hydra config becomes a `Settings`; nothing later in the line checks a range again.

    types      kinds of values, and what a group is
    norms      options of each normalizer
    groups     the other groups
    messages   the one line when something is wrong
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from bnlab.settings.faults import CHOSEN, HEALTHY, OF_VARIANCES, TRAINED, Fault, drill
from bnlab.settings.groups import Data, Device, Measure, Report, Task, Track, Train
from bnlab.settings.messages import SettingsError, nearest, one_line, short
from bnlab.settings.norms import Norm
from bnlab.settings.types import Decay, Group, OneOrMore, Positive

__all__ = ["Data", "Settings", "SettingsError", "dotted", "nearest", "parse", "short"]

# Normalizers with moving statistics.
MOVING = ("batch", "ghost", "batch_renorm")


class Settings(Group):
    """One job, checked: a trial and the decays and phases to measure it under."""

    task: Task
    norm: Annotated[Norm, Field(discriminator="name")]
    data: Data
    device: Device
    train: Train
    measure: Measure
    track: Track
    report: Report
    fault: Annotated[Fault, Field(discriminator="name")] = HEALTHY
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
    batch_size: Positive
    decay: OneOrMore[Decay]
    phase: OneOrMore[bool]
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    store: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _groups_divide_channels(self) -> Settings:
        groups = getattr(self.norm, "groups", 1)
        for width in self.task.widths:
            where = f"{width} channels (task.widths={list(self.task.widths)})"
            if groups > width:
                rule = f"must not exceed the channels of any layer: {groups} groups are more than {where}"
                raise ValueError(f"norm.groups {rule}")
            if width % groups:
                rule = f"must divide the channels of every layer: {groups} groups do not divide {where}"
                raise ValueError(f"norm.groups {rule}")
        return self

    @model_validator(mode="after")
    def _virtual_batches_divide_the_batch(self) -> Settings:
        size = getattr(self.norm, "virtual_batch_size", self.batch_size)
        if self.batch_size > size and self.batch_size % size:
            raise ValueError(
                f"norm.virtual_batch_size must divide batch_size or exceed it: {size} does not divide "
                f"{self.batch_size}"
            )
        return self

    @model_validator(mode="after")
    def _drills_have_statistics_to_lose(self) -> Settings:
        if self.measure.drills and self.norm.name not in MOVING:
            raise ValueError(
                f"measure.drills must be empty without moving statistics, got {list(self.measure.drills)} "
                f"for norm={self.norm.name}"
            )
        if self.measure.drills and (False not in self.phase or self.task.freeze):
            raise ValueError(
                "measure.drills needs phase false and statistics that are trained, got "
                f"phase={list(self.phase)} and task.freeze={str(self.task.freeze).lower()}"
            )
        return self

    @model_validator(mode="after")
    def _faults_can_be_made(self) -> Settings:
        name = self.fault.name
        if name == "none":
            return self
        if not self.moving:
            raise ValueError(
                f"fault={name} needs moving statistics that are trained, got norm={self.norm.name} and "
                f"task.freeze={str(self.task.freeze).lower()}"
            )
        if self.norm.name == "batch_renorm" and name in OF_VARIANCES:
            raise ValueError(
                f"fault={name} is made of averaged variances, and norm=batch_renorm averages deviations; "
                "take norm=batch"
            )
        if drill(self.fault) and False not in self.phase:
            raise ValueError(f"fault={name} is made at inference and needs phase false, got phase=[True]")
        return self

    @model_validator(mode="after")
    def _faults_fit_the_task(self) -> Settings:
        name, model = self.fault.name, self.task.model
        if name in ("sorted", "two_sources") and model in ("autoencoder", "sequence"):
            raise ValueError(f"fault={name} needs a classifier, got model {model}")
        if name == "preprocessing" and model == "autoencoder":
            raise ValueError("fault=preprocessing needs targets that are no pixels, got model autoencoder")
        if name in TRAINED and self.train.freeze_statistics_at is not None:
            raise ValueError(
                f"fault={name} trains with other statistics; set train.freeze_statistics_at=null"
            )
        if name in CHOSEN and not self._chosen:
            raise ValueError(
                f"fault={name} sets batch_size=1 or train.schedule=constant; leave both to it, got "
                f"batch_size={self.batch_size} and train.schedule={self.train.schedule}"
            )
        return self

    @property
    def _chosen(self) -> bool:
        """Whether the settings make the fault that they name."""
        return (
            self.batch_size == 1 if self.fault.name == "batch_of_one" else self.train.schedule == "constant"
        )

    @model_validator(mode="after")
    def _frozen_statistics_are_there(self) -> Settings:
        if self.train.freeze_statistics_at is not None and not self.moving:
            raise ValueError(
                "train.freeze_statistics_at needs moving statistics that are trained, got "
                f"norm={self.norm.name} and task.freeze={str(self.task.freeze).lower()}"
            )
        return self

    @model_validator(mode="after")
    def _replicas_share_the_batch(self) -> Settings:
        replicas = self.device.replicas
        if self.batch_size % replicas:
            raise ValueError(
                f"device.replicas must divide batch_size: {replicas} do not divide {self.batch_size}"
            )
        if replicas > 1 and (reason := self._alone):
            raise ValueError(f"device.replicas must be 1 with {reason}, got {replicas}")
        return self

    @property
    def _alone(self) -> str:
        """Say what cannot be spread over replicas, or nothing."""
        if self.norm.name in ("ghost", "batch_renorm"):
            return f"norm={self.norm.name}, whose statistics in training are a matter of one device"
        if self.task.model in ("autoencoder", "sequence"):
            return f"model {self.task.model}, whose loss is a root over the batch and no mean over replicas"
        if self.task.dropout:
            return f"task.dropout={self.task.dropout:g}, whose masks would be the same on all of them"
        if self.train.freeze_statistics_at is not None:
            return "train.freeze_statistics_at, as each replica would freeze statistics of its own"
        if self.fault.name != "none":
            return f"fault={self.fault.name}, which is made on one device"
        if self.train.precision == "mixed_float16":
            return "train.precision=mixed_float16, whose loss scale looks for overflows on one of them"
        return "train.xla=true, which cannot compile across devices" if self.train.xla else ""

    @property
    def synchronized(self) -> bool:
        """Whether several replicas take their batch statistics together; one replica has nobody to ask."""
        return self.device.replicas > 1 and getattr(self.norm, "synchronized", False)

    @property
    def kept(self) -> tuple[str, ...]:
        """Name what else than the first replica's statistics is measured, where they differ."""
        apart = self.device.replicas > 1 and self.moving and not self.synchronized and False in self.phase
        return tuple(how for how in self.device.statistics if apart and how != "first")

    @property
    def moving(self) -> bool:
        """Whether the network has moving statistics that training updates."""
        return self.norm.name in MOVING and not self.task.freeze

    @model_validator(mode="after")
    def _histograms_are_counted(self) -> Settings:
        if self.report.histograms and not self.measure.histograms:
            raise ValueError("report.histograms needs measure.histograms=true, got false")
        return self

    @property
    def together(self) -> int:
        """Images that share their statistics in training."""
        part = self.batch_size // (1 if self.synchronized else self.device.replicas)
        return min(part, getattr(self.norm, "virtual_batch_size", part))

    @property
    def folder(self) -> Path:
        """The store as an absolute path."""
        return Path(self.store).expanduser().absolute()

    @property
    def tracking_uri(self) -> str:
        """The tracking address, the default one written out."""
        return self.track.uri or f"sqlite:///{self.folder}/mlflow.db"


def dotted(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Flatten settings to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings:
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, BaseModel) else {prefix + key: value}
    return flat


def parse(config: object) -> Settings:
    """Check a composed config, as plain dicts and lists and without `hydra`, and return it typed.

    Raises:
        SettingsError: one line: the key, the rule, the value received.
    """
    try:
        return Settings.model_validate(config)
    except ValidationError as error:
        raise SettingsError(one_line(error, list(Settings.model_fields))) from None
