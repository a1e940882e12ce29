"""The optimizer of a trial and its learning rate over time."""

from __future__ import annotations

import keras

from bnlab.records import Trial

# Where the cosine ends, as a share of where it begins: cooled, yet never a step of exactly nothing.
FINAL_SHARE = 1e-3


def optimizer(trial: Trial) -> keras.optimizers.Optimizer:
    """Build a trial's optimizer with its rate's schedule.

    A cosine cools the rate to near zero over the trial (Loshchilov & Hutter, arXiv 1608.03983, without
    restarts), so that weights rest when statistics are compared; a constant rate leaves averages
    lagging behind moving weights, a gap of its own.
    """
    rate = trial.learning_rate
    if trial.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, trial.steps, alpha=FINAL_SHARE)
    # A name of its own, so that its variables are called the same in every process that restores them.
    if trial.optimizer == "adam":
        return keras.optimizers.Adam(rate, name="adam")
    return keras.optimizers.SGD(rate, momentum=trial.momentum or 0.0, name="sgd")
