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

from bnlab.settings.groups import Data, Device, Measure, Report, Task, Track, Train
from bnlab.settings.messages import SettingsError, nearest, one_line, short
from bnlab.settings.norms import Norm
from bnlab.settings.types import Decay, Group, OneOrMore, Positive

__all__ = ["Data", "Settings", "SettingsError", "dotted", "nearest", "parse", "short"]


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
        if self.measure.drills and self.norm.name not in ("batch", "ghost", "batch_renorm"):
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
    def _histograms_are_counted(self) -> Settings:
        if self.report.histograms and not self.measure.histograms:
            raise ValueError("report.histograms needs measure.histograms=true, got false")
        return self

    @property
    def together(self) -> int:
        """Images that share their statistics in training."""
        return min(self.batch_size, getattr(self.norm, "virtual_batch_size", self.batch_size))

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
