"""Readings <-> MLflow: the only room that knows MLflow.

    sweep run      one per sweep: its trials in a tag, its record as an artifact
    trial run      settings as params, versions as tags, the loss curve, all readings as one table,
                 histograms and their figure as further artifacts
      cell run     one per decay and phase: curves under the same metric names everywhere
    diagnosis run  one for each examination of a model: its numbers, its JSON, its PDF

Runs are found by tags that hold the trial's identity, and readings keep their time, so sending twice
changes nothing: MLflow stores a point of equal key, step, value and time once.
"""

from bnlab.track.connect import Store, TrackingError, connect, told
from bnlab.track.diagnosis import log_diagnosis
from bnlab.track.read import clues_of, read_clues, read_histograms, read_rows, read_sweep, table_of
from bnlab.track.sweeps import log_sweep
from bnlab.track.write import Finished, log_failure, log_trial

__all__ = [
    "Finished",
    "Store",
    "TrackingError",
    "clues_of",
    "connect",
    "log_diagnosis",
    "log_failure",
    "log_sweep",
    "log_trial",
    "read_clues",
    "read_histograms",
    "read_rows",
    "read_sweep",
    "table_of",
    "told",
]
