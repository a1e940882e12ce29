"""The parent's side of the conversation with a contender, which is a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# No notices; each program of torch.compile made anew.
_SURROUNDINGS = {"TF_CPP_MIN_LOG_LEVEL": "3", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}


class ContenderError(Exception):
    """A contender could not do what it was asked; the message says which one, and why."""


class Contender:
    """A process that answers `experiments.throughput.serve`.

    Args:
        name: for a person.
        command: an interpreter and its arguments; it runs in the root of the repository.
        log: a folder for what the process says beside its answers.
        surroundings: added to the environment.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, surroundings: Mapping[str, str] = ONE_THREAD
    ) -> None:
        self.name = name
        self._log = log / f"{name.replace(' ', '-')}.log"
        with self._log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **_SURROUNDINGS, **surroundings},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def build(self, folder: Path, setting: dict[str, Any]) -> dict[str, Any]:
        """Have it build what the material says; returns its facts."""
        return self.ask({"build": str(folder), "setting": setting})

    def seconds(self, steps: int) -> float:
        """Have it train; returns how long that took."""
        return float(self.ask(steps))

    def close(self) -> None:
        """End it."""
        try:
            self._process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def ask(self, question: Any) -> Any:  # noqa: ANN401
        """Put a question, wait for the answer.

        Raises:
            ContenderError: the process has ended, or says that it could not.
        """
        to, back = self._process.stdin, self._process.stdout
        try:
            print(json.dumps(question), file=to, flush=True)
        except BrokenPipeError:
            raise ContenderError(f"{self.name}: it has ended; {self._last_words()}") from None
        line = back.readline() if back else ""
        if not line:
            raise ContenderError(f"{self.name}: it has ended; {self._last_words()}")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise ContenderError(f"{self.name}: {answer['error']}")
        return answer

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace").strip().rpartition("\n")[2]
