"""Restored checkpoint x statistics -> readings and gaps; and histograms of every layer."""

from bnlab.measure.curve import NotFinite, measure
from bnlab.measure.histograms import histograms

__all__ = ["NotFinite", "histograms", "measure"]
