"""The catalogue of causes: what each is, what would confirm it, and what mends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """A known cause.

    Attributes:
        title: it in a few words.
        confirm: what would confirm it.
        cure: what mends it.
        mendable: other statistics for the same weights can close what it opens.
    """

    title: str
    confirm: str
    cure: str
    mendable: bool


CATALOGUE: Mapping[str, Entry] = {
    "not_finite": Entry(
        "NaN or infinite moving statistics",
        "look for a NaN or infinity in the inputs, or an overflow in half precision: one batch is enough,"
        " and an average never forgets it",
        "clean the inputs, then take the statistics anew",
        True,
    ),
    "weights_not_finite": Entry(
        "NaN or infinite weights",
        "look at the loss of the last steps: training diverged, by its learning rate, by an overflow in half "
        "precision or by a NaN among the inputs",
        "go back to weights of before, and train on with a smaller learning rate or clipped gradients",
        False,
    ),
    "batch_statistics_at_inference": Entry(
        "batch statistics in inference",
        "look for training=True in a call of a normalization layer, for a call of the model without "
        "training=False behind Resizing or CenterCrop layers, or for a layer that passes its phase on",
        "call the model, and its normalization layers, with training=False in inference",
        False,
    ),
    "never_updated": Entry(
        "the moving statistics were never updated",
        "train a few steps and see whether moving_mean changes: a custom training loop that calls layers "
        "without training=True, or drops their updates, leaves it at 0",
        "call the model with training=True in training steps; for these weights, take the statistics anew",
        True,
    ),
    "not_restored": Entry(
        "moving statistics lost in saving or restoring",
        "compare moving_mean before saving and after restoring; see that the non-trainable weights are "
        "saved, and that layers' names match",
        "restore all weights, the non-trainable ones too; if they are lost, take the statistics anew",
        True,
    ),
    "miscopied": Entry(
        "statistics copied in another form or place",
        "compare the arrays with those of the program that they come from: Keras keeps gamma, beta, mean and "
        "variance, in this order, and the variance itself",
        "copy mean and variance of each layer as they are; if they are lost, take the statistics anew",
        True,
    ),
    "trained_with_phase_false": Entry(
        "trained with moving statistics (phase false)",
        "look for training=False or trainable=False while the network was trained: the weights have "
        "learned to live with these statistics",
        "inference is as it was trained: keep it so, and set trainable=False on the layers before "
        "training goes on; else train with phase true",
        False,
    ),
    "half_precision": Entry(
        "statistics kept in half precision",
        "look at the dtype of moving_variance: in float16, an average of decay 0.999 stops short of its goal",
        "keep the statistics in float32 (mixed_float16 does); for these weights, take them anew",
        True,
    ),
    "not_arrived": Entry(
        "the moving average has not arrived",
        "train on, or read decay^steps: the share of mean 0 and variance 1 that is left in the average",
        "more steps, a faster decay (momentum), or statistics taken anew",
        True,
    ),
    "dummy_pass": Entry(
        "a forward pass with phase true on something that is no data",
        "look for a call with training=True on blank or random inputs, such as one that builds or "
        "profiles the model",
        "call with training=False there; for these weights, take the statistics anew",
        True,
    ),
    "unshuffled": Entry(
        "batches that are not shuffled",
        "compare the means of training batches: of a sorted file they differ far more than those of "
        "shuffled batches",
        "shuffle, and train again: the network itself has learned from sorted batches; new statistics "
        "close the gap alone",
        True,
    ),
    "two_sources": Entry(
        "one average of several distributions",
        "count the updates per step, and look at the moments of each source by itself: a layer that is "
        "called on two kinds of data (real and generated, two domains) averages both",
        "give each source its own normalization layer, or put both into one batch; statistics of the data"
        " of inference close much of the gap",
        True,
    ),
    "preprocessing": Entry(
        "inputs that are prepared in another way",
        "compare mean and deviation of inputs in training and in inference, channel by channel",
        "prepare inputs as in training; where they cannot be, take the statistics on inputs of inference",
        False,
    ),
    "tiny_batch": Entry(
        "batches too small to have statistics",
        "look at the batch size of training, and whether the error falls when inference normalizes by as "
        "few samples",
        "train with larger batches, or with group or layer normalization: no fixed statistics are what "
        "these weights expect",
        False,
    ),
    "momentum_reversed": Entry(
        "momentum turned round: the average forgets at once",
        "look at the layers' momentum: Keras's is the share that is kept (0.99), PyTorch's the share that"
        " is new (0.01)",
        "set momentum to 1 - momentum; for these weights, take the statistics anew",
        True,
    ),
    "dropout_shift": Entry(
        "dropout, noise or augmentation before a normalization",
        "compare variances with these layers on and off: inference has less variance than training",
        "put dropout behind the last normalization, or take the statistics anew with it off",
        True,
    ),
    "epsilon": Entry(
        "another epsilon than in training",
        "compare epsilon with that of the training code: 1e-3 in Keras, 1e-5 in PyTorch",
        "set epsilon as in training; variances can be corrected by the difference",
        True,
    ),
    "hot": Entry(
        "the weights still moved fast at the end of training",
        "look at the learning rate at the end; let it fall to 0 and see the gap go",
        "let the learning rate fall at the end; for these weights, take the statistics anew",
        True,
    ),
    "weights_changed": Entry(
        "weights averaged or changed after training",
        "look for an average of weights (SWA, EMA), pruning, quantization, or weights from another file",
        "take the statistics anew whenever weights change",
        True,
    ),
}
