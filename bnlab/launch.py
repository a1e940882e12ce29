"""Jobs -> workers: Hydra's launchers, given the jobs that are left, longest first, again after a worker died.

Hydra's own multirun launches every job in the order of its axes, once. What is called here is the launcher
that it would call (`hydra/launcher=joblib`, `basic`, ...), with the same configs.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from filelock import Timeout
from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from bnlab import job, stop
from bnlab.compose import Command, hydra_of
from bnlab.errors import said
from bnlab.files import explained
from bnlab.job import Job

# Of one core, roughly: only the order of jobs follows from them.
_STEP_SECONDS, _MULTIPLY_ADDS_PER_SECOND = 4e-4, 4e10

Launch: TypeAlias = Callable[[Sequence[int]], None]  # runs the jobs of these numbers


def launcher(command: Command, jobs: Sequence[Job]) -> Launch:
    """Make the function that runs some of a command line's jobs, wherever its launcher runs them."""

    def launch(numbers: Sequence[int]) -> None:
        with hydra_of(command.flags) as (hydra, name, overrides):
            if not command.sweeps:
                hydra.run(name, job.run, overrides)
                return
            config = hydra.compose_config(name, overrides, RunMode.MULTIRUN)
            context = HydraContext(hydra.config_loader, Callbacks(config))
            own = Plugins.instance().instantiate_launcher(
                config=config, hydra_context=context, task_function=job.run
            )
            each = [[*command.overrides[number], *_places(jobs[number])] for number in numbers]
            for done in own.launch(each, initial_job_idx=0):
                with redirect_stderr(io.StringIO()):  # which Hydra tells more of than a person needs
                    _ = done.return_value  # raises what the job raised

    return launch


def _places(job: Job) -> list[str]:
    """Say what a worker might find otherwise, in another folder, with other variables, on another machine."""
    root = job.settings.data.root
    data = "null" if root is None else _quoted(Path(root).expanduser().absolute())
    return [f"store={_quoted(job.settings.folder)}", f"data.root={data}", f"device.name={job.trial.device}"]


def _quoted(path: Path) -> str:
    text = str(path).replace("'", "\\'")
    return f"'{text}'"


def run(jobs: Sequence[Job], launch: Launch, tell: Callable[[str], None]) -> str:
    """Launch what the store says is left, until nothing is.

    A worker that is killed takes its launcher along, or makes it give up while others work on. When all have
    ended, what is left is launched again; the trials that
    were under way come after all others and each alone, because one of them may be the killer. One that
    kills its worker again, alone, has failed.

    Args:
        jobs: all of a sweep's.
        launch: runs some of them, by number.
        tell: told what is launched again, and why.

    Returns:
        What stopped the launcher for good, or nothing.
    """
    left, idle = _left(jobs), 0
    trouble = _attempt(launch, in_order(jobs, left))
    while not stop.asked():
        _settle(jobs)
        before, left = left, _left(jobs)
        begun = [number for number in left if _begun(jobs[number])]
        idle += left == before and not begun
        # A worker may be killed before it begins; a launcher that twice began nothing is broken itself.
        if not left or idle > 1:
            break
        reason = f" after {trouble}" if trouble else ""
        tell(f"{len(left)} of {len(jobs)} jobs are launched again{reason}")
        if others := [number for number in left if number not in begun]:
            trouble = _attempt(launch, in_order(jobs, others))
        for number in in_order(jobs, begun):
            trouble = _attempt(launch, [number])
            _give_up_if_killed(jobs[number], trouble)
    return trouble if _left(jobs) else ""


def in_order(jobs: Sequence[Job], numbers: Sequence[int]) -> list[int]:
    """Put jobs longest first, so that no worker idles at the end.

    Of jobs that share a trial, one comes early, to train it; the others would only wait beside it.
    """
    rank: Counter[str] = Counter()
    keys = {}
    for number in numbers:
        identity = jobs[number].folder.identity
        keys[number] = (rank[identity], -seconds(jobs[number]))
        rank[identity] += 1
    return sorted(numbers, key=keys.__getitem__)


def seconds(job: Job) -> float:
    """Estimate what a job takes: steps, and the images that pass through the network, thrice in training."""
    trial, wanted = job.trial, job.wanted
    read = (len(wanted.steps) * (wanted.images + wanted.train_images) + 10_000) * len(wanted.decays)
    images = 3 * trial.steps * trial.batch_size + read
    work = job.settings.task.multiply_adds * images / _MULTIPLY_ADDS_PER_SECOND
    return trial.steps * _STEP_SECONDS + work


def _left(jobs: Sequence[Job]) -> list[int]:
    """List the jobs that are neither complete nor failed with a reason."""
    open_ = (n for n, one in enumerate(jobs) if one.folder.status().state != "failed")
    return [number for number in open_ if not jobs[number].complete]


def _settle(jobs: Sequence[Job]) -> None:
    """Wait for the trials that somebody still works on."""
    for folder in [jobs[number].folder for number in _left(jobs)]:
        if not folder.path.exists():
            continue
        with suppress(Timeout), folder.alone().acquire(cancel_check=stop.asked):
            pass


def _attempt(launch: Launch, numbers: Sequence[int]) -> str:
    try:
        launch(numbers)
    except (Exception, SystemExit) as error:
        # Submitit names the job in its first line, and says what became of it in the second.
        lines = said("\n".join(str(error).splitlines()[:2])) or type(error).__name__
        reason = explained(error) if isinstance(error, OSError) else lines
        return f"the launcher stopped: {reason}"
    return ""


def _give_up_if_killed(one: Job, trouble: str) -> None:
    """Fail a trial that ended its process twice, the second time with nothing beside it."""
    status = one.folder.status()
    if _begun(one) and not one.complete and not stop.asked():
        reason = f"its process ended twice while {status.state}, the second time alone (out of memory?)"
        one.folder.write_status(replace(status, state="failed", reason=f"{reason}; {trouble}"))


def _begun(one: Job) -> bool:
    return one.folder.status().state in ("training", "measuring")
