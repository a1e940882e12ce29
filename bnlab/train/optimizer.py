"""The optimizer of a trial and its learning rate over time."""

from __future__ import annotations

import keras

from bnlab.records import Trial

# Where the cosine ends, as a share of where it begins: cooled, yet never a step of exactly nothing.
FINAL_SHARE = 1e-3
# Of a loss in float16: Keras's own. It is halved where a gradient overflows, and that step is skipped.
INITIAL_SCALE = 2.0**15


def optimizer(trial: Trial) -> keras.optimizers.Optimizer:
    """Build a trial's optimizer with its rate's schedule.

    A cosine cools the rate to near zero over the trial (Loshchilov & Hutter, arXiv 1608.03983, without
    restarts), so that weights rest when statistics are compared; a constant rate leaves averages
    lagging behind moving weights, a gap of its own.
    """
    descent = _descent(trial)
    # Gradients of half the width underflow: the loss is made larger as long as none of them overflows.
    return _scaled(descent) if trial.precision == "mixed_float16" else descent


def _scaled(descent: keras.optimizers.Optimizer) -> keras.optimizers.LossScaleOptimizer:
    return keras.optimizers.LossScaleOptimizer(descent, initial_scale=INITIAL_SCALE, name="loss_scale")


def _descent(trial: Trial) -> keras.optimizers.Optimizer:
    rate = trial.learning_rate
    if trial.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, trial.steps, alpha=FINAL_SHARE)
    # A name of its own, so that its variables are called the same in every process that restores them.
    if trial.optimizer == "adam":
        return keras.optimizers.Adam(rate, name="adam")
    return keras.optimizers.SGD(rate, momentum=trial.momentum or 0.0, name="sgd")
