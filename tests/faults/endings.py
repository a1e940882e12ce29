"""How a damaged input may end: soon, in one line that names it, or as if it were sound."""

import signal
from contextlib import contextmanager

SECONDS = 20
"""Far more than any case takes, on a busy machine; a hang takes longer."""


@contextmanager
def soon():
    """Stop what takes too long."""

    def stop(*_):
        raise TimeoutError(f"not done after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def one_line(line, *names):
    """Whether an error is one line of a length to read, and names what it is about."""
    return line.isprintable() and len(line) < 1000 and all(name in line for name in names)


def of_reading(case, read, same, errors, *names):
    """What is wrong with how a case ends that a function reads; empty when nothing is."""
    try:
        with soon():
            result = read(case.content)
    except errors as error:
        return "" if one_line(str(error), *names) else f"{case.name}: says {str(error)!r}"
    except Exception as error:
        return f"{case.name}: raises {type(error).__name__}: {error}"
    if not case.harmless:
        return f"{case.name}: is accepted"
    return "" if same(result) else f"{case.name}: another result"


def of_command(case, run, same, capsys, *names):
    """What is wrong with how a command ends that meets a case; empty when nothing is."""
    try:
        with soon():
            status = run(case.content)
    except (Exception, SystemExit) as error:
        return f"{case.name}: raises {type(error).__name__}: {error}"
    lines = capsys.readouterr().err.splitlines()
    if status == 2:
        fine = len(lines) == 1 and lines[0].startswith("bnlab: ") and one_line(lines[0], *names)
        return "" if fine else f"{case.name}: says {lines}"
    if status or not case.harmless or lines:
        return f"{case.name}: ends with {status}, {lines}"
    return "" if same() else f"{case.name}: another result"
