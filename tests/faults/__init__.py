"""Sweeps are killed on purpose; what they leave must equal what an undisturbed sweep leaves.

    python -m tests.faults --kills 100

runs as many kills as are asked for; `test_kills.py` is a short fixed set of them.

    process.py    a command in a process group of its own, and everything that can be done to it
    victim.py     the same command, which kills itself at the N-th call of a named function
    shots.py      the ways to stop a command: at a time, at a point, with Ctrl-C
    chain.py      stop it, start it again, stop it again, ..., let it finish, compare
    facts.py      what a folder holds after a sweep: arrays, readings, tracked points, report
    compare.py    two folders' facts -> what is lost, doubled, differs
    plan.py       which shots a seed draws
    tally.py      the counts of many chains: a line each, a table, a CSV file
"""
