"""Restored checkpoint x statistics -> readings, gaps and why they are there; histograms of every layer."""

from bnlab.measure.curve import NotFinite, measure
from bnlab.measure.explain import explain
from bnlab.measure.histograms import histograms

__all__ = ["NotFinite", "explain", "histograms", "measure"]
