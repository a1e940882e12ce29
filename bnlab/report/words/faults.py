"""Known mistakes, in words: what each is, what a person sees of it, and what cures it in practice."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from bnlab.report.numbers.clues import percent
from bnlab.report.numbers.faults import EFFECT, Exhibit
from bnlab.report.numbers.signs import Sign, significant
from bnlab.report.numbers.tables import number
from bnlab.report.words.phrases import listed

BROKEN = "not a number"
ALONE = "no healthy twin in this sweep"
IDLE = f"no effect here: the RMSE gap differs from the healthy twin's by less than {EFFECT}"
WELL = "nothing to close: phase false is no worse than phase true here"
PEEKED = 0.2
"""Looking at the evaluated images is told of where it closes so much more of a gap than what does not."""
FAULTS = {
    "not_updated": (
        "The moving averages are never updated, so training looks well and inference is near chance: run "
        "the updates, or estimate the statistics anew on training images."
    ),
    "not_restored": (
        "The checkpoint comes back without its statistics, so a model that was well is near chance in a "
        "new process: save and restore them too, or estimate them anew."
    ),
    "phase_false": (
        "It was trained with phase false, so nothing was normalized, the weights fit mean 0 and variance 1, "
        "and phase true is the one that fails: infer with phase false, or train again with phase true."
    ),
    "phase_true": (
        "It runs with the batch's own statistics, so an image's answer depends on the images beside it "
        "and is worst for one alone: call the model with phase false."
    ),
    "hot": (
        "It was read while the learning rate was still high, so the weights run ahead of their averages: "
        "let the rate fall, or estimate the statistics anew after training."
    ),
    "decay_reversed": (
        "The decay was turned round (another framework's momentum), so the statistics are those of the "
        "last batch or two and inference is noisy: pass 1 − momentum."
    ),
    "slow": (
        "The decay is too slow for so few steps, so the average still holds its start: lower it, train "
        "for longer, or take the start out."
    ),
    "sorted": (
        "The batches are not shuffled, so their means lie further apart than chance would have it and the"
        " averages know the last ones best: shuffle."
    ),
    "batch_of_one": (
        "Each batch is one image, so training normalizes every image by itself and inference does not: "
        "use larger batches, or group normalization."
    ),
    "preprocessing": (
        "Images are prepared otherwise at inference than in training, so their statistics are others: use"
        " one pipeline for both."
    ),
    "epsilon": (
        "Another epsilon is added to the variance at inference, so outputs differ where a variance is "
        "small, though all statistics agree: carry it over."
    ),
    "weights_averaged": (
        "The weights were averaged after training and their statistics were not: estimate the statistics "
        "anew with the new weights."
    ),
    "two_sources": (
        "One layer serves two kinds of input, so its average lies between them and fits neither: give "
        "each its own layer or its own statistics."
    ),
    "dummy_pass": (
        "A forward pass of made-up input with phase true moved the averages: run it with phase false, or "
        "estimate the statistics anew."
    ),
    "nan_pass": (
        "A batch with a value that is not a number went into the averages, which keep it for ever while "
        "training goes on: leave such batches out, and estimate the statistics anew."
    ),
    "bessel": (
        "The variances are those of another framework, larger by N / (N − 1), which shows with small "
        "batches: scale them by (N − 1) / N."
    ),
    "half_precision": (
        "The averages are kept in half precision, so small updates are lost and they stall short of the "
        "population: keep them in float32."
    ),
}
"""One sentence for each fault; one that is not known is only named."""
SIGNS = {
    "at_start": "share of channels at exactly mean 0 and variance 1",
    "not_finite": "share of statistics that are not finite",
    "start_share": "share of the start still inside, fitted",
    "mean_shift": "shift of means in standard deviations",
    "log_variance": "log ratio of variances",
    "kl": "distance to the population (KL)",
    "spread_of_means": "spread of batch means over that of shuffled images",
    "updates_per_step": "updates per step",
    "batch_dependence": (
        "RMS change of an image's outputs (logits) when half of the images come in another order"
    ),
    "test_shift": "distance of the evaluated images' statistics to the training data's (KL)",
}
"""What each sign is called."""


def known(value: float, signed: bool = True) -> str:
    """A number of a fault, which may be none.

    >>> known(0.21404), known(float("nan")), known(float("inf"))
    ('+0.2140', 'not a number', 'not a number')
    """
    return number(value, signed=signed) if np.isfinite(value) else BROKEN


def parts(exhibit: Exhibit) -> str:
    """The largest parts of a fault's gap."""
    rows = exhibit.parts.itertuples()
    named = [
        f"{row.cause} {known(row.value)}" + ("" if np.isnan(row.se) else f" ± {number(row.se)}")
        for row in rows
    ]
    return listed(named) or "no part beyond two standard errors"


def signs(exhibit: Exhibit) -> str:
    """The signs that differ most from the healthy twin's."""
    if not exhibit.twinned:
        return ALONE
    return "; ".join(map(_sign, exhibit.signs)) or "none differs tellingly from the twin's"


def _sign(sign: Sign) -> str:
    value, twin = (
        significant(amount) if np.isfinite(amount) else BROKEN for amount in (sign.value, sign.twin)
    )
    return f"{SIGNS.get(sign.name, sign.name)}: {value} (healthy: {twin})"


def beside(exhibit: Exhibit, gap: str) -> str:
    """A gap of a fault, with that of its healthy twin."""
    faulty, twin = exhibit.gaps[gap]
    return f"{known(faulty)} ({f'healthy: {known(twin)}' if exhibit.twinned else ALONE})"


def cure(exhibit: Exhibit) -> str:
    """The best remedy that was measured, and how far it goes; also what looking at the test would do."""
    if not exhibit.opened:
        return WELL
    return "; ".join(filter(None, [_cure(exhibit), _peek(exhibit)]))


def _cure(exhibit: Exhibit) -> str:
    if not exhibit.cure:
        return "no remedy that was measured closes any of it" if exhibit.tried else "no remedy was measured"
    left = f"leaves {number(exhibit.left, signed=True)}"
    if np.isnan(exhibit.closed):
        return f"{exhibit.cure} {left}"
    return f"{exhibit.cure} closes {share(exhibit.closed)} ({left})"


def _peek(exhibit: Exhibit) -> str:
    other = exhibit.closed if exhibit.cure else 0.0
    if not exhibit.peeked - other >= PEEKED:
        return ""
    return f"looking at the test images (test_statistics) closes {share(exhibit.peeked)}"


def share(closed: float) -> str:
    """A share closed; what goes beyond the whole turns the gap round.

    >>> share(0.984), share(1.3), share(float("nan"))
    ('98 %', '100 % and more', '-')
    """
    return f"{percent(1.0)} and more" if closed >= 1.005 else percent(closed)


def briefly(exhibit: Exhibit) -> str:
    """The cure in a cell of a table: its name, or why there is none."""
    if exhibit.idle:
        return "no effect"
    return exhibit.cure or ("–" if not exhibit.tried else "none") if exhibit.opened else "nothing to close"


def lines(exhibits: Iterable[Exhibit]) -> list[str]:
    """A line for each fault and task, where its gap is largest; the largest gaps first, signs aside."""
    ranked = sorted(exhibits, key=_size, reverse=True)
    first = {(own.name, own.task): own for own in reversed(ranked)}
    return [_line(own) for own in ranked if first[own.name, own.task] is own]


def _size(exhibit: Exhibit) -> float:
    """A gap that is no number is larger than any."""
    gap = abs(exhibit.gaps["rmse_gap"][0])
    return np.inf if np.isnan(gap) else gap


def _line(own: Exhibit) -> str:
    gap, twin = own.gaps["rmse_gap"]
    healthy = f"healthy {known(twin)}" if own.twinned else "no healthy twin"
    accuracy = "" if np.isnan(own.accuracy) else f", accuracy {number(own.accuracy, decimals=3)}"
    return f"fault {own.name}, {own.task}: RMSE gap {known(gap)} ({healthy}){accuracy}; {_closes(own)}"


def _closes(own: Exhibit) -> str:
    """What closes the gap of a fault, in a few words."""
    if own.idle or not own.opened:
        return "no effect" if own.idle else "nothing to close"
    if not own.cure:
        return "nothing closes it" if own.tried else "no remedy was measured"
    return f"{own.cure} closes {'it' if np.isnan(own.closed) else f'{share(own.closed)} of it'}"
