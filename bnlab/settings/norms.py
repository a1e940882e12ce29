"""Options of the normalizers, one class each: an option that a normalizer does not have is refused."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field, model_validator

from bnlab.settings.types import Decay, Group, Positive

# Words of Keras's own.
Initializer: TypeAlias = Literal["zeros", "ones", "random_normal", "random_uniform", "truncated_normal"]
Regularizer: TypeAlias = Literal["l1", "l2", "l1_l2"]
Constraint: TypeAlias = Literal["non_neg", "max_norm", "unit_norm"]


class NoNorm(Group):
    """`norm=none` has no options."""

    name: Literal["none"]


class _Norm(Group):
    epsilon: Annotated[float, Field(gt=0)] = 1e-3
    center: bool = True
    scale: bool = True


class BatchNorm(_Norm):
    """Options of `norm=batch`; synchronized takes moments of the batch over all replicas."""

    name: Literal["batch"]
    synchronized: bool = False


class GhostNorm(_Norm):
    """Options of `norm=ghost`."""

    name: Literal["ghost"]
    virtual_batch_size: Positive


class BatchRenorm(_Norm):
    """Options of `norm=batch_renorm`; the ramp's ends are shares of the run."""

    name: Literal["batch_renorm"]
    r_max: Annotated[float, Field(ge=1)]
    d_max: Annotated[float, Field(ge=0)]
    momentum: Decay
    warm_up: Annotated[float, Field(ge=0, lt=1)]
    r_ramp: Annotated[float, Field(gt=0, le=1)]
    d_ramp: Annotated[float, Field(gt=0, le=1)]

    @model_validator(mode="after")
    def _ramps_follow_the_warm_up(self) -> BatchRenorm:
        for name in ("r_ramp", "d_ramp"):
            if getattr(self, name) <= self.warm_up:
                raise ValueError(
                    f"norm.{name} must end after norm.warm_up={self.warm_up:g}, got {getattr(self, name):g}"
                )
        return self


class _PerImage(_Norm):
    beta_initializer: Initializer | None = None
    gamma_initializer: Initializer | None = None
    beta_regularizer: Regularizer | None = None
    gamma_regularizer: Regularizer | None = None
    beta_constraint: Constraint | None = None
    gamma_constraint: Constraint | None = None


class GroupNorm(_PerImage):
    """Options of `norm=group`; words are Keras's own, such as `ones`, `l2` and `non_neg`."""

    name: Literal["group"]
    groups: Positive


class LayerNorm(_PerImage):
    """Options of `norm=layer`: group normalization with one group."""

    name: Literal["layer"]


class InstanceNorm(_PerImage):
    """Options of `norm=instance`: group normalization with one group per channel."""

    name: Literal["instance"]


_CLASSES = (BatchNorm, GhostNorm, BatchRenorm, GroupNorm, LayerNorm, InstanceNorm, NoNorm)


def owners(option: str) -> list[str]:
    """Name the normalizers that have an option.

    >>> owners("groups"), owners("axis")
    (['group'], [])
    """
    return [get_args(c.model_fields["name"].annotation)[0] for c in _CLASSES if option in c.model_fields]


def options() -> list[str]:
    """List the options of all normalizers, each once."""
    return list(dict.fromkeys(name for c in _CLASSES for name in c.model_fields if name != "name"))


Norm: TypeAlias = BatchNorm | GhostNorm | BatchRenorm | GroupNorm | LayerNorm | InstanceNorm | NoNorm
