"""A contender's side of the conversation: a process that stays, and answers one question at a time.

One line in, one line out, both JSON. Whoever contends in training is told `{"build": FOLDER, "setting":
{...}}`, answered by the facts of what was built, and then numbers N, each answered by the seconds that N
steps took. Nothing here needs more than Python, so it also runs where bnlab is not installed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

Setting = dict[str, Any]


class Built(NamedTuple):
    """What a contender has built.

    Attributes:
        seconds: N -> what N steps took.
        facts: `parameters` (trainable), `losses` (of the first steps, in order), `first_s` (tracing,
            compiling and the first step) and what was `chosen` of the setting.
    """

    seconds: Callable[[int], float]
    facts: Setting


def serve(answer: Callable[[Any], Any]) -> None:
    """Answer until there are no more questions; what goes wrong is answered as `{"error": REASON}`."""
    # Whatever a library prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
        print(json.dumps(found), file=answers, flush=True)


def contend(build: Callable[[str, Setting], Built]) -> None:
    """Build and train when asked.

    Args:
        build: (folder of the material, setting) -> what to time.
    """
    built: list[Built] = []

    def answer(question: Any) -> Any:  # noqa: ANN401
        if not isinstance(question, dict):
            return built[0].seconds(question)
        built.clear()  # the one before goes first: two of them need not fit into memory
        built.append(build(question["build"], question["setting"]))
        return built[0].facts

    serve(answer)
