"""Trial -> checkpoints and tape: one loop, many steps in one graph call."""

from bnlab.train.loop import Diverged, Watcher, train

__all__ = ["Diverged", "Watcher", "train"]
