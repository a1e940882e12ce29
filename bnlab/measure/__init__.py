"""Restored checkpoint x statistics -> readings and gaps."""

from bnlab.measure.curve import NotFinite, measure

__all__ = ["NotFinite", "measure"]
