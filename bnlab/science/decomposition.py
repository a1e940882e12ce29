"""Where a gap comes from: its parts along a chain of statistics, from moving ones to the batch's own.

    gap = metric(moving) - metric(batch) = sum over the chain of metric(one) - metric(the next)

Each link takes one cause away. A telescope sums whatever it holds, and its parts depend on its order; that
they mean something is shown by injecting each cause alone. With batch renormalization the link from mean
moments to the population also takes its corrections away: its bias and batch parts hold them too.
"""

from __future__ import annotations

from collections.abc import Mapping

from bnlab.science.gap import Difference, gap
from bnlab.science.scores import Scores

CAUSES = ("deployment", "lag", "noise", "bias", "shift", "batch")
"""What each link of the chain takes away, in order:

    deployment  what runs at inference is not the model that was trained (faults only)
    lag         the moving average still holds its start: mean 0, variance 1
    noise       the average is made of few or old batches: noise and staleness
    bias        the mean of batch variances is not the population's variance, E[var] + Var[mean]
    shift       the evaluated images are others than those trained on; 0 on the training split
    batch       the batch's own statistics are noisy: what normalizing by few samples does
"""
Parts = dict[str, dict[str, Difference]]


def decompose(chain: Mapping[str, Scores], batch: Scores, batch_size: int) -> Parts:
    """Split a gap along a chain of statistics.

    Args:
        chain: cause -> scores before it is taken away, in the order of `CAUSES`; first what is deployed.
        batch: scores with the batch's own statistics, the end of the chain.
        batch_size: images that shared their statistics there, as for `bnlab.science.gap.gap`.

    Returns:
        cause -> metric -> its part of the gap, with the paired standard error over images; the parts of a
        metric add up to its gap.
    """
    ends = [*list(chain.values())[1:], batch]
    return {
        cause: gap(before, after, batch_size)
        for (cause, before), after in zip(chain.items(), ends, strict=True)
    }
