"""Progress tells each trial's end once, how far all are, and what is left."""

import io

from rich.console import Console

from bnlab.progress import Progress
from bnlab.store import Status

TRIALS = {"a": "mnist batch b2 s0", "b": "mnist batch b8 s0"}


def shown(statuses, terminal=False):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100, soft_wrap=True)
    with Progress(TRIALS, {"a": 3.0, "b": 1.0}, console) as progress:
        for status in statuses:
            progress.show(status)
    return out.getvalue()


def test_an_ended_trial_is_told_once_with_its_reason():
    done, failed = Status("done", 5, 5), Status("failed", reason="the loss became nan at step 3 [x]")
    text = shown([{"a": done, "b": Status()}, {"a": done, "b": failed}, {"a": done, "b": failed}])
    assert text.splitlines() == [
        "[1/2] mnist batch b2 s0: done",
        "[2/2] mnist batch b8 s0: failed - the loss became nan at step 3 [x]",
    ]


def test_a_terminal_shows_the_step_the_loss_and_the_share():
    text = shown([{"a": Status("training", 50, 100, 0.25), "b": Status()}], terminal=True)
    assert "step 50 of 100" in text
    assert "loss 0.250" in text
    # half of the training, which is 65 % of a trial, of one that is three quarters of the work
    assert "24%" in text
