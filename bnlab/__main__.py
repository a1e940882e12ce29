"""The door: `python -m bnlab`. Hydra in, exit status out."""

from __future__ import annotations

import sys
from typing import NoReturn

import hydra

from bnlab import compose, job


def main() -> NoReturn:
    """Answer a question about configs, or run the jobs of the command line."""
    arguments = sys.argv[1:]
    if compose.is_question(arguments):
        hydra.main(str(compose.config_folder()), compose.CONFIG, version_base="1.3")(job.run)()
        sys.exit(0)
    from bnlab import sweep

    try:
        sys.exit(sweep.run(arguments))
    except KeyboardInterrupt:
        sys.exit(sweep.interrupted(sweep.INTERRUPTED))


if __name__ == "__main__":
    main()
