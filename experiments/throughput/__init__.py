"""How much faster than the usual way is it? `python -m experiments.throughput --help`."""
