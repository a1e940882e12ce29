"""Restored checkpoint x statistics -> readings and gaps."""

from bnlab.measure.curve import measure

__all__ = ["measure"]
